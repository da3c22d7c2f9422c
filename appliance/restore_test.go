package appliance_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// TestRestore lets the box die three bundles after its backup, and goes on on another one, with as much of what is known
// outside as comes back: leaves, the agent's own answers and requests, or an auditor's export.
func TestRestore(t *testing.T) {
	for name, much := range map[string]known{"leaves": leavesOnly, "bodies": withBodies, "items": withItems, "export": -1} {
		t.Run(name, func(t *testing.T) { testRestore(t, much) })
	}
}

func testRestore(t *testing.T, much known) {
	d := newDesk(t)
	o := d.outside()
	old, held := d.pc("0001"), d.pc("0002")
	thief := newKey(t)
	stolen := d.workstation(d.issuing, unit, "0003", thief)
	serial := map[string][]byte{}
	issue := func(pc protocol.Request) {
		raw := d.encode(pc)
		g := d.approved(raw, d.alp)
		serial[pc.Subject] = o.send(g).of(t, raw).result.Serial
	}
	for _, pc := range []protocol.Request{old, held, stolen} {
		issue(pc)
	}
	unsent := d.encode(d.pc("0009")) // approved before the restore, and sent after it
	stale := d.approved(unsent, d.alp)
	s := d.backup()
	size := d.size()

	// Three bundles after the backup. The box answers a fourth, and nobody ever sees the answer.
	after, gone := d.pc("0004"), d.pc("0005")
	d.later(time.Hour)
	issue(after)
	issue(gone)
	afterRaw := d.encode(after)
	revoke := func(kind protocol.Kind, pc protocol.Request, reason protocol.Reason) protocol.Group {
		return d.taken(d.encode(d.about(kind, pc, protocol.Revocation{Serial: serial[pc.Subject], Reason: reason})), d.alp)
	}
	o.send(revoke(protocol.KindRevoke, stolen, protocol.ReasonKeyCompromise), revoke(protocol.KindHold, held, 0), revoke(protocol.KindRevoke, gone, 0))
	before := d.newest("issuing")
	tail := d.pc("0006")
	tailRaw := d.encode(tail)
	lost := d.answer(d.approved(tailRaw, d.alp)).of(t, tailRaw).result
	export := d.exported()
	d.sequence-- // the agent does not know that its bundle was answered
	d.die()

	// Another box. It waits: nothing is processed.
	d.later(time.Hour)
	n := d.unpacked(s)
	if _, err := n.engine.Process(spool{bytes.NewReader(n.seal())}, nil); !errors.Is(err, appliance.ErrRestoring) {
		t.Fatalf("processed a bundle while it waits: %v", err)
	}
	n.sequence--
	if much < 0 {
		src, err := n.engine.ExportedLog("export", bytes.NewReader(export))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.engine.TakeLeaves([]appliance.Source{src}, nil); err != nil {
			t.Fatal(err)
		}
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
	} else if taken, err := n.bring(map[string][]byte{"desk": o.file(3, much)}); err != nil || taken.Size != o.size || taken.From != size {
		t.Fatalf("%+v, %v", taken, err)
	}
	if result := n.revive(); result.Refusal != nil {
		t.Fatal(result.Refusal.Words())
	}
	if n.engine.Restoring() {
		t.Fatal("it waits on")
	}

	// Revocations since the backup are on the CRL, whose number goes on; there is one log.
	crl := n.newest("issuing")
	if crl.Number.Cmp(before.Number) <= 0 {
		t.Errorf("CRL %s after %s", crl.Number, before.Number)
	}
	want := map[string]int{held.Subject: 6, stolen.Subject: 1, gone.Subject: 0}
	if much < withItems && much >= 0 {
		want[stolen.Subject] = 0 // why is in the request
	}
	for subject, code := range want {
		if got, listed := reason(crl, serial[subject]); !listed || got != code {
			t.Errorf("%s: listed %v with reason %d, want %d", subject, listed, got, code)
		}
	}
	for _, subject := range []string{old.Subject, after.Subject} {
		if _, listed := reason(crl, serial[subject]); listed {
			t.Errorf("%s was revoked", subject)
		}
	}
	n.reopen() // replays the log and compares

	// What the agent sends goes on; earlier approvals are void, whether the request was done or not.
	o.d = n
	n.later(time.Minute)
	result := func(raw []byte, groups ...protocol.Group) protocol.Result {
		t.Helper()
		return o.send(groups...).of(t, raw).result
	}
	if r := result(unsent, stale); r.Refusal == nil || r.Refusal.Code != protocol.CodeApprovalVoid {
		t.Errorf("an approval from before: %+v", r)
	}
	if r := result(unsent, n.approved(unsent, n.alp)); r.Outcome != protocol.OutcomeIssued {
		t.Errorf("approved anew: %+v", r.Refusal)
	}
	again := result(afterRaw, n.approved(afterRaw, n.alp))
	switch much {
	case leavesOnly: // nobody knows any more what that certificate is for; its key is known to nobody
		if again.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", again.Refusal)
		}
	default: // the request is done, and has its answer
		if again.Outcome != protocol.OutcomeIssued || !bytes.Equal(again.Serial, serial[after.Subject]) {
			t.Errorf("it was done again: %+v", again)
		}
	}
	// A key is never certified again that was stolen, or may have been: without the request nobody knows why it was revoked.
	stolenAgain := n.encode(n.workstation(n.issuing, unit, "0003", thief))
	if r := result(stolenAgain, n.approved(stolenAgain, n.alp)); r.Refusal == nil || r.Refusal.Code != protocol.CodeKeyCompromised {
		t.Errorf("the stolen key: %+v", r)
	}
	same := n.encode(n.pc("0004"))
	// Of a certificate without its request nobody knows the name.
	if r := result(same, n.approved(same, n.alp)); (r.Refusal != nil && r.Refusal.Code == protocol.CodeNameActive) == (much == withBodies) {
		t.Errorf("another certificate for the name: %+v", r.Refusal)
	}
	if tried := result(tailRaw, n.approved(tailRaw, n.alp)); much < 0 && !bytes.Equal(tried.Serial, lost.Serial) || much >= 0 && tried.Outcome != protocol.OutcomeIssued {
		t.Errorf("the request that nobody knows to be done: %+v", tried.Refusal)
	}
	// The certificate of the fourth bundle turns up: it is revoked, though no entry says it was issued.
	take := n.encode(n.about(protocol.KindRevoke, tail, protocol.Revocation{Serial: lost.Serial, Certificate: lost.Certificate}))
	if r := result(take, n.taken(take, n.alp)); r.Outcome != protocol.OutcomeRevoked {
		t.Errorf("the certificate that turned up: %+v", r.Refusal)
	}
	if _, listed := reason(n.newest("issuing"), lost.Serial); !listed {
		t.Error("it is not on the CRL")
	}
	n.reopen()
	if twice := n.logged(auditlog.Restored); twice != 1 {
		t.Errorf("%d restored leaves", twice)
	}

	// A restore that nobody asked for: the same order again changes nothing, another one is refused.
	other := changedOrder(t, n.encode(n.request(protocol.KindRestore, protocol.Restoration{From: 2, Size: 5, Root: protocol.Digest{1}})), func(*protocol.Restoration) {})
	if r := n.consoled(other, n.officers[0], n.officers[1]); r.Refusal == nil || r.Refusal.Code != protocol.CodeNotRestoring {
		t.Errorf("a second restore: %+v", r)
	}
	if _, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err == nil {
		t.Error("leaves were taken by a living appliance")
	}

	// The old box comes back, whole. It has its own counter, and not what the agent knows by now.
	d.now, d.sequence, d.known = n.now, n.sequence, n.known
	d.start()
	d.open()
	pc := d.encode(d.pc("0010"))
	revoked := d.encode(d.about(protocol.KindRevoke, old, protocol.Revocation{Serial: serial[old.Subject]}))
	issued := d.logged(auditlog.Issued)
	out := d.process(d.seal(d.taken(revoked, d.alp), d.approved(pc, d.alp)))
	wants(t, out.Refusal, protocol.CodeOlderLog)
	if d.logged(auditlog.Issued) != issued || out.Items != 1 {
		t.Errorf("the old box issued, or took nothing away: %+v", out)
	}
}

