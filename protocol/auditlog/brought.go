package auditlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// What is brought to an appliance that is restored: the log as somebody knows it, and of what they asked for themselves
// also the results and requests (log.md). The leaves are proved by the checkpoint, a body by its leaf, a request by the
// result in that body; who brings them is believed nothing.

// BroughtHeader begins a file that is brought.
type BroughtHeader struct {
	Version    uint64          `cbor:"1,keyasint"`
	Appliance  protocol.Digest `cbor:"2,keyasint"`
	From       string          `cbor:"3,keyasint,omitempty"` // the agent that wrote it
	First      uint64          `cbor:"4,keyasint,omitempty"` // index of the first leaf
	Checkpoint []byte          `cbor:"5,keyasint"`           // signed note over all leaves, to the last one here
	Handovers  [][]byte        `cbor:"6,keyasint,omitempty"` // of the appliance's keys, as far as they are known
}

// maxBroughtHeader bounds an encoded header.
const maxBroughtHeader = MaxCheckpoint + protocol.MaxHandovers*(protocol.MaxHandover+3) + 256

// Brought is one leaf as it is brought.
type Brought struct {
	Leaf   []byte
	Salted []byte // salt ‖ body; empty if it is not known
	Item   []byte // encoding of the protocol.Item whose result the body is; empty if it is not known
}

// WriteBroughtHeader begins a file.
func WriteBroughtHeader(w io.Writer, h BroughtHeader) error {
	h.Version = protocol.Version
	data, err := cose.Marshal(h)
	if err != nil {
		return err
	}
	return protocol.WriteString(w, data)
}

// WriteBrought writes the next leaf.
func WriteBrought(w io.Writer, b Brought) error {
	for _, part := range [][]byte{b.Leaf, b.Salted, b.Item} {
		if err := protocol.WriteString(w, part); err != nil {
			return err
		}
	}
	return nil
}

// BroughtReader reads a file that was brought, or a log that was exported.
type BroughtReader struct {
	Header   BroughtHeader
	reader   *bufio.Reader
	index    uint64
	exported bool
}

// ReadBrought begins to read a file.
func ReadBrought(r io.Reader) (*BroughtReader, error) {
	b := &BroughtReader{reader: bufio.NewReaderSize(r, 1<<16)}
	data, err := protocol.ReadString(b.reader, maxBroughtHeader)
	if err != nil {
		return nil, fmt.Errorf("read header: %w", ended(err))
	}
	if err := cose.Unmarshal(data, &b.Header); err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	switch h := &b.Header; {
	case h.Version != protocol.Version:
		return nil, fmt.Errorf("read header: version %d is not %d", h.Version, protocol.Version)
	case h.From != "" && !protocol.ValidName(h.From):
		return nil, errors.New("read header: the name in it is not one")
	case h.First > MaxSize:
		return nil, fmt.Errorf("read header: no log has %d entries", h.First)
	}
	b.index = b.Header.First
	return b, nil
}

// ReadExported begins to read an exported log (log.md), which has bodies and no items.
func ReadExported(r io.Reader) (*BroughtReader, error) {
	b := &BroughtReader{reader: bufio.NewReaderSize(r, 1<<16), exported: true}
	note, err := protocol.ReadString(b.reader, MaxCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", ended(err))
	}
	b.Header.Checkpoint = note
	return b, nil
}

func ended(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Next returns the next leaf with its index, or io.EOF after the last. A body is held against the leaf's digest, and a
// request against the result in the body; that the leaf is one of the log is for an Extension to show.
func (b *BroughtReader) Next() (uint64, Leaf, Brought, error) {
	var one Brought
	var leaf Leaf
	fail := func(err error) (uint64, Leaf, Brought, error) {
		return b.index, Leaf{}, Brought{}, fmt.Errorf("entry %d: %w", b.index, ended(err))
	}
	var err error
	if one.Leaf, err = protocol.ReadString(b.reader, protocol.MaxLeaf); err == io.EOF {
		return b.index, Leaf{}, one, io.EOF
	}
	if err == nil {
		leaf, err = ParseLeaf(one.Leaf)
	}
	if err != nil {
		return fail(err)
	}
	if one.Salted, err = protocol.ReadString(b.reader, MaxBody); err != nil {
		return fail(err)
	}
	if !b.exported {
		if one.Item, err = protocol.ReadString(b.reader, protocol.MaxItem); err != nil {
			return fail(err)
		}
	}
	if err := one.check(leaf); err != nil {
		return fail(err)
	}
	index := b.index
	b.index++
	return index, leaf, one, nil
}

func (b *Brought) check(leaf Leaf) error {
	const saltSize = 16
	switch {
	case len(b.Salted) == 0 && len(b.Item) == 0:
		return nil
	case len(b.Salted) == 0:
		return errors.New("a request without its result is out of place")
	case leaf.Kind == Step || len(b.Salted) < saltSize || BodyDigest([16]byte(b.Salted[:saltSize]), b.Salted[saltSize:]) != leaf.Body:
		return errors.New("the body is not the one that was logged")
	case len(b.Item) == 0:
		return nil
	case leaf.Kind != Issued && leaf.Kind != Changed && leaf.Kind != Refused && leaf.Kind != Withdrawn:
		return fmt.Errorf("a request is out of place beside a %s leaf", leaf.Kind)
	}
	result, err := protocol.ParseResult(b.Salted[saltSize:])
	if err != nil {
		return err
	}
	item, refusal := protocol.ParseItem(b.Item)
	if refusal != nil {
		return errors.New(refusal.Words())
	}
	if protocol.ID(item.Request) != result.ID {
		return errors.New("the request is not the one whose result was logged")
	}
	if _, refusal := protocol.ParseRequest(item.Request); refusal != nil {
		return errors.New(refusal.Words())
	}
	return nil
}
