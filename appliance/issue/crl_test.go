package issue

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"math/big"
	"runtime"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// crlSample has an entry of each form.
func crlSample() []Revoked {
	return []Revoked{
		{Serial: []byte{0x10, 1}, Time: at("2026-02-01T00:00:00Z")},
		{Serial: []byte{0x10, 2}, Time: at("2026-02-01T00:00:01Z"), Reason: protocol.ReasonKeyCompromise, Since: at("2025-12-31T23:59:59Z")},
		{Serial: []byte{0x10, 3}, Time: at("2026-02-28T12:00:00Z"), Reason: protocol.ReasonCertificateHold},
		{Serial: []byte{0x10, 4}, Time: at("2026-02-28T12:00:00Z"), Since: at("2026-02-01T00:00:00Z")},
		{Serial: bytes.Repeat([]byte{0x7f}, 20), Time: at("2027-01-01T00:00:00Z"), Reason: protocol.ReasonPrivilegeWithdrawn}, // after the CRL
	}
}

func (h *hierarchy) crl(t testing.TB, which string, thisUpdate int64, entries []Revoked, points ...string) []byte {
	t.Helper()
	ca, signer := h.issuing, h.signer
	if which == "root" {
		ca, signer = h.root, h.rootSigner
	}
	crl, err := NewCRL(ca, CRLHead{Number: 128, ThisUpdate: thisUpdate, NextUpdate: at("2051-03-08T09:30:00Z"), Points: points})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range entries {
		if err := crl.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	tbs, err := crl.TBS()
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, ca, signer, tbs)
}

func TestCRLContents(t *testing.T) {
	h := newHierarchy(t, testKeys(t), "P-256")
	issuing, err := x509.ParseCertificate(h.issuingDER)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(h.crl(t, "issuing", now, crlSample()))
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.CheckSignatureFrom(issuing); err != nil {
		t.Error(err)
	}
	if crl.Number.Int64() != 128 || crl.ThisUpdate.Unix() != now || crl.NextUpdate.Unix() != at("2051-03-08T09:30:00Z") || !bytes.Equal(crl.AuthorityKeyId, issuing.SubjectKeyId) {
		t.Errorf("number %v, updates %s and %s", crl.Number, crl.ThisUpdate, crl.NextUpdate)
	}
	want := crlSample()
	want[4].Time = now // a CRL tells of nothing later than itself
	for i, e := range crl.RevokedCertificateEntries {
		w := want[i]
		since := int64(0)
		extensions := 0
		for _, x := range e.Extensions {
			extensions++
			if x.Id.String() == "2.5.29.24" {
				when, err := time.Parse("\x18\x0f20060102150405Z", string(x.Value))
				if err != nil {
					t.Fatal(err)
				}
				since = when.Unix()
			}
		}
		if e.SerialNumber.Cmp(new(big.Int).SetBytes(w.Serial)) != 0 || e.RevocationTime.Unix() != w.Time || e.ReasonCode != int(w.Reason) || since != w.Since {
			t.Errorf("entry %d: %v at %s, reason %d, since %d", i, e.SerialNumber, e.RevocationTime, e.ReasonCode, since)
		}
		if i == 0 && extensions != 0 {
			t.Error("an unspecified reason was written out")
		}
	}
	if len(crl.RevokedCertificateEntries) != len(want) {
		t.Errorf("%d entries, want %d", len(crl.RevokedCertificateEntries), len(want))
	}
	empty, err := x509.ParseRevocationList(h.crl(t, "root", now, nil))
	if err != nil || len(empty.RevokedCertificateEntries) != 0 {
		t.Errorf("empty CRL: %v", err)
	}
}

// TestShards has each certificate name the shard it would be on, and that shard's CRL name itself alike.
func TestShards(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	s := samples()[0]
	s.profile.CRLURL = "http://pki.example/{ca}-{shard}.crl"
	shape, err := NewShape(h.issuing, &s.profile, 4)
	if err != nil {
		t.Fatal(err)
	}
	counts := make([]int, 4)
	for n := range 400 {
		c := s.of(spkiOf(t, keys["subject-P-256"]), 0)
		c.Serial = binary.BigEndian.AppendUint32([]byte{0x5e}, uint32(n))
		shard := Shard(c.Serial, 4)
		counts[shard]++
		url := policy.URL(s.profile.CRLURL, "issuing", shard)
		tbs, refusal, err := shape.TBS(c)
		if err != nil || refusal != nil {
			t.Fatal(refusal, err)
		}
		if !bytes.Contains(tbs, []byte(url)) {
			t.Fatalf("serial %x is of shard %d, and does not name it", c.Serial, shard)
		}
		if n > 0 {
			continue
		}
		crl, err := x509.ParseRevocationList(h.crl(t, "issuing", now, nil, url))
		if err != nil {
			t.Fatal(err)
		}
		last := crl.Extensions[len(crl.Extensions)-1]
		if last.Id.String() != "2.5.29.28" || !last.Critical || !bytes.HasPrefix(last.Value, []byte{0x30, byte(len(url) + 6), 0xa0, byte(len(url) + 4), 0xa0, byte(len(url) + 2), 0x86}) {
			t.Errorf("issuing distribution point %s %x", last.Id, last.Value)
		}
	}
	for i, n := range counts {
		if n < 70 || n > 130 {
			t.Errorf("shard %d has %d of 400 certificates", i, n)
		}
	}
	// For ever: certificates name their shard.
	for serial, want := range map[string]uint64{"\x01": 1, "\x5e\x01\x02": 3, "\x7f\xff": 1} {
		if got := Shard([]byte(serial), 7); got != want {
			t.Errorf("Shard(%x, 7) = %d, want %d", serial, got, want)
		}
	}
	if Shard([]byte{1}, 1) != 0 || Shard([]byte{1}, 0) != 0 {
		t.Error("a CRL that is whole has one shard")
	}
}

