package protocol

import (
	"bufio"
	"crypto"
	"errors"
	"fmt"
	"io"

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

func (h *BundleHeader) check() error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("version %d is not %d", h.Version, Version)
	case !ValidName(h.From):
		return fmt.Errorf("sender %q is not a name", cut(h.From))
	case h.Sequence == 0:
		return errors.New("its number is 0")
	case h.Created <= 0 || h.Expires <= h.Created || h.Expires > MaxTime:
		return fmt.Errorf("created %d and expires %d are not in order", h.Created, h.Expires)
	case h.Items > MaxItems:
		return fmt.Errorf("%d items, at most %d", h.Items, MaxItems)
	case !ascending(h.Acknowledged, MaxAcknowledged):
		return errors.New("the acknowledged numbers are not in order or too many")
	}
	return nil
}

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

// Group is some items and the approvals that cover them.
type Group struct {
	Section   Section
	Approvals [][]byte
	Items     [][]byte // each the encoding of an Item
}

// WriteGroup writes a group to the part of a bundle after its header. It refuses what Bundle.Next would refuse.
func WriteGroup(w io.Writer, g Group) error {
	h := groupHeader{Section: g.Section, Approvals: g.Approvals, Items: uint64(len(g.Items))}
	if err := h.check(); err != nil {
		return fmt.Errorf("write group: %w", err)
	}
	head, err := cose.Marshal(h)
	if err != nil {
		return err
	}
	if len(head) > MaxGroupHeader {
		return fmt.Errorf("write group: approvals of %d bytes, at most %d", len(head), MaxGroupHeader)
	}
	total := 0
	for i, item := range g.Items {
		if total += len(item); len(item) > MaxItem || total > MaxGroupBytes {
			return fmt.Errorf("write group: item %d has %d bytes, the group %d; at most %d and %d", i, len(item), total, MaxItem, MaxGroupBytes)
		}
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

func (h *groupHeader) check() error {
	switch {
	case h.Section < SectionTakeAway || h.Section > SectionRequests:
		return fmt.Errorf("section %d is not known", uint64(h.Section))
	case h.Items == 0 || h.Items > MaxGroupItems:
		return fmt.Errorf("group of %d items, from 1 to %d", h.Items, MaxGroupItems)
	case len(h.Approvals) > MaxGroupApprovals:
		return fmt.Errorf("group of %d approvals, at most %d", len(h.Approvals), MaxGroupApprovals)
	}
	return nil
}

// WriteHeader signs and writes the header of a bundle; the groups follow it, byte for byte as they were hashed. It
// refuses what OpenBundle would refuse.
func WriteHeader(w io.Writer, h BundleHeader, seal crypto.Signer) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return writeSigned(w, h, MaxHeader, ContextBundle, seal)
}

// Bundle is a bundle whose seal was verified, or one of an unknown sender. Of an unknown or retired sender only the
// section that takes away can be read.
type Bundle struct {
	Header BundleHeader // zero if the sender is not known
	Sender *Party       // nil if the sender is not known; it may be retired
	Digest Digest       // SHA-256 of all bytes of the bundle
	reader *bufio.Reader
	left   uint64 // items that may follow
	last   Section
	ended  bool
}

// OpenBundle verifies the seal over the whole spool, before anything in it is used. The look-up finds an enrolled agent
// by the id of its seal key. A sender that is not found is no refusal here: the bundle has no Sender then. An error is a
// fault of the spool or of the look-up's record.
func OpenBundle(spool Spool, appliance Digest, lookup func(seal Digest) (Party, bool)) (*Bundle, *Refusal, error) {
	s, refusal, err := readSealed(spool, MaxHeader, "bundle", nil)
	if refusal != nil || err != nil {
		return nil, refusal, err
	}
	b := &Bundle{Digest: s.whole, left: MaxItems, reader: s.contents}
	id, err := cose.KeyID(s.message)
	if err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	party, found := lookup(id)
	if !found || party.Role != RoleAgent {
		return b, nil, nil
	}
	key, err := party.SealKey()
	if err != nil {
		return nil, nil, fmt.Errorf("record of agent %s: %w", party.Name, err)
	}
	payload, err := cose.Verify(s.message, ContextBundle, key)
	if err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	h := &b.Header
	if err := cose.Unmarshal(payload, h); err != nil {
		return nil, Malformed("bundle", err), nil
	}
	if err := h.check(); err != nil {
		return nil, Malformed("bundle", err), nil
	}
	switch {
	case h.To != appliance:
		return nil, Refuse(CodeWrongAppliance, "appliance", h.To.String()), nil
	case h.Rest != s.rest:
		return nil, Refuse(CodeBadSeal, "reason", "the contents are not those that were sealed"), nil
	case h.From != party.Name:
		return nil, Malformed("bundle", fmt.Errorf("it names the sender %s, the key is that of %s", h.From, party.Name)), nil
	}
	b.Sender, b.left = &party, h.Items
	return b, nil, nil
}

// Next returns the next group, or io.EOF after the last. A group that is not well formed ends the bundle with a
// refusal: what follows it cannot be found. Any other error is a fault of the spool.
func (b *Bundle) Next() (Group, *Refusal, error) {
	if b.ended {
		return Group{}, nil, io.EOF
	}
	g, refusal, err := b.next()
	if refusal != nil || err != nil {
		b.ended = true
		return Group{}, refusal, err
	}
	return g, nil, nil
}

func (b *Bundle) next() (Group, *Refusal, error) {
	var g Group
	head, err := ReadString(b.reader, MaxGroupHeader)
	if err == io.EOF {
		if b.Sender != nil && b.left != 0 {
			return g, Malformed("bundle", fmt.Errorf("%d items are missing", b.left)), nil
		}
		return g, nil, io.EOF
	}
	if err != nil {
		return refusedOr(g, err)
	}
	var h groupHeader
	if err := cose.Unmarshal(head, &h); err != nil {
		return g, Malformed("bundle", err), nil
	}
	err = h.check()
	switch {
	case err != nil:
	case h.Section < b.last:
		err = fmt.Errorf("section %d after section %d", h.Section, b.last)
	case h.Items > b.left:
		err = fmt.Errorf("group of %d items where %d are left", h.Items, b.left)
	}
	if err != nil {
		return g, Malformed("bundle", err), nil
	}
	b.last, b.left = h.Section, b.left-h.Items
	if (b.Sender == nil || b.Sender.Retired) && h.Section != SectionTakeAway {
		return g, nil, io.EOF
	}
	g.Section, g.Approvals = h.Section, h.Approvals
	g.Items = make([][]byte, h.Items)
	total := 0
	for i := range g.Items {
		if g.Items[i], err = ReadString(b.reader, MaxItem); err != nil {
			return refusedOr(g, fmt.Errorf("item %d of its group: %w", i, truncated(err)))
		}
		if total += len(g.Items[i]); total > MaxGroupBytes {
			return g, Refuse(CodeTooLarge, "thing", "group", "limit", fmt.Sprintf("%d bytes", MaxGroupBytes)), nil
		}
	}
	return g, nil, nil
}

// refusedOr tells bytes that are wrong, which are refused, from a spool that cannot be read, which is a fault.
func refusedOr(g Group, err error) (Group, *Refusal, error) {
	if errors.Is(err, ErrSequence) {
		return g, Malformed("bundle", err), nil
	}
	return g, nil, fmt.Errorf("read spooled bundle: %w", err)
}

func ascending(numbers []uint64, limit int) bool {
	if len(numbers) > limit {
		return false
	}
	for i, n := range numbers {
		if n == 0 || i > 0 && numbers[i-1] >= n {
			return false
		}
	}
	return true
}
