package appliance_test

import (
	"fmt"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// reading is one look that the engine took at the clock, and what its signer had signed by then.
type reading struct {
	shown  time.Time
	last   time.Time // newest entry of the log then
	signed int
}

// TestClockJumpsInMidBundle has the clock jump at each of the moments at which the engine looks at it, from the first to
// the last of a bundle, and stay there or come back: from a look at a clock that can't be believed to the next at one
// that can, nothing is signed. What takes away is done. What was refused is issued when it comes again at the right time.
func TestClockJumpsInMidBundle(t *testing.T) {
	w := newHour(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	number := 0
	jumps := []time.Duration{-20 * 365 * day, -time.Hour, -time.Second, time.Second, day, 10 * day, 401 * day, 20 * 365 * day}
	if raced {
		jumps = jumps[:3]
	}
	stopped, looks := 0, 0
	for _, jump := range jumps {
		for _, stays := range []bool{true, false} {
			looks = 1
			for at := 0; at < looks; at++ {
				number++
				bundle, raws := w.someBatches(number)
				looked := w.jump(bundle, at, jump, stays)
				looks = len(looked)
				w.look()
				if w.signedInTheDark(looked) {
					stopped++
				}
				w.sets()
				again := make([]protocol.Group, len(raws))
				for i, raw := range raws {
					w.must(raw, "approver")
					again[i] = group(raw, w.approve(w.officers[0], nil, both, raw), w.approve(w.officers[1], nil, both, raw))
				}
				if out := w.process(w.world.seal(again...)); out.Refusal != nil {
					t.Fatalf("jump by %v at look %d: again: %s", jump, at, out.Refusal.Words())
				}
				if w.finished(); t.Failed() {
					t.Fatalf("jump by %v at look %d of %d, stays %v", jump, at, looks, stays)
				}
			}
		}
	}
	w.reopen()
	t.Logf("%d bundles with a jump, the last with %d looks at the clock; in %d something was left undone for it", number, looks, stopped)
	if looks < 6 || stopped < number/4 {
		t.Errorf("%d looks at the clock in a bundle, in %d of %d bundles something was left undone", looks, stopped, number)
	}
}

// someBatches makes a bundle of a revocation and of requests each of which is a batch by itself, for it makes an
// approver.
func (w *watch) someBatches(n int) (bundle []byte, raws [][]byte) {
	pc := w.pc(fmt.Sprintf("%04d", n))
	raw := w.encode(pc)
	w.must(raw, "workstation")
	w.process(w.world.seal(w.desk.approved(raw, w.alp)))
	w.look()
	revoke := w.encode(w.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: w.serials[protocol.ID(raw)]}))
	w.must(revoke, "revocation")
	groups := []protocol.Group{w.taken(revoke, w.alp)}
	for i := range 4 {
		c := protocol.Issuance{CSR: csrFor(w.t, newKey(w.t)), Fields: w.approverFields(), Origin: protocol.OriginHolder, Scopes: []protocol.Scope{scope("it-workstation")}}
		raw := w.encode(w.issue(w.issuing, "approver", unit, fmt.Sprintf("it:JUMP%d-%d", n, i), c))
		w.may(raw, "approver")
		raws = append(raws, raw)
		groups = append(groups, group(raw, w.approve(w.officers[0], nil, both, raw), w.approve(w.officers[1], nil, both, raw)))
	}
	return w.world.seal(groups...), raws
}

// jump processes a bundle while the clock jumps at a look at it, and for that look alone unless it stays.
func (w *watch) jump(bundle []byte, at int, by time.Duration, stays bool) (looked []reading) {
	w.t.Helper()
	right := w.now
	w.config.Now = func() time.Time {
		shown := right
		if n := len(looked); n == at || stays && n > at {
			shown = right.Add(by)
		}
		looked = append(looked, reading{shown, time.Unix(w.engine.State().Clock, 0), len(w.world.signed())})
		return shown
	}
	w.reopen()
	looked = nil
	w.process(bundle)
	looked = append(looked, reading{signed: len(w.world.signed())})
	w.config.Now = func() time.Time { return w.now }
	w.reopen()
	return looked[:len(looked):len(looked)]
}

// signedInTheDark complains about signatures between a look at a clock that can't be believed and the next look. It tells
// whether there was such a look.
func (w *watch) signedInTheDark(looked []reading) (dark bool) {
	w.t.Helper()
	for i, r := range looked[:len(looked)-1] {
		if w.believed(r.shown, r.last) {
			continue
		}
		dark = true
		if n := looked[i+1].signed - r.signed; n != 0 {
			w.t.Errorf("look %d of %d shows %v after %v: %d signatures follow", i, len(looked)-1, r.shown, r.last, n)
		}
	}
	return dark
}

// TestClockJumpsAroundOrders has the clock leave the gate before or after the order in a bundle, with a request after it:
// none of what comes later is done.
func TestClockJumpsAroundOrders(t *testing.T) {
	for _, jump := range []time.Duration{-day, -20 * 365 * day, 500 * day, 20 * 365 * day} {
		for done := range 2 {
			t.Run(fmt.Sprintf("by %v after %d", jump, done), func(t *testing.T) {
				w := newHour(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
				raw := w.encode(w.pc("0001"))
				create := w.encode(w.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "P-256"}))
				challenge := must[[]byte](t)(w.engine.Challenge())
				bundle := w.world.seal(group(create, w.by(create, w.officers[0], w.officers[1])(challenge)...), w.desk.approved(raw, w.alp))
				if done == 1 {
					w.must(create, "create-key")
				}
				right, orders, looks := w.now, w.logged(auditlog.Order), 0
				w.config.Now = func() time.Time {
					if looks++; looks > 1 && w.logged(auditlog.Order) >= orders+done {
						return right.Add(jump)
					}
					return right
				}
				w.reopen()
				looks = 0
				w.process(bundle)
				w.finished()
				if w.issued+w.crls != 0 {
					t.Errorf("%d certificates, %d CRLs", w.issued, w.crls)
				}
			})
		}
	}
}
