package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/forge"
	"coldseal/protocol/media"
)

// forger changes a true response. As a courier it has no key of the appliance, and nothing that it changes is imported.
// As a liar it has the seal key, but neither the CA's nor the log's: it can say less than is true, and nothing else.
type forger struct {
	*forge.Forger
	*world
	true     []byte   // the response
	answers  int      // in it
	others   [][]byte // true ones of other bundles, agents, appliances
	store    []byte   // its file, before
	state    string   // what the file says of the newest transaction
	before   picture
	after    picture
	spool    *media.Spool
	imported int // lies that were
	found    int
}

// picture is what is known of requests and the log.
type picture struct {
	standings map[protocol.Digest]string
	meta      store.Meta
	leaves    string
	crls      string
}

// newForger has a response with all outcomes on its way.
func newForger(t testing.TB, random *rand.Rand) *forger {
	f := &forger{Forger: forge.New(random), world: newWorld(t)}
	f.spool = must[*media.Spool](t)(media.NewSpool(t.TempDir(), 0))
	f.enrol()
	first := f.ready(3)
	f.cross()
	f.others = append(f.others, f.latest())
	var taken [3]protocol.Digest
	for i, kind := range []protocol.Kind{protocol.KindRevoke, protocol.KindHold} {
		taken[i] = f.request(Wish{Kind: kind, Serial: f.show(first[i]).Result.Serial})
		f.approve(kind, taken[i])
	}
	var ids []protocol.Digest
	for i := range 6 {
		ids = append(ids, f.request(f.station(i+100)))
	}
	f.approve(protocol.KindIssue, append([]protocol.Digest(nil), ids...)...)
	f.box.lie.refuse = map[string]*protocol.Refusal{
		"058091-PC-0100": protocol.Refuse(protocol.CodeQuota, "limit", "1", "thing", "requests"),
		"058091-PC-0101": protocol.Refuse(protocol.CodeKeyKnown),
	}
	f.export()
	f.box.process(f.stick)
	f.true, f.answers = f.latest(), 8
	stranger := newWorld(t)
	stranger.enrol()
	f.others = append(f.others, stranger.latest())
	f.Learn("response", f.true)
	for _, other := range f.others {
		f.Learn("response", other)
	}
	f.before = f.picture()
	f.store = bytes.TrimRight(must[[]byte](t)(os.ReadFile(f.file())), "\x00")
	f.store = append(f.store, make([]byte, -len(f.store)&(os.Getpagesize()-1))...)
	f.state = f.newest()
	if _, err := f.take(f.true); err != nil {
		t.Fatal(err)
	}
	f.after = f.picture()
	f.again()
	if now := f.picture(); !reflect.DeepEqual(now, f.before) || reflect.DeepEqual(now, f.after) {
		t.Fatal("before and after are not what they should be")
	}
	return f
}

func (f *forger) file() string { return filepath.Join(f.config.Dir, "agent.db") }

// newest is the beginning of the store's file, where each transaction leaves its number.
func (f *forger) newest() string {
	f.t.Helper()
	file := must[*os.File](f.t)(os.Open(f.file()))
	defer file.Close()
	head := make([]byte, 2*os.Getpagesize())
	if _, err := io.ReadFull(file, head); err != nil {
		f.t.Fatal(err)
	}
	return string(head)
}

// again puts back what there was before.
func (f *forger) again() {
	f.t.Helper()
	if err := f.s.Close(); err != nil {
		f.t.Fatal(err)
	}
	writeFile(f.t, f.file(), f.store)
	f.s = must[*Service](f.t)(Open(f.config))
	f.state = f.newest()
}

// latest is the newest response of the box.
func (w *world) latest() []byte {
	return w.box.pending[slices.Max(slices.Collect(keys(w.box.pending)))]
}

