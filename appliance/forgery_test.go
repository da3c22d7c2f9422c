package appliance_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/forge"
	"coldseal/protocol/media"
)

// A forger is the agent: it has what officers, approvers and stations ever signed, its own seal key, and all it likes to
// write. It changes true messages at every level and seals again what is inside; the signer signs for what persons
// approved, byte for byte, and for nothing else.
type forger struct {
	*forge.Forger
	*pleas
	pool    []plea            // of this wave
	members [][]byte          // their approvals
	own     *ecdsa.PrivateKey // that nobody enrolled
	refused int               // bundles
	taken   int
	codes   map[protocol.Code]int // with which requests were refused
}

// What a wave brings.
const (
	forgedGroups  = 900
	forgedBundles = 60
	forgedFiles   = 40
	forgedInWave  = forgedGroups + forgedBundles + forgedFiles
)

// TestForgeries: 15,000 forgeries, in a soak 750,000; the agent's tests have the others.
func TestForgeries(t *testing.T) {
	random := dice(t)
	waves := max(1, draws(15_000, 750_000)/forgedInWave)
	const most = 30 // of one world
	for world := 0; waves > 0; world++ {
		here := min(waves, most)
		waves -= here
		seed := random.Uint64()
		t.Run(strconv.Itoa(world), func(t *testing.T) {
			if everything() {
				t.Parallel()
			}
			forgeries(t, forge.New(rand.New(rand.NewPCG(seed, 0))), here)
		})
	}
}

func forgeries(t *testing.T, f0 *forge.Forger, waves int) {
	d := newDesk(t)
	d.counted = filepath.Join(t.TempDir(), "signed")
	d.restart()
	d.limit(1e9, 1e12)
	f := &forger{Forger: f0, own: newKey(t), pleas: newPleas(d), codes: map[protocol.Code]int{}}
	started, peak := time.Now(), 0
	for range waves {
		f.wave()
		peak = max(peak, memory(t))
	}
	d.reopen() // the ledger is still a fold of its log
	took := time.Since(started).Seconds()
	t.Logf("%d forgeries, %.0f a second; of the bundles %d taken, %d refused; %d certificates and %d CRLs are %d signatures; at most %d MiB; %v",
		waves*forgedInWave, float64(waves*forgedInWave)/took, f.taken, f.refused, f.issued, f.crls, len(f.sealed), peak, f.codes)
	if peak > 256 && !raced {
		t.Errorf("%d MiB of memory", peak)
	}
	if f.taken < waves || f.refused < waves || len(f.codes) < 20 {
		t.Errorf("the forgeries are not of many kinds: %d bundles taken, %d refused, %v", f.taken, f.refused, f.codes)
	}
}

// wave makes true messages, brings many changed ones, and then the true ones, all of which are done.
func (f *forger) wave() {
	f.t.Helper()
	good, bad := f.good(), f.bad()
	f.pool, f.members = append(slices.Clone(good), bad...), nil
	for _, p := range f.pool {
		for _, a := range p.approvals {
			f.Learn("approval", a)
			f.members = append(f.members, a)
		}
		for _, it := range p.items {
			f.Learn("item", it)
		}
	}
	f.settle()
	var groups []protocol.Group
	for range forgedGroups {
		groups = append(groups, f.group(f.pool[f.IntN(len(f.pool))]))
	}
	if out := f.bring(f.seal(groups...)); out.Refusal != nil {
		f.t.Fatalf("the bundle of forgeries: %s", out.Refusal.Words())
	}
	f.tally()
	for range forgedBundles {
		f.bring(f.bundle())
	}
	for range forgedFiles {
		f.encrypted()
	}
	f.look()
	f.settle()
	groups = nil
	for _, p := range good {
		groups = append(groups, p.group())
	}
	if out := f.bring(f.seal(groups...)); out.Refusal != nil {
		f.t.Fatalf("the true bundle: %s", out.Refusal.Words())
	}
	f.finished()
	f.keep(good)
	f.now = f.now.Add(time.Minute)
}

