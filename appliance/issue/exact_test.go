package issue

import (
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// asking is all that the term of a certificate follows from.
type asking struct {
	now, from, to        int64 // from and to are zero where nothing was asked for
	caFrom, caTo         int64
	days, maxDays, ahead int64
}

// term is what a profile promises (RFC 5280 section 4.1.2.5), worked out apart from the code: in seconds, and
// for the certificate as text by the calendar.
func (a asking) term() (from, to string, given bool) {
	const day = 24 * 60 * 60
	begin := a.now
	if a.from > a.now {
		begin = a.from
	}
	end := a.to
	if end == 0 {
		if end = begin + a.days*day - 1; end > a.caTo {
			end = a.caTo
		}
	}
	alive := a.caFrom <= a.now && a.now <= a.caTo
	within := begin <= a.caTo && end <= a.caTo && begin <= end
	if !alive || !within || begin-a.now > a.ahead*day || end-begin >= a.maxDays*day {
		return "", "", false
	}
	return calendar(begin), calendar(end), true
}

// calendar writes a time as a certificate does, with its tag: years from 2050 on in four digits. It counts days from
// 0000-03-01 in cycles of 400 years.
func calendar(unix int64) string {
	days, seconds := unix/86400+719468, unix%86400
	cycle, day := days/146097, days%146097
	year := (day - day/1460 + day/36524 - day/146096) / 365
	day -= 365*year + year/4 - year/100
	month := (5*day + 2) / 153
	day -= (153*month + 2) / 5
	year += 400 * cycle
	if month += 3; month > 12 {
		month, year = month-12, year+1
	}
	rest := fmt.Sprintf("%02d%02d%02d%02d%02dZ", month, day+1, seconds/3600, seconds/60%60, seconds%60)
	if year >= 2050 {
		return fmt.Sprintf("24 %04d%s", year, rest)
	}
	return fmt.Sprintf("23 %02d%s", year%100, rest)
}

// draw gives askings that are mostly near something: the CA's ends, the longest term, 2050, a leap day.
func draw(r *rand.Rand) asking {
	var a asking
	near := func(times ...int64) int64 {
		t := times[r.IntN(len(times))]
		switch r.IntN(3) {
		case 0:
			t += r.Int64N(7) - 3
		case 1:
			t += r.Int64N(400*day) - 200*day
		}
		return max(1, t)
	}
	a.caFrom = near(at("1999-12-31T23:59:59Z"), at("2026-03-01T00:00:00Z"), at("2049-12-31T23:59:59Z"), at("2096-02-29T00:00:00Z"))
	a.caTo = near(a.caFrom+10*365*day, at("2050-01-01T00:00:00Z"), at("2100-02-28T23:59:59Z"), at("2400-02-29T12:00:00Z"), protocol.MaxTime-400*day)
	a.days = 1 + r.Int64N(1200)
	a.maxDays = a.days + r.Int64N(2)*r.Int64N(1200)
	a.ahead = r.Int64N(3) * r.Int64N(60)
	a.now = near(a.caFrom, a.caTo, a.caTo-a.days*day, a.caTo-a.maxDays*day, at("2049-12-31T23:59:59Z"), a.caFrom+r.Int64N(max(1, a.caTo-a.caFrom)))
	if r.IntN(2) == 0 {
		a.from = near(a.now, a.now+a.ahead*day, a.caTo, a.caFrom, at("2050-01-01T00:00:00Z"), at("2028-02-29T23:59:59Z"))
	}
	if r.IntN(2) == 0 {
		begin := max(a.now, a.from)
		a.to = near(begin, begin+a.maxDays*day-1, begin+a.days*day-1, a.caTo, at("2050-01-01T00:00:00Z"), begin+r.Int64N(a.maxDays*day))
	}
	return a
}

// TestValidityExact has 100,000 terms given to the second, as the bytes of certificates say them, or refused; some of the
// certificates are read by OpenSSL. FIRE_SEED draws again.
func TestValidityExact(t *testing.T) {
	seed := uint64(time.Now().UnixNano() & 0xffffff)
	if text := os.Getenv("FIRE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("drawn with FIRE_SEED=%d", seed)
		}
	})
	h := newHierarchy(t, testKeys(t), "P-256")
	key := spkiOf(t, testKeys(t)["subject-P-256"])
	var judged [][]byte
	var said []string
	given, refused := 0, 0
	for range 100_000 {
		a := draw(random)
		ca := *h.issuing
		ca.NotBefore, ca.NotAfter = a.caFrom, a.caTo
		p := policy.Profile{Name: "p", Use: policy.UseMachine, Days: a.days, MaxDays: a.maxDays, AheadDays: a.ahead, KeyUsage: []string{"digitalSignature"}}
		wantFrom, wantTo, wanted := a.term()
		from, to, refusal := Validity(&ca, &p, a.now, a.from, a.to)
		if wanted != (refusal == nil) {
			t.Fatalf("%+v: given %v, refused with %v", a, wanted, refusal)
		}
		if refusal != nil {
			if refused++; refusal.Code != protocol.CodeValidityOutside && refusal.Code != protocol.CodeValidityTooLong {
				t.Fatalf("%+v: refused with %s", a, refusal.Code)
			}
			continue
		}
		given++
		shape, err := NewShape(&ca, &p, 1)
		if err != nil {
			t.Fatal(err)
		}
		tbs, refusal, err := shape.TBS(Certificate{Serial: []byte{0x40, 1}, Subject: attributes("CN", "x"), SPKI: key, NotBefore: from, NotAfter: to})
		if err != nil || refusal != nil {
			t.Fatalf("%+v: %v, %v", a, refusal, err)
		}
		if gotFrom, gotTo := dates(t, tbs); gotFrom != wantFrom || gotTo != wantTo {
			t.Fatalf("%+v: valid from %s to %s, want %s to %s", a, gotFrom, gotTo, wantFrom, wantTo)
		}
		if len(judged) < 500 {
			judged = append(judged, sign(t, &ca, h.signer, tbs))
			said = append(said, wantFrom, wantTo)
		}
	}
	t.Logf("%d terms given, %d refused", given, refused)
	if given < 30_000 || refused < 30_000 {
		t.Errorf("%d terms given, %d refused: one of both is too rare", given, refused)
	}
	words, _ := run(t, "openssl", "storeutl", "-noout", "-text", "-certs", put(t, t.TempDir(), "judged.pem", "CERTIFICATE", judged...))
	var read []string
	for line := range strings.Lines(words) {
		name, date, found := strings.Cut(strings.TrimSpace(line), ": ")
		if name = strings.TrimSpace(name); !found || name != "Not Before" && name != "Not After" {
			continue
		}
		when, err := time.Parse("Jan _2 15:04:05 2006 MST", strings.TrimSpace(date))
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, calendar(when.Unix()))
	}
	if len(read) != len(said) || len(said) == 0 {
		t.Fatalf("OpenSSL reads %d dates of %d:\n%.300s", len(read), len(said), words)
	}
	for i := range read {
		if read[i] != said[i] {
			t.Errorf("OpenSSL reads %s, want %s", read[i], said[i])
		}
	}
}

// dates reads the tags and texts of the dates in a TBSCertificate (RFC 5280 section 4.1).
func dates(t *testing.T, tbs []byte) (from, to string) {
	t.Helper()
	var c struct {
		Version            asn1.RawValue `asn1:"tag:0"`
		Serial             asn1.RawValue
		Algorithm, Issuer  asn1.RawValue
		Validity           struct{ From, To asn1.RawValue }
		Subject, Key, More asn1.RawValue
	}
	if _, err := asn1.Unmarshal(tbs, &c); err != nil {
		t.Fatal(err)
	}
	text := func(v asn1.RawValue) string { return fmt.Sprintf("%d %s", v.Tag, v.Bytes) }
	return text(c.Validity.From), text(c.Validity.To)
}
