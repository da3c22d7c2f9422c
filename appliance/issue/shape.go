package issue

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// MaxShards bounds the shards of one CA's CRL.
const MaxShards = 1024

// Shape is what all certificates of one CA and one profile share, encoded once. It is safe for concurrent use.
type Shape struct {
	ca       *CA
	profile  *policy.Profile
	signer   []byte           // AlgorithmIdentifier and issuer
	first    []byte           // extensions before the subject key identifier
	second   [keyKinds][]byte // those between it and subjectAltName; nil if the kind of key has no usage
	third    [][]byte         // those after it, for each shard of the CRL
	scopeOID string           // contents
}

// NewShape checks that the CA can sign certificates of the profile. Shards is how many the CA's CRL has, 1 if it is
// whole. The profile must not be changed afterwards.
func NewShape(ca *CA, p *policy.Profile, shards uint64) (*Shape, error) {
	s := &Shape{ca: ca, profile: p, signer: append(bytes.Clone(ca.AlgorithmRaw), ca.SubjectRaw...)}
	if err := s.fill(shards); err != nil {
		return nil, fmt.Errorf("profile %s under CA %s: %w", p.Name, ca.Label, err)
	}
	return s, nil
}

func (s *Shape) fill(shards uint64) error {
	ca, p := s.ca, s.profile
	pathLen := p.PathLen - 1
	switch {
	case shards == 0 || shards > MaxShards:
		return fmt.Errorf("%d shards, from 1 to %d", shards, MaxShards)
	case shards > 1 && p.CRLURL != "" && !strings.Contains(p.CRLURL, "{shard}"):
		return errors.New("the CRL is in shards, the URL does not say which")
	case ca.self != (p.Use == policy.UseRoot):
		return errors.New("roots sign themselves, and nothing else is signed by itself")
	case p.Use.IsCA() && !ca.self && ca.PathLen == 0:
		return errors.New("the CA may not have CAs below it")
	case p.Use.IsCA() && !ca.self && ca.PathLen > 0 && (pathLen < 0 || pathLen >= int64(ca.PathLen)):
		return fmt.Errorf("its path length is not below the CA's, %d", ca.PathLen)
	case p.Use.IsCA() != slices.Contains(p.KeyUsage, "keyCertSign"), p.Use.IsCA() != slices.Contains(p.KeyUsage, "cRLSign"):
		return errors.New("keyCertSign and cRLSign are for CAs, which have both")
	}
	for _, a := range p.Subject {
		if _, known := attributeType(a.Type); !known {
			return fmt.Errorf("no attribute type %q", a.Type)
		}
	}
	var err error
	if s.scopeOID, err = dottedOID(protocol.ScopeOID); err != nil {
		return err
	}
	if s.first, err = fragment(func(b *cryptobyte.Builder) { addAuthorityKeyID(b, ca.SubjectKeyID) }); err != nil {
		return err
	}
	for kind := range keyKinds {
		if s.second[kind], err = s.middle(kind, pathLen); err != nil {
			return err
		}
	}
	for shard := range shards {
		der, err := fragment(func(b *cryptobyte.Builder) {
			if p.CRLURL != "" {
				addCRLPoint(b, policy.URL(p.CRLURL, ca.Label, shard))
			}
			addAuthorityAccess(b, p.OCSPURL, policy.URL(p.IssuerURL, ca.Label, shard))
			if p.Use == policy.UseOCSP {
				addExtension(b, oidOCSPNoCheck, false, func(b *cryptobyte.Builder) { b.AddASN1NULL() })
			}
		})
		if err != nil {
			return err
		}
		s.third = append(s.third, der)
	}
	return nil
}

