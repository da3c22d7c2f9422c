package lint

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const maxSignature = 64 << 10 // no algorithm's is longer; keeps lengths in four bytes

var errShape = errors.New("not a signed structure")

// Dummy puts a signature of signatureLen zero bytes to tbs, the DER of a TBSCertificate or TBSCertList, and algorithm,
// the DER of the outer AlgorithmIdentifier (RFC 5280 sections 4.1.1 and 5.1.1). What comes out is for linting: it
// verifies under no key. nil if tbs and algorithm are not each one SEQUENCE or signatureLen is out of range.
func Dummy(tbs, algorithm []byte, signatureLen int) []byte {
	if !isSequence(tbs) || !isSequence(algorithm) || signatureLen < 0 || signatureLen > maxSignature {
		return nil
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+signatureLen+16))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(make([]byte, signatureLen))
	})
	der, err := b.Bytes()
	if err != nil { // over 4 GiB
		return nil
	}
	return der
}

// Same reports whether final, a certificate or CRL as signed, equals linted in TBS and AlgorithmIdentifier byte for
// byte; both must be nothing but that and a signature. nil means yes.
func Same(linted, final []byte) error {
	lintedTBS, lintedAlgorithm, err := parts(linted)
	if err != nil {
		return fmt.Errorf("what was linted: %w", err)
	}
	finalTBS, finalAlgorithm, err := parts(final)
	if err != nil {
		return fmt.Errorf("what was signed: %w", err)
	}
	if !bytes.Equal(lintedTBS, finalTBS) {
		return errors.New("what was signed is not what was linted: the TBS differs")
	}
	if !bytes.Equal(lintedAlgorithm, finalAlgorithm) {
		return errors.New("what was signed is not what was linted: the algorithm differs")
	}
	return nil
}

func isSequence(der []byte) bool {
	s := cryptobyte.String(der)
	return s.SkipASN1(asn1.SEQUENCE) && s.Empty()
}

func parts(der []byte) (tbs, algorithm cryptobyte.String, err error) {
	input := cryptobyte.String(der)
	var signed cryptobyte.String
	var signature []byte
	if !input.ReadASN1(&signed, asn1.SEQUENCE) || !input.Empty() ||
		!signed.ReadASN1Element(&tbs, asn1.SEQUENCE) ||
		!signed.ReadASN1Element(&algorithm, asn1.SEQUENCE) ||
		!signed.ReadASN1BitStringAsBytes(&signature) || !signed.Empty() {
		return nil, nil, errShape
	}
	return tbs, algorithm, nil
}
