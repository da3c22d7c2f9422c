package appliance_test

import (
	"bytes"
	"crypto/ecdsa"
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
	"coldseal/protocol/forge"
)

// A forger is the agent: it has what officers, approvers and stations ever signed, its own seal key, and all it likes to
// write. It changes true messages at every level and seals again what is inside; the signer signs for what persons
// approved, byte for byte, and for nothing else.
type forger struct {
	*forge.Forger
	*pleas
	pool    []plea                   // of this wave
	members [][]byte                 // their approvals
	own     *ecdsa.PrivateKey        // that nobody enrolled
	bundles map[protocol.Digest]bool // that the agent sealed, by digest
	refused int                      // bundles
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
	f := &forger{Forger: f0, own: newKey(t), pleas: newPleas(d), codes: map[protocol.Code]int{}, bundles: map[protocol.Digest]bool{}}
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
		f.bundle()
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
	in, err := protocol.OpenIntroduction(must[[]byte](f.t)(f.engine.Introduction()), f.engine.Appliance())
	if err != nil {
		f.t.Fatal(err)
	}
	raw := must[[]byte](f.t)(os.ReadFile(f.responsePath(f.sequence)))
	opened, refusal, err := protocol.OpenResponse(spool{bytes.NewReader(raw)}, in.Keys, "desk")
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
	in, err := protocol.OpenIntroduction(must[[]byte](f.t)(f.engine.Introduction()), f.engine.Appliance())
	if err != nil {
		f.t.Fatal(err)
	}
	c := must[auditlog.Checkpoint](f.t)(auditlog.OpenCheckpoint(must[[]byte](f.t)(f.engine.Checkpoint()), in.Keys))
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