func TestCRLRefusals(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	self, err := NewSelf("root", spkiOf(t, keys["root-P-256"]), attributes("CN", "Root"))
	if err != nil {
		t.Fatal(err)
	}
	good := CRLHead{Number: 1, ThisUpdate: now, NextUpdate: now + 1}
	for name, bad := range map[string]func() (*CA, CRLHead){
		"no certificate": func() (*CA, CRLHead) { return self, good },
		"no number":      func() (*CA, CRLHead) { return h.root, CRLHead{ThisUpdate: now, NextUpdate: now + 1} },
		"no next update": func() (*CA, CRLHead) { return h.root, CRLHead{Number: 1, ThisUpdate: now} },
		"next is this":   func() (*CA, CRLHead) { return h.root, CRLHead{Number: 1, ThisUpdate: now, NextUpdate: now} },
		"before 1970":    func() (*CA, CRLHead) { return h.root, CRLHead{Number: 1, ThisUpdate: -1, NextUpdate: now} },
		"after 9999":     func() (*CA, CRLHead) { return h.root, CRLHead{Number: 1, ThisUpdate: now, NextUpdate: maxTime + 1} },
		"fewer than 0": func() (*CA, CRLHead) {
			return h.root, CRLHead{Number: 1, ThisUpdate: now, NextUpdate: now + 1, Entries: -1}
		},
	} {
		if _, err := NewCRL(bad()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	crl, err := NewCRL(h.issuing, good)
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.Add(Revoked{Serial: []byte{0x20}, Time: now}); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]Revoked{
		"no serial":        {Time: now},
		"serial of zero":   {Serial: []byte{0}, Time: now},
		"negative serial":  {Serial: []byte{0x80}, Time: now},
		"leading zero":     {Serial: []byte{0, 0x80}, Time: now},
		"serial of 21":     {Serial: bytes.Repeat([]byte{0x21}, 21), Time: now},
		"twice":            {Serial: []byte{0x20}, Time: now},
		"out of order":     {Serial: []byte{0x1f, 1}, Time: now},
		"negative time":    {Serial: []byte{0x21}, Time: -1},
		"negative since":   {Serial: []byte{0x21}, Time: now, Since: -1},
		"since after 9999": {Serial: []byte{0x21}, Time: now, Since: maxTime + 1},
		"reason 7":         {Serial: []byte{0x21}, Time: now, Reason: 7},
		"removeFromCRL":    {Serial: []byte{0x21}, Time: now, Reason: 8},
		"aACompromise":     {Serial: []byte{0x21}, Time: now, Reason: 10},
		"reason of 2^63":   {Serial: []byte{0x21}, Time: now, Reason: 1 << 63},
	} {
		if err := crl.Add(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	tbs, err := crl.TBS()
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(sign(t, h.issuing, h.signer, tbs)); err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Errorf("what was refused left a trace: %v", err)
	}
	if _, err := crl.TBS(); err == nil {
		t.Error("made twice")
	}
	bad, err := NewCRL(h.issuing, CRLHead{Number: 1, ThisUpdate: now, NextUpdate: now + 1, Points: []string{"http://π.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.TBS(); err == nil {
		t.Error("a URL that is not ASCII was accepted")
	}
	full, err := NewCRL(h.issuing, good)
	if err != nil {
		t.Fatal(err)
	}
	full.entries = make([]byte, maxEntries)
	if err := full.Add(Revoked{Serial: []byte{0x21}, Time: now}); err == nil {
		t.Error("an entry beyond the limit was accepted")
	}
}

// manyEntries adds n entries with serials of 16 octets and makes the CRL.
func manyEntries(t testing.TB, ca *CA, n, expected int) []byte {
	crl, err := NewCRL(ca, CRLHead{Number: 1, ThisUpdate: now, NextUpdate: now + day, Entries: expected})
	if err != nil {
		t.Fatal(err)
	}
	serial := bytes.Repeat([]byte{0x11}, 16)
	for i := range n {
		binary.BigEndian.PutUint32(serial[1:], uint32(i))
		if err := crl.Add(Revoked{Serial: serial, Time: now - int64(i), Reason: protocol.ReasonSuperseded}); err != nil {
			t.Fatal(err)
		}
	}
	tbs, err := crl.TBS()
	if err != nil {
		t.Fatal(err)
	}
	return tbs
}

// TestCRLMemory: a CRL of a size known before takes twice its bytes.
func TestCRLMemory(t *testing.T) {
	h := newHierarchy(t, testKeys(t), "P-256")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tbs := manyEntries(t, h.issuing, 100_000, 100_000)
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 5*uint64(len(tbs))/2 {
		t.Errorf("%d bytes taken for %d", taken, len(tbs))
	}
}
