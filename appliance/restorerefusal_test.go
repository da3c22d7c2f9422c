package appliance_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// TestLeavesThatAreNoGood brings what an appliance that waits must not take, each refused for what it is; then it takes
// the good ones.
func TestLeavesThatAreNoGood(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	from := d.size()
	pc := d.encode(d.pc("0001"))
	o.send(d.approved(pc, d.alp))
	good := o.file(from, withItems)
	short := d.outside()
	*short = *o
	longer := *o
	longer.send()

	stranger := newDesk(t)
	so := stranger.outside()
	so.send()
	theirs := so.file(0, withItems)

	n := d.unpacked(s)
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"of another appliance":      {theirs, appliance.ErrOtherAppliance},
		"of another in our name":    {renamed(t, theirs, n.engine.Appliance()), auditlog.ErrCheckpoint},
		"a gap after the backup":    {o.file(from+1, withItems), appliance.ErrGap},
		"fewer than its checkpoint": {good[:len(good)-lastSize(o)], auditlog.ErrProof},
		"more than its checkpoint":  {append(slices.Clone(good), good[len(good)-lastSize(o):]...), auditlog.ErrProof},
		"a leaf altered":            {replaced(good, o.d.leaves[from]), auditlog.ErrProof},
		"nothing":                   {nil, nil},
	} {
		taken, err := n.bring(map[string][]byte{"desk": c.file})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v, want %v", name, taken, err, c.want)
		}
	}
	// Nobody is told that it ends where somebody knows that it does not.
	if taken, err := n.bring(map[string][]byte{"desk": good}); err != nil || taken.Size != o.size {
		t.Fatalf("%+v, %v", taken, err)
	}
	taken, err := n.engine.TakeLeaves(nil, []appliance.Note{{Name: "the auditor", Text: longer.note}})
	if err != nil || taken.Known != longer.size || taken.By != "the auditor" {
		t.Fatalf("%+v, %v", taken, err)
	}
	if _, err := n.engine.ApplyLeaves(); !errors.Is(err, appliance.ErrTooShort) {
		t.Fatalf("applied, though the auditor knows more: %v", err)
	}
	if _, err := n.engine.RestoreOrder(0); !errors.Is(err, appliance.ErrNotApplied) {
		t.Fatalf("an order for what is not applied: %v", err)
	}
	if taken, err := n.bring(map[string][]byte{"other": longer.file(3, leavesOnly)}); err != nil || taken.Size != longer.size || taken.Bodies == 0 {
		t.Fatalf("what was brought before is forgotten: %+v, %v", taken, err)
	}
	raw := n.restoreOrder()
	if _, err := n.bring(map[string][]byte{"desk": longer.file(3, withItems)}); !errors.Is(err, appliance.ErrApplied) {
		t.Fatalf("taken after they were applied: %v", err)
	}
	n.reopen()
	n.refusesOrders(raw, int(longer.size))
	if r := n.consoled(raw, n.officers[0], n.officers[1]); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	n.reopen()
}

// TestCheckpointFirst has somebody bring a checkpoint before there are leaves: what it is over is missed until it comes.
func TestCheckpointFirst(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	from := d.size()
	o.send()
	shorter := *o
	o.send()
	n := d.unpacked(s)
	if taken, err := n.engine.TakeLeaves(nil, []appliance.Note{{Name: "the auditor", Text: o.note}}); err != nil || taken.Known != o.size {
		t.Fatalf("%+v, %v", taken, err)
	}
	short := func() {
		t.Helper()
		n.reopen()
		if _, err := n.engine.ApplyLeaves(); !errors.Is(err, appliance.ErrTooShort) {
			t.Fatalf("applied, though the auditor knows more: %v", err)
		}
	}
	short()
	if _, err := n.bring(map[string][]byte{"desk": shorter.file(from, withItems)}); err != nil {
		t.Fatal(err)
	}
	short()
	if _, err := n.bring(map[string][]byte{"desk": o.file(from, withItems)}); err != nil {
		t.Fatal(err)
	}
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	n.reopen()
}

