package csr

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"strconv"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Contents of public key OIDs.
const (
	oidRSA     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" // 1.2.840.113549.1.1.1, RFC 3279 section 2.3.1
	oidEC      = "\x2a\x86\x48\xce\x3d\x02\x01"         // 1.2.840.10045.2.1, RFC 5480 section 2.1
	oidP256    = "\x2a\x86\x48\xce\x3d\x03\x01\x07"     // 1.2.840.10045.3.1.7
	oidP384    = "\x2b\x81\x04\x00\x22"                 // 1.3.132.0.34
	oidEd25519 = "\x2b\x65\x70"                         // 1.3.101.112, RFC 8410 section 3
)

// CheckKey judges a SubjectPublicKeyInfo, DER, that stands in no request, and names its type. The error is always an
// *Error.
func CheckKey(spki []byte) (keyType string, err error) {
	if !x690.WellFormed(spki) {
		return "", refuse(Form, "not DER")
	}
	var r Request
	if err := r.parseKey(cryptobyte.String(spki)); err != nil {
		return "", err
	}
	return r.KeyType, nil
}

// parseKey reads SubjectPublicKeyInfo and refuses keys of other kinds and keys without strength.
func (r *Request) parseKey(element cryptobyte.String) *Error {
	var algorithm, oid cryptobyte.String
	var key []byte
	info, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !info.ReadASN1(&algorithm, tag.SEQUENCE) || !algorithm.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) ||
		!info.ReadASN1BitStringAsBytes(&key) || !info.Empty() {
		return refuse(Form, "not one SubjectPublicKeyInfo")
	}
	switch string(oid) {
	case oidRSA:
		if string(algorithm) != "\x05\x00" {
			return refuse(Form, "RSA key with parameters other than NULL")
		}
		return r.parseRSA(key)
	case oidEC:
		return r.parseEC(algorithm, key)
	case oidEd25519:
		if !algorithm.Empty() {
			return refuse(Form, "Ed25519 key with parameters")
		}
		return r.parseEd25519(key)
	}
	return refuse(KeyType, "public key algorithm %s is not accepted", x690.OID(oid))
}

func (r *Request) parseRSA(key []byte) *Error {
	if !x690.WellFormed(key) {
		return refuse(Form, "RSA key not DER")
	}
	n, e := new(big.Int), new(big.Int)
	sequence, ok := x690.One(key, tag.SEQUENCE)
	if !ok || !sequence.ReadASN1Integer(n) || !sequence.ReadASN1Integer(e) || !sequence.Empty() {
		return refuse(Form, "RSA key not a modulus and an exponent")
	}
	if err := checkRSA(n, e); err != nil {
		return err
	}
	r.PublicKey = &rsa.PublicKey{N: n, E: int(e.Int64())}
	r.KeyType = "RSA-" + strconv.Itoa(n.BitLen())
	return nil
}

// parseEC takes named curves and uncompressed points only. Compressed points are lawful (RFC 5480 section 2.2), but then
// one key has two SubjectPublicKeyInfos, and whether a key is known is looked up by the hash of that.
func (r *Request) parseEC(parameters cryptobyte.String, point []byte) *Error {
	curve, ok := x690.One(parameters, tag.OBJECT_IDENTIFIER)
	if !ok {
		return refuse(KeyType, "EC key without a named curve")
	}
	var c elliptic.Curve
	switch string(curve) {
	case oidP256:
		c, r.KeyType = elliptic.P256(), "P-256"
	case oidP384:
		c, r.KeyType = elliptic.P384(), "P-384"
	default:
		return refuse(KeyType, "curve %s is not accepted", x690.OID(curve))
	}
	if len(point) > 0 && (point[0] == 2 || point[0] == 3) {
		return refuse(KeyType, "compressed EC points are not accepted")
	}
	// Refuses the point at infinity, other lengths, coordinates not below the prime, and points off the curve.
	key, err := ecdsa.ParseUncompressedPublicKey(c, point)
	if err != nil {
		return refuse(WeakKey, "the point of %d bytes is not on %s", len(point), r.KeyType)
	}
	r.PublicKey = key
	return nil
}

// Encodings of y, little-endian, of the eight points whose order divides the cofactor: order 1 (y=1), 2 (y=-1),
// 4 (y=0) and 8. The sign bit of x is not part of it.
const (
	ed25519Order1  = "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ed25519Order2  = "\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
	ed25519Order4  = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ed25519Order8a = "\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05"
	ed25519Order8b = "\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a"
)

// parseEd25519 refuses keys with which anybody can sign. An encoding that is no point at all fails verification.
func (r *Request) parseEd25519(key []byte) *Error {
	if len(key) != ed25519.PublicKeySize {
		return refuse(WeakKey, "Ed25519 key of %d bytes", len(key))
	}
	y := [ed25519.PublicKeySize]byte(key)
	y[31] &= 0x7f
	switch string(y[:]) {
	case ed25519Order1, ed25519Order2, ed25519Order4, ed25519Order8a, ed25519Order8b:
		return refuse(WeakKey, "Ed25519 key of small order")
	}
	// The prime is 2^255-19: only y of ed…ff7f upwards has a shorter name, and one key must not have two.
	if string(y[1:31]) == ed25519Order2[1:31] && y[31] == 0x7f && y[0] >= 0xed {
		return refuse(WeakKey, "Ed25519 key not below the prime")
	}
	r.PublicKey, r.KeyType = ed25519.PublicKey(key), "Ed25519"
	return nil
}
