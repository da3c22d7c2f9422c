package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// TestRefusedBeforeSent finds errors before anything is stored; with Unchecked the same goes through.
func TestRefusedBeforeSent(t *testing.T) {
	w := newWorld(t)
	weak := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
	weakCSR := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak))
	broken := w.csr(newECDSA(t))
	broken[len(broken)-1] ^= 1
	asking := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"example.org"}}, newECDSA(t)))
	person := Wish{
		Kind: protocol.KindIssue, Profile: "approver", Body: "it/058091", Subject: "it:CMPGUO66A30A326C", CSR: asking, Origin: protocol.OriginHolder,
		Fields: map[string]string{"name": "Ugo Campo"}, Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}},
	}
	for name, test := range map[string]struct {
		change func(wish *Wish)
		code   protocol.Code
	}{
		"weak key":          {func(x *Wish) { x.CSR = weakCSR }, protocol.CodeWeakKey},
		"possession":        {func(x *Wish) { x.CSR = broken }, protocol.CodePossession},
		"no CSR":            {func(x *Wish) { x.CSR = []byte("nothing") }, protocol.CodeBadCSR},
		"unknown profile":   {func(x *Wish) { x.Profile = "it-toaster" }, protocol.CodeProfileUnknown},
		"CA profile":        {func(x *Wish) { x.Profile = "root" }, protocol.CodeProfileUnknown},
		"foreign body":      {func(x *Wish) { x.Body = "gr/athens" }, protocol.CodeSenderScope},
		"body of too many":  {func(x *Wish) { x.Body = "it/058091/x" }, protocol.CodeBodyNotAllowed},
		"another subject":   {func(x *Wish) { x.Subject = "058091-PC-0002" }, protocol.CodeSubjectMismatch},
		"bad field":         {func(x *Wish) { x.Fields = map[string]string{"number": "12"} }, protocol.CodeSubjectMismatch},
		"unknown field":     {func(x *Wish) { x.Fields["colour"] = "red" }, protocol.CodeSubjectMismatch},
		"origin":            {func(x *Wish) { x.Origin = protocol.OriginStation }, protocol.CodeOriginNotAllowed},
		"current and issue": {func(x *Wish) { x.Origin = protocol.OriginCurrent }, protocol.CodeOriginNotAllowed},
		"too long":          {func(x *Wish) { x.NotAfter = w.clock.Add(50 * 366 * 24 * time.Hour).Unix() }, protocol.CodeValidityTooLong},
		"scopes":            {func(x *Wish) { x.Scopes = person.Scopes }, protocol.CodeSubjectMismatch},
		"extra name":        {func(x *Wish) { *x = person }, protocol.CodeCSRExtra},
	} {
		t.Run(name, func(t *testing.T) {
			wish := w.station(1)
			test.change(&wish)
			before := w.meta()
			_, err := w.s.Request(wish)
			var carrier *RefusalError
			if !errors.Is(err, ErrRefused) || !errors.As(err, &carrier) || carrier.Refusal.Code != test.code {
				t.Fatalf("error %v, want %s", err, test.code)
			}
			if after := w.meta(); after.Requests != before.Requests || after.Lines != before.Lines {
				t.Error("something was stored")
			}
			wish.Unchecked = true
			if made, err := w.s.Request(wish); err != nil || !made.New {
				t.Errorf("unchecked: %+v, %v", made, err)
			}
		})
	}
}