// TestManyNames has an agent bring files in more names than there are agents: at once, and in turns. What was brought before
// stays.
func TestManyNames(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	n := d.unpacked(s)
	if _, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil {
		t.Fatal(err)
	}
	files := func(first, count int) map[string][]byte {
		files := map[string][]byte{}
		for i := range count {
			var b bytes.Buffer
			name := fmt.Sprintf("%032d", first+i)
			if err := auditlog.WriteBroughtHeader(&b, auditlog.BroughtHeader{Appliance: d.engine.Appliance(), From: name, First: o.size, Checkpoint: o.note}); err != nil {
				t.Fatal(err)
			}
			files[name] = b.Bytes()
		}
		return files
	}
	if _, err := n.bring(files(0, 65)); !errors.Is(err, appliance.ErrMany) {
		t.Errorf("65 files at once: %v", err)
	}
	var err error
	for first := 0; err == nil && first < 2000; first += 64 {
		_, err = n.bring(files(first, 64))
	}
	if err == nil {
		t.Error("2000 names were taken")
	}
	if taken, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil || !slices.Contains(taken.Heard, "desk") {
		t.Errorf("%+v, %v", taken, err)
	}
}

// refusesOrders tries orders that must not restore it.
func (d *desk) refusesOrders(raw []byte, size int) {
	d.t.Helper()
	t := d.t.(*testing.T)
	for name, c := range map[string]struct {
		raw    []byte
		people []*person
		want   protocol.Code
	}{
		"nobody":         {raw, nil, protocol.CodeApprovalsMissing},
		"one officer":    {raw, d.officers[:1], protocol.CodeApprovalsMissing},
		"one twice":      {raw, []*person{d.officers[0], d.officers[0]}, protocol.CodeSamePerson},
		"one suspended":  {raw, []*person{d.officers[0], d.suspended}, protocol.CodeApproverSuspended},
		"an approver":    {raw, []*person{d.officers[0], d.alp}, protocol.CodeApprovalsMissing},
		"fewer entries":  {changedOrder(t, raw, func(c *protocol.Restoration) { c.Size -= 2 }), d.officers[:2], protocol.CodeSuperseded},
		"another root":   {changedOrder(t, raw, func(c *protocol.Restoration) { c.Root[0] ^= 1 }), d.officers[:2], protocol.CodeSuperseded},
		"another backup": {changedOrder(t, raw, func(c *protocol.Restoration) { c.From-- }), d.officers[:2], protocol.CodeSuperseded},
		"an order lost":  {changedOrder(t, raw, func(c *protocol.Restoration) { c.Lost++ }), d.officers[:2], protocol.CodeSuperseded},
		"no CRLs":        {changedOrder(t, raw, func(c *protocol.Restoration) { c.CRLs = nil }), d.officers[:2], protocol.CodeSuperseded},
		"CRLs again":     {changedOrder(t, raw, func(c *protocol.Restoration) { c.CRLs[0].Issuer[31] ^= 1 }), d.officers[:2], protocol.CodeSuperseded},
		"nothing":        {changedOrder(t, raw, func(c *protocol.Restoration) { c.From = 0 }), d.officers[:2], protocol.CodeMalformed},
		"another's":      {otherAppliance(t, raw), d.officers[:2], protocol.CodeWrongAppliance},
	} {
		if r := d.consoled(c.raw, c.people...); r.Refusal == nil || r.Refusal.Code != c.want {
			t.Errorf("%s: %+v, want %s", name, r.Refusal, c.want)
		}
	}
	challenge := must[[]byte](t)(d.engine.Challenge())
	old := [][]byte{d.approve(d.officers[0], challenge, nil, raw), d.approve(d.officers[1], challenge, nil, raw)}
	must[[]byte](t)(d.engine.Challenge())
	if r, err := d.engine.Order(raw, old); err != nil || r.Refusal == nil || r.Refusal.Code != protocol.CodeConsoleRequired {
		t.Errorf("over an older challenge: %+v, %v", r, err)
	}
	set := d.encode(d.request(protocol.KindSetTime, protocol.SetTime{Time: d.now.Unix()}))
	if _, err := d.engine.Order(set, nil); !errors.Is(err, appliance.ErrRestoring) {
		t.Errorf("another order: %v", err)
	}
	if _, err := d.engine.Backup(medium(t, t.TempDir()), appliance.Shares{Needed: 2, All: 3}, nil, nil); !errors.Is(err, appliance.ErrRestoring) {
		t.Errorf("a backup: %v", err)
	}
	if !d.engine.Restoring() || d.size() != uint64(size) {
		t.Errorf("it waits: %v, and has %d entries, want %d", d.engine.Restoring(), d.size(), size)
	}
}

