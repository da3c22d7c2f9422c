package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"coldseal/protocol"
)

// registry finds the agent of the vectors, changed by change if that is not nil.
func registry(t testing.TB, change func(*protocol.Party)) func(protocol.Digest) (protocol.Party, bool) {
	p, err := protocol.ParseParty(load(t, "party-agent"))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&p)
	}
	return func(seal protocol.Digest) (protocol.Party, bool) { return p, protocol.DigestOf(p.Seal) == seal }
}

func nobody(protocol.Digest) (protocol.Party, bool) { return protocol.Party{}, false }

// readBundle opens a bundle and reads its groups up to the end or a refusal.
func readBundle(t testing.TB, data []byte, lookup func(protocol.Digest) (protocol.Party, bool)) (*protocol.Bundle, []protocol.Group, *protocol.Refusal) {
	t.Helper()
	b, refusal, err := protocol.OpenBundle(bytes.NewReader(data), protocol.DigestOf(load(t, "genesis")), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if refusal != nil {
		return nil, nil, refusal
	}
	var groups []protocol.Group
	for {
		g, refusal, err := b.Next()
		if refusal != nil || err == io.EOF {
			if _, again, err := b.Next(); again != nil || err != io.EOF {
				t.Errorf("after its end: %v, %v", again, err)
			}
			return b, groups, refusal
		}
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
}

func TestBundleVector(t *testing.T) {
	data := load(t, "bundle")
	b, groups, refusal := readBundle(t, data, registry(t, nil))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	if b.Sender == nil || b.Sender.Name != "registry" || b.Header.Sequence != 7 || b.Digest != protocol.DigestOf(data) {
		t.Errorf("header %+v, digest %s", b.Header, b.Digest)
	}
	if len(groups) != 2 || groups[0].Section != protocol.SectionTakeAway || len(groups[0].Items) != 1 || len(groups[1].Items) != 2 {
		t.Fatalf("%d groups: %+v", len(groups), groups)
	}
	if !bytes.Equal(groups[1].Approvals[0], load(t, "approval-ed25519")) {
		t.Error("the approval is another one")
	}
	it, refusal := protocol.ParseItem(groups[0].Items[0])
	if refusal != nil || !bytes.Equal(it.Request, load(t, "request-hold")) {
		t.Errorf("first item: %v", refusal)
	}
}

func TestBundleOfOthers(t *testing.T) {
	w := makeWorld(t)
	strange := w.seal("stranger", w.groups, nil)
	for name, c := range map[string]struct {
		data   []byte
		lookup func(protocol.Digest) (protocol.Party, bool)
		known  bool
	}{
		"unknown":         {strange, registry(t, nil), false},
		"nobody enrolled": {w.bundle, nobody, false},
		"a station":       {w.bundle, registry(t, func(p *protocol.Party) { p.Role = protocol.RoleStation }), false},
		"retired":         {w.bundle, registry(t, func(p *protocol.Party) { p.Retired = true }), true},
	} {
		b, groups, refusal := readBundle(t, c.data, c.lookup)
		if refusal != nil {
			t.Errorf("%s: %s", name, refusal.Words())
			continue
		}
		if (b.Sender != nil) != c.known || len(groups) != 1 || groups[0].Section != protocol.SectionTakeAway {
			t.Errorf("%s: sender %v, %d groups", name, b.Sender, len(groups))
		}
		if !c.known && b.Header.Sequence != 0 {
			t.Errorf("%s: the header is used", name)
		}
	}
}

func TestBundleHeaderRefusals(t *testing.T) {
	type H = protocol.BundleHeader
	w := makeWorld(t)
	_, contents := split(t, w.bundle)
	good := H{
		Version: 1, From: "registry", To: w.appliance, Sequence: 7, Created: now, Expires: now + day, Items: 3, Rest: protocol.DigestOf(contents),
	}
	seal := func(h H, key, context string) []byte {
		var out bytes.Buffer
		if err := protocol.WriteString(&out, sign(t, key, context, marshal(t, h))); err != nil {
			t.Fatal(err)
		}
		return append(out.Bytes(), contents...)
	}
	if _, _, refusal := readBundle(t, seal(good, "agent-seal", protocol.ContextBundle), registry(t, nil)); refusal != nil {
		t.Fatal(refusal.Words())
	}
	for _, c := range []struct {
		name   string
		code   protocol.Code
		reason string
		form   bool // the writer refuses it too
		change func(*H)
	}{
		{"version", protocol.CodeMalformed, "version 2", true, func(h *H) { h.Version = 2 }},
		{"no name", protocol.CodeMalformed, "not a name", true, func(h *H) { h.From = "" }},
		{"number 0", protocol.CodeMalformed, "number is 0", true, func(h *H) { h.Sequence = 0 }},
		{"created never", protocol.CodeMalformed, "not in order", true, func(h *H) { h.Created = 0 }},
		{"expires when created", protocol.CodeMalformed, "not in order", true, func(h *H) { h.Expires = h.Created }},
		{"expires after 9999", protocol.CodeMalformed, "not in order", true, func(h *H) { h.Expires = protocol.MaxTime + 1 }},
		{"too many items", protocol.CodeMalformed, "at most 1048576", true, func(h *H) { h.Items = protocol.MaxItems + 1 }},
		{"acknowledges 0", protocol.CodeMalformed, "acknowledged", true, func(h *H) { h.Acknowledged = []uint64{0} }},
		{"acknowledges twice", protocol.CodeMalformed, "acknowledged", true, func(h *H) { h.Acknowledged = []uint64{3, 3} }},
		{"acknowledges too many", protocol.CodeMalformed, "acknowledged", true, func(h *H) {
			for i := range uint64(protocol.MaxAcknowledged + 1) {
				h.Acknowledged = append(h.Acknowledged, i+1)
			}
		}},
		{"another appliance", protocol.CodeWrongAppliance, "010000", false, func(h *H) { h.To = protocol.Digest{1} }},
		{"other contents", protocol.CodeBadSeal, "not those that were sealed", false, func(h *H) { h.Rest = protocol.Digest{1} }},
		{"another's name", protocol.CodeMalformed, "sender other", false, func(h *H) { h.From = "other" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := good
			c.change(&h)
			_, _, refusal := readBundle(t, seal(h, "agent-seal", protocol.ContextBundle), registry(t, nil))
			refuses(t, refusal, c.code, c.reason)
			if err := protocol.WriteHeader(io.Discard, h, testKey(t, "agent-seal")); (err != nil) != c.form {
				t.Errorf("WriteHeader: %v", err)
			}
		})
	}
	for name, data := range map[string][]byte{
		"another purpose": seal(good, "agent-seal", protocol.ContextResponse),
		"no message":      append([]byte{0x41, 0}, contents...),
	} {
		_, _, refusal := readBundle(t, data, registry(t, nil))
		t.Run(name, func(t *testing.T) { refuses(t, refusal, protocol.CodeBadSeal, "") })
	}
	var junk bytes.Buffer
	if err := protocol.WriteString(&junk, sign(t, "agent-seal", protocol.ContextBundle, []byte{0xa0})); err != nil {
		t.Fatal(err)
	}
	_, _, refused := readBundle(t, junk.Bytes(), registry(t, nil))
	refuses(t, refused, protocol.CodeMalformed, "bundle")
	enrolled := registry(t, nil)
	broken := func(id protocol.Digest) (protocol.Party, bool) {
		p, found := enrolled(id)
		p.Seal = nil
		return p, found
	}
	if _, refusal, err := protocol.OpenBundle(bytes.NewReader(w.bundle), w.appliance, broken); err == nil || refusal != nil {
		t.Errorf("a record without key: %v, %v", refusal, err)
	}
	forged := seal(good, "agent-seal", protocol.ContextBundle)
	header, _ := split(t, forged)
	forged[len(forged)-len(contents)-1] ^= 1 // last byte of the signature
	_, _, refusal := readBundle(t, forged, registry(t, nil))
	refuses(t, refusal, protocol.CodeBadSeal, "signature")
	for name, data := range map[string][]byte{
		"empty":           {},
		"a map":           {0xa0},
		"header too long": {0x5a, 0, 1, 0, 1},
		"header cut":      append([]byte{0x58, 200}, header[:100]...),
	} {
		_, _, refusal := readBundle(t, data, registry(t, nil))
		t.Run(name, func(t *testing.T) { refuses(t, refusal, protocol.CodeMalformed, "") })
	}
}

// TestBundleDamage cuts a bundle everywhere, adds to it and flips each byte: whoever is known to have sealed it, nothing
// of it is used; of an unknown sender no more than what takes away.
func TestBundleDamage(t *testing.T) {
	good := load(t, "bundle")
	_, contents := split(t, good)
	try := func(name string, data []byte) {
		t.Helper()
		b, _, refusal := readBundle(t, data, registry(t, nil))
		if refusal == nil && b.Sender != nil {
			t.Errorf("%s: was accepted", name)
		}
		_, groups, _ := readBundle(t, data, nobody)
		for _, g := range groups {
			if g.Section != protocol.SectionTakeAway {
				t.Errorf("%s: section %d of an unknown sender", name, g.Section)
			}
		}
	}
	for n := range good {
		try("cut", good[:n])
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		try("flipped", flipped)
	}
	try("appended", append(bytes.Clone(good), 0x41, 0))
	try("doubled", append(bytes.Clone(good), contents...))
	w := makeWorld(t)
	other := w.seal("agent-seal", w.groups[:1], nil)
	header, _ := split(t, other)
	var spliced bytes.Buffer
	if err := protocol.WriteString(&spliced, header); err != nil {
		t.Fatal(err)
	}
	try("spliced", append(spliced.Bytes(), contents...))
}

// rawGroup writes a group as it is told, right or wrong.
func rawGroup(t testing.TB, h groupHeader, items ...[]byte) []byte {
	var out bytes.Buffer
	for _, data := range append([][]byte{marshal(t, h)}, items...) {
		if err := protocol.WriteString(&out, data); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func TestGroupRefusals(t *testing.T) {
	item := load(t, "item-renew")
	group := func(section protocol.Section, items int) []byte {
		return rawGroup(t, groupHeader{Section: section, Items: uint64(items)}, slices.Repeat([][]byte{item}, items)...)
	}
	large := slices.Repeat([][]byte{make([]byte, protocol.MaxItem)}, protocol.MaxGroupBytes/protocol.MaxItem+1)
	full := slices.Repeat([][]byte{make([]byte, protocol.MaxGroupBytes/protocol.MaxGroupItems)}, protocol.MaxGroupItems)
	for _, c := range []struct {
		name   string
		code   protocol.Code // empty: accepted
		reason string
		items  uint64
		data   []byte
	}{
		{"no groups", "", "", 0, nil},
		{"one", "", "", 1, group(2, 1)},
		{"one of each section", "", "", 3, slices.Concat(group(1, 1), group(2, 1), group(3, 1))},
		{"two of a section", "", "", 3, slices.Concat(group(3, 1), group(3, 2))},
		{"full", "", "", 1024, rawGroup(t, groupHeader{Section: 3, Approvals: make([][]byte, protocol.MaxGroupApprovals), Items: 1024}, full...)},
		{"section 0", protocol.CodeMalformed, "section 0", 1, group(0, 1)},
		{"section 4", protocol.CodeMalformed, "section 4", 1, group(4, 1)},
		{"sections out of order", protocol.CodeMalformed, "section 1 after section 2", 2, slices.Concat(group(2, 1), group(1, 1))},
		{"empty group", protocol.CodeMalformed, "group of 0 items", 0, group(1, 0)},
		{"too many items", protocol.CodeMalformed, "group of 1025 items", 2000, rawGroup(t, groupHeader{Section: 3, Items: 1025})},
		{"more than announced", protocol.CodeMalformed, "where 1 are left", 1, group(1, 2)},
		{"fewer than announced", protocol.CodeMalformed, "1 items are missing", 3, group(1, 2)},
		{"too many approvals", protocol.CodeMalformed, "65 approvals", 1, rawGroup(t, groupHeader{Section: 1, Approvals: make([][]byte, 65), Items: 1}, item)},
		{"item missing", protocol.CodeMalformed, "item 1", 2, rawGroup(t, groupHeader{Section: 1, Items: 2}, item)},
		{"item too long", protocol.CodeMalformed, "item 0", 1, rawGroup(t, groupHeader{Section: 1, Items: 1}, make([]byte, protocol.MaxItem+1))},
		{"group too large", protocol.CodeTooLarge, "4194304 bytes", uint64(len(large)), rawGroup(t, groupHeader{Section: 1, Items: uint64(len(large))}, large...)},
		{"header too long", protocol.CodeMalformed, "at most 2097152", 1, []byte{0x5a, 0, 0x20, 0, 1}},
		{"header no array", protocol.CodeMalformed, "", 1, []byte{0x41, 0xa0}},
		{"no byte string", protocol.CodeMalformed, "initial byte", 1, []byte{0x01}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sealed bytes.Buffer
			h := protocol.BundleHeader{
				Version: 1, From: "registry", To: protocol.DigestOf(load(t, "genesis")), Sequence: 1, Created: now, Expires: now + day, Items: c.items, Rest: protocol.DigestOf(c.data),
			}
			if err := protocol.WriteHeader(&sealed, h, testKey(t, "agent-seal")); err != nil {
				t.Fatal(err)
			}
			_, _, refusal := readBundle(t, append(sealed.Bytes(), c.data...), registry(t, nil))
			if c.code == "" && refusal != nil {
				t.Error(refusal.Words())
			} else if c.code != "" {
				refuses(t, refusal, c.code, c.reason)
			}
		})
	}
}

func TestWriteGroupRefuses(t *testing.T) {
	type G = protocol.Group
	item := [][]byte{{1}}
	for name, g := range map[string]G{
		"no items":           {Section: 1},
		"too many items":     {Section: 1, Items: make([][]byte, protocol.MaxGroupItems+1)},
		"section 0":          {Items: item},
		"section 4":          {Section: 4, Items: item},
		"too many approvals": {Section: 1, Items: item, Approvals: make([][]byte, protocol.MaxGroupApprovals+1)},
		"approvals too long": {Section: 1, Items: item, Approvals: [][]byte{make([]byte, protocol.MaxGroupHeader)}},
		"item too long":      {Section: 1, Items: [][]byte{make([]byte, protocol.MaxItem+1)}},
		"too many bytes":     {Section: 1, Items: slices.Repeat([][]byte{make([]byte, protocol.MaxItem)}, 62)},
	} {
		var out bytes.Buffer
		if err := protocol.WriteGroup(&out, g); err == nil || out.Len() != 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, out.Len())
		}
	}
}

// failing is a spool whose disk fails after some bytes.
type failing struct {
	*bytes.Reader
	after int64
}

var errDisk = errors.New("input/output error")

func (f failing) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) > f.after {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, at)
}

