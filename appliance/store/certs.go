package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// Certificate is the standing of one serial.
type Certificate struct {
	_         struct{} `cbor:",toarray"`
	Status    auditlog.Status
	Profile   string
	Issued    uint64 // leaf index
	Changed   uint64 // leaf index of the last change; Issued if none
	NotBefore int64
	NotAfter  int64
	Key       protocol.Digest // SHA-256 of the SubjectPublicKeyInfo
	Name      []byte          // key in bucket names; empty in CA certificates
	Approved  int64           // when persons last approved this name
	Renewed   bool            // it has a successor
	Renews    []byte          // CertificateKey of the one whose successor it is; empty if none
	Body      string
	Subject   string
}

// CertificateKey is the key of a certificate in the ledger.
func CertificateKey(issuer protocol.Digest, serial []byte) []byte {
	return append(bytes.Clone(issuer[:issuerSize]), serial...)
}

const (
	issuerSize = 8
	serialSize = 16 // of the serials that the engine draws
)

// PutCertificate writes the standing of a serial.
func (t *Tx) PutCertificate(issuer protocol.Digest, serial []byte, c Certificate) error {
	b := t.tx.Bucket(bucketCerts)
	b.FillPercent = 0.9 // serials ascend
	return t.put(bucketCerts, CertificateKey(issuer, serial), c)
}

// Certificate finds a serial.
func (t *Tx) Certificate(issuer protocol.Digest, serial []byte) (Certificate, bool, error) {
	return get[Certificate](t, bucketCerts, CertificateKey(issuer, serial))
}

// CountCertificates counts serials that were issued.
func (t *Tx) CountCertificates() uint64 { return t.count(bucketCerts) }

// EachCertificate calls f for all serials of a CA, ascending.
func (t *Tx) EachCertificate(issuer protocol.Digest, f func(serial []byte, c Certificate) error) error {
	return each(t, bucketCerts, issuer[:8], func(k []byte, c Certificate) error { return f(k[8:], c) })
}

// NameKey is the key of a uniqueness key in the ledger.
func NameKey(unique string) []byte {
	d := sha256.Sum256([]byte(unique))
	return d[:16]
}

// PutName makes the serial the one that holds a name.
func (t *Tx) PutName(name []byte, issuer protocol.Digest, serial []byte) error {
	return t.putIndexed(indexNames, name, CertificateKey(issuer, serial))
}

// Holder is a certificate that was made for a name.
type Holder struct {
	Serial []byte
	Certificate
}

// Newest finds the certificate that was last made for a name; zero if there is none.
func (t *Tx) Newest(name []byte) (Certificate, error) {
	key := t.indexed(indexNames, name)
	if key == nil {
		return Certificate{}, nil
	}
	c, _, err := get[Certificate](t, bucketCerts, key)
	return c, err
}

// CountNames counts names that have a holder.
func (t *Tx) CountNames() uint64 { return t.countIndexed(indexNames) }

// Holders lists the newest certificate of a name, the one that it renewed, and so on: any of them may still be valid.
func (t *Tx) Holders(name []byte) (holders []Holder, err error) {
	for key := bytes.Clone(t.indexed(indexNames, name)); len(key) > issuerSize; {
		c, found, err := get[Certificate](t, bucketCerts, key)
		if err == nil && !found {
			err = errors.New("it is missing")
		}
		if err != nil {
			return nil, fmt.Errorf("ledger: certificate %x of a name: %w", key, err)
		}
		holders = append(holders, Holder{key[issuerSize:], c})
		key = c.Renews
	}
	return holders, nil
}

// KeyUse is whom a key was certified for.
type KeyUse struct {
	Name        []byte // as in Certificate
	Compromised bool
}

// PutKeyUse records whom a key is for.
func (t *Tx) PutKeyUse(key protocol.Digest, u KeyUse) error {
	value := make([]byte, keySize+1) // name, or zeros; 1 if compromised
	copy(value, u.Name)
	if u.Compromised {
		value[keySize] = 1
	}
	return t.putIndexed(indexKeys, key[:], value)
}

// KeyUse finds whom a key is for.
func (t *Tx) KeyUse(key protocol.Digest) (KeyUse, bool) {
	value := t.indexed(indexKeys, key[:])
	if value == nil {
		return KeyUse{}, false
	}
	return KeyUse{bytes.Clone(value[:keySize]), value[keySize] == 1}, true
}

// Approver is the holder of an approver certificate.
type Approver struct {
	_      struct{} `cbor:",toarray"`
	Issuer protocol.Digest
	Serial []byte
	Person string
	Scopes []protocol.Scope
	SPKI   []byte
}

// PutApprover records an approver certificate.
func (t *Tx) PutApprover(key protocol.Digest, a Approver) error {
	return t.put(bucketApprovers, key[:], a)
}

// EachApprover calls f for all approver certificates.
func (t *Tx) EachApprover(f func(key protocol.Digest, a Approver) error) error {
	return each(t, bucketApprovers, nil, func(k []byte, a Approver) error { return f(protocol.Digest(k), a) })
}

// Approver finds an approver certificate by its key.
func (t *Tx) Approver(key protocol.Digest) (Approver, bool, error) {
	return get[Approver](t, bucketApprovers, key[:])
}

// Revoked is an entry for a CRL: revoked, held, or burned.
type Revoked struct {
	_        struct{} `cbor:",toarray"`
	Time     int64
	Reason   protocol.Reason
	Since    int64 // invalidityDate; 0 is none
	Index    uint64
	NotAfter int64
}

// PutRevoked writes an entry.
func (t *Tx) PutRevoked(issuer protocol.Digest, shard uint16, serial []byte, r Revoked) error {
	return t.put(bucketRevoked, append(shardKey(issuer, shard), serial...), r)
}

// Revoked finds an entry.
func (t *Tx) Revoked(issuer protocol.Digest, shard uint16, serial []byte) (Revoked, bool, error) {
	return get[Revoked](t, bucketRevoked, append(shardKey(issuer, shard), serial...))
}

// DeleteRevoked removes an entry: a hold was released.
func (t *Tx) DeleteRevoked(issuer protocol.Digest, shard uint16, serial []byte) error {
	return t.tx.Bucket(bucketRevoked).Delete(append(shardKey(issuer, shard), serial...))
}

// EachRevoked calls f for all entries of a shard, ascending by serial.
func (t *Tx) EachRevoked(issuer protocol.Digest, shard uint16, f func(serial []byte, r Revoked) error) error {
	return each(t, bucketRevoked, shardKey(issuer, shard), func(k []byte, r Revoked) error { return f(k[10:], r) })
}

// Intent is a signature that is about to be made.
type Intent struct {
	_        struct{} `cbor:",toarray"`
	Issuer   protocol.Digest
	Serial   []byte // empty for a CRL
	TBS      protocol.Digest
	Profile  string
	NotAfter int64
}

// PutIntents replaces the intents: the former batch has its results, or was burned.
func (t *Tx) PutIntents(intents []Intent) error { return t.put(bucketIntents, keyIntents, intents) }

// Intents reads what was about to be signed.
func (t *Tx) Intents() ([]Intent, error) {
	intents, _, err := get[[]Intent](t, bucketIntents, keyIntents)
	return intents, err
}

func toNumber(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
