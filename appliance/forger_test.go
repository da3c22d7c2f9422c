package appliance_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// group changes a group within what a bundle can hold.
func (f *forger) group(p plea) protocol.Group {
	p.items, p.approvals = slices.Clone(p.items), slices.Clone(p.approvals)
	other := f.pool[f.IntN(len(f.pool))]
	i := f.IntN(len(p.items))
	switch f.IntN(16) {
	case 0, 1, 2, 3:
		p.items[i] = f.Change("item", p.items[i])
	case 4, 5, 6:
		if len(p.approvals) > 0 {
			j := f.IntN(len(p.approvals))
			p.approvals[j] = f.Change("approval", p.approvals[j])
		}
	case 7, 8:
		p = f.redigested(p, i)
	case 9: // signatures from elsewhere, beside or instead of its own
		if f.IntN(2) == 0 {
			p.approvals = nil
		}
		for range 1 + f.IntN(4) {
			p.approvals = append(p.approvals, f.members[f.IntN(len(f.members))])
		}
	case 10:
		if f.Shuffle(len(p.approvals), func(a, b int) { p.approvals[a], p.approvals[b] = p.approvals[b], p.approvals[a] }); len(p.approvals) > 0 {
			p.approvals = slices.Concat(p.approvals[f.IntN(len(p.approvals)):], p.approvals[:f.IntN(len(p.approvals)+1)])
		}
	case 11:
		p.items = append(p.items, other.items...)
	case 12:
		p.items = other.items
	case 13:
		p.items[i] = f.personal(p.items[i])
	case 14:
		p.section = protocol.Section(1 + f.IntN(3))
	case 15:
		p.items[i] = f.Raw(p.items[i])
	}
	g := p.group()
	if len(g.Items) == 0 || len(g.Items) > protocol.MaxGroupItems || len(g.Approvals) > protocol.MaxGroupApprovals {
		return other.group()
	}
	for _, it := range g.Items {
		if len(it) > protocol.MaxItem {
			return other.group()
		}
	}
	return g
}

// redigested changes a request and everything that follows from its bytes: the id in the approvals, which are signed again
// by keys that the forger has, in the name of those who signed them or in its own.
func (f *forger) redigested(p plea, i int) plea {
	item, refusal := protocol.ParseItem(p.items[i])
	if refusal != nil {
		return p
	}
	old := protocol.ID(item.Request)
	if r, refusal := protocol.ParseRequest(item.Request); refusal == nil && f.IntN(3) == 0 { // the forger's own key, and names
		if c, refusal := r.Issuance(); refusal == nil {
			c.CSR = csrFor(f.t, f.own)
			r.Content = must[[]byte](f.t)(cose.Marshal(c))
		}
		item.Request = f.encode(r)
	} else {
		item.Request = f.Change("request", item.Request)
	}
	fresh := protocol.ID(item.Request)
	key := f.own
	if f.IntN(2) == 0 {
		key = f.agent
	}
	for j, message := range p.approvals {
		message = bytes.ReplaceAll(message, old[:], fresh[:])
		if f.IntN(2) == 0 {
			message = f.signed(key, protocol.ContextApproval, message, f.IntN(2) == 0)
		}
		p.approvals[j] = message
	}
	if f.IntN(4) == 0 {
		item.Requester = must[[]byte](f.t)(protocol.SignID(key, protocol.ContextRequester, fresh))
	}
	p.items[i] = must[[]byte](f.t)(cose.Marshal(item))
	return p
}

// personal puts signatures beside a request that are not approvals: the forger's, or others over something else.
func (f *forger) personal(data []byte) []byte {
	item, refusal := protocol.ParseItem(data)
	if refusal != nil {
		return data
	}
	signature := f.members[f.IntN(len(f.members))]
	if f.IntN(2) == 0 {
		signature = must[[]byte](f.t)(protocol.SignID(f.agent, protocol.ContextCurrentKey, protocol.ID(item.Request)))
	}
	if f.IntN(2) == 0 {
		item.Current = signature
	} else {
		item.Requester = signature
	}
	return must[[]byte](f.t)(cose.Marshal(item))
}

// message is a COSE_Sign1 (RFC 9052 section 4.2) as a forger takes it apart.
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

// signed signs the payload of a message with another key. Posing, it still names the key that was there.
func (f *forger) signed(key *ecdsa.PrivateKey, context string, data []byte, posing bool) []byte {
	var m, ours message
	if len(data) == 0 || cose.Unmarshal(data[1:], &m) != nil {
		return data
	}
	signed := must[[]byte](f.t)(cose.Sign(key, context, m.Payload))
	if !posing {
		return signed
	}
	if err := cose.Unmarshal(signed[1:], &ours); err != nil {
		f.t.Fatal(err)
	}
	m.Signature = ours.Signature
	return append([]byte{data[0]}, must[[]byte](f.t)(cose.Marshal(m))...)
}

// bundle brings a bundle of two groups that is changed anywhere, its frame too. Half of them the agent sealed again; of
// the others nothing is taken.
func (f *forger) bundle() {
	f.t.Helper()
	whole, forged, sealed := f.forgedBundle()
	f.bundles[protocol.DigestOf(whole)] = true
	if sealed {
		f.bundles[protocol.DigestOf(forged)] = true
	}
	out := f.bring(forged)
	if out.Refusal == nil && !f.bundles[protocol.DigestOf(forged)] { // it may be an earlier one, whole
		f.t.Fatalf("%x is no bundle of the agent, and was taken: %+v", forged, out)
	}
}

