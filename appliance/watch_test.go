package appliance_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"

	"math/rand/v2"
)

// watch looks at what an appliance did: at its log, and at what its signer signed. It knows from those who made the
// requests which of them were approved, by the digests of their bytes, and does not ask the engine.
type watch struct {
	*desk
	approved  map[protocol.Digest]string   // id → what it is; nothing else may be done
	expected  map[protocol.Digest]bool     // of those, what has to be done in the end
	done      map[protocol.Digest]int      // leaves that say it was done
	announced map[protocol.Digest]struct{} // digests that intents say will be signed
	sealed    map[protocol.Digest]struct{} // digests that were signed
	signed    int                          // entries of the signer's file that were looked at
	leaf      uint64                       // leaves that were looked at
	issued    int
	crls      int
	serials   map[protocol.Digest][]byte // of what was issued, by id
	places    map[protocol.Digest]uint64 // leaves that say so, by id
}

// newWatch begins to watch; what was done before is not looked at.
func newWatch(d *desk) *watch {
	w := &watch{
		desk: d, approved: map[protocol.Digest]string{}, expected: map[protocol.Digest]bool{}, done: map[protocol.Digest]int{},
		announced: map[protocol.Digest]struct{}{}, sealed: map[protocol.Digest]struct{}{},
		serials: map[protocol.Digest][]byte{}, places: map[protocol.Digest]uint64{},
	}
	w.leaf, w.signed = d.size(), len(d.world.signed())
	return w
}

// may notes that persons approved these bytes; must, that they have to be done as well.
func (w *watch) may(raw []byte, what string)  { w.approved[protocol.ID(raw)] = what }
func (w *watch) must(raw []byte, what string) { w.may(raw, what); w.expected[protocol.ID(raw)] = true }

// look reads on in the log and in the signer's file, and complains about what nobody approved.
func (w *watch) look() {
	w.t.Helper()
	did := func(id protocol.Digest, what auditlog.Kind) {
		if _, approved := w.approved[id]; !approved {
			w.t.Fatalf("%v of %s, which nobody approved", what, id)
		}
		if w.done[id]++; w.done[id] > 1 {
			w.t.Fatalf("%v of %s, %s, which was done before", what, id, w.approved[id])
		}
	}
	err := w.engine.EachLeaf(w.leaf, func(index uint64, data, salted []byte) error {
		w.leaf = index + 1
		leaf, err := auditlog.ParseLeaf(data)
		if err != nil {
			return err
		}
		switch leaf.Kind {
		case auditlog.Intents:
			return w.intents(salted[16:])
		case auditlog.Order:
			var o auditlog.OrderBody
			if err := cose.Unmarshal(salted[16:], &o); err != nil {
				return err
			}
			did(protocol.ID(o.Request), leaf.Kind)
		case auditlog.Issued, auditlog.Changed, auditlog.Withdrawn:
			result, err := protocol.ParseResult(salted[16:])
			if err != nil {
				return err
			}
			did(result.ID, leaf.Kind)
			w.serials[result.ID], w.places[result.ID] = result.Serial, index
			if leaf.Kind == auditlog.Issued {
				w.issued++
				if _, known := w.announced[w.tbsOf(result.Certificate)]; !known {
					w.t.Fatalf("the certificate for %s was not announced", w.approved[result.ID])
				}
			}
		case auditlog.CRL:
			w.crls++
		case auditlog.Burned:
			w.t.Fatal("a serial was burned")
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	all := w.world.signed()
	for _, digest := range all[w.signed:] {
		if _, known := w.announced[digest]; !known {
			w.t.Fatalf("something was signed that was not announced: %s", digest)
		}
		if _, twice := w.sealed[digest]; twice {
			w.t.Fatalf("signed twice: %s", digest)
		}
		w.sealed[digest] = struct{}{}
	}
	w.signed = len(all)
	if len(w.sealed) != w.issued+w.crls {
		w.t.Fatalf("%d signatures, %d certificates and %d CRLs", len(w.sealed), w.issued, w.crls)
	}
}

func (w *watch) intents(body []byte) error {
	b, err := auditlog.ParseIntents(body)
	if err != nil {
		return err
	}
	for _, in := range b.Intents {
		if len(in.Item) != 0 {
			item, refusal := protocol.ParseItem(in.Item)
			if refusal != nil {
				w.t.Fatalf("an intent for what is no item: %s", refusal.Words())
			}
			request := item.Request
			if _, approved := w.approved[protocol.ID(request)]; !approved {
				w.t.Fatalf("an intent for %s, which nobody approved", protocol.ID(request))
			}
		}
		if !in.TBS.IsZero() {
			w.announced[in.TBS] = struct{}{}
		}
	}
	return nil
}

// finished asks that all was done that had to be.
func (w *watch) finished() {
	w.t.Helper()
	w.look()
	for id := range w.expected {
		if w.done[id] != 1 {
			w.t.Errorf("%s was approved and is not done: %s", w.approved[id], id)
		}
	}
}

// everything tells whether nothing is to be left out, as in make soak.
func everything() bool { return os.Getenv("FIRE_ALL") == "1" }

// draws is how often something random is to be tried: some of what a soak does, and little where each costs much more.
func draws(usual, soak int) int {
	switch {
	case everything():
		return soak
	case raced:
		return usual / 20
	}
	return usual
}

// dice gives random numbers; what a failed test drew is drawn again with its FIRE_SEED.
func dice(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano() & 0xffffff)
	if text := os.Getenv("FIRE_SEED"); text != "" {
		seed = must[uint64](t)(strconv.ParseUint(text, 10, 64))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("drawn with FIRE_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// memory is what this process holds that no file backs, in MiB.
func memory(t testing.TB) int {
	t.Helper()
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile("/proc/self/status")))) {
		if value, found := strings.CutPrefix(line, "RssAnon:"); found {
			return must[int](t)(strconv.Atoi(strings.Fields(value)[0])) >> 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}