// TestForkedLog brings the leaves of two boxes that went on from one log.
func TestForkedLog(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	n := d.unpacked(s) // while the other one lives
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	no := n.outside()
	*no = *o
	no.d = n
	n.world.leaves, n.world.roots = map[uint64][]byte{}, map[int64]auditlog.Hash{0: auditlog.EmptyCheckpoint("").Root}
	for i := range o.size {
		n.leaves[i] = d.leaves[i]
	}
	n.roots[int64(n.known.size)] = d.roots[int64(n.known.size)]
	n.later(time.Minute)
	no.send()
	o.send()
	third := d.unpacked(s)
	if _, err := third.bring(map[string][]byte{"desk": o.file(3, withItems), "other": no.file(3, withItems)}); !errors.Is(err, appliance.ErrForked) || !strings.Contains(err.Error(), "is not that of coldseal/") {
		t.Errorf("both at once: %v", err)
	}
	if _, err := third.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil {
		t.Fatal(err)
	}
	if _, err := third.bring(map[string][]byte{"other": no.file(3, withItems)}); !errors.Is(err, appliance.ErrForked) {
		t.Errorf("one after the other: %v", err)
	}
	if _, err := third.engine.TakeLeaves(nil, []appliance.Note{{Name: "a witness", Text: no.note}}); err != nil {
		t.Errorf("a checkpoint over more entries: %v", err) // it may be of this log, for all that is known
	}
	late := d.backup()
	fourth := d.unpacked(late)
	if _, err := fourth.bring(map[string][]byte{"other": no.file(3, withItems)}); !errors.Is(err, appliance.ErrForked) || !strings.Contains(err.Error(), "are not the backup's") {
		t.Errorf("forked before the end of the backup: %v", err)
	}
}