func (s *Shape) middle(kind keyKind, pathLen int64) ([]byte, error) {
	p := s.profile
	bits, err := usageBits(p.KeyUsage, kind)
	if err != nil || bits == 0 {
		return nil, err
	}
	var purposes, policies []string
	for _, name := range p.ExtUsage {
		oid, err := extUsageOID(name)
		if err != nil {
			return nil, err
		}
		purposes = append(purposes, oid)
	}
	for _, name := range p.Policies {
		oid, err := dottedOID(name)
		if err != nil {
			return nil, err
		}
		policies = append(policies, oid)
	}
	return fragment(func(b *cryptobyte.Builder) {
		addKeyUsage(b, bits)
		if p.Use.IsCA() {
			addBasicConstraints(b, pathLen)
		}
		if len(purposes) > 0 {
			addOIDs(b, oidExtKeyUsage, purposes, false)
		}
		if len(policies) > 0 {
			addOIDs(b, oidPolicies, policies, true)
		}
	})
}

// fragment builds a run of encodings.
func fragment(f build) ([]byte, error) {
	var b cryptobyte.Builder
	f(&b)
	return b.Bytes()
}

// Certificate is what one certificate has for itself.
type Certificate struct {
	Serial    []byte                 // big-endian, 1 to 20 octets, positive
	Subject   []policy.Attribute     // in order, values evaluated
	AltNames  []policy.AltName       // in order, values evaluated, absent ones left out
	SPKI      []byte                 // copied byte for byte
	NotBefore int64                  // unix seconds
	NotAfter  int64                  // unix seconds, inclusive
	Scope     protocol.ApproverScope // of approver certificates; zero in others
	Other     *Other                 // of cross-certificates, instead of the subject; nil in others
}

// Other is a CA that has its name and its key identifier already (RFC 5280 section 4.2.1.2).
type Other struct {
	SubjectRaw   []byte // Name, DER, not empty
	SubjectKeyID []byte
}

// TBS makes the bytes to be signed (RFC 5280 section 4.1). A refusal is about values that the request gave; an error is
// a fault of ours.
func (s *Shape) TBS(c Certificate) ([]byte, *protocol.Refusal, error) {
	tbs, err := s.tbs(&c)
	var bad *valueError
	var none noUsage
	switch {
	case errors.As(err, &bad):
		return nil, protocol.Refuse(protocol.CodeSubjectMismatch, "field", bad.field, "profile", s.profile.Name, "reason", bad.reason), nil
	case errors.As(err, &none):
		return nil, protocol.Refuse(protocol.CodeKeyType, "profile", s.profile.Name, "type", none.String(), "allowed", s.usable()), nil
	case err != nil:
		return nil, nil, fmt.Errorf("certificate %x of profile %s: %w", c.Serial, s.profile.Name, err)
	case len(tbs)+len(s.ca.AlgorithmRaw)+s.ca.SignatureLen+16 > MaxCertificate:
		return nil, protocol.Refuse(protocol.CodeTooLarge, "thing", "certificate", "limit", fmt.Sprintf("%d bytes", MaxCertificate)), nil
	}
	return tbs, nil, nil
}

// noUsage is a kind of key that can do nothing of what the profile is for.
type noUsage keyKind

func (k noUsage) String() string { return [...]string{"RSA", "EC", "Ed25519"}[k] }
func (k noUsage) Error() string  { return "no usage for keys of type " + k.String() }

func (s *Shape) usable() string {
	var kinds []string
	for kind := range keyKinds {
		if s.second[kind] != nil {
			kinds = append(kinds, noUsage(kind).String())
		}
	}
	return strings.Join(kinds, ", ")
}

