package fire

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// What an appliance has to be after a power cut.

const (
	releasedPath = "stick/coldseal/*/to-agent/desk/0000000004.response"
	storedPath   = "appliance/responses/desk/0000000004.response"
	receiptPath  = "stick/coldseal/*/clear/*.receipt"
)

// start starts what a cut left of an appliance.
func (r *ruin) start(t *testing.T) *box {
	t.Helper()
	began := time.Now()
	b := r.world.workers(t, r.lints)
	b.open(t)
	r.took = time.Since(began)
	return b
}

// promised asks whether what the command had said to be on the stick is there.
func (r *ruin) promised(t *testing.T) {
	t.Helper()
	if !r.finished() {
		return
	}
	err := r.live.walk(r.top.first.names["stick"], "stick", func(path string, n *node) error {
		if n.mode.IsRegular() && !bytes.Equal(r.world.there(t, path), r.live.read(n)) {
			t.Errorf("the command had ended, and %s is not there, or not whole", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// interrupted gives a template of an appliance whose power was cut while a batch was signed.
func interrupted(t *testing.T) *world {
	t.Helper()
	before := func(t *testing.T) *world { return travelled(t, cutItems, 1) }
	return template(t, "interrupted", from(before, func(t *testing.T, w *world) {
		h := outage{name: "interrupted", on: []string{"appliance", "stick"}, world: before, line: journey[1]}.record(t, 0)
		c := h.cut(h.asked[0].at+1, dropped, rand.New(rand.NewPCG(0, 0)))
		for _, dir := range h.on {
			if err := os.RemoveAll(w.path(dir)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.left.put(h.top, w.dir); err != nil {
			t.Fatal(err)
		}
	}))
}

func expectResponse(t *testing.T, h *history) func(*testing.T, *ruin) {
	b := h.end.workers(t, h.lints)
	b.open(t)
	before := b.read(t)
	response := h.end.decrypt(t, h.end.glob(t, releasedPath)[0])
	return func(t *testing.T, r *ruin) {
		w := r.world
		stored := w.there(t, storedPath)
		if stored != nil && !bytes.Equal(stored, response) {
			t.Error("the response that is kept is not the one that was made")
		}
		for _, name := range w.glob(t, releasedPath) {
			if !bytes.Equal(w.decrypt(t, name), response) {
				t.Error("the response on the stick is not the one that was made")
			}
		}
		r.promised(t)
		b := r.start(t)
		log := b.read(t)
		same := log.follows(t, before)
		log.announces(t, r.signed())
		released := len(r.seen(releasedPath)) != 0
		if released && same < len(before.leaves) {
			t.Errorf("the response was released, and the log has %d leaves of the %d in it", same, len(before.leaves))
		}
		for _, path := range r.seen(receiptPath) {
			if id := strings.TrimSuffix(filepath.Base(path), ".receipt"); log.results[id] != 1 {
				t.Errorf("the receipt for %s was released, and the log does not have it", id)
			}
		}
		b.process(t, w)
		again := w.there(t, storedPath)
		if (released || stored != nil) && !bytes.Equal(again, response) {
			t.Error("the response is not the one that there was before")
		}
		if !bytes.Equal(w.decrypt(t, w.glob(t, releasedPath)[0]), again) {
			t.Error("what is released is not what is kept")
		}
		b.complete(t, w)
		if !b.process(t, w).Again || !bytes.Equal(w.there(t, storedPath), again) {
			t.Error("asked once more the response is another one")
		}
		b.reopen(t)
	}
}

// complete asks whether all that the bundle asked for was done once, and no more.
func (b *box) complete(t *testing.T, w *world) {
	t.Helper()
	log := b.read(t)
	for _, id := range w.load.issue {
		if log.outcomes[id] != protocol.OutcomeIssued || log.results[id] != 1 {
			t.Errorf("request %s: %s, %d results", id, log.outcomes[id], log.results[id])
		}
	}
	for _, id := range w.load.done {
		if log.results[id] != 1 {
			t.Errorf("request %s has %d results", id, log.results[id])
		}
	}
	for _, id := range w.load.open {
		if log.results[id] != 0 {
			t.Errorf("request %s lacks approvals and has a result", id)
		}
	}
	if want := len(w.load.issue) + 8; len(log.issued) != want {
		t.Errorf("the log has %d certificates, want %d", len(log.issued), want)
	}
	log.settled(t)
	b.lists(t, append(sorted(log.burned), w.load.listed...))
}

func beforeCRL(t *testing.T) *world {
	return template(t, "before-crl", from(begun, func(t *testing.T, w *world) { w.write(t, "crl", "--issuer", "root") }))
}

func beforePolicy(t *testing.T) *world {
	return template(t, "before-policy", from(begun, func(t *testing.T, w *world) {
		if err := os.WriteFile(w.path("policy.yaml"), []byte("policy: fire\nclock_ahead: 300 days\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.write(t, "policy", "--policy", "policy.yaml", "--policy", "library:all")
	}))
}

// afterOrder gives the order again.
func afterOrder(t *testing.T, w *world) {
	t.Helper()
	w.must(t, console...)
	w.must(t, console...)
	w.audit(t)
}

func expectOrder(t *testing.T, h *history) func(*testing.T, *ruin) {
	raw := readAll(t, h.base.path("order"))
	id := protocol.ID(raw)
	b := h.end.workers(t, h.lints)
	b.open(t)
	before, result, made := b.read(t), b.carryOut(t, raw, nil), b.made(t)
	return func(t *testing.T, r *ruin) {
		b := r.start(t)
		log := b.read(t)
		log.follows(t, before)
		log.announces(t, r.signed())
		switch {
		case log.orders[id]:
			if got := b.carryOut(t, raw, nil); !reflect.DeepEqual(got, result) {
				t.Errorf("the order came to %+v, before to %+v", got, result)
			}
		case r.finished():
			t.Error("the order was carried out, and nobody knows of it")
		default:
			done := b.order(t, r.world, raw)
			if again := b.carryOut(t, raw, nil); !reflect.DeepEqual(again, done) {
				t.Errorf("the order came to %+v, given again to %+v", done, again)
			}
		}
		b.read(t).settled(t)
		if now := b.made(t); !reflect.DeepEqual(now, made) {
			t.Errorf("the orders made %+v, want %+v", now, made)
		}
		b.reopen(t)
	}
}

// made is what orders bring about, as far as it is the same each time they are carried out.
type made struct {
	Policy [32]byte
	Keys   []string // of CAs, by label
	CRLs   map[string]uint64
}

func (b *box) made(t *testing.T) made {
	t.Helper()
	m := made{Policy: sha256.Sum256(b.engine.State().Policy), CRLs: map[string]uint64{}}
	for _, k := range b.config.Signer.Keys() {
		if k.Purpose != signer.CA {
			continue
		}
		if ca, known := b.engine.State().CAs[k.ID()]; !known || ca.Label != k.Label {
			t.Errorf("the log does not know the key %s", k.Label)
		}
		m.Keys = append(m.Keys, k.Label)
	}
	slices.Sort(m.Keys)
	err := b.engine.CRLs(func(label string, _ uint16, crl store.CRL) error {
		m.CRLs[label] = crl.Number
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func expectGenesis(t *testing.T, h *history) func(*testing.T, *ruin) {
	b := h.end.workers(t, h.lints)
	b.open(t)
	before, digest := b.read(t), b.engine.Appliance()
	files, err := policy.Files(policy.Library())
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(append(files, policy.File{Name: "policy.yaml", Data: readAll(t, h.base.path("policy.yaml"))})...)
	if err != nil {
		t.Fatal(err)
	}
	roster := h.base.roster(t)
	return func(t *testing.T, r *ruin) {
		if err := os.MkdirAll(r.world.path("appliance"), 0o700); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b := r.world.workers(t, r.lints)
		pinned, found, err := b.config.Signer.Pinned()
		switch {
		case err != nil:
			t.Fatal(err)
		case found && pinned != digest:
			t.Errorf("pinned is %x, and there was %s", pinned, digest)
		case !found && r.finished():
			t.Errorf("%s was said to be the digest, and nobody knows of it", digest)
		}
		got, err := appliance.Genesis(b.config, "fire", roster, p)
		if !found && err != nil || found && !errors.Is(err, appliance.ErrBegun) {
			t.Fatalf("genesis again: %v", err)
		}
		if found && got != digest {
			t.Errorf("genesis again gave %s, and there was %s", got, digest)
		}
		b.open(t)
		r.took = time.Since(began)
		if b.engine.Appliance() != got {
			t.Errorf("genesis gave %s, the appliance is %s", got, b.engine.Appliance())
		}
		if log := b.read(t); !slices.Equal(log.kinds, before.kinds) || found && log.follows(t, before) != len(before.leaves) {
			t.Errorf("the log has leaves of the kinds %v", log.kinds)
		}
		if keys := b.config.Signer.Keys(); len(keys) != 3 {
			t.Errorf("there are %d keys", len(keys))
		}
		if again, err := appliance.Genesis(b.config, "fire", roster, p); !errors.Is(err, appliance.ErrBegun) || again != got {
			t.Errorf("a second genesis: %s, %v", again, err)
		}
	}
}

// roster is the one that the command line of genesis stands for.
func (w *world) roster(t *testing.T) *policy.Roster {
	t.Helper()
	r := &policy.Roster{Version: protocol.Version}
	for i, word := range genesis {
		if word != "--officer" {
			continue
		}
		person, file, _ := strings.Cut(genesis[i+1], "=")
		block, _ := pem.Decode(readAll(t, w.path(file)))
		r.Officers = append(r.Officers, policy.Officer{
			Person: person, Name: person, Keys: [][]byte{block.Bytes}, Roles: []string{"security-officer"},
			Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	slices.SortFunc(r.Officers, func(a, b policy.Officer) int { return strings.Compare(a.Person, b.Person) })
	for _, kind := range protocol.RuledOrders() {
		r.Orders = append(r.Orders, policy.OrderRule{Kind: kind, Persons: 2, Role: "security-officer"})
	}
	return r
}