// TestSpoolThatFailsIsAFault: nothing may be refused because this machine's disk fails.
func TestSpoolThatFailsIsAFault(t *testing.T) {
	appliance := protocol.DigestOf(load(t, "genesis"))
	for _, name := range []string{"bundle", "response"} {
		long := append(load(t, name), make([]byte, 1<<20)...)
		for _, after := range []int64{100, 200_000} {
			spool := failing{bytes.NewReader(long), after}
			_, refusal, err := protocol.OpenBundle(spool, appliance, nobody)
			if name == "response" {
				_, refusal, err = protocol.OpenResponse(spool, firstKeys(t), "registry")
			}
			if !errors.Is(err, errDisk) || refusal != nil {
				t.Errorf("%s: %v, %v", name, refusal, err)
			}
		}
	}
	turning := &turns{Reader: bytes.NewReader(load(t, "bundle"))}
	b, refusal, err := protocol.OpenBundle(turning, appliance, registry(t, nil))
	if refusal != nil || err != nil {
		t.Fatal(refusal, err)
	}
	turning.failed = true
	if _, refusal, err := b.Next(); !errors.Is(err, errDisk) || refusal != nil {
		t.Errorf("Next: %v, %v", refusal, err)
	}
	turning = &turns{Reader: bytes.NewReader(load(t, "response"))}
	r, refusal, err := protocol.OpenResponse(turning, firstKeys(t), "registry")
	if refusal != nil || err != nil {
		t.Fatal(refusal, err)
	}
	turning.failed = true
	if _, _, err := r.Next(); !errors.Is(err, errDisk) || errors.Is(err, protocol.ErrSequence) {
		t.Errorf("Next: %v", err)
	}
}