// TestOrdersSinceTheBackup restores a log with orders in it: with their bodies they take effect again, all but those whose
// key is lost; without, they are counted in the order.
func TestOrdersSinceTheBackup(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	next := *d.engine.State().CurrentRoster()
	next.Officers = slices.Clone(next.Officers)
	next.Officers[4].Suspended = true
	d.mustOrder(d.roster(&next))
	second := protocol.DigestOf(d.mustOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"})).Key)
	sign := d.request(protocol.KindSignCA, protocol.SignCA{Key: second, Fields: d.caFields("issuing-ca")})
	sign.Issuer, sign.Profile, sign.ProfileDigest = d.root, "issuing-ca", d.digestOf("issuing-ca")
	d.mustOrder(sign)
	pc := d.encode(d.pc("0001"))
	o.send(d.approved(pc, d.alp))
	export := d.exported()
	before := d.engine.State().Roster
	d.die()
	for name, c := range map[string]struct {
		lost uint64
		take func(n *desk)
	}{
		"leaves": {3, func(n *desk) {
			if _, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil {
				t.Fatal(err)
			}
		}},
		"export": {2, func(n *desk) {
			src := must[appliance.Source](t)(n.engine.ExportedLog("export", bytes.NewReader(export)))
			if _, err := n.engine.TakeLeaves([]appliance.Source{src}, nil); err != nil {
				t.Fatal(err)
			}
			if err := src.Close(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := d.unpacked(s)
			n.t, n.world.t = t, t
			c.take(n)
			raw := n.restoreOrder()
			if got := restoration(t, raw); got.Lost != c.lost {
				t.Errorf("%d orders are lost, want %d", got.Lost, c.lost)
			}
			if r := n.consoled(raw, n.officers[0], n.officers[1]); r.Refusal != nil {
				t.Fatal(r.Refusal.Words())
			}
			if same := bytes.Equal(n.engine.State().Roster, before); same != (c.lost == 2) {
				t.Errorf("the roster is that of after the backup: %v", same)
			}
			n.reopen()
			if c.lost == 2 {
				wants(t, n.consoled(n.encode(n.request(protocol.KindSetTime, protocol.SetTime{Time: n.now.Unix()})), n.officers[1], n.narrow).Refusal, protocol.CodeApproverSuspended)
			}
			made := n.mustOrder(n.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
			if protocol.DigestOf(made.Key) == second {
				t.Error("the lost key is back")
			}
		})
	}
}

// renamed is a file of leaves that says it is of an appliance.
func renamed(t testing.TB, file []byte, of protocol.Digest) []byte {
	t.Helper()
	r := must[*auditlog.BroughtReader](t)(auditlog.ReadBrought(bytes.NewReader(file)))
	h := r.Header
	h.Appliance = of
	var b bytes.Buffer
	if err := auditlog.WriteBroughtHeader(&b, h); err != nil {
		t.Fatal(err)
	}
	var head bytes.Buffer
	if err := auditlog.WriteBroughtHeader(&head, r.Header); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), file[head.Len():]...)
}

// lastSize is how many bytes the last leaf takes, a step, with its two empty strings.
func lastSize(o *outside) int { return len(o.d.leaves[o.size-1]) + 2 + 2 }

// replaced is a file with a byte of a leaf changed: its time, so that it is still one.
func replaced(file, leaf []byte) []byte {
	changed := bytes.Clone(leaf)
	changed[6] ^= 1
	return bytes.Replace(file, leaf, changed, 1)
}

func otherAppliance(t testing.TB, raw []byte) []byte {
	t.Helper()
	req, _ := protocol.ParseRequest(raw)
	req.Appliance[0] ^= 1
	return encoded(t, req)
}

// TestApplyInterrupted stops while leaves are written: nothing is ordered on half of them, and it goes on.
func TestApplyInterrupted(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	s := d.backup()
	raws, groups := d.many(1, 1100)
	o.send(groups...)
	n := d.unpacked(s)
	if _, err := n.bring(map[string][]byte{"desk": o.file(0, withItems)}); err != nil {
		t.Fatal(err)
	}
	interrupted := errors.New("interrupted")
	func() {
		defer func() {
			if r := recover(); r != interrupted {
				panic(r)
			}
		}()
		n.engine.Report = func(appliance.Progress) { panic(interrupted) }
		_, _ = n.engine.ApplyLeaves() // it does not return
	}()
	n.reopen()
	if size := n.size(); size <= s.backup.Size || size >= o.size {
		t.Fatalf("%d entries, from %d on to %d", size, s.backup.Size, o.size)
	}
	if _, err := n.engine.RestoreOrder(0); !errors.Is(err, appliance.ErrNotApplied) {
		t.Errorf("an order on half of the leaves: %v", err)
	}
	if _, err := n.bring(map[string][]byte{"desk": o.file(0, withItems)}); !errors.Is(err, appliance.ErrApplied) {
		t.Errorf("more leaves on half of them: %v", err)
	}
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	n.reopen()
	o.d = n
	n.later(time.Minute)
	last := raws[len(raws)-1]
	if r := o.send(n.approved(last, n.alp)).of(t, last); r.result.Outcome != protocol.OutcomeIssued || !bytes.Equal(o.bodies[r.Index][16:], r.Body) {
		t.Errorf("%+v", r.result.Refusal)
	}
	if issued := n.logged(auditlog.Issued); issued != d.logged(auditlog.Issued) {
		t.Errorf("%d certificates", issued)
	}
}