func (f *forger) picture() picture {
	f.t.Helper()
	p := picture{meta: f.meta(), standings: map[protocol.Digest]string{}}
	rows := map[protocol.Digest]Standing{}
	err := f.s.List(Filter{}, func(r Row) error { rows[r.ID] = r.Standing; return nil })
	if err == nil {
		err = f.s.store.View(func(tx *store.Tx) error {
			for id, standing := range rows {
				p.standings[id] = standing.Outcome.String()
				if standing.Outcome != 0 && standing.Outcome != protocol.OutcomeRefused {
					result, _ := tx.Result(standing.Import, tx.RequestNumber(id))
					p.standings[id] += string(result.Answer)
				}
			}
			for i := range p.meta.Size {
				leaf, err := tx.Leaf(i)
				if err != nil {
					return err
				}
				p.leaves += string(leaf)
			}
			return tx.EachCRL(func(_ protocol.Digest, c store.CRL) error { p.crls += string(c.DER); return nil })
		})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// take imports a response as it is inside the encryption.
func (f *forger) take(plain []byte) (Imported, error) {
	file, err := f.spool.Write(1<<24, func(w io.Writer) error { _, err := w.Write(plain); return err })
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	return f.s.importResponse(context.Background(), file, nil)
}

// answer changes an answer: where it says it is in the log, its result, or a receipt in it, which it signs again.
func (f *forger) answer(data []byte) []byte {
	a, r, err := protocol.ParseAnswer(data)
	if err != nil {
		return f.Change("part", data)
	}
	switch f.IntN(4) {
	case 0:
		if len(a.Salt) > 0 {
			a.Salt[f.IntN(len(a.Salt))] ^= 1 << f.IntN(8)
		}
	case 1:
		a.Index += uint64(f.IntN(5)) - 2
	case 2:
		if len(r.Receipt) != 0 {
			r.Receipt = f.sign(r.Receipt)
			a.Body = must[[]byte](f.t)(cose.Marshal(r))
		}
	default:
		a.Body = f.Change("body", a.Body)
	}
	return must[[]byte](f.t)(cose.Marshal(a))
}

func (f *forger) sign(receipt []byte) []byte {
	var m message
	if err := cose.Unmarshal(receipt[1:], &m); err != nil {
		f.t.Fatal(err)
	}
	return must[[]byte](f.t)(cose.Sign(f.box.seal, protocol.ContextReceipt, f.Change("receipt", m.Payload)))
}

// message is a COSE_Sign1 (RFC 9052 section 4.2) as a forger takes it apart.
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

// fits makes a header fit what follows it.
func (f *forger) fits(rest []byte) func(*protocol.ResponseHeader) {
	return func(h *protocol.ResponseHeader) { h.Rest = sha256.Sum256(rest) }
}

// signed changes what a header says and signs it. Posing, it names the key that was there.
func (f *forger) signed(key crypto.Signer, context string, seal []byte, posing bool, change func(*protocol.ResponseHeader)) []byte {
	f.t.Helper()
	var m, ours message
	if err := cose.Unmarshal(seal[1:], &m); err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		var h protocol.ResponseHeader
		if err := cose.Unmarshal(m.Payload, &h); err != nil {
			f.t.Fatal(err)
		}
		change(&h)
		m.Payload = must[[]byte](f.t)(cose.Marshal(h))
	}
	signed := must[[]byte](f.t)(cose.Sign(key, context, m.Payload))
	if !posing {
		return signed
	}
	if err := cose.Unmarshal(signed[1:], &ours); err != nil {
		f.t.Fatal(err)
	}
	m.Signature = ours.Signature
	return append([]byte{seal[0]}, must[[]byte](f.t)(cose.Marshal(m))...)
}

// split takes the header of a response from what it seals.
func split(t testing.TB, response []byte) (seal, rest []byte) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(response))
	must[[][]byte](t)(protocol.ReadHandovers(r)) // there are none
	seal = must[[]byte](t)(protocol.ReadString(r, protocol.MaxResponseHeader))
	return seal, must[[]byte](t)(io.ReadAll(r))
}

func joined(t testing.TB, seal, rest []byte) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{0x40}) // no handovers
	if err := protocol.WriteString(out, seal); err != nil {
		t.Fatal(err)
	}
	out.Write(rest)
	return out.Bytes()
}