// tally counts with what codes the newest bundle's requests were refused.
func (f *forger) tally() {
	f.t.Helper()
	genesis, _, _, err := protocol.OpenIntroduction(must[[]byte](f.t)(f.engine.Introduction()), f.engine.Appliance())
	if err != nil {
		f.t.Fatal(err)
	}
	raw := must[[]byte](f.t)(os.ReadFile(f.responsePath(f.sequence)))
	opened, refusal, err := protocol.OpenResponse(spool{bytes.NewReader(raw)}, f.engine.Appliance(), must[cose.Key](f.t)(genesis.SealKey()), "desk")
	if err != nil || refusal != nil {
		f.t.Fatal(refusal, err)
	}
	for range opened.Header.Results {
		_, data, err := opened.Next()
		if err != nil {
			f.t.Fatal(err)
		}
		_, result, err := protocol.ParseAnswer(data)
		if err != nil {
			f.t.Fatal(err)
		}
		if result.Refusal != nil {
			f.codes[result.Refusal.Code]++
		}
	}
}

// settle takes over what the log is, as an agent does after an import.
func (f *forger) settle() {
	genesis, _, _, err := protocol.OpenIntroduction(must[[]byte](f.t)(f.engine.Introduction()), f.engine.Appliance())
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := genesis.LogKey()
	if err != nil {
		f.t.Fatal(err)
	}
	c := must[auditlog.Checkpoint](f.t)(auditlog.OpenCheckpoint(must[[]byte](f.t)(f.engine.Checkpoint()), auditlog.Origin(f.engine.Appliance()), key))
	f.known.size, f.known.root = uint64(c.Size), protocol.Digest(c.Root)
}

// seal is world.seal with the groups in the order of their sections.
func (f *forger) seal(groups ...protocol.Group) []byte {
	slices.SortStableFunc(groups, func(a, b protocol.Group) int { return int(a.Section) - int(b.Section) })
	return f.world.seal(groups...)
}

// bring has the engine process a bundle. It may be refused; it may not be a fault.
func (f *forger) bring(bundle []byte) appliance.Outcome {
	f.t.Helper()
	out := f.process(bundle)
	if out.Refusal != nil || out.Sender == "" {
		f.refused++
	} else if f.taken++; !slices.Contains(f.acknowledged, out.Sequence) {
		f.acknowledged = append(f.acknowledged, out.Sequence)
		slices.Sort(f.acknowledged)
		f.acknowledged = f.acknowledged[max(0, len(f.acknowledged)-protocol.MaxAcknowledged):]
		f.sequence = max(f.sequence, out.Sequence)
	}
	return out
}

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

// bundle makes a bundle of two groups and changes it anywhere, its frame too. Half of them are sealed again.
func (f *forger) bundle() []byte {
	var groups []protocol.Group
	for range 2 {
		groups = append(groups, f.pool[f.IntN(len(f.pool))].group())
	}
	whole := f.seal(groups...)
	seal, rest := split(f.t, whole)
	f.Learn("bundle", whole)
	switch f.IntN(12) {
	case 0, 1:
		return f.Change("bundle", whole)
	case 2:
		return f.Raw(whole)
	case 3: // the seal of another
		_, other := split(f.t, f.seal(f.pool[f.IntN(len(f.pool))].group()))
		return joined(f.t, seal, other)
	case 4: // two bundles in a row, and one in another
		return append(whole, f.seal(groups...)...)
	case 5: // by a key that approves, or by nobody
		key := []*ecdsa.PrivateKey{f.own, f.alp.key, f.officers[0].key, f.stationed.key}[f.IntN(4)]
		return joined(f.t, f.signed(key, protocol.ContextBundle, seal, f.IntN(2) == 0), rest)
	case 6: // for another purpose
		return joined(f.t, f.signed(f.agent, []string{protocol.ContextResponse, protocol.ContextApproval, ""}[f.IntN(3)], seal, false), rest)
	case 7, 8: // another header
		return joined(f.t, f.header(seal, func(h []byte) []byte { return f.Change("header", h) }), rest)
	default: // other contents
		rest = f.Change("rest", rest)
		return joined(f.t, f.header(seal, func(payload []byte) []byte {
			var h protocol.BundleHeader
			if err := cose.Unmarshal(payload, &h); err != nil {
				f.t.Fatal(err)
			}
			h.Rest = sha256.Sum256(rest)
			h.Items += uint64(f.IntN(5)) / 4
			return must[[]byte](f.t)(cose.Marshal(h))
		}), rest)
	}
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