func (f *forger) forgedBundle() (whole, forged []byte, sealed bool) {
	var groups []protocol.Group
	for range 2 {
		groups = append(groups, f.pool[f.IntN(len(f.pool))].group())
	}
	whole = f.seal(groups...)
	seal, rest := split(f.t, whole)
	f.Learn("bundle", whole)
	switch f.IntN(12) {
	case 0, 1:
		forged = f.Change("bundle", whole)
	case 2:
		forged = f.Raw(whole)
	case 3: // the seal of another
		_, other := split(f.t, f.seal(f.pool[f.IntN(len(f.pool))].group()))
		forged = joined(f.t, seal, other)
	case 4: // two bundles in a row, and one in another
		forged = slices.Concat(whole, f.seal(groups...))
	case 5: // by a key that approves, or by nobody
		key := []*ecdsa.PrivateKey{f.own, f.alp.key, f.officers[0].key, f.stationed.key}[f.IntN(4)]
		forged = joined(f.t, f.signed(key, protocol.ContextBundle, seal, f.IntN(2) == 0), rest)
	case 6: // for another purpose
		forged = joined(f.t, f.signed(f.agent, []string{protocol.ContextResponse, protocol.ContextApproval, ""}[f.IntN(3)], seal, false), rest)
	case 7, 8: // another header
		forged, sealed = joined(f.t, f.header(seal, func(h []byte) []byte { return f.Change("header", h) }), rest), true
	default: // other contents
		rest = f.Change("rest", rest)
		forged, sealed = joined(f.t, f.header(seal, func(payload []byte) []byte {
			var h protocol.BundleHeader
			if err := cose.Unmarshal(payload, &h); err != nil {
				f.t.Fatal(err)
			}
			h.Rest = sha256.Sum256(rest)
			h.Items += uint64(f.IntN(5)) / 4
			return must[[]byte](f.t)(cose.Marshal(h))
		}), rest), true
	}
	return whole, forged, sealed
}

// header changes what a seal is over, and signs it with the agent's key.
func (f *forger) header(seal []byte, change func([]byte) []byte) []byte {
	var m message
	if err := cose.Unmarshal(seal[1:], &m); err != nil {
		f.t.Fatal(err)
	}
	f.Learn("header", m.Payload)
	return must[[]byte](f.t)(cose.Sign(f.agent, protocol.ContextBundle, change(m.Payload)))
}

// split takes the header of a bundle from what it seals.
func split(t testing.TB, bundle []byte) (seal, rest []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(bundle))
	seal = must[[]byte](t)(protocol.ReadString(r, protocol.MaxHeader))
	return seal, must[[]byte](t)(io.ReadAll(r))
}

func joined(t testing.TB, seal, rest []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := protocol.WriteString(&out, seal); err != nil {
		t.Fatal(err)
	}
	out.Write(rest)
	return out.Bytes()
}

// encrypted changes an encrypted bundle: what can still be opened is what was encrypted.
func (f *forger) encrypted() {
	f.t.Helper()
	key := must[media.Key](f.t)(media.NewSoftwareKey(must[*ecdh.PrivateKey](f.t)(f.receiver.ECDH())))
	encrypt := func(plain []byte) []byte {
		var out bytes.Buffer
		w, err := media.Encrypt(&out, key.PublicKey())
		if err == nil {
			_, err = w.Write(plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			f.t.Fatal(err)
		}
		return out.Bytes()
	}
	plain := f.pool[f.IntN(len(f.pool))].items[0]
	file, other := encrypt(plain), encrypt(f.pool[f.IntN(len(f.pool))].items[0])
	head := func(data []byte) int { // where the payload begins
		i := bytes.Index(data, []byte("\n---")) + 1
		return i + bytes.IndexByte(data[i:], '\n') + 1
	}
	changed := bytes.Clone(file)
	switch f.IntN(8) {
	case 0:
		changed = append(changed[:head(file)], other[head(other):]...)
	case 1: // the stanza of one, the MAC and payload of the other
		changed = append(changed[:bytes.Index(file, []byte("\n---"))], other[bytes.Index(other, []byte("\n---")):]...)
	case 2: // the nonce of the other
		copy(changed[head(file):], other[head(other):head(other)+16])
	case 3: // a stanza more
		at := bytes.Index(file, []byte("->"))
		stanza := other[bytes.Index(other, []byte("->")):bytes.Index(other, []byte("---"))]
		changed = slices.Insert(changed, at, stanza...)
	case 4:
		at := f.IntN(head(file))
		changed[at] ^= 1 << f.IntN(8)
	default:
		changed = f.Raw(file)
	}
	spool := must[*media.Spool](f.t)(media.NewSpool(filepath.Join(f.dir, "spool"), 0))
	sealed := must[*media.File](f.t)(spool.Write(1<<20, func(w io.Writer) error { _, err := w.Write(changed); return err }))
	defer sealed.Close()
	opened, err := spool.Decrypt(context.Background(), sealed, key)
	if err != nil {
		return
	}
	defer opened.Close()
	if got := must[[]byte](f.t)(io.ReadAll(opened.Reader())); !bytes.Equal(got, plain) {
		f.t.Fatalf("%x was encrypted, %x came out of a changed file", plain, got)
	}
}
