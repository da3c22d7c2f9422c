package tpm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
	"coldseal/appliance/tpm/swtpm"
	"coldseal/protocol/cose"
)

func start(t testing.TB) *swtpm.TPM {
	t.Helper()
	machine, err := swtpm.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Stop() })
	return machine
}

func locator(t testing.TB, text string) signer.Locator {
	t.Helper()
	l, err := signer.ParseLocator(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, text, dir string) *TPM {
	t.Helper()
	d, err := Open(locator(t, text), []byte(swtpm.PIN), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func create(t testing.TB, d signer.Device, label string, purpose signer.Purpose, algorithm signer.Algorithm) signer.KeyInfo {
	t.Helper()
	key, _, err := d.Create(label, purpose, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func wantTrouble(t testing.TB, err error, code signer.TroubleCode, says ...string) {
	t.Helper()
	trouble, ok := signer.AsTrouble(err)
	if !ok || trouble.Code != code {
		t.Errorf("got %v, want trouble %s", err, code)
		return
	}
	for _, word := range says {
		if !strings.Contains(trouble.Error()+"\n"+trouble.Hint(), word) {
			t.Errorf("trouble %q (%q) does not say %q", trouble, trouble.Hint(), word)
		}
	}
}

// signs has a key sign something, and checks the signature.
func signs(t testing.TB, d signer.Device, k signer.KeyInfo) error {
	t.Helper()
	scheme := map[signer.Algorithm]signer.Scheme{signer.P256: signer.ECDSASHA256, signer.P384: signer.ECDSASHA384}[k.Algorithm]
	digest := make([]byte, scheme.Options().HashFunc().Size())
	rand.Read(digest)
	signature, err := d.Sign(k.ID(), scheme, digest)
	if err != nil {
		return err
	}
	public, err := k.Check()
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest, signature) {
		return errors.New("a bad signature")
	}
	return nil
}

func agrees(t testing.TB, d signer.Device, k signer.KeyInfo) error {
	t.Helper()
	public, err := k.Check()
	if err != nil {
		return err
	}
	point, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return err
	}
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := own.ECDH(point)
	if err != nil {
		return err
	}
	got, err := d.ECDH(k.ID(), own.PublicKey())
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("another shared secret")
	}
	return err
}

// TestEveryKind makes a key of every kind, uses them in turn, finds them again after a power cut, and destroys them: on the socket and
// on a character device.
func TestEveryKind(t *testing.T) {
	for _, way := range []string{"socket", "device"} {
		t.Run(way, func(t *testing.T) {
			machine := start(t)
			path := machine.Socket
			if way == "device" {
				device, end, err := machine.Device()
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { end.Close() })
				path = device
			}
			text, dir := "tpm:"+way+"="+path, t.TempDir()
			d := open(t, text, dir)
			for _, a := range []signer.Algorithm{signer.RSA3072, signer.RSA4096, signer.Ed25519} {
				if d.Holds(signer.CA, a) || d.Holds(signer.Log, a) {
					t.Errorf("holds %s", a)
				}
			}
			_, _, err := d.Create("log", signer.Log, signer.Ed25519)
			wantTrouble(t, err, signer.MechanismMissing)
			made := []signer.KeyInfo{
				create(t, d, "root", signer.CA, signer.P384), create(t, d, "issuing", signer.CA, signer.P256), create(t, d, "seal", signer.Seal, signer.P256),
				create(t, d, "receiver", signer.Receiver, signer.P256), create(t, d, "issuing-2", signer.CA, signer.P256),
			}
			check := func() {
				t.Helper()
				for _, k := range slices.Concat(made, made) {
					var err error
					if k.Purpose == signer.Receiver {
						err = agrees(t, d, k)
						if _, signing := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32)); signing == nil {
							t.Error("the receiver key signs")
						}
					} else {
						err = signs(t, d, k)
					}
					if err != nil {
						t.Errorf("%s: %v", k.Label, err)
					}
				}
			}
			check()
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if way == "socket" {
				if err := machine.Restart(); err != nil {
					t.Fatal(err)
				}
			}
			d = open(t, text, dir)
			check()
			if objects, err := d.Objects(); err != nil || len(objects) != len(made)+2 {
				t.Errorf("objects %v, %v", objects, err)
			}
			for _, k := range made {
				if err := d.Destroy(k.ID()); err != nil {
					t.Error(err)
				}
				wantTrouble(t, signs(t, d, signer.KeyInfo{Label: k.Label, Algorithm: signer.P256, SPKI: k.SPKI}), signer.KeyMissing)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*", "*.key")); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

func TestAnchor(t *testing.T) {
	machine, dir := start(t), t.TempDir()
	text := "tpm:socket=" + machine.Socket
	d := open(t, text, dir)
	wantCounter := func(want uint64) {
		t.Helper()
		if got, err := d.Counter(); err != nil || got != want {
			t.Errorf("counter %d, %v; want %d", got, err, want)
		}
	}
	wantCounter(0)
	for i := range uint64(5) {
		if err := d.Advance(i + 1); err != nil {
			t.Fatal(err)
		}
	}
	wantCounter(5)
	for _, to := range []uint64{4, 7} {
		if err := d.Advance(to); err == nil {
			t.Errorf("the counter went from 5 to %d", to)
		}
	}
	if pinned, err := d.Pinned(); err != nil || pinned != [32]byte{} {
		t.Errorf("pinned %x, %v", pinned, err)
	}
	digest := [32]byte{1, 2, 3}
	if err := d.Pin(digest); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := machine.Restart(); err != nil {
		t.Fatal(err)
	}
	d = open(t, text, dir)
	wantCounter(5)
	if err := d.Advance(6); err != nil {
		t.Fatal(err)
	}
	if pinned, err := d.Pinned(); err != nil || pinned != digest {
		t.Errorf("pinned %x, %v", pinned, err)
	}
	d.Close()
	// Another appliance on the same TPM counts for itself; the directory of the first does not open with it.
	_, err := Open(locator(t, text), []byte(swtpm.PIN), t.TempDir())
	wantTrouble(t, err, signer.CounterForeign, "belongs to the appliance", "index of its own")
	other := open(t, text+"?index=1800cb0", t.TempDir())
	if value, err := other.Counter(); err != nil || value != 0 {
		t.Errorf("the other counter is %d, %v", value, err)
	}
}

func TestTroubles(t *testing.T) {
	machine, dir := start(t), t.TempDir()
	text := "tpm:socket=" + machine.Socket
	d := open(t, text, dir)
	k := create(t, d, "ca", signer.CA, signer.P256)
	d.Close()
	for name, c := range map[string]struct {
		text string
		code signer.TroubleCode
		says string
	}{
		"no socket":    {"tpm:socket=/nonexistent/tpm", signer.DeviceAbsent, "start swtpm"},
		"no device":    {"tpm:device=/nonexistent/tpm", signer.DeviceAbsent, "ls -l /nonexistent/tpm"},
		"not a device": {"tpm:device=/etc/passwd", signer.DeviceAbsent, "not a character device"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(locator(t, c.text), []byte(swtpm.PIN), t.TempDir())
			wantTrouble(t, err, c.code, c.says)
		})
	}
	wrong := func() error {
		_, err := Open(locator(t, text), []byte("0000"), dir)
		return err
	}
	if err := machine.MaxTries(3); err != nil {
		t.Fatal(err)
	}
	wantTrouble(t, wrong(), signer.PINWrong, "2 tries are left")
	wantTrouble(t, wrong(), signer.PINWrong, "1 try is left")
	wantTrouble(t, wrong(), signer.PINLocked)
	wantTrouble(t, wrong(), signer.PINLocked, "tpm2_dictionarylockout")
	if _, err := Open(locator(t, text), []byte(swtpm.PIN), dir); err == nil {
		t.Error("a TPM that is locked takes the PIN")
	} else {
		wantTrouble(t, err, signer.PINLocked)
	}
	if err := machine.MaxTries(5); err != nil {
		t.Fatal(err)
	}
	d = open(t, text, dir)
	if err := signs(t, d, k); err != nil {
		t.Errorf("after it was unlocked: %v", err)
	}
	d.Close()
	if err := machine.Clear(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(locator(t, text), []byte(swtpm.PIN), dir)
	wantTrouble(t, err, signer.CounterMissing, "its storage key is not the one", "put the right TPM back")
}

// TestCounterRemoved removes what a TPM's owner can remove.
func TestCounterRemoved(t *testing.T) {
	for _, index := range []uint32{firstIndex, firstIndex + 1} {
		machine, dir := start(t), t.TempDir()
		text := "tpm:socket=" + machine.Socket
		open(t, text, dir).Close()
		undefine := []byte{0x80, 0x02, 0, 0, 0, 31, 0, 0, 1, 0x22, 0x40, 0, 0, 1, byte(index >> 24), byte(index >> 16), byte(index >> 8), byte(index), 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
		if err := machine.Command(undefine); err != nil {
			t.Fatal(err)
		}
		_, err := Open(locator(t, text), []byte(swtpm.PIN), dir)
		wantTrouble(t, err, signer.CounterMissing, "there is no NV index")
	}
}

// TestKeyFiles changes what key files say: nothing is signed with what does not agree.
func TestKeyFiles(t *testing.T) {
	machine, dir := start(t), t.TempDir()
	text := "tpm:socket=" + machine.Socket
	d := open(t, text, dir)
	ca, seal := create(t, d, "ca", signer.CA, signer.P256), create(t, d, "seal", signer.Seal, signer.P256)
	folder := d.dir
	k, err := d.find(ca.ID())
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	path := filepath.Join(folder, k.file())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reopened := func() (*TPM, []signer.KeyInfo) {
		d := open(t, text, dir)
		keys, err := d.Keys()
		if err != nil {
			t.Fatal(err)
		}
		return d, keys
	}
	// The label of another key, the purpose of another key: the TPM does not take the authorization.
	for name, change := range map[string]func(k *key){
		"label":   func(k *key) { k.Label = "other" },
		"purpose": func(k *key) { k.Purpose = signer.Seal },
	} {
		changed := k
		change(&changed)
		if err := d.writeKey(changed); err != nil {
			t.Fatal(err)
		}
		d, keys := reopened()
		if len(keys) != 2 {
			t.Fatalf("%s: %d keys", name, len(keys))
		}
		wantTrouble(t, signs(t, d, ca), signer.KeyWrong)
		if err := signs(t, d, seal); err != nil {
			t.Error(err)
		}
		d.Close()
	}
	twice := k
	twice.Label = "seal"
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-5] ^= 1
	doubled, err := cose.Marshal(twice)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := d.find(seal.ID())
	if err != nil {
		t.Fatal(err)
	}
	sealed.Label = "third"
	otherFile, err := cose.Marshal(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		keys int
		note string
	}{
		"wrapped key changed": {damaged, 2, "TPM_RC_INTEGRITY"},
		"cut":                 {whole[:len(whole)-1], 1, "EOF"},
		"empty":               {nil, 1, "EOF"},
		"label twice":         {doubled, 0, "another key has the same label"},
		"large":               {make([]byte, maxFile+1), 1, "more than"},
		"another key":         {otherFile, 1, "it holds another key than its name says"},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, keys := reopened()
		objects, err := d.Objects()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(objects, func(o signer.Object) bool { return o.Handle == k.file() })
		if len(keys) != c.keys || i < 0 || !strings.Contains(objects[i].Note, c.note) {
			t.Errorf("%s: %d keys, %+v", name, len(keys), objects)
		}
		if err := signs(t, d, ca); err == nil {
			t.Errorf("%s: it signs", name)
		}
		d.Close()
	}
}

// TestKeysThatCanLeave has the files of keys that our storage key wraps, and that another TPM could take over, or that were
// not made in this one.
func TestKeysThatCanLeave(t *testing.T) {
	text, dir := "tpm:socket="+start(t).Socket, t.TempDir()
	d := open(t, text, dir)
	good := create(t, d, "good", signer.CA, signer.P256)
	for label, change := range map[string]func(*tpm2.TPMAObject){
		"free":    func(a *tpm2.TPMAObject) { a.FixedTPM, a.FixedParent = false, false },
		"adopted": func(a *tpm2.TPMAObject) { a.FixedTPM = false },
		"both":    func(a *tpm2.TPMAObject) { a.Decrypt = true },
	} {
		public := template(signer.CA, signer.P256)
		change(&public.ObjectAttributes)
		if label == "both" { // a key that signs and agrees has no scheme of its own
			public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		}
		made, err := tpm2.Create{
			ParentHandle: d.parentAuth(encryptInOut),
			InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: d.authOf(label, signer.CA)}}},
			InPublic:     tpm2.New2B(public),
		}.Execute(d.conn)
		if label == "adopted" { // fixed to a parent that is fixed to this TPM: no TPM makes that
			if err == nil {
				t.Error("the TPM made a key that is fixed to its parent alone")
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", label, err)
		}
		k := key{Label: label, Purpose: signer.CA, Algorithm: signer.P256, Public: tpm2.Marshal(made.OutPublic), Private: tpm2.Marshal(made.OutPrivate)}
		if err := k.check(); err == nil || !strings.Contains(err.Error(), "not fixed to the TPM, or for something else") {
			t.Errorf("%s: %v", label, err)
		}
		if err := d.writeKey(k); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	if keys, err := open(t, text, dir).Keys(); err != nil || len(keys) != 1 || keys[0].ID() != good.ID() {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// TestAttestation verifies what the TPM says of a new key, as an auditor would.
func TestAttestation(t *testing.T) {
	d := open(t, "tpm:socket="+start(t).Socket, t.TempDir())
	info, attestation, err := d.Create("issuing", signer.CA, signer.P256)
	if err != nil || attestation == nil || attestation.Format != signer.AttestationTPM || len(attestation.Parts) != 4 {
		t.Fatalf("%+v, %v", attestation, err)
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](attestation.Parts[0])
	if err != nil {
		t.Fatal(err)
	}
	if der, err := spkiOf(public); err != nil || !bytes.Equal(der, info.SPKI) {
		t.Errorf("it is of another key: %v", err)
	}
	if a := public.ObjectAttributes; !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || a.EncryptedDuplication {
		t.Errorf("the key may leave: %+v", a)
	}
	statement, err := tpm2.Unmarshal[tpm2.TPMSAttest](attestation.Parts[1])
	if err != nil {
		t.Fatal(err)
	}
	certified, err := statement.Attested.Certify()
	if err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil || !bytes.Equal(certified.Name.Buffer, name.Buffer) || statement.Magic != tpm2.TPMGeneratedValue {
		t.Errorf("it certifies another key: %v", err)
	}
	if about := sha256.Sum256([]byte("coldseal create-key ca issuing")); !bytes.Equal(statement.ExtraData.Buffer, about[:]) {
		t.Error("it is for something else")
	}
	attester, err := tpm2.Unmarshal[tpm2.TPMTPublic](attestation.Parts[3])
	if err != nil {
		t.Fatal(err)
	}
	if a := attester.ObjectAttributes; !a.Restricted || !a.FixedTPM || a.Decrypt {
		t.Errorf("the attestation key signs other things, too: %+v", a)
	}
	der, err := spkiOf(attester)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](attestation.Parts[2])
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := derOf(signature)
	if digest := sha256.Sum256(attestation.Parts[1]); err != nil || !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], encoded) {
		t.Errorf("the signature does not verify: %v", err)
	}
	if again := create(t, d, "seal", signer.Seal, signer.P256); signs(t, d, again) != nil || signs(t, d, info) != nil {
		t.Error("the keys do not sign after they were attested")
	}
}
