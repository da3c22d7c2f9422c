package show

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// group is the head of a group of a bundle (bundle.md).
type group struct {
	_         struct{} `cbor:",toarray"`
	Section   uint64
	Approvals [][]byte
	Items     uint64
}

// parts reads the byte strings of a bundle or response after its header, and hashes them.
type parts struct {
	r     *bufio.Reader
	hash  *hashing
	items uint64 // that were announced so far
}

type hashing struct {
	r   io.Reader
	sum hash.Hash
}

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.sum.Write(p[:n]) // never fails (package hash)
	return n, err
}

// begin reads the signed header and gets ready to hash what follows it.
func begin(first *bufio.Reader, limit int) ([]byte, *parts, error) {
	message, err := protocol.ReadString(first, limit)
	if err != nil {
		return nil, nil, fmt.Errorf("read header: %w", unexpected(err))
	}
	h := &hashing{r: first, sum: sha256.New()}
	return message, &parts{r: bufio.NewReaderSize(h, 1<<16), hash: h}, nil
}

// end reads what is left, and tells whether all that follows the header is what it says.
func (p *parts) end(rest protocol.Digest) (Sheet, error) {
	if _, err := io.Copy(io.Discard, p.r); err != nil {
		return nil, fmt.Errorf("read to the end: %w", err)
	}
	sum := protocol.Digest(p.hash.sum.Sum(nil))
	if sum != rest {
		return nil, fmt.Errorf("the contents have the digest %s, the header says %s: %w", sum, rest, cose.ErrSignature)
	}
	return Sheet{{Name: "type", Value: "end"}, {Name: "contents", Value: "are those that the header names"}}, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// BundleHeader shows the header of a bundle.
func BundleHeader(message []byte, known Known) (Sheet, error) {
	s, _, err := bundleHeader(message, known)
	return s, err
}

func bundleHeader(message []byte, known Known) (Sheet, protocol.BundleHeader, error) {
	var h protocol.BundleHeader
	payload, signed, err := open(message, protocol.ContextBundle, known)
	if err != nil {
		return nil, h, fmt.Errorf("show bundle: %w", err)
	}
	if err := cose.Unmarshal(payload, &h); err != nil {
		return nil, h, fmt.Errorf("show bundle: %w", err)
	}
	s := append(Sheet{{Name: "type", Value: "bundle"}}, signed...)
	s.add("from", h.From)
	s.add("to", h.To.String())
	s.add("sequence", h.Sequence)
	s.time("created", h.Created)
	s.time("expires", h.Expires)
	s.add("items", h.Items)
	s.list("acknowledged", each(h.Acknowledged, func(n uint64) string { return fmt.Sprint(n) }))
	s.checkpointKnown(h.KnownSize, h.KnownRoot)
	return s, h, nil
}

func (s *Sheet) checkpointKnown(size uint64, root protocol.Digest) {
	if size > 0 {
		s.below("known log", fmt.Sprintf("%d entries", size), Sheet{{Name: "root", Value: root.String()}})
	}
}

// Bundle shows a decrypted bundle, a sheet for the header, one for each group, and one at the end; items on a line each,
// whole if full. Memory is bounded by one group.
func Bundle(r io.Reader, known Known, full bool, emit func(Sheet) error) error {
	message, p, err := begin(bufio.NewReaderSize(r, 1<<16), protocol.MaxHeader)
	if err != nil {
		return err
	}
	s, h, err := bundleHeader(message, known)
	if err != nil {
		return err
	}
	if err := emit(s); err != nil {
		return err
	}
	for n := 1; ; n++ {
		head, err := protocol.ReadString(p.r, protocol.MaxGroupHeader)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		s, err := p.group(head, known, full)
		if err != nil {
			return fmt.Errorf("group %d: %w", n, err)
		}
		if err := emit(s); err != nil {
			return err
		}
	}
	last, err := p.end(h.Rest)
	if err != nil {
		return err
	}
	return emit(last)
}

func (p *parts) group(head []byte, known Known, full bool) (Sheet, error) {
	var g group
	if err := cose.Unmarshal(head, &g); err != nil {
		return nil, err
	}
	if p.items += g.Items; p.items > protocol.MaxItems {
		return nil, fmt.Errorf("more than %d items", protocol.MaxItems)
	}
	if g.Items > protocol.MaxGroupItems || len(g.Approvals) > protocol.MaxGroupApprovals {
		return nil, fmt.Errorf("%d items and %d approvals, at most %d and %d", g.Items, len(g.Approvals), protocol.MaxGroupItems, protocol.MaxGroupApprovals)
	}
	section, ok := map[uint64]string{1: "taking away", 2: "orders", 3: "requests"}[g.Section]
	if !ok {
		return nil, fmt.Errorf("section %d is not known", g.Section)
	}
	s := Sheet{{Name: "type", Value: "group"}, {Name: "section", Value: section}, {Name: "items", Value: g.Items}}
	var approvals, items []Sheet
	for _, message := range g.Approvals {
		approvals = append(approvals, orReason(Approval(message, known, full)))
	}
	var lines []string
	total := 0
	for range g.Items {
		raw, err := protocol.ReadString(p.r, protocol.MaxItem)
		if err != nil {
			return nil, unexpected(err)
		}
		if total += len(raw); total > protocol.MaxGroupBytes {
			return nil, fmt.Errorf("items of more than %d bytes", protocol.MaxGroupBytes)
		}
		if full {
			items = append(items, orReason(Item(raw)))
		} else {
			lines = append(lines, itemLine(raw))
		}
	}
	s.items("approvals", approvals)
	s.items("requests", items)
	s.list("requests", lines)
	return s, nil
}

// orReason shows why something can't be shown in its place: one bad item hides no other.
func orReason(s Sheet, err error) Sheet {
	if err != nil {
		return Sheet{{Name: "unreadable", Value: err.Error()}}
	}
	return s
}

func itemLine(raw []byte) string {
	it, refusal := protocol.ParseItem(raw)
	if refusal == nil {
		var r protocol.Request
		if r, refusal = protocol.ParseRequest(it.Request); refusal == nil {
			return fmt.Sprintf("%s %s %s %s %s", protocol.ID(it.Request), r.Kind, r.Profile, r.Body, r.Subject)
		}
	}
	return "unreadable: " + refusal.Words()
}

// Response shows a decrypted response: a sheet for the header, one for each part, and one at the end.
func Response(r io.Reader, known Known, full bool, emit func(Sheet) error) error {
	first := bufio.NewReaderSize(r, 1<<16)
	handovers, err := protocol.ReadHandovers(first)
	if err != nil {
		return fmt.Errorf("read handovers: %w", err)
	}
	message, p, err := begin(first, protocol.MaxResponseHeader)
	if err != nil {
		return err
	}
	s, h, err := responseHeader(message, known)
	if err != nil {
		return err
	}
	if len(handovers) > 0 {
		s.add("keys replaced", len(handovers))
	}
	if err := emit(s); err != nil {
		return err
	}
	for _, part := range []struct {
		n     uint64
		limit int
		show  func(i uint64, data []byte) (Sheet, error)
	}{
		{h.Results, protocol.MaxAnswer, func(_ uint64, data []byte) (Sheet, error) { return answer(data) }},
		{h.Leaves, protocol.MaxLeaf, func(i uint64, data []byte) (Sheet, error) {
			l, err := auditlog.ParseLeaf(data)
			return append(Sheet{{Name: "type", Value: "log entry"}}, Leaf(h.FirstLeaf+i, l)...), err
		}},
		{h.CRLs, protocol.MaxCRL, func(_ uint64, data []byte) (Sheet, error) { return CRL(data, full) }},
	} {
		for i := range part.n {
			data, err := protocol.ReadString(p.r, part.limit)
			if err != nil {
				return unexpected(err)
			}
			if err := emit(orReason(part.show(i, data))); err != nil {
				return err
			}
		}
	}
	last, err := p.end(h.Rest)
	if err != nil {
		return err
	}
	return emit(last)
}

func answer(data []byte) (Sheet, error) {
	a, _, err := protocol.ParseAnswer(data)
	if err != nil {
		return nil, err
	}
	s, err := Result(a.Body)
	if err == nil && a.Index != 0 {
		s.add("log entry", a.Index)
	}
	return s, err
}

func responseHeader(message []byte, known Known) (Sheet, protocol.ResponseHeader, error) {
	var h protocol.ResponseHeader
	payload, signed, err := open(message, protocol.ContextResponse, known)
	if err != nil {
		return nil, h, fmt.Errorf("show response: %w", err)
	}
	if err := cose.Unmarshal(payload, &h); err != nil {
		return nil, h, fmt.Errorf("show response: %w", err)
	}
	s := append(Sheet{{Name: "type", Value: "response"}}, signed...)
	s.add("from", h.From.String())
	s.add("to", h.To)
	s.add("answers bundle", h.Answers)
	s.time("created", h.Created)
	s.add("last used", h.Last)
	number := func(n uint64) string { return fmt.Sprint(n) }
	s.list("missing", each(h.Missing, number))
	s.list("pending", each(h.Pending, number))
	if h.Refusal != nil {
		s.below("refusal", string(h.Refusal.Code), Refusal(h.Refusal))
	}
	s.add("results", h.Results)
	s.add("log entries", h.Leaves)
	s.add("crls", h.CRLs)
	s.below("checkpoint", nil, orReason(Checkpoint(h.Checkpoint)))
	s.below("state", nil, orReason(State(h.State)))
	return s, h, nil
}