func TestRequestForms(t *testing.T) {
	w := newWorld(t)
	wish := w.station(1)
	id := w.request(wish)
	if made, err := w.s.Request(wish); err != nil || made.New || made.ID != id {
		t.Errorf("the same wish: %+v, %v", made, err)
	}
	wish.CSR = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: wish.CSR})
	if made, err := w.s.Request(wish); err != nil || made.New {
		t.Errorf("the same as PEM: %+v, %v", made, err)
	}
	here := w.station(2)
	here.CSR, here.NewKey, here.Origin = nil, "P-256", 0
	made := w.request(here)
	if again, err := w.s.Request(here); err != nil || again.New || again.ID != made {
		t.Errorf("the same with a key made here: %+v, %v", again, err)
	}
	text, err := w.s.Key(made)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := protocol.ParseRequest(w.show(made).Raw)
	content, _ := req.Issuance()
	checked, err := csr.Check(content.CSR)
	if err != nil || !key.(*ecdsa.PrivateKey).PublicKey.Equal(checked.PublicKey) || content.Origin != protocol.OriginAgent {
		t.Errorf("the key is not that of the CSR, or origin %s", content.Origin)
	}
	if _, err := w.s.Key(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("key of a foreign CSR: %v", err)
	}
	profile, _ := w.box.policy.Profile("it-workstation")
	if req.ProfileDigest != profile.Digest || req.Issuer != w.box.caID || req.Appliance != w.box.id || req.Expires-req.Created != 30*day {
		t.Errorf("request %+v", req)
	}
	for name, text := range map[string]string{"beginning": id.String()[:8], "whole": id.String(), "odd": id.String()[:9]} {
		if found, err := w.s.ParseID(text); err != nil || found != id {
			t.Errorf("%s of an id: %s, %v", name, found, err)
		}
	}
	for _, text := range []string{"", "12", "xyz12345", id.String() + "00"} {
		if _, err := w.s.ParseID(text); !errors.Is(err, ErrInput) {
			t.Errorf("id %q: %v", text, err)
		}
	}
	if _, err := w.s.ParseID("00000000"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an id of nothing: %v", err)
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	wish := Wish{
		Kind: protocol.KindIssue, Profile: "approver", Body: "it/058091", Subject: "it:CMPGUO66A30A326C", CSR: w.csr(newECDSA(t)), Origin: protocol.OriginHolder,
		Fields: map[string]string{"name": "Ζωή Ὀρφανός"}, Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}},
	}
	w.request(wish)
	w.request(w.station(1))
	for _, test := range []struct {
		filter Filter
		want   int
	}{
		{Filter{}, 2}, {Filter{Person: "ζωη"}, 1}, {Filter{Person: "ΟΡΦΑΝΟΣ"}, 1}, {Filter{Person: "cmpguo"}, 1}, {Filter{Person: "nobody"}, 0},
		{Filter{Body: "it"}, 2}, {Filter{Body: "it/05809"}, 0}, {Filter{State: StateRequested}, 2}, {Filter{State: StateApproved}, 0},
	} {
		n := 0
		if err := w.s.List(test.filter, func(Row) error { n++; return nil }); err != nil || n != test.want {
			t.Errorf("%+v: %d, %v, want %d", test.filter, n, err, test.want)
		}
	}
	dir := t.TempDir()
	if n, err := w.s.WritePending(dir, Filter{}); err != nil || n != 2 {
		t.Errorf("pending: %d, %v", n, err)
	}
}

