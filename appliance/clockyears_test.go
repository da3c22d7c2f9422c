package appliance_test

import (
	"encoding/asn1"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // this machine may have none

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// newHour is a world whose signer is watched, at a time.
func newHour(t testing.TB, now time.Time) *watch {
	t.Helper()
	d := &desk{world: newWorldUnder(t, now, deskPolicy(t)), requests: map[string]protocol.Request{}}
	d.counted = filepath.Join(t.TempDir(), "signed")
	d.restart()
	d.root, d.issuing = d.cas()
	d.enrol()
	d.limit(1e9, 1e9)
	d.alp = d.approver(d.issuing, "it:RSSCRL70A41H501X", scope("it-robot"), scope("it-server"), scope("it-workstation"))
	return newWatch(d)
}

// believed is the gate, said again: a clock is believed from the last entry and the release on, for so long as policy
// says after that entry.
func (w *watch) believed(clock, last time.Time) bool {
	return !clock.Before(last) && !clock.Before(w.config.Built) && clock.Sub(last) <= 400*day
}

// show has the clock show something while all who write and sign know what time it is.
func (w *watch) show(clock time.Time, f func()) {
	right := w.now
	w.config.Now = func() time.Time { return clock }
	w.reopen()
	f()
	w.now = right
	w.config.Now = func() time.Time { return w.now }
	w.reopen()
}

// sets has two officers set the time to what it is.
func (w *watch) sets() protocol.Result {
	w.t.Helper()
	raw := w.encode(w.request(protocol.KindSetTime, protocol.SetTime{Time: w.now.Unix()}))
	w.must(raw, "set-time")
	return w.ordered(raw, w.by(raw, w.officers[0], w.officers[1]))
}

// TestClockOverYears has the clock be wrong by anything up to twenty years, forwards and backwards, or begin again at its
// maker's year. While it isn't believed nothing is signed, no order but set-time is taken, also not at start; what takes
// away is done, and officers set the time from wherever it is.
func TestClockOverYears(t *testing.T) {
	w := newHour(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	var clocks []time.Time
	for _, n := range []time.Duration{1, 30, 399, 400, 401, 3 * 365, 20 * 365} {
		for _, by := range []time.Duration{-time.Second, 0, time.Second} {
			clocks = append(clocks, w.now.Add(n*day+by), w.now.Add(-n*day+by))
		}
	}
	for _, text := range []string{"1970-01-01T00:00:00Z", "1980-01-06T00:00:00Z", "2000-01-01T00:00:00Z", "2038-01-19T03:14:08Z", "2049-12-31T23:59:59Z", "2050-01-01T00:00:00Z"} {
		clocks = append(clocks, must[time.Time](t)(time.Parse(time.RFC3339, text)))
	}
	if raced {
		clocks = clocks[:8]
	}
	shut, n := 0, 0
	for _, clock := range clocks {
		n++
		pc := w.pc(fmt.Sprintf("%04d", n))
		raw := w.encode(pc)
		w.must(raw, "before")
		w.answer(w.desk.approved(raw, w.alp))
		w.look()
		last := w.now // of the newest entry
		revoke := w.encode(w.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: w.serials[protocol.ID(raw)]}))
		away := w.taken(revoke, w.alp)
		create := w.request(protocol.KindCreateKey, protocol.CreateKey{Label: fmt.Sprintf("ca-%d", n), Algorithm: "P-256"})
		later := w.pc(fmt.Sprintf("%04d", 5000+n))
		w.show(clock, func() {
			signed := len(w.world.signed())
			if w.believed(clock, last) != (w.gate() == nil) {
				t.Fatalf("%v after %v: %+v", clock, last, w.gate())
			}
			if w.gate() == nil {
				return // what is done then, and when, is in TestClock
			}
			shut++
			w.refusedOrder(create, protocol.CodeClock)
			asks := w.encode(later)
			receipts, refusal := w.receipts(w.world.seal(away, w.desk.approved(asks, w.alp)))
			if wants(t, refusal, protocol.CodeClock); len(receipts[protocol.ID(revoke)]) == 0 {
				t.Errorf("%v: nothing was taken away", clock)
			}
			w.must(revoke, "revocation")
			if n := len(w.world.signed()); n != signed {
				t.Fatalf("%v: %d signatures", clock, n-signed)
			}
			before := w.logged(auditlog.Order)
			if set := w.sets(); set.Outcome != protocol.OutcomeDone || w.logged(auditlog.Order) != before+1 {
				t.Fatalf("%v: set-time: %+v", clock, set)
			}
			if len(w.world.signed()) != signed {
				t.Fatalf("%v: to set the time something was signed", clock)
			}
		})
		w.now = w.now.Add(time.Hour)
		if w.gate() != nil {
			t.Fatalf("after %v the gate is shut at the right time: %+v", clock, w.gate())
		}
	}
	w.finished()
	t.Logf("%d clocks, %d not believed", n, shut)
	if shut < n/3 || shut == n {
		t.Errorf("%d of %d clocks were not believed", shut, n)
	}
}

