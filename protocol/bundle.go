package protocol

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"coldseal/protocol/cose"
)

// BundleHeader opens a bundle (bundle.md). It is signed; everything after it is bound by Rest.
type BundleHeader struct {
	Version      uint64   `cbor:"1,keyasint"`
	From         string   `cbor:"2,keyasint"`            // the agent's name
	To           Digest   `cbor:"3,keyasint"`            // the appliance's genesis digest
	Sequence     uint64   `cbor:"4,keyasint"`            // from 1; used once
	Created      int64    `cbor:"5,keyasint"`            // unix seconds
	Expires      int64    `cbor:"6,keyasint"`            // unix seconds, exclusive
	Items        uint64   `cbor:"7,keyasint"`            //
	Rest         Digest   `cbor:"8,keyasint"`            // SHA-256 of all bytes after the header
	Acknowledged []uint64 `cbor:"9,keyasint,omitempty"`  // numbers of bundles whose responses were imported; ascending
	KnownSize    uint64   `cbor:"10,keyasint,omitempty"` // the newest checkpoint known
	KnownRoot    Digest   `cbor:"11,keyasint,omitzero"`
}

// MaxAcknowledged is how many acknowledgements one bundle carries; the others go with the next.
const MaxAcknowledged = 256

// Section is a part of a bundle. Sections come in this order, so that what takes away is applied first (law 6).
type Section uint64

// The sections.
const (
	SectionTakeAway Section = 1 // revoke and hold
	SectionOrders   Section = 2 // in the order they are to be done
	SectionRequests Section = 3 // all others
)

// SectionOf tells where a kind belongs.
func SectionOf(k Kind) Section {
	switch {
	case k.TakesAway():
		return SectionTakeAway
	case k.IsOrder():
		return SectionOrders
	}
	return SectionRequests
}

type groupHeader struct {
	_         struct{} `cbor:",toarray"`
	Section   Section
	Approvals [][]byte // COSE_Sign1 each, as the approvers made them
	Items     uint64
}

// Item is a request on its way, with the signatures that are not approvals.
type Item struct {
	Request   []byte `cbor:"1,keyasint"`
	Current   []byte `cbor:"2,keyasint,omitempty"` // COSE_Sign1 over the id by the key of the certificate being renewed
	Requester []byte `cbor:"3,keyasint,omitempty"` // COSE_Sign1 over the id by a person who asks; they may not approve it
}

// ParseItem decodes an item; its request is still bytes.
func ParseItem(data []byte) (Item, *Refusal) {
	var it Item
	if err := cose.Unmarshal(data, &it); err != nil {
		return it, Malformed("item", err)
	}
	return it, nil
}

// Group is some items and the approvals that cover them.
type Group struct {
	Section   Section
	Approvals [][]byte
	Items     [][]byte // each the encoding of an Item
}

// WriteGroup writes a group to the part of a bundle after its header.
func WriteGroup(w io.Writer, g Group) error {
	if len(g.Items) == 0 || len(g.Items) > MaxGroupItems || len(g.Approvals) > MaxGroupApprovals {
		return fmt.Errorf("write group: %d items and %d approvals", len(g.Items), len(g.Approvals))
	}
	head, err := cose.Marshal(groupHeader{Section: g.Section, Approvals: g.Approvals, Items: uint64(len(g.Items))})
	if err != nil {
		return err
	}
	if err := WriteString(w, head); err != nil {
		return fmt.Errorf("write group: %w", err)
	}
	for _, item := range g.Items {
		if err := WriteString(w, item); err != nil {
			return fmt.Errorf("write group: %w", err)
		}
	}
	return nil
}

// WriteHeader signs and writes the header of a bundle; the groups follow it, byte for byte as they were hashed.
func WriteHeader(w io.Writer, h BundleHeader, seal crypto.Signer) error {
	return writeSigned(w, h, ContextBundle, seal)
}

func writeSigned(w io.Writer, header any, context string, seal crypto.Signer) error {
	payload, err := cose.Marshal(header)
	if err != nil {
		return err
	}
	message, err := cose.Sign(seal, context, payload)
	if err != nil {
		return err
	}
	if err := WriteString(w, message); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	return nil
}

// Spool is a private copy of what a medium held: it answers the same each time. *os.File is one.
type Spool interface {
	io.ReaderAt
	Stat() (os.FileInfo, error)
}

// Bundle is a bundle whose seal was verified, or one of an unknown or retired sender, of which only the section that
// takes away can be read.
type Bundle struct {
	Header BundleHeader // zero if the sender is not known
	Sender *Party       // nil if the sender is not known; it may be retired
	Digest Digest       // SHA-256 of all bytes of the bundle
	reader *bufio.Reader
	left   uint64
	last   Section
}

