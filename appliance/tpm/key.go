package tpm

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
)

// loaded is the key that is in the TPM now. There is room for three objects: the storage key, a key, and one that is
// being made or attests.
type loaded struct {
	id      [32]byte
	handle  tpm2.TPMHandle
	name    tpm2.TPM2BName
	session tpm2.Session // for signing
}

// auth derives what authorizes a thing. A key's label and purpose are in it: a key file that says something else of its
// key opens nothing.
func (t *TPM) auth(what string) []byte {
	b, err := hkdf.Expand(sha256.New, t.record.secret[:], "coldseal tpm 1 "+what, sha256.Size)
	if err != nil {
		panic(err) // only for an absurd length
	}
	return authorization(b)
}

func (t *TPM) authOf(label string, purpose signer.Purpose) []byte {
	return t.auth("key " + string(purpose) + " " + label)
}

// algorithms are the curves we have keys on.
var algorithms = map[signer.Algorithm]struct {
	curve tpm2.TPMECCCurve
	hash  tpm2.TPMIAlgHash
	size  int
	go_   elliptic.Curve
}{
	signer.P256: {tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256, 32, elliptic.P256()},
	signer.P384: {tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, 48, elliptic.P384()},
}

// findCurves asks which curves the TPM has.
func (t *TPM) findCurves() error {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapECCCurves, PropertyCount: 64}.Execute(t.conn)
	if err != nil {
		return t.explain("list curves", err)
	}
	list, err := answer.CapabilityData.Data.ECCCurves()
	if err != nil {
		return t.explain("list curves", err)
	}
	t.curves = map[tpm2.TPMECCCurve]bool{}
	for _, curve := range list.ECCCurves {
		t.curves[curve] = true
	}
	return nil
}

// Holds asks which curves the TPM has.
func (t *TPM) Holds(purpose signer.Purpose, algorithm signer.Algorithm) bool {
	a, ours := algorithms[algorithm]
	return ours && purpose.Allows(algorithm) && t.curves[a.curve]
}

// Parallel is one: a TPM does one thing at a time.
func (t *TPM) Parallel([32]byte) int { return 1 }

// template is what a key is to be: fixed to this TPM, made in it, for one use.
func template(purpose signer.Purpose, algorithm signer.Algorithm) tpm2.TPMTPublic {
	a := algorithms[algorithm]
	receiver := purpose == signer.Receiver
	parameters := &tpm2.TPMSECCParms{CurveID: a.curve}
	if receiver {
		parameters.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDH, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDH, &tpm2.TPMSKeySchemeECDH{HashAlg: a.hash})}
	} else {
		parameters.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: a.hash})}
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true,
			SignEncrypt: !receiver, Decrypt: receiver,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, parameters),
	}
}

// spkiOf gives the SubjectPublicKeyInfo of a TPM's public area.
func spkiOf(public *tpm2.TPMTPublic) ([]byte, error) {
	parameters, err := public.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return nil, err
	}
	for _, a := range algorithms {
		if a.curve == parameters.CurveID {
			return spki(a.go_, a.size, point)
		}
	}
	return nil, fmt.Errorf("curve 0x%x is none of ours", uint16(parameters.CurveID))
}

func spki(curve elliptic.Curve, size int, point *tpm2.TPMSECCPoint) ([]byte, error) {
	x, y := point.X.Buffer, point.Y.Buffer
	if len(x) > size || len(y) > size {
		return nil, fmt.Errorf("coordinates of %d and %d bytes", len(x), len(y))
	}
	uncompressed := make([]byte, 1+2*size)
	uncompressed[0] = 4
	copy(uncompressed[1+size-len(x):], x)
	copy(uncompressed[1+2*size-len(y):], y)
	public, err := ecdsa.ParseUncompressedPublicKey(curve, uncompressed)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(public)
}

// Create makes a key under the storage key and writes its file, with what the TPM attests of it.
func (t *TPM) Create(label string, purpose signer.Purpose, algorithm signer.Algorithm) (signer.KeyInfo, *signer.Attestation, error) {
	if !t.Holds(purpose, algorithm) {
		return signer.KeyInfo{}, nil, t.trouble(signer.MechanismMissing, "no %s keys for %s", algorithm, purpose)
	}
	var k key
	var attestation *signer.Attestation
	err := t.use("make key "+label, func() (err error) {
		if err := t.unload(); err != nil {
			return err
		}
		made, err := tpm2.Create{
			ParentHandle: t.parentAuth(encryptInOut),
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: t.authOf(label, purpose)}}},
			InPublic:     tpm2.New2B(template(purpose, algorithm)),
		}.Execute(t.conn)
		if err != nil {
			return err
		}
		k = key{Label: label, Purpose: purpose, Algorithm: algorithm, Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate)}
		if err := k.check(); err != nil {
			return t.trouble(signer.KeyWrong, "the TPM made something else than it was asked for: %v", err)
		}
		attestation, err = t.attest(k)
		return err
	})
	if err != nil {
		return signer.KeyInfo{}, nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.writeKey(k); err != nil {
		return signer.KeyInfo{}, nil, err
	}
	t.keys = append(t.keys, k)
	return k.info, attestation, nil
}

