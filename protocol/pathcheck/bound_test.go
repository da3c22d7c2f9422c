package pathcheck

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
)

// bigList has n entries with a reason, as ours have; the serials begin with 7f, 16 octets each.
func bigList(w *world, n int) []byte {
	entry := crlEntry{serial: bytes.Repeat([]byte{0x7f}, 16), date: timeOf(now - 7200), exts: []ext{reasonCode(4)}}.der()
	at := bytes.Index(entry, []byte{0x7f, 0x7f, 0x7f}) + 8
	all := make([]byte, 0, n*len(entry))
	for i := range n {
		binary.BigEndian.PutUint64(entry[at:], uint64(i))
		all = append(all, entry...)
	}
	w.issuingCRL.entries, w.issuingCRL.raw = nil, sequence(all)
	return w.issuingCRL.der()
}

func serialOf(i int) []byte {
	return binary.BigEndian.AppendUint64(bytes.Repeat([]byte{0x7f}, 8), uint64(i))
}

// TestBigCRL looks up in a CRL of a million entries without allocating.
func TestBigCRL(t *testing.T) {
	const n = 1_000_000
	w := newWorld(t)
	w.leaf.serial = serialOf(n - 1)
	w.issuingCRL = newList(w.issuingKey, "Issuing")
	der := bigList(w, n)
	if len(der) > MaxCRL {
		t.Fatalf("%d octets", len(der))
	}
	c, reason := parseCRL("it", der)
	if reason != nil {
		t.Fatal(reason)
	}
	absent := serialOf(n)
	if allocations := testing.AllocsPerRun(1, func() {
		if _, found, count, reason := c.lookup(absent); found || count != n || reason != nil {
			t.Errorf("found %v, %d entries, %v", found, count, reason)
		}
	}); allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
	in := w.input()
	if got := codes(Chain(in).Reasons); !slices.Equal(got, []Code{Revoked}) {
		t.Errorf("the last of %d entries: %v", n, got)
	}
	report, reasons := CRL(der, w.issuing.der(), now)
	if len(reasons) > 0 || report.Entries != n || report.Number != "05" || report.Partial || report.ThisUpdate != now-3600 || report.NextUpdate != now+3600 {
		t.Errorf("report %+v, %v", report, reasons)
	}
}

// TestHostileCandidates gives as many CAs as are read, all able to issue each other.
func TestHostileCandidates(t *testing.T) {
	w := newWorld(t)
	w.noCRLs = true
	key := newKey(t)
	id := keyID(key.Public())
	for i := range byte(MaxCandidates - 2) {
		c := newCert(key, key, "Issuing", "Issuing", i+1, issuerID(id), subjectID(id), basicConstraints(isTrue), keyUsage(usageCA))
		w.more = append(w.more, c)
	}
	w.leaf.signer, w.noIssuing = key, false
	set(&w.leaf.exts, issuerID(id))
	in := w.input()
	start := time.Now()
	result := Chain(in)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if result.Accept {
		t.Error("accepted without a way to the anchor")
	}
	in.Intermediates = append(in.Intermediates, in.Leaf)
	if got := codes(Chain(in).Reasons); !slices.Equal(got, []Code{Limit}) {
		t.Errorf("one more: %v", got)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Input)
		want   []Code
	}{
		{"no anchors", func(in *Input) { in.Anchors = nil }, []Code{NoPath}},
		{"purpose that is no OID", func(in *Input) { in.Purpose = "serverAuth" }, []Code{Purpose}},
		{"large leaf", func(in *Input) { in.Leaf = make([]byte, MaxCertificate+1) }, []Code{Limit}},
		{"empty leaf", func(in *Input) { in.Leaf = nil }, []Code{Form}},
		{"leaf of the largest size that is none", func(in *Input) { in.Leaf = make([]byte, MaxCertificate) }, []Code{Form}},
		{"unreadable anchor", func(in *Input) { in.Anchors = append(in.Anchors, []byte{0x30, 0}) }, []Code{Form}},
		{"many CRLs", func(in *Input) { in.CRLs = make([][]byte, MaxCRLs+1) }, []Code{Limit}},
		{"large CRL", func(in *Input) { in.CRLs = [][]byte{in.CRLs[0], make([]byte, MaxCRL+1)} }, []Code{NoCRL, Limit}},
	} {
		in := newWorld(t).input()
		c.change(&in)
		if got := codes(Chain(in).Reasons); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestCRLAlone is CRL, with what Chain does not show.
func TestCRLAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		want   []Code
	}{
		{"plain", func(w *world) {}, nil},
		{"shard", func(w *world) {
			w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
		}, nil},
		{"of another CA", func(w *world) { w.issuingCRL = w.rootCRL }, []Code{CRLIssuer}},
		{"of another key", func(w *world) { w.issuingCRL = newList(w.leafKey, "Issuing") }, []Code{CRLIssuer}},
		{"by another key", func(w *world) { w.issuingCRL.signer = w.leafKey }, []Code{CRLSignature}},
		{"expired", func(w *world) { w.issuingCRL.next = timeOf(now - 1) }, []Code{CRLExpired}},
		{"not yet valid", func(w *world) { w.issuingCRL.this = timeOf(now + 1) }, []Code{CRLNotYetValid}},
		{"delta", func(w *world) {
			w.issuingCRL.exts = append(w.issuingCRL.exts, ext{oidDeltaCRLIndicator, isTrue, []byte("\x02\x01\x04")})
		}, []Code{CRLDelta}},
		{"bad entry", func(w *world) { w.issuingCRL.entries[0].serial = []byte{0} }, []Code{CRLForm}},
		{"unreadable", func(w *world) { w.issuingCRL.version = nil }, []Code{CRLForm}},
		{"CA that may not", func(w *world) { set(&w.issuing.exts, keyUsage(usageCert)) }, []Code{CRLKeyUsage}},
		{"CA that is none", func(w *world) { w.issuing = w.leaf }, []Code{NotCA}},
		{"CA expired", func(w *world) { w.issuing.to = timeOf(now - 1) }, []Code{Expired}},
		{"CA unreadable", func(w *world) { w.issuing.after = []byte{0} }, []Code{Form}},
	} {
		w := newWorld(t)
		c.change(w)
		report, reasons := CRL(w.issuingCRL.der(), w.issuing.der(), now)
		if got := codes(reasons); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if len(c.want) == 0 && (report.Entries != 1 || report.Partial != (c.name == "shard")) || len(c.want) > 0 && report != (CRLReport{}) {
			t.Errorf("%s: report %+v", c.name, report)
		}
	}
}