func TestAttach(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	a, b := w.request(w.station(1)), w.request(w.station(2))
	count := func(n uint64) []protocol.Count {
		return []protocol.Count{{Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058091", N: n}}
	}
	good := w.box.approve(w.approver, []protocol.Digest{a}, count(1))
	foreign := newBox(t, w.config.Now)
	stranger := newECDSA(t)
	late := must[[]byte](t)(cose.Sign(w.approver, protocol.ContextApproval, must[[]byte](t)((&protocol.Approval{
		Version: 1, Appliance: w.box.id, Created: 1, Expires: 2, Entries: []protocol.ApprovalEntry{{ID: a}}, Manifest: count(1)}).Encode())))
	for name, test := range map[string]struct {
		message []byte
		kind    error
	}{
		"nothing":           {nil, ErrVerification},
		"no COSE":           {[]byte("approval"), ErrVerification},
		"a flipped bit":     {func() []byte { m := bytes.Clone(good); m[len(m)-1] ^= 1; return m }(), ErrVerification},
		"another purpose":   {must[[]byte](t)(cose.Sign(w.approver, protocol.ContextRequester, a[:])), ErrVerification},
		"another appliance": {foreign.approve(stranger, []protocol.Digest{a}, count(1)), ErrRefused},
		"expired":           {late, ErrRefused},
		"other requests":    {w.box.approve(w.approver, []protocol.Digest{{1}}, count(1)), ErrNotFound},
		"another manifest":  {w.box.approve(w.approver, []protocol.Digest{a}, []protocol.Count{{Kind: protocol.KindIssue, Profile: "it-server", Body: "it/058091", N: 1}}), ErrRefused},
		"too large":         {make([]byte, protocol.MaxApproval+1), ErrRefused},
	} {
		if _, err := w.s.Attach(test.message); !errors.Is(err, test.kind) {
			t.Errorf("%s: %v, want %v", name, err, test.kind)
		}
	}
	if got := w.attach(good); !got.New || got.Person != "it:CMPGUO66A30A326C" || len(got.Requests) != 1 {
		t.Errorf("attached %+v", got)
	}
	if got := w.attach(good); got.New {
		t.Error("attached twice")
	}
	if st := w.standing(a); st.State != StateApproved || st.Have != 1 {
		t.Errorf("approved: %+v", st)
	}
	if got := w.attach(w.box.approve(stranger, []protocol.Digest{b, {9}}, count(2))); !got.New || got.Person != "" || got.Foreign != 1 {
		t.Errorf("attached of a stranger %+v", got)
	}
	if st := w.standing(b); st.State != StateApproved || st.Unproved != 1 {
		t.Errorf("approved by a stranger: %+v", st)
	}
	c := w.request(w.station(3))
	if got := w.attach(w.box.approve(w.box.officers[0], []protocol.Digest{c}, count(1))); got.Person != officer(0) {
		t.Errorf("attached of an officer %+v", got)
	}
	if st := w.standing(c); st.State != StateRequested || st.Missing.Code != protocol.CodeApproverRole {
		t.Errorf("approved by somebody without the role: %+v", st)
	}
	requester := must[[]byte](t)(protocol.SignID(stranger, protocol.ContextRequester, c))
	if id, err := w.s.AttachID(requester, protocol.ContextRequester); err != nil || id != c {
		t.Errorf("requester: %s, %v", id, err)
	}
	if _, err := w.s.AttachID(must[[]byte](t)(protocol.SignID(stranger, protocol.ContextRequester, protocol.Digest{7})), protocol.ContextRequester); !errors.Is(err, ErrNotFound) {
		t.Errorf("requester of nothing: %v", err)
	}
	if _, err := w.s.AttachID(good, protocol.ContextRequester); !errors.Is(err, ErrVerification) {
		t.Errorf("an approval as requester's signature: %v", err)
	}
}

// TestGroups divides requests within the limits of the wire, those with the same approvals together.
func TestGroups(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	for range 3 { // one approval of 700 requests each: no two fit into a group
		var ids []protocol.Digest
		for range 700 {
			ids = append(ids, w.request(w.station(int(w.meta().Requests))))
		}
		w.approve(protocol.KindIssue, ids...)
	}
	e := w.export()
	if e.Items != 2100 {
		t.Fatalf("exported %+v", e)
	}
	w.box.process(w.stick)
	w.imported()
	var sizes []int
	err := w.s.store.View(func(tx *store.Tx) error {
		b, err := bundle(tx, e.Sequence)
		for i := range b.Groups {
			g, err := tx.Group(e.Sequence, i)
			if err != nil {
				return err
			}
			sizes = append(sizes, len(g.Requests))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(sizes) != "[700 700 700]" {
		t.Errorf("groups of %v", sizes)
	}
}

func TestNames(t *testing.T) {
	var want policy.Names
	for _, a := range []struct{ kind, value string }{{"C", "IT"}, {"O", "Δήμος"}, {"CN", "x"}} {
		want.Subject = append(want.Subject, policy.Attribute{Type: a.kind, Value: a.value})
	}
	w := newWorld(t)
	template := &x509.Certificate{SerialNumber: w.box.ca.SerialNumber, RawSubject: w.box.name(want.Subject), DNSNames: []string{"a.example"}, EmailAddresses: []string{"a@b.example"}}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, w.box.ca, newECDSA(t).Public(), w.box.caKey))
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(der))
	want.Alt = []policy.AltName{{Type: "dns", Value: "a.example"}, {Type: "email", Value: "a@b.example"}}
	if certificateNames(cert) != namesDigest(want) {
		t.Error("the same names differ")
	}
	for name, change := range map[string]func(n *policy.Names){
		"order of names":   func(n *policy.Names) { n.Alt[0], n.Alt[1] = n.Alt[1], n.Alt[0] },
		"a missing name":   func(n *policy.Names) { n.Alt = n.Alt[:1] },
		"type of a name":   func(n *policy.Names) { n.Alt[0].Type = "uri" },
		"type of subject":  func(n *policy.Names) { n.Subject[1].Type = "OU" },
		"value of subject": func(n *policy.Names) { n.Subject[2].Value = "y" },
	} {
		n := policy.Names{Subject: append([]policy.Attribute(nil), want.Subject...), Alt: append([]policy.AltName(nil), want.Alt...)}
		change(&n)
		if certificateNames(cert) == namesDigest(n) {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func FuzzCRL(f *testing.F) {
	w := newWorld(f)
	f.Add(w.box.crl())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCRL(data)
		if err != nil {
			return
		}
		judge, judgeErr := x509.ParseRevocationList(data)
		if judgeErr == nil && (judge.Number == nil || judge.Number.Cmp(c.number) != 0 || !bytes.Equal(judge.RawIssuer, c.issuer) || !judge.NextUpdate.Equal(c.nextUpdate)) {
			t.Errorf("read %v, %v; the library reads %v, %v", c.number, c.nextUpdate, judge.Number, judge.NextUpdate)
		}
	})
}

func TestBatch(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	for i := range 3 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.csr", i)), w.csr(newECDSA(t)))
	}
	table := func(text string) Batch {
		return Batch{Wish: Wish{Kind: protocol.KindIssue, Profile: "it-workstation", Origin: protocol.OriginHolder}, Folder: dir, Table: writeFile(t, filepath.Join(dir, "table.csv"), []byte(text))}
	}
	good := "\ufeffcsr,body,subject,number\n0.csr,it/058091,058091-PC-0001,0001\n1.csr,it/058091,058091-PC-0002,0002\n"
	made, err := w.s.RequestBatch(table(good), nil)
	if err != nil || len(made) != 2 || !made[0].New || !made[1].New {
		t.Fatalf("batch: %+v, %v", made, err)
	}
	lines := w.meta().Lines
	again, err := w.s.RequestBatch(table(good+"2.csr,it/058091,058091-PC-0003,0003\n"), nil)
	if err != nil || len(again) != 3 || again[0].New || again[1].ID != made[1].ID || !again[2].New {
		t.Fatalf("batch with one more: %+v, %v", again, err)
	}
	if got := w.meta().Lines; got != lines+1 {
		t.Errorf("%d lines of history for one command", got-lines)
	}
	if _, err := w.s.RequestBatch(table(good), nil); err != nil || w.meta().Lines != lines+1 {
		t.Errorf("nothing new: %d lines, %v", w.meta().Lines-lines, err)
	}
	before := w.meta()
	for text, want := range map[string]string{
		"csr,body,subject,number\n0.csr,it/058091,058091-PC-0001,0001\n1.csr,it/058091,058091-PC-0009,009\n2.csr,xx,058091-PC-0003,0003\n": "line 3, column 32 (number)",
		"csr,body,subject,number\n0.csr,it/058091/x,058091-PC-0001,0001\n":                                                                 "line 2, column 7 (body)",
		"csr,body,subject,number\n0.csr,it/058091,058091-PC-0007,0001\n":                                                                   "line 2, column 17 (subject)",
		"csr,body,subject,number\ntable.csv,it/058091,058091-PC-0001,0001\n":                                                               "line 2, column 1 (csr)",
		"csr,body,subject,number\n../0.csr,it/058091,058091-PC-0001,0001\n":                                                                "line 2, column 1 (csr)",
		"csr,body,subject,number\nnone.csr,it/058091,058091-PC-0001,0001\n":                                                                "line 2, column 1 (csr)",
		"csr,body,subject,number\n0.csr,it/058091,058091-PC-0008,0008\n0.csr,it/058091,058091-PC-0009,0009\n":                              "same key as in line 2",
		"csr,body,subject,colour\n0.csr,it/058091,058091-PC-0008,red\n":                                                                    "number",
		"csr,body,subject,number,number\n":                                                                                                 "twice",
		"csr,body,number\n0.csr,it/058091,0001\n":                                                                                          "no column subject",
		"csr,body,subject,number\n0.csr,it/058091\n":                                                                                       "wrong number of fields",
		"csr,body,subject,number\n":                                                                                                        "no rows",
		"":                                                                                                                                 "no header",
		"csr,body,subject" + strings.Repeat(",x", maxColumns) + "\n":                                                                       "columns",
		"csr,body,subject,number\n0.csr,it/058091,\"058091-PC-0001,0001\n" + strings.Repeat("x\n", maxRow):                                 "a row has more than",
		"csr,body,subject,number\n0.csr,it/058091,058091-PC-0001," + strings.Repeat("0", maxRow+100<<10) + "\n":                            "a row has more than",
	} {
		_, err := w.s.RequestBatch(table(text), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: error %v, want one that says %q", text, err, want)
		}
		if w.meta().Requests != before.Requests {
			t.Fatalf("%q: something was stored", text)
		}
	}
}

func TestExportChoices(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	if _, err := w.s.Export(ctx, w.stick, Choice{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	a, b := w.request(w.station(1)), w.request(w.station(2))
	if _, err := w.s.Export(ctx, w.stick, Choice{}); !errors.Is(err, ErrApprovals) {
		t.Errorf("nothing approved: %v", err)
	}
	if _, err := w.s.Export(ctx, w.stick, Choice{IDs: []protocol.Digest{{1}}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an id of nothing: %v", err)
	}
	if e, err := w.s.Export(ctx, w.stick, Choice{IDs: []protocol.Digest{b, b}}); err != nil || e.Items != 1 {
		t.Errorf("one: %+v, %v", e, err)
	}
	if _, err := w.s.Export(ctx, w.stick, Choice{IDs: []protocol.Digest{b}}); !errors.Is(err, ErrFailed) {
		t.Errorf("the same: %v", err)
	}
	if e, err := w.s.Export(ctx, w.stick, Choice{Incomplete: true}); err != nil || e.Items != 1 || w.standing(a).State != StateOnMedium {
		t.Errorf("the other: %+v, %v", e, err)
	}
	if e, err := w.s.Export(ctx, w.stick, Choice{Empty: true}); err != nil || e.Items != 0 || e.Sequence != 3 {
		t.Errorf("empty: %+v, %v", e, err)
	}
	w.clock = w.clock.Add(31 * 24 * time.Hour)
	c := w.request(w.station(3))
	w.clock = w.clock.Add(31 * 24 * time.Hour)
	if st := w.standing(c); st.State != StateExpired {
		t.Errorf("after its time: %+v", st)
	}
}

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	findings, err := w.s.Doctor()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	w.enrol()
	w.clock = w.clock.Add(-time.Hour)
	if findings, err = w.s.Doctor(); err != nil {
		t.Fatal(err)
	}
	bad := 0
	for _, f := range findings {
		if !f.OK {
			bad++
		}
	}
	if bad != 1 {
		t.Errorf("with a slow clock: %+v", findings)
	}
}

// Approvals by keys that nobody here knows do not crowd out one that counts.
func TestStrangersApprovals(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	id := w.request(w.station(1))
	count := []protocol.Count{{Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058091", N: 1}}
	for range protocol.MaxGroupApprovals {
		w.attach(w.box.approve(newECDSA(t), []protocol.Digest{id}, count))
	}
	w.approve(protocol.KindIssue, id)
	e := w.export()
	var group store.Group
	var r store.Request
	if err := w.s.store.View(func(tx *store.Tx) (err error) {
		if group, err = tx.Group(e.Sequence, 0); err == nil {
			r, err = tx.Request(tx.RequestNumber(id))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if good := r.Covers[len(r.Covers)-1].Approval; len(group.Approvals) != protocol.MaxGroupApprovals || !slices.Contains(group.Approvals, good) {
		t.Errorf("the approvals %v travel, without the one that counts", group.Approvals)
	}
}