// TestClockBeforeTheRelease has a release be newer than the last entry: until it was built there is no time.
func TestClockBeforeTheRelease(t *testing.T) {
	w := newHour(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	w.config.Built = w.now.Add(10 * day)
	w.reopen()
	raw := w.encode(w.pc("0001"))
	bundle := w.world.seal(w.desk.approved(raw, w.alp))
	for _, before := range []time.Duration{10 * day, time.Second} {
		w.now = w.config.Built.Add(-before)
		wants(t, w.process(bundle).Refusal, protocol.CodeClock)
		w.finished()
	}
	w.now = w.config.Built
	w.must(raw, "in time")
	if out := w.process(bundle); out.Refusal != nil {
		t.Error(out.Refusal.Words())
	}
	w.finished()
}

// TestZones has the process be in zones east and west, with clocks that say so: what is signed is the same to the second,
// and says it in UTC.
func TestZones(t *testing.T) {
	w := newHour(t, time.Date(2026, 3, 29, 0, 59, 59, 0, time.UTC)) // a second before summer begins in Rome
	home := time.Local
	t.Cleanup(func() { time.Local = home })
	for i, name := range []string{"UTC", "Pacific/Kiritimati", "Pacific/Niue", "Asia/Kathmandu", "Europe/Rome", "America/St_Johns"} {
		zone := must[*time.Location](t)(time.LoadLocation(name))
		time.Local = zone
		w.now = w.now.Add(time.Second).In(zone)
		raw := w.encode(w.pc(fmt.Sprintf("%04d", i)))
		w.must(raw, name)
		a := w.answer(w.desk.approved(raw, w.alp)).of(t, raw)
		from, to := datesOf(t, a.result.Certificate)
		if want := w.now.UTC(); from != want.Format("060102150405Z") || to != want.Add(730*day-time.Second).Format("060102150405Z") {
			t.Errorf("%s: at %v valid from %s to %s", name, want, from, to)
		}
		if crl := w.newest("issuing"); crl.ThisUpdate.After(w.now) || crl.ThisUpdate.Location() != time.UTC {
			t.Errorf("%s: CRL of %v", name, crl.ThisUpdate)
		}
		w.reopen()
	}
	w.finished()
}

// TestLeapSecond goes through the end of 2016 as clocks did that repeated a second, and as one that went a second too far
// and back: for that second nothing is signed, then all goes on.
func TestLeapSecond(t *testing.T) {
	eve := time.Date(2016, 12, 31, 23, 59, 58, 0, time.UTC)
	w := newHour(t, eve)
	for i, step := range []struct {
		seconds int
		shut    bool
	}{{0, false}, {1, false}, {1, false}, {2, false}, {1, true}, {2, false}, {3, false}} {
		w.now = eve.Add(time.Duration(step.seconds) * time.Second)
		raw := w.encode(w.pc(fmt.Sprintf("%04d", i)))
		bundle := w.world.seal(w.desk.approved(raw, w.alp))
		if step.shut {
			wants(t, w.process(bundle).Refusal, protocol.CodeClock)
			continue
		}
		w.must(raw, "in time")
		if out := w.process(bundle); out.Refusal != nil {
			t.Fatalf("second %d: %s", step.seconds, out.Refusal.Words())
		}
		if from, _ := datesOf(t, w.read(w.responsePath(w.sequence)).of(t, raw).result.Certificate); from != w.now.Format("060102150405Z") {
			t.Errorf("second %d: valid from %s", step.seconds, from)
		}
	}
	w.finished()
	w.reopen()
}

// TestFirstSecondOf2050 goes through the turn of the year from which certificates and CRLs say four digits (RFC 5280
// section 4.1.2.5). OpenSSL reads them.
func TestFirstSecondOf2050(t *testing.T) {
	eve := time.Date(2049, 12, 31, 23, 59, 58, 0, time.UTC)
	w := newHour(t, eve)
	for i := range 4 {
		w.now = eve.Add(time.Duration(i) * time.Second)
		pc := w.pc(fmt.Sprintf("%04d", i))
		raw := w.encode(pc)
		w.must(raw, "around 2050")
		certificate := w.answer(w.desk.approved(raw, w.alp)).of(t, raw).result.Certificate
		w.look()
		revoke := w.encode(w.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: w.serials[protocol.ID(raw)], Since: eve.Unix()}))
		w.must(revoke, "revocation")
		crl := w.answer(w.taken(revoke, w.alp)).crls[0]
		from, _ := datesOf(t, certificate)
		form := "060102150405Z"
		if i >= 2 {
			form = "20060102150405Z"
		}
		if from != w.now.Format(form) {
			t.Errorf("valid from %s, want %s", from, w.now.Format(form))
		}
		read := func(kind, der string, flags ...string) string {
			command := exec.Command("openssl", append([]string{kind, "-inform", "DER", "-noout"}, flags...)...)
			command.Stdin = strings.NewReader(der)
			return string(must[[]byte](t)(command.Output()))
		}
		const date = "Jan _2 15:04:05 2006 GMT"
		if said, want := read("x509", string(certificate), "-startdate", "-enddate"), fmt.Sprintf("notBefore=%s\nnotAfter=%s\n", w.now.Format(date), w.now.Add(730*day-time.Second).Format(date)); said != want {
			t.Errorf("OpenSSL reads %q, want %q", said, want)
		}
		if said, want := read("crl", string(crl), "-lastupdate", "-text"), "lastUpdate="+w.now.Format(date); !strings.Contains(said, want) || !strings.Contains(said, "Revocation Date: "+w.now.Format(date)) {
			t.Errorf("OpenSSL reads %q, want %q", said, want)
		}
	}
	w.finished()
	w.reopen()
}

// datesOf reads the dates of a certificate as they are written.
func datesOf(t testing.TB, der []byte) (from, to string) {
	t.Helper()
	var c struct {
		TBS struct {
			Version                   asn1.RawValue `asn1:"tag:0"`
			Serial, Algorithm, Issuer asn1.RawValue
			Validity                  struct{ From, To asn1.RawValue }
			Subject, Key, More        asn1.RawValue
		}
		Algorithm, Signature asn1.RawValue
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	return string(c.TBS.Validity.From.Bytes), string(c.TBS.Validity.To.Bytes)
}