// turns fails once it was told to.
type turns struct {
	*bytes.Reader
	failed bool
}

func (s *turns) ReadAt(p []byte, at int64) (int, error) {
	if s.failed {
		return 0, errDisk
	}
	return s.Reader.ReadAt(p, at)
}

func TestItem(t *testing.T) {
	it, refusal := protocol.ParseItem(load(t, "item-renew"))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	id := protocol.ID(it.Request)
	for name, c := range map[string]struct {
		message      []byte
		context, key string
		id           protocol.Digest
		good         bool
	}{
		"current":         {it.Current, protocol.ContextCurrentKey, "machine", id, true},
		"requester":       {it.Requester, protocol.ContextRequester, "approver-p256", id, true},
		"another purpose": {it.Current, protocol.ContextRequester, "machine", id, false},
		"another key":     {it.Current, protocol.ContextCurrentKey, "ca", id, false},
		"another request": {it.Current, protocol.ContextCurrentKey, "machine", protocol.Digest{1}, false},
		"nothing":         {nil, protocol.ContextCurrentKey, "machine", id, false},
	} {
		if err := protocol.VerifyID(c.message, c.context, publicKey(t, c.key), c.id); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	message, err := protocol.SignID(testKey(t, "machine"), protocol.ContextCurrentKey, id)
	if err != nil || !bytes.Equal(message, it.Current) {
		t.Errorf("SignID: %x, %v", message, err)
	}
	for name, data := range map[string][]byte{
		"too long": make([]byte, protocol.MaxItem+1), "no map": {0x80}, "field missing": {0xa0}, "trailing": append(load(t, "item-renew"), 0),
	} {
		_, refusal := protocol.ParseItem(data)
		t.Run(name, func(t *testing.T) { refuses(t, refusal, protocol.CodeMalformed, "item") })
	}
}