// OpenBundle verifies the seal over the whole spool, before anything in it is used. The look-up finds an enrolled agent
// by the id of its seal key. A sender that is not found is no refusal here: the bundle has no Sender then.
func OpenBundle(spool Spool, appliance Digest, lookup func(seal Digest) (Party, bool)) (*Bundle, *Refusal, error) {
	size, err := sizeOf(spool)
	if err != nil {
		return nil, nil, err
	}
	message, rest, whole, refusal, err := readSealed(spool, size, MaxHeader, "bundle")
	if refusal != nil || err != nil {
		return nil, refusal, err
	}
	b := &Bundle{Digest: whole, left: MaxItems}
	id, err := cose.KeyID(message)
	if err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	if party, found := lookup(id); found && party.Role == RoleAgent {
		key, err := party.SealKey()
		if err != nil {
			return nil, nil, err
		}
		payload, err := cose.Verify(message, ContextBundle, key)
		if err != nil {
			return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
		}
		h := &b.Header
		if err := cose.Unmarshal(payload, h); err != nil {
			return nil, Malformed("bundle", err), nil
		}
		switch {
		case h.To != appliance:
			return nil, Refuse(CodeWrongAppliance, "appliance", h.To.String()), nil
		case h.Rest != rest:
			return nil, Refuse(CodeBadSeal, "reason", "the contents are not those that were sealed"), nil
		case h.From != party.Name, h.Version != Version, h.Sequence == 0, h.Created <= 0, h.Expires <= h.Created, h.Items > MaxItems, !ascending(h.Acknowledged):
			return nil, Malformed("bundle", errors.New("a header field is not valid")), nil
		}
		b.Sender, b.left = &party, h.Items
	}
	b.reader = bufio.NewReaderSize(io.NewSectionReader(spool, 0, size), 1<<16)
	if _, err := ReadString(b.reader, MaxHeader); err != nil {
		return nil, nil, fmt.Errorf("read spooled bundle again: %w", err)
	}
	return b, nil, nil
}

// Next returns the next group, or io.EOF after the last. A group that is not well formed ends the bundle with a
// refusal: what follows it cannot be found.
func (b *Bundle) Next() (Group, *Refusal, error) {
	var g Group
	head, err := ReadString(b.reader, MaxGroupHeader)
	if err == io.EOF {
		if b.Sender != nil && b.left != 0 {
			return g, Malformed("bundle", fmt.Errorf("%d items are missing", b.left)), nil
		}
		return g, nil, io.EOF
	}
	if err != nil {
		return g, Malformed("bundle", err), nil
	}
	var h groupHeader
	if err := cose.Unmarshal(head, &h); err != nil {
		return g, Malformed("bundle", err), nil
	}
	if h.Section < b.last || h.Section < SectionTakeAway || h.Section > SectionRequests || h.Items == 0 || h.Items > MaxGroupItems ||
		h.Items > b.left || len(h.Approvals) > MaxGroupApprovals {
		return g, Malformed("bundle", fmt.Errorf("group of %d items and %d approvals in section %d is out of place", h.Items, len(h.Approvals), h.Section)), nil
	}
	b.last, b.left = h.Section, b.left-h.Items
	if b.Sender == nil && h.Section != SectionTakeAway {
		return g, nil, io.EOF
	}
	g.Section, g.Approvals = h.Section, h.Approvals
	g.Items = make([][]byte, h.Items)
	total := 0
	for i := range g.Items {
		if g.Items[i], err = ReadString(b.reader, MaxItem); err != nil {
			return g, Malformed("bundle", fmt.Errorf("item %d of its group: %w", i, err)), nil
		}
		if total += len(g.Items[i]); total > MaxGroupBytes {
			return g, Refuse(CodeTooLarge, "thing", "group", "limit", fmt.Sprintf("%d bytes", MaxGroupBytes)), nil
		}
	}
	return g, nil, nil
}

// readSealed returns the first byte string of a spool, the digest of what follows it and the digest of all.
func readSealed(spool Spool, size int64, maxHeader int, thing string) (message []byte, rest, whole Digest, refusal *Refusal, err error) {
	all := sha256.New()
	r := bufio.NewReaderSize(io.TeeReader(io.NewSectionReader(spool, 0, size), all), 1<<16)
	message, err = ReadString(r, maxHeader)
	if err != nil {
		return nil, rest, whole, Malformed(thing, err), nil
	}
	after := sha256.New()
	if _, err := io.Copy(after, r); err != nil {
		return nil, rest, whole, nil, fmt.Errorf("read spooled %s: %w", thing, err)
	}
	return message, sum(after), sum(all), nil, nil
}

func sum(h hash.Hash) Digest { return Digest(h.Sum(nil)) }

func sizeOf(spool Spool) (int64, error) {
	info, err := spool.Stat()
	if err != nil {
		return 0, fmt.Errorf("measure spool: %w", err)
	}
	return info.Size(), nil
}

func ascending(numbers []uint64) bool {
	if len(numbers) > MaxAcknowledged {
		return false
	}
	for i, n := range numbers {
		if n == 0 || i > 0 && numbers[i-1] >= n {
			return false
		}
	}
	return true
}

// SignID signs a request's id for one of the purposes of Item.
func SignID(signer crypto.Signer, context string, id Digest) ([]byte, error) {
	return cose.Sign(signer, context, id[:])
}

// VerifyID tells whether the key signed this id for this purpose.
func VerifyID(message []byte, context string, key cose.Key, id Digest) error {
	payload, err := cose.Verify(message, context, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, id[:]) {
		return fmt.Errorf("verify %s: it is over another request: %w", context, cose.ErrSignature)
	}
	return nil
}
