package agent

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/agent/store"
)

// crl is a CRL without its entries: x509.ParseRevocationList makes objects of all of them, which for a million takes
// more memory than an agent may have.
type crl struct {
	tbs        []byte
	algorithm  x509.SignatureAlgorithm
	signature  []byte
	issuer     []byte // Name
	thisUpdate time.Time
	nextUpdate time.Time
	number     *big.Int
}

// parseCRL reads a CertificateList (RFC 5280 section 5.1) of version 2 with a number and a next update.
func parseCRL(der []byte) (crl, error) {
	var c crl
	bad := errors.New("not one CRL of version 2")
	input := cryptobyte.String(der)
	var list, tbs, algorithm, inner cryptobyte.String
	if !input.ReadASN1(&list, tag.SEQUENCE) || !input.Empty() || !list.ReadASN1Element(&tbs, tag.SEQUENCE) ||
		!list.ReadASN1Element(&algorithm, tag.SEQUENCE) || !list.ReadASN1BitStringAsBytes(&c.signature) || !list.Empty() {
		return c, bad
	}
	c.tbs = tbs
	if c.algorithm = signatureAlgorithm(algorithm); c.algorithm == x509.UnknownSignatureAlgorithm {
		return c, errors.New("its signature algorithm is not known")
	}
	var body, issuer, extensions cryptobyte.String
	var version int
	if !tbs.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1Integer(&version) || version != 1 ||
		!body.ReadASN1Element(&inner, tag.SEQUENCE) || !bytes.Equal(inner, algorithm) || !body.ReadASN1Element(&issuer, tag.SEQUENCE) ||
		!readTime(&body, &c.thisUpdate) || !readTime(&body, &c.nextUpdate) {
		return c, bad
	}
	c.issuer = issuer
	var tagged cryptobyte.String
	var present bool
	if !body.SkipOptionalASN1(tag.SEQUENCE) || !body.ReadOptionalASN1(&tagged, &present, tag.Tag(0).ContextSpecific().Constructed()) ||
		!present || !body.Empty() || !tagged.ReadASN1(&extensions, tag.SEQUENCE) || !tagged.Empty() {
		return c, bad
	}
	for !extensions.Empty() {
		var extension, value cryptobyte.String
		var id asn1.ObjectIdentifier
		if !extensions.ReadASN1(&extension, tag.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) ||
			!extension.SkipOptionalASN1(tag.BOOLEAN) || !extension.ReadASN1(&value, tag.OCTET_STRING) || !extension.Empty() {
			return c, bad
		}
		if id.Equal(asn1.ObjectIdentifier{2, 5, 29, 20}) {
			c.number = new(big.Int)
			if !value.ReadASN1Integer(c.number) || !value.Empty() || c.number.Sign() < 0 {
				return c, errors.New("its number cannot be read")
			}
		}
	}
	if c.number == nil {
		return c, errors.New("it has no number")
	}
	return c, nil
}

func readTime(s *cryptobyte.String, t *time.Time) bool {
	if s.PeekASN1Tag(tag.UTCTime) {
		return s.ReadASN1UTCTime(t)
	}
	return s.ReadASN1GeneralizedTime(t)
}

// signatureAlgorithm reads the AlgorithmIdentifiers that our CAs use.
func signatureAlgorithm(der cryptobyte.String) x509.SignatureAlgorithm {
	var algorithm cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !der.ReadASN1(&algorithm, tag.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) {
		return x509.UnknownSignatureAlgorithm
	}
	switch oid.String() {
	case "1.2.840.10045.4.3.2":
		return x509.ECDSAWithSHA256
	case "1.2.840.10045.4.3.3":
		return x509.ECDSAWithSHA384
	case "1.2.840.113549.1.1.11":
		return x509.SHA256WithRSA
	case "1.2.840.113549.1.1.12":
		return x509.SHA384WithRSA
	case "1.2.840.113549.1.1.13":
		return x509.SHA512WithRSA
	case "1.3.101.112":
		return x509.PureEd25519
	}
	return x509.UnknownSignatureAlgorithm
}

// takeCRL verifies a CRL and keeps it for the commit, unless the one that is here is the same or, in a response older
// than what is known here, newer.
func (in *incoming) takeCRL(der []byte) error {
	c, err := parseCRL(der)
	if err != nil {
		return lie("a CRL: %v", err)
	}
	var issuer *ca
	for i := range in.known.cas {
		k := &in.known.cas[i]
		if bytes.Equal(k.cert.RawSubject, c.issuer) && k.cert.CheckSignature(c.algorithm, c.tbs, c.signature) == nil {
			issuer = k
			break
		}
	}
	if issuer == nil {
		return lie("a CRL is not signed by any of the CAs")
	}
	held, found := in.crls[issuer.id]
	if !found {
		err := in.s.store.View(func(tx *store.Tx) (err error) {
			held, found, err = tx.CRL(issuer.id)
			return err
		})
		if err != nil {
			return err
		}
	}
	if found {
		switch c.number.Cmp(new(big.Int).SetBytes(held.Number)) {
		case 0:
			if !bytes.Equal(der, held.DER) {
				return lie("there are two CRLs of %s with the number %s", issuer, c.number)
			}
			return nil
		case -1:
			if uint64(in.checkpoint.Size) < in.meta.Size {
				return nil
			}
			return lie("the CRL of %s has the number %s, the one known here is newer", issuer, c.number)
		}
	}
	in.crls[issuer.id] = store.CRL{Number: c.number.Bytes(), ThisUpdate: c.thisUpdate.Unix(), NextUpdate: c.nextUpdate.Unix(), DER: der}
	in.done.CRLs++
	return nil
}