// TestWords keeps what is said about hostile input short.
func TestWords(t *testing.T) {
	w := newWorld(t)
	w.leaf.serial = bytes.Repeat([]byte{0x7f}, 50_000)
	for range 1000 {
		w.leaf.exts = append(w.leaf.exts, ext{unknownOID, isTrue, nil})
	}
	reasons := Chain(w.input()).Reasons
	total := 0
	for _, r := range reasons {
		total += len(r.Words)
	}
	if len(reasons) != maxProblems || total > 4096 {
		t.Errorf("%d reasons of %d octets", len(reasons), total)
	}
}

// TestCut cuts and flips every octet of a certificate and a CRL: none of it is accepted, nothing panics.
func TestCut(t *testing.T) {
	w := newWorld(t)
	in := w.input()
	for _, target := range []*[]byte{&in.Leaf, &in.Intermediates[0], &in.CRLs[1]} {
		whole := *target
		for i := range whole {
			*target = whole[:i]
			if Chain(in).Accept {
				t.Fatalf("cut after %d octets, and accepted", i)
			}
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << (i % 8)
			*target = flipped
			if Chain(in).Accept {
				t.Fatalf("octet %d flipped, and accepted", i)
			}
		}
		*target = whole
	}
}

func FuzzCertificate(f *testing.F) {
	w := newWorld(f)
	w.leaf.exts = append(w.leaf.exts, points(shardURL), purposes(serverOID))
	in := w.input()
	in.CRLs = nil
	f.Add(in.Leaf)
	f.Add(in.Intermediates[0])
	f.Add(in.Anchors[0])
	f.Fuzz(func(t *testing.T, data []byte) {
		c, reason := parseCertificate("it", data)
		if (c == nil) == (reason == nil) {
			t.Fatal("neither a certificate nor a reason, or both")
		}
		if c != nil {
			// What was read is all there is: the parts make the same bytes again.
			again := []byte(c.tbs)
			if !bytes.Contains(data, again) || len(c.problems) > maxProblems {
				t.Fatal("not a part of the input, or too many problems")
			}
		}
		try := in
		try.Leaf = data
		if Chain(try).Accept && !bytes.Equal(data, in.Leaf) && !bytes.Equal(data, in.Intermediates[0]) && !bytes.Equal(data, in.Anchors[0]) {
			t.Fatalf("accepted what nobody signed: %x", data)
		}
		try = in
		try.Intermediates = [][]byte{data, in.Intermediates[0]}
		if !Chain(try).Accept {
			t.Fatal("a candidate more keeps the path from being found")
		}
	})
}

func FuzzCRL(f *testing.F) {
	w := newWorld(f)
	f.Add(w.issuingCRL.der())
	w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL), flag(1)))
	f.Add(w.issuingCRL.der())
	issuer := w.issuing.der()
	f.Fuzz(func(t *testing.T, data []byte) {
		c, reason := parseCRL("it", data)
		if (c == nil) == (reason == nil) {
			t.Fatal("neither a CRL nor a reason, or both")
		}
		if c != nil {
			if _, _, count, _ := c.lookup([]byte{3}); count > len(data)/7 {
				t.Fatalf("%d entries in %d octets", count, len(data))
			}
		}
		if report, reasons := CRL(data, issuer, now); len(reasons) > 0 && report != (CRLReport{}) {
			t.Fatal("a report of what was rejected")
		}
	})
}

func FuzzEntry(f *testing.F) {
	f.Add(revoked(3, 1).der())
	f.Add(crlEntry{serial: []byte{3}, date: timeOf(now), exts: []ext{reasonCode(6), {oidInvalidityDate, nil, generalized(begin)}, {unknownOID, nil, nil}}}.der())
	f.Fuzz(func(t *testing.T, data []byte) {
		s := cryptobyte.String(data)
		e, code, _ := readEntry(&s)
		if code == "" && (!x690.WellFormed(data[:len(data)-len(s)]) || !validSerial(e.serial)) {
			t.Fatalf("accepted %x", data)
		}
	})
}

// BenchmarkCRL decides about a CRL of 100,000 entries: to stay below 50 ms.
func BenchmarkCRL(b *testing.B) {
	w := newWorld(b)
	der, issuer := bigList(w, 100_000), w.issuing.der()
	b.SetBytes(int64(len(der)))
	b.ReportAllocs()
	for b.Loop() {
		if _, reasons := CRL(der, issuer, now); len(reasons) > 0 {
			b.Fatal(reasons)
		}
	}
}

// BenchmarkChain decides about a leaf below a CA below a root, with their CRLs.
func BenchmarkChain(b *testing.B) {
	in := newWorld(b).input()
	b.ReportAllocs()
	for b.Loop() {
		if r := Chain(in); !r.Accept {
			b.Fatal(r.Reasons)
		}
	}
}