// load brings a key into the TPM, unless it is there.
func (t *TPM) load(k key) error {
	if t.loaded.id == k.info.ID() {
		return nil
	}
	if err := t.unload(); err != nil {
		return err
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](k.Private)
	if err != nil {
		return err
	}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
	if err != nil {
		return err
	}
	got, err := tpm2.Load{ParentHandle: t.parentAuth(), InPrivate: *private, InPublic: *public}.Execute(t.conn)
	if err != nil {
		return err
	}
	t.loaded = loaded{id: k.info.ID(), handle: got.ObjectHandle, name: k.name}
	return nil
}

func (t *TPM) unload() error {
	was := t.loaded
	t.loaded = loaded{}
	if was.handle == 0 {
		return nil
	}
	if was.session != nil {
		if err := t.flush(was.session.Handle()); err != nil {
			return err
		}
	}
	return t.flush(was.handle)
}

// useKey runs f with a key that is loaded.
func (t *TPM) useKey(what string, id [32]byte, f func(k key) error) error {
	return t.use(what, func() error {
		k, err := t.find(id)
		if err != nil {
			return err
		}
		if err := t.load(k); err != nil {
			return err
		}
		if err = f(k); errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
			// The session may have lost step with the TPM; a second time, the file is not what was written.
			return fmt.Errorf("key %s: %w", k.Label, err)
		}
		return err
	})
}

// Sign signs a digest.
func (t *TPM) Sign(id [32]byte, scheme signer.Scheme, input []byte) (der []byte, err error) {
	err = t.useKey("sign", id, func(k key) error {
		if t.loaded.session == nil {
			if t.loaded.session, err = t.lasting(t.authOf(k.Label, k.Purpose), encryptIn); err != nil {
				return err
			}
		}
		answer, err := tpm2.Sign{
			KeyHandle:  tpm2.AuthHandle{Handle: t.loaded.handle, Name: t.loaded.name, Auth: t.loaded.session},
			Digest:     tpm2.TPM2BDigest{Buffer: input},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(t.conn)
		if err != nil {
			return err
		}
		der, err = derOf(&answer.Signature)
		return err
	})
	return der, err
}

// derOf gives an ECDSA signature as X.509 has it (RFC 3279 section 2.2.3).
func derOf(signature *tpm2.TPMTSignature) ([]byte, error) {
	s, err := signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
}

// ECDH agrees with the receiver key; the shared point is encrypted on the bus.
func (t *TPM) ECDH(id [32]byte, peer *ecdh.PublicKey) (x []byte, err error) {
	point := peer.Bytes()
	err = t.useKey("agree on a key", id, func(k key) error {
		answer, err := tpm2.ECDHZGen{
			KeyHandle: tpm2.AuthHandle{Handle: t.loaded.handle, Name: t.loaded.name, Auth: t.session(t.authOf(k.Label, k.Purpose), encryptInOut)},
			InPoint:   tpm2.New2B(tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}}),
		}.Execute(t.conn)
		if err != nil {
			return err
		}
		shared, err := answer.OutPoint.Contents()
		if err != nil {
			return err
		}
		if len(shared.X.Buffer) > 32 {
			return fmt.Errorf("a shared secret of %d bytes", len(shared.X.Buffer))
		}
		x = make([]byte, 32)
		copy(x[32-len(shared.X.Buffer):], shared.X.Buffer)
		return nil
	})
	return x, err
}

// attest has the TPM's attestation key certify a key: a restricted key of the endorsement hierarchy, the same each time.
// Where the hierarchy has a secret that we don't know, there is no attestation.
func (t *TPM) attest(k key) (*signer.Attestation, error) {
	if err := t.load(k); err != nil {
		return nil, err
	}
	attester := template(signer.Seal, signer.P256)
	attester.ObjectAttributes.Restricted = true
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(attester)}.Execute(t.conn)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCHierarchy) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	about := sha256.Sum256([]byte("coldseal create-key " + string(k.Purpose) + " " + k.Label))
	certified, err := tpm2.Certify{
		ObjectHandle:   tpm2.AuthHandle{Handle: t.loaded.handle, Name: t.loaded.name, Auth: t.session(t.authOf(k.Label, k.Purpose))},
		SignHandle:     tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: about[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(t.conn)
	if err = errors.Join(err, t.flush(made.ObjectHandle)); err != nil {
		return nil, err
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	statement, err := certified.CertifyInfo.Contents()
	if err != nil {
		return nil, err
	}
	return &signer.Attestation{Format: signer.AttestationTPM, Parts: [][]byte{tpm2.Marshal(k.public), tpm2.Marshal(statement), tpm2.Marshal(certified.Signature), tpm2.Marshal(public)}}, nil
}