// TestRestoreTwice restores a box that was restored, from the backup of before the first time.
func TestRestoreTwice(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	first := d.pc("0001")
	raw := d.encode(first)
	o.send(d.approved(raw, d.alp))
	s := d.backup()
	for i := range 2 {
		d.later(time.Hour)
		pc := d.encode(d.pc(fmt.Sprintf("%04d", 10+i)))
		if r := o.send(d.approved(pc, d.alp)).of(t, pc); r.result.Outcome != protocol.OutcomeIssued {
			t.Fatal(r.result.Refusal.Words())
		}
		d.later(time.Hour)
		n := d.unpacked(s)
		file := o.file(0, withItems)
		if i == 0 {
			d.die()
		}
		if _, err := n.bring(map[string][]byte{"desk": file}); err != nil {
			t.Fatal(err)
		}
		if r := n.revive(); r.Refusal != nil {
			t.Fatal(r.Refusal.Words())
		}
		d, o.d = n, n
		d.later(time.Minute)
		d.reopen()
		o.send()
		if got := d.logged(auditlog.Restored); got != i+1 {
			t.Fatalf("%d restored leaves, want %d", got, i+1)
		}
	}
}

// TestRestoreAfterALongTime restores a box from a backup that is older than the clock may be ahead of the log: the officers
// order it at a date that they are shown, and no set-time could go before it. A clock that is behind is still refused.
func TestRestoreAfterALongTime(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	right := d.now
	d.die()
	d.now = right.Add(-time.Second)
	n := d.unpacked(s)
	raw := n.restoreOrder()
	wants(t, n.consoled(raw, n.officers[0], n.officers[1]).Refusal, protocol.CodeClock)
	n.now = right.Add(401 * day)
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	if n.gate() != nil {
		t.Error("the gate is shut after the restore")
	}
	n.reopen()

	// Interrupted after the order, it removes what was brought when it starts again.
	left := filepath.Join(n.dir, "restore")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "leaves"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	n.reopen()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was brought is still there: %v", err)
	}
}
