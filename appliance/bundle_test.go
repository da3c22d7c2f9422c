package appliance_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// size is the number of leaves.
func (w *world) size() (n uint64) {
	w.t.Helper()
	if err := w.engine.EachLeaf(0, func(uint64, []byte, []byte) error { n++; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// receipts processes a bundle and gives the receipts that were handed out.
func (w *world) receipts(bundle []byte) (map[protocol.Digest][]byte, *protocol.Refusal) {
	w.t.Helper()
	receipts := map[protocol.Digest][]byte{}
	out, err := w.engine.Process(spool{bytes.NewReader(bundle)}, func(id protocol.Digest, receipt []byte) error {
		receipts[id] = receipt
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return receipts, out.Refusal
}

func wants(t *testing.T, refusal *protocol.Refusal, code protocol.Code) {
	t.Helper()
	if refusal == nil || refusal.Code != code {
		t.Fatalf("refusal %+v, want %s", refusal, code)
	}
}

// A bundle whose seal is no good is refused whole: nothing is logged, nothing is answered.
func TestSealThatIsNoGood(t *testing.T) {
	d := newDesk(t)
	raw := d.encode(d.pc("0001"))
	g := d.approved(raw, d.alp)
	d.sequence++
	good := d.sealAs(d.sequence, g)
	size := d.size()
	nothing := func(t *testing.T, bundle []byte, codes ...protocol.Code) {
		t.Helper()
		out := d.process(bundle)
		if out.Refusal == nil || !slices.Contains(codes, out.Refusal.Code) {
			t.Fatalf("refusal %+v, want one of %s", out.Refusal, codes)
		}
		if d.size() != size || out.Sender != "" || out.Items != 0 {
			t.Errorf("something happened: %+v", out)
		}
		if _, err := os.Stat(d.responsePath(0)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a notice was stored: %v", err)
		}
	}
	t.Run("cut anywhere", func(t *testing.T) {
		for n := 0; n < len(good); n += 97 {
			nothing(t, good[:n], protocol.CodeMalformed, protocol.CodeBadSeal) // the header, or what it seals
		}
	})
	t.Run("a byte changed anywhere", func(t *testing.T) {
		for n := 5; n < len(good); n += 61 {
			bad := bytes.Clone(good)
			bad[n] ^= 1
			out := d.process(bad)
			if out.Refusal == nil || d.size() != size || out.Items != 0 {
				t.Fatalf("byte %d: %+v", n, out)
			}
		}
	})
	for name, test := range map[string]struct {
		code   protocol.Code
		change func(*protocol.BundleHeader)
	}{
		"contents of another": {protocol.CodeBadSeal, func(h *protocol.BundleHeader) { h.Rest[0]++ }},
		"another appliance":   {protocol.CodeWrongAppliance, func(h *protocol.BundleHeader) { h.To[0]++ }},
		"another's name":      {protocol.CodeMalformed, func(h *protocol.BundleHeader) { h.From = "disk" }},
	} {
		t.Run(name, func(t *testing.T) { nothing(t, d.sealBy(d.agent, test.change, g), test.code) })
	}
	if a := d.read(func() string { d.process(good); return d.responsePath(d.sequence) }()).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
		t.Errorf("the good one: %+v", a.result)
	}
}

// What takes away is done whatever is wrong with the bundle, and nothing else of it is.
func TestTakingAwayFromBundlesThatAreRefused(t *testing.T) {
	d := newDesk(t)
	stranger := newKey(t)
	n := 0
	next := func() (pc protocol.Request, revoke, other []byte, groups []protocol.Group) {
		n++
		pc = d.pc(string([]byte{'1', '0', '0' + byte(n/10), '0' + byte(n%10)}))
		serial := d.issued(pc, d.alp).Serial
		revoke = d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial, Reason: protocol.ReasonSuperseded}))
		r := d.pc("2" + pc.Subject[len(pc.Subject)-3:])
		other = d.encode(r)
		return pc, revoke, other, []protocol.Group{d.taken(revoke, d.alp), d.approved(other, d.alp)}
	}
	done := func(t *testing.T, revoke []byte) {
		t.Helper()
		r, _ := protocol.ParseRequest(revoke)
		c, _ := r.Revocation()
		if why, found := reason(d.newest("issuing"), c.Serial); !found || why != int(protocol.ReasonSuperseded) {
			t.Errorf("the serial is on the CRL: %v, reason %d", found, why)
		}
	}
	t.Run("unknown sender", func(t *testing.T) {
		d.world.t = t
		_, revoke, _, groups := next()
		garbage := d.encode(d.about(protocol.KindRevoke, d.pc("0001"), protocol.Revocation{Serial: []byte{1}}))
		issued, refused := d.logged(auditlog.Issued), d.logged(auditlog.Refused)
		bundle := d.sealBy(stranger, func(*protocol.BundleHeader) {}, append([]protocol.Group{d.taken(garbage, d.alp)}, groups...)...)
		receipts, refusal := d.receipts(bundle)
		wants(t, refusal, protocol.CodeUnknownSender)
		if len(receipts) != 1 || len(receipts[protocol.ID(revoke)]) == 0 {
			t.Errorf("%d receipts", len(receipts))
		}
		if d.logged(auditlog.Issued) != issued || d.logged(auditlog.Refused) != refused {
			t.Error("an unknown sender had something issued, or wrote to the log")
		}
		done(t, revoke)
		size := d.size()
		if receipts, _ = d.receipts(bundle); len(receipts) != 1 || d.size() != size {
			t.Errorf("again: %d receipts, %d leaves more", len(receipts), d.size()-size)
		}
	})
	// The notice tells the agent why, and brings what was done; the number stays free.
	notice := func(t *testing.T, code protocol.Code, change func(*protocol.BundleHeader)) (other []byte, groups []protocol.Group) {
		t.Helper()
		_, revoke, other, groups := next()
		d.sequence++
		issued := d.logged(auditlog.Issued)
		out := d.process(d.sealBy(d.agent, change, groups...))
		wants(t, out.Refusal, code)
		r := d.read(d.responsePath(0))
		wants(t, r.header.Refusal, code)
		if r.header.Answers == 0 || len(r.answers) != 1 || r.of(t, revoke).result.Outcome != protocol.OutcomeRevoked {
			t.Errorf("notice for bundle %d with %d answers", r.header.Answers, len(r.answers))
		}
		if d.logged(auditlog.Issued) != issued {
			t.Error("something was issued")
		}
		size := d.size()
		wants(t, d.process(d.sealBy(d.agent, change, groups...)).Refusal, code)
		if d.size() != size {
			t.Errorf("brought again it wrote %d leaves", d.size()-size)
		}
		return other, groups
	}
	again := func(t *testing.T, other []byte, groups []protocol.Group) {
		t.Helper()
		if out := d.process(d.sealAs(d.sequence, groups...)); out.Refusal != nil {
			t.Fatalf("under the same number: %s", out.Refusal.Words())
		}
		if a := d.read(d.responsePath(d.sequence)).of(t, other); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("under the same number: %+v", a.result)
		}
	}
	t.Run("expired", func(t *testing.T) {
		d.world.t = t
		other, groups := notice(t, protocol.CodeBundleExpired, func(h *protocol.BundleHeader) { h.Created, h.Expires = h.Created-100, d.now.Unix() })
		again(t, other, groups)
	})
	t.Run("number that no file name holds", func(t *testing.T) {
		d.world.t = t
		notice(t, protocol.CodeTooLarge, func(h *protocol.BundleHeader) { h.Sequence = 10_000_000_000 })
	})
	t.Run("number used for other bytes", func(t *testing.T) {
		d.world.t = t
		notice(t, protocol.CodeSequenceReused, func(h *protocol.BundleHeader) { h.Sequence = 1 })
	})
	t.Run("no room", func(t *testing.T) {
		d.world.t = t
		free := int64(0)
		d.config.Free = func(string) (int64, error) { return free, nil }
		d.reopen()
		free = 1 << 40
		_, revoke, other, groups := next()
		free = 60 << 20
		d.sequence++
		out := d.process(d.sealAs(d.sequence, groups...))
		wants(t, out.Refusal, protocol.CodeNoSpace)
		if a := d.read(d.responsePath(0)).of(t, revoke); a.result.Outcome != protocol.OutcomeRevoked {
			t.Errorf("%+v", a.result)
		}
		free = 1 << 40
		again(t, other, groups)
		d.config.Free = nil
		d.reopen()
	})
	t.Run("clock before the last entry", func(t *testing.T) {
		d.world.t = t
		right := d.now
		pc, _, _, _ := next()
		d.now = right.Add(3 * day) // somebody's watch; the appliance's battery is empty
		revoke := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: d.serial(pc)}))
		g := []protocol.Group{d.taken(revoke, d.alp), d.approved(d.encode(d.pc("3000")), d.alp)}
		d.sequence++
		bundle := d.sealAs(d.sequence, g...)
		d.now = time.Unix(0, 0)
		crl := d.newest("issuing").Number
		out := d.process(bundle)
		wants(t, out.Refusal, protocol.CodeClock)
		if a := d.read(d.responsePath(0)).of(t, revoke); a.result.Outcome != protocol.OutcomeHeld {
			t.Errorf("%+v", a.result)
		}
		if d.newest("issuing").Number.Cmp(crl) != 0 {
			t.Error("a CRL was made at a time that is not believed")
		}
		d.now = right.Add(3 * day)
		if out := d.process(bundle); out.Refusal != nil || out.Items != 2 {
			t.Errorf("when the clock is right: %+v", out)
		}
		if _, found := reason(d.newest("issuing"), d.serial(pc)); !found {
			t.Error("the CRL did not follow")
		}
	})
	t.Run("clock too far ahead", func(t *testing.T) {
		d.world.t = t
		right := d.now
		d.now = right.Add(401 * day)
		d.sequence++
		raw := d.encode(d.pc("3001"))
		out := d.process(d.sealAs(d.sequence, d.approved(raw, d.alp)))
		wants(t, out.Refusal, protocol.CodeClock)
		d.now = right
	})
	t.Run("more bundles than a day has", func(t *testing.T) {
		d.world.t = t
		d.limit(3, 1000)
		d.now = d.now.Add(day)
		next() // one
		next() // two
		d.answer(d.approved(d.encode(d.pc("3002")), d.alp))
		raw := d.encode(d.pc("3003"))
		hold := d.encode(d.about(protocol.KindHold, d.made("3002"), protocol.Revocation{Serial: d.serial(d.made("3002"))}))
		d.sequence++
		out := d.process(d.sealAs(d.sequence, d.taken(hold, d.alp), d.approved(raw, d.alp)))
		wants(t, out.Refusal, protocol.CodeQuota)
		if a := d.read(d.responsePath(0)).of(t, hold); a.result.Outcome != protocol.OutcomeHeld {
			t.Errorf("%+v", a.result)
		}
		d.now = d.now.Add(day)
		again(t, raw, []protocol.Group{d.approved(raw, d.alp)})
		d.limit(1000, 1000)
	})
	t.Run("more items than a day has", func(t *testing.T) {
		d.world.t = t
		d.limit(1000, 3)
		d.now = d.now.Add(day)
		var groups []protocol.Group
		var raws [][]byte
		for _, number := range []string{"4000", "4001", "4002", "4003"} {
			raws = append(raws, d.encode(d.pc(number)))
			groups = append(groups, d.approved(raws[len(raws)-1], d.alp))
		}
		r := d.answer(groups...)
		if a := r.of(t, raws[2]); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("the third: %+v", a.result)
		}
		wants(t, r.of(t, raws[3]).result.Refusal, protocol.CodeQuota)
		hold := d.encode(d.about(protocol.KindHold, d.made("4000"), protocol.Revocation{Serial: d.serial(d.made("4000"))}))
		if a := d.answer(d.taken(hold, d.alp)).of(t, hold); a.result.Outcome != protocol.OutcomeHeld {
			t.Errorf("taking away is not counted: %+v", a.result)
		}
		d.now = d.now.Add(day)
		if a := d.answer(groups[3]).of(t, raws[3]); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("the next day: %+v", a.result)
		}
		d.limit(1000, 1000)
	})
	t.Run("retired sender", func(t *testing.T) {
		d.world.t = t
		finished := d.seal(d.approved(d.encode(d.pc("5000")), d.alp))
		d.process(finished)
		_, revoke, _, groups := next()
		d.retire()
		d.sequence++
		out := d.process(d.sealAs(d.sequence, groups...))
		wants(t, out.Refusal, protocol.CodeRetiredSender)
		r := d.read(d.responsePath(0))
		if len(r.answers) != 1 || r.of(t, revoke).result.Outcome != protocol.OutcomeRevoked {
			t.Errorf("%d answers", len(r.answers))
		}
		if out := d.process(finished); !out.Again {
			t.Errorf("what was answered before is answered again: %+v", out)
		}
	})
	d.world.t = t
	d.reopen()
}