func (s *Shape) tbs(c *Certificate) ([]byte, error) {
	if err := s.check(c); err != nil {
		return nil, err
	}
	k, err := parseKey(c.SPKI)
	if err != nil {
		return nil, err
	}
	if s.second[k.kind] == nil {
		return nil, noUsage(k.kind)
	}
	var scope []byte
	if s.profile.Use == policy.UseApprover {
		if scope, err = c.Scope.Encode(); err != nil {
			return nil, &valueError{"scopes", "cannot stand in a certificate: " + err.Error()}
		}
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024+len(c.SPKI)+len(scope)))
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte{0xa0, 3, 2, 1, 2}) // version 3
		b.AddASN1(tag.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(c.Serial) })
		b.AddBytes(s.signer)
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			var times [34]byte
			b.AddBytes(appendTime(appendTime(times[:0], c.NotBefore), c.NotAfter))
		})
		if c.Other != nil {
			b.AddBytes(c.Other.SubjectRaw)
		} else {
			addName(b, c.Subject)
		}
		b.AddBytes(c.SPKI)
		b.AddASN1(tag.Tag(0xa3), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { s.addExtensions(b, c, k, scope) })
		})
	})
	return b.Bytes()
}

func (s *Shape) addExtensions(b *cryptobyte.Builder, c *Certificate, k key, scope []byte) {
	b.AddBytes(s.first)
	id := k.id[:]
	if c.Other != nil {
		id = c.Other.SubjectKeyID
	}
	addExtension(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(id) })
	b.AddBytes(s.second[k.kind])
	if len(c.AltNames) > 0 {
		// Critical if it is all the subject there is (RFC 5280 section 4.2.1.6).
		addExtension(b, oidSubjectAltName, len(c.Subject) == 0, func(b *cryptobyte.Builder) { addAltNames(b, c.AltNames) })
	}
	b.AddBytes(s.third[Shard(c.Serial, uint64(len(s.third)))])
	if scope != nil {
		addExtension(b, s.scopeOID, false, func(b *cryptobyte.Builder) { b.AddBytes(scope) })
	}
}

func (s *Shape) check(c *Certificate) error {
	ca, p := s.ca, s.profile
	switch {
	case !validSerial(c.Serial):
		return errors.New("the serial is not a positive number of at most 20 octets")
	case c.NotBefore < 0 || c.NotAfter < c.NotBefore || c.NotAfter > maxTime || c.NotBefore < ca.NotBefore || c.NotAfter > ca.NotAfter:
		return fmt.Errorf("validity %d to %d is not in order or not within that of the CA, %d to %d", c.NotBefore, c.NotAfter, ca.NotBefore, ca.NotAfter)
	case (c.Other != nil) != (p.Use == policy.UseCross):
		return errors.New("cross-certificates, and no others, have the name of another CA")
	case c.Other != nil && (len(c.Subject) != 0 || len(c.Other.SubjectRaw) <= 2 || len(c.Other.SubjectKeyID) == 0 || len(c.Other.SubjectKeyID) > 64):
		return errors.New("the other CA has no name or no key identifier, or a second name")
	case c.Other == nil && len(c.Subject) == 0 && (len(c.AltNames) == 0 || p.Use.IsCA()):
		return &valueError{"subject", "is empty"}
	case p.Use != policy.UseApprover && (c.Scope.Person != "" || len(c.Scope.Scopes) != 0):
		return errors.New("only approver certificates have a scope")
	case ca.self != bytes.Equal(c.SPKI, ca.spki):
		return errors.New("a root, and no other certificate, has the key of the CA that signs it")
	case !ca.self:
		return nil
	}
	subject, err := encodeName(c.Subject)
	if err == nil && !bytes.Equal(subject, ca.SubjectRaw) {
		return errors.New("a root has the name of the CA that signs it")
	}
	return err
}

// validSerial asks for a positive number that requests can name (RFC 5280 section 4.1.2.2, protocol.CertificateID).
func validSerial(serial []byte) bool {
	return len(serial) >= 1 && len(serial) <= 20 && serial[0] != 0 && serial[0] < 0x80
}

// Shard tells which shard of the CRL a certificate belongs to, for ever: its CRL distribution point names it.
func Shard(serial []byte, shards uint64) uint64 {
	if shards <= 1 {
		return 0
	}
	digest := sha256.Sum256(serial)
	return binary.BigEndian.Uint64(digest[:8]) % shards
}
