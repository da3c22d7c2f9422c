package show

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with testdata/NAME.txt.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s", name, got)
	}
	if strings.ContainsFunc(strings.ReplaceAll(got, "\n", ""), Hidden) {
		t.Errorf("%s has characters that are not seen", name)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	return must[[]byte](t)(cose.Marshal(v))
}

func edKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func ecKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32)))
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return must[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public()))
}

func readCSR(t testing.TB, name string) []byte {
	t.Helper()
	data := must[[]byte](t)(os.ReadFile(filepath.Join("../../testdata/csr", name+".csr")))
	if der, err := csr.DecodePEM(data); err == nil {
		return der
	}
	return data
}

func digest(n byte) protocol.Digest { return protocol.Digest(bytes.Repeat([]byte{n}, 32)) }

// request is a good one, which tests change.
func request(kind protocol.Kind) protocol.Request {
	return protocol.Request{Version: 1, Appliance: digest(1), Kind: kind, Issuer: digest(2), Profile: "it-workstation", Body: "it/058091",
		Subject: "058091-PC-0020", Nonce: [16]byte{3}, Created: 1800000000, Expires: 1802592000}
}

func issueRequest(t testing.TB, subject, csrName string) []byte {
	r := request(protocol.KindIssue)
	r.Subject, r.ProfileDigest = subject, digest(4)
	r.Content = marshal(t, protocol.Issuance{CSR: readCSR(t, csrName), Fields: map[string]string{"number": "0020"}, Origin: protocol.OriginHolder})
	return marshal(t, r)
}

const hostile = "PC\x1b[31m\u202e0200\r\nrequests       1\u200b\xf0\x9f\x92\xa9"

func TestRequest(t *testing.T) {
	golden(t, "issue", must[Sheet](t)(Request(issueRequest(t, "058091-PC-0020", "openssl-p256-san"))).String())
	golden(t, "issue-bad-csr", must[Sheet](t)(Request(issueRequest(t, "058091-PC-0020", "forge-p256-otherkey"))).String())
	r := request(protocol.KindIssue)
	r.ProfileDigest, r.Subject = digest(4), hostile
	r.Content = marshal(t, protocol.Issuance{
		CSR: readCSR(t, "openssl-p384-ukrainian"), Fields: map[string]string{"name": "Ωραία \u2066x", "back": `\u{202e}`}, Origin: protocol.OriginStation,
		NotBefore: 1800000000, NotAfter: 1831536000, Evidence: []byte{1, 2}, Scopes: []protocol.Scope{{Profile: "it-server", Body: "it/058091"}, {Profile: "it-workstation", Body: "it/058091"}},
	})
	golden(t, "hostile", must[Sheet](t)(Request(marshal(t, r))).String())
}

func TestOtherKinds(t *testing.T) {
	roster := rosterOf(t)
	rosterRaw := must[[]byte](t)(policy.EncodeRoster(roster))
	proof := must[[]byte](t)(protocol.SignID(edKey(1), protocol.ContextPossession, protocol.DigestOf(rosterRaw)))
	strange := must[[]byte](t)(protocol.SignID(edKey(99), protocol.ContextPossession, protocol.DigestOf(rosterRaw)))
	caCertificate := must[[]byte](t)(os.ReadFile("../../appliance/issue/testdata/root-P-256.cer"))
	var all strings.Builder
	for _, test := range []struct {
		kind    protocol.Kind
		content any
	}{
		{protocol.KindRevoke, protocol.Revocation{Serial: []byte{0x4f, 0, 0x17}, Reason: protocol.ReasonKeyCompromise, Since: 1799900000}},
		{protocol.KindHold, protocol.Revocation{Serial: []byte{0x4f}}},
		{protocol.KindRelease, protocol.Release{Serial: []byte{0x4f}, Hold: 17}},
		{protocol.KindWithdraw, protocol.Withdrawal{Request: digest(9)}},
		{protocol.KindCreateKey, protocol.CreateKey{Label: "issuing", Algorithm: "P-384"}},
		{protocol.KindSignCA, protocol.SignCA{Key: digest(2), Fields: map[string]string{"name": "Root"}, NotAfter: 1900000000}},
		{protocol.KindRoster, protocol.Replacement{Replaces: digest(7), New: rosterRaw, Possession: [][]byte{proof, strange, {1}}}},
		{protocol.KindPolicy, protocol.Replacement{Replaces: digest(7), New: policyRaw(t)}},
		{protocol.KindAgent, protocol.Enrolment{Replaces: digest(8), Party: marshal(t, agentParty(t))}},
		{protocol.KindStation, protocol.Enrolment{Party: marshal(t, protocol.Party{Version: 1, Name: "desk-1", Role: protocol.RoleStation, Seal: spki(t, edKey(5)), Bodies: []string{"gr"}, Retired: true})}},
		{protocol.KindSetTime, protocol.SetTime{Time: 1800000000}},
		{protocol.KindCRL, protocol.CRLOrder{Replaces: digest(6)}},
		{protocol.KindRestore, protocol.Restoration{From: 1200, Size: 1345, Root: digest(4), Lost: 1, CRLs: []protocol.CRLFloor{{Issuer: digest(2), Number: 1042}}}},
		{protocol.KindDestroyKey, protocol.DestroyKey{Key: digest(2)}},
		{protocol.KindRotateKey, protocol.Rotation{Use: protocol.UseSeal, Replaces: digest(2)}},
		{protocol.KindForeignCA, protocol.ForeignEnrolment{Replaces: digest(8), CA: marshal(t, protocol.ForeignCA{Version: 1, Name: "ministry", Certificate: caCertificate, Retired: true})}},
		{protocol.KindRecovery, protocol.Recovery{Replaces: digest(7), New: digest(9)}},
		{protocol.KindCrossCertify, protocol.CrossCertification{Certificate: caCertificate, NotAfter: 1900000000}},
		{protocol.KindSuspend, protocol.Suspension{Replaces: digest(7), Person: "it:FTTCRL84C52H501V"}},
		{protocol.KindRevokeCA, protocol.CARevocation{Serial: []byte{0x4f}, Reason: protocol.ReasonCACompromise, Since: 1799900000}},
	} {
		r := request(test.kind)
		if test.kind.IsOrder() || test.kind == protocol.KindWithdraw {
			r.Issuer, r.Profile, r.Subject = protocol.Digest{}, "", ""
		}
		if test.kind.IsOrder() {
			r.Body = ""
		}
		if test.kind == protocol.KindSignCA {
			r.Issuer, r.Profile, r.ProfileDigest = digest(2), "root", digest(5)
		}
		if test.kind == protocol.KindCrossCertify {
			r.Issuer, r.Profile, r.ProfileDigest = digest(2), "cross", digest(5)
		}
		if test.kind == protocol.KindCRL || test.kind == protocol.KindRevokeCA {
			r.Issuer = digest(2)
		}
		r.Content = marshal(t, test.content)
		s, err := Request(marshal(t, r))
		if err != nil {
			t.Errorf("%s: %v", test.kind, err)
		}
		all.WriteString(s.String() + "\n")
		r.Content = []byte{0xf6}
		if _, err := Request(marshal(t, r)); err == nil {
			t.Errorf("%s: content that is none was shown", test.kind)
		}
	}
	golden(t, "kinds", all.String())
}

func agentParty(t testing.TB) protocol.Party {
	return protocol.Party{Version: 1, Name: "prefecture", Role: protocol.RoleAgent, Seal: spki(t, edKey(3)), Receiver: spki(t, ecKey(t, 4)),
		Bodies: []string{"gr", "it/058091"}, BundlesPerDay: 24, ItemsPerDay: 10000}
}

func rosterOf(t testing.TB) *policy.Roster {
	r := &policy.Roster{Version: 1}
	for i, name := range []string{"Anna Neri", "Bruno Verdi", "Ξένια Ωραία"} {
		r.Officers = append(r.Officers, policy.Officer{Person: fmt.Sprintf("it:OFFICER%d", i+1), Name: name, Keys: [][]byte{spki(t, edKey(byte(i+1)))},
			Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}}, Suspended: i == 2})
	}
	for _, k := range []protocol.Kind{protocol.KindCreateKey, protocol.KindSignCA, protocol.KindRoster} {
		r.Orders = append(r.Orders, policy.OrderRule{Kind: k, Persons: 2, Role: "security-officer"})
	}
	return r
}

func policyRaw(t testing.TB) []byte {
	t.Helper()
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	var chosen []policy.File
	for _, f := range files {
		if slices.Contains([]string{"root.yaml", "it-workstation.yaml", "approver.yaml"}, f.Name) {
			chosen = append(chosen, f)
		}
	}
	chosen = append(chosen, policy.File{Name: "main.yaml", Data: []byte("policy: test\nclock_ahead: 100 days\n")})
	p := must[*policy.Policy](t)(policy.Load(chosen...))
	return must[[]byte](t)(policy.Encode(p))
}

func approve(t testing.TB, key crypto.Signer, raws [][]byte, statements func(i int) []protocol.Statement) []byte {
	t.Helper()
	a := protocol.Approval{Version: 1, Appliance: digest(1), Created: 1800000000, Expires: 1800100000}
	var parsed []protocol.Request
	for i, raw := range raws {
		r, refusal := protocol.ParseRequest(raw)
		if refusal != nil {
			t.Fatal(refusal.Words())
		}
		parsed = append(parsed, r)
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: protocol.ID(raw), Statements: statements(i)})
	}
	slices.SortFunc(a.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	a.Manifest = protocol.ManifestOf(parsed)
	payload := must[[]byte](t)(a.Encode())
	return must[[]byte](t)(cose.Sign(key, protocol.ContextApproval, payload))
}

func knows(t testing.TB, key crypto.Signer, who string) Known {
	k := must[cose.Key](t)(cose.NewKey(key.Public()))
	return func(id protocol.Digest) (Holder, bool) { return Holder{k, who}, id == k.ID() }
}

func many(t testing.TB) [][]byte {
	var raws [][]byte
	for i := range 12 {
		r := request(protocol.KindHold)
		r.Subject = fmt.Sprintf("058091-PC-%04d", i)
		r.Content = marshal(t, protocol.Revocation{Serial: []byte{0x4f, byte(i + 1)}})
		raws = append(raws, marshal(t, r))
	}
	r := request(protocol.KindRevoke)
	r.Subject = hostile
	r.Content = marshal(t, protocol.Revocation{Serial: []byte{0x60}, Reason: protocol.ReasonSuperseded})
	raws = append(raws, marshal(t, r))
	twice := request(protocol.KindHold)
	twice.Subject = "058091-PC-0003"
	twice.Content = marshal(t, protocol.Revocation{Serial: []byte{0x61}})
	return append(raws, marshal(t, twice))
}

func TestRequests(t *testing.T) {
	raws := many(t)
	golden(t, "many", must[Sheet](t)(Requests(raws, nil, false)).String())
	full := must[Sheet](t)(Requests(raws, nil, true)).String()
	for _, raw := range raws {
		if !strings.Contains(full, protocol.ID(raw).Groups()) {
			t.Errorf("%s is not shown in full", protocol.ID(raw))
		}
	}
	csrs := [][]byte{issueRequest(t, "a", "openssl-p256-san"), issueRequest(t, "b", "openssl-p256-san")}
	if s := must[Sheet](t)(Requests(csrs, nil, false)).String(); strings.Count(s, "attention") != 2 {
		t.Errorf("one key for two subjects calls for no attention:\n%s", s)
	}
	if _, err := Requests([][]byte{raws[0], {1}}, nil, false); err == nil || !strings.Contains(err.Error(), "request 2") {
		t.Errorf("a malformed request: %v", err)
	}
}

func TestApproval(t *testing.T) {
	key := edKey(1)
	raws := many(t)
	message := approve(t, key, raws, func(i int) []protocol.Statement {
		if i == 3 {
			return []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
		}
		return nil
	})
	golden(t, "approval", must[Sheet](t)(Approval(message, knows(t, key, "it:OFFICER1 (Anna Neri)"), false)).String())
	unknown := must[Sheet](t)(Approval(message, knows(t, edKey(2), "somebody else"), false)).String()
	if !strings.Contains(unknown, "NOT VERIFIED") || strings.Contains(unknown, "somebody") {
		t.Errorf("an approval by an unknown key:\n%s", unknown)
	}
	damaged := bytes.Clone(message)
	damaged[len(damaged)-1] ^= 1
	if s, err := Approval(damaged, knows(t, key, "x"), false); !errors.Is(err, cose.ErrSignature) || s != nil {
		t.Errorf("a damaged approval: %v, %v", s, err)
	}
	if s := must[Sheet](t)(Approval(message, nil, true)).String(); strings.Count(s, "- id") != len(raws) {
		t.Errorf("full shows %d of %d entries", strings.Count(s, "- id"), len(raws))
	}
}

func TestReceiptAndResult(t *testing.T) {
	seal := edKey(7)
	receipt := must[[]byte](t)(cose.Sign(seal, protocol.ContextReceipt, marshal(t, protocol.Receipt{Appliance: digest(1), Request: digest(2),
		Outcome: protocol.OutcomeHeld, Issuer: digest(3), Serial: []byte{0x4f}, Time: 1800000000, Size: 17})))
	text := must[Sheet](t)(Receipt(receipt, knows(t, seal, "the appliance"))).String()
	for _, r := range []protocol.Result{
		{ID: digest(2), Outcome: protocol.OutcomeHeld, Issuer: digest(3), Serial: []byte{0x4f}, Receipt: receipt},
		{ID: digest(2), Outcome: protocol.OutcomeIssued, Issuer: digest(3), Serial: []byte{0x4f}, Certificate: []byte{0x30, 0}},
		{ID: digest(2), Outcome: protocol.OutcomeDone, Key: spki(t, seal)},
		{ID: digest(2), Outcome: protocol.OutcomeDone, Key: spki(t, seal), Handover: []byte{1, 2}},
		{ID: digest(2), Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeApprovalsMissing, "have", "1", "need", "2", "missing", "1", "who", hostile)},
		{ID: digest(2), Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeProfileChanged, "profile", "p")},
	} {
		text += "\n" + must[Sheet](t)(Result(marshal(t, r))).String()
	}
	golden(t, "results", text)
}

func certificates() []string {
	return []string{"root-P-256.cer", "issuing-Ed25519.cer", "gr-servant.cer", "approver.cer"}
}

func TestCertificates(t *testing.T) {
	var text string
	for _, name := range certificates() {
		der := must[[]byte](t)(os.ReadFile(filepath.Join("../../appliance/issue/testdata", name)))
		text += must[Sheet](t)(Certificate(der)).String() + "\n"
	}
	der := must[[]byte](t)(os.ReadFile("../../appliance/issue/testdata/issuing-P-256.crl"))
	text += must[Sheet](t)(CRL(der, false)).String() + "\n"
	text += CSR(readCSR(t, "keytool-p256-ukrainian")).String()
	golden(t, "certificates", text)
}

// world is an introduction and what it takes to make one.
func world(t testing.TB) (introduction []byte, typed protocol.Digest) {
	seal := edKey(7)
	genesis := marshal(t, protocol.Genesis{Version: 1, Name: "vault", Nonce: [16]byte{9}, Created: 1800000000, Log: spki(t, edKey(8)), Receiver: spki(t, ecKey(t, 9)),
		Seal: spki(t, seal), Roster: must[[]byte](t)(policy.EncodeRoster(rosterOf(t))), Policy: policyRaw(t)})
	root := must[[]byte](t)(os.ReadFile("../../appliance/issue/testdata/root-P-256.cer"))
	state := protocol.State{Policy: policyRaw(t), Roster: must[[]byte](t)(policy.EncodeRoster(rosterOf(t))), CAs: [][]byte{root}, Labels: []string{"root"}}
	return must[[]byte](t)(protocol.MakeIntroduction(genesis, nil, state, seal)), protocol.DigestOf(genesis)
}

func TestIntroduction(t *testing.T) {
	introduction, typed := world(t)
	golden(t, "introduction", must[Sheet](t)(Introduction(introduction, typed)).String())
	if _, err := Introduction(introduction, digest(1)); err == nil {
		t.Error("an introduction was shown under another digest")
	}
}

func bundle(t testing.TB, key crypto.Signer) []byte {
	raws := many(t)
	var rest bytes.Buffer
	var items [][]byte
	for _, raw := range raws {
		items = append(items, marshal(t, protocol.Item{Request: raw}))
	}
	items = append(items, []byte("not an item"))
	approval := approve(t, edKey(1), raws, func(int) []protocol.Statement { return nil })
	if err := protocol.WriteGroup(&rest, protocol.Group{Section: protocol.SectionTakeAway, Approvals: [][]byte{approval, {1}}, Items: items}); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	h := protocol.BundleHeader{Version: 1, From: "prefecture", To: digest(1), Sequence: 7, Created: 1800000000, Expires: 1800600000, Items: uint64(len(items)),
		Rest: protocol.DigestOf(rest.Bytes()), Acknowledged: []uint64{4, 5}, KnownSize: 17, KnownRoot: digest(3)}
	if err := protocol.WriteHeader(&all, h, key); err != nil {
		t.Fatal(err)
	}
	return append(all.Bytes(), rest.Bytes()...)
}

func collect(t *testing.T, f func(func(Sheet) error) error) (string, error) {
	var text string
	err := f(func(s Sheet) error {
		text += s.String() + "\n"
		return nil
	})
	return text, err
}

func TestBundle(t *testing.T) {
	key := edKey(3)
	data := bundle(t, key)
	text, err := collect(t, func(emit func(Sheet) error) error {
		return Bundle(bytes.NewReader(data), knows(t, key, "agent prefecture"), false, emit)
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bundle", text)
	for name, bad := range map[string][]byte{"flipped": flip(data, len(data)-3), "cut": data[:len(data)-20], "longer": append(bytes.Clone(data), 0x40), "no header": nil} {
		if _, err := collect(t, func(emit func(Sheet) error) error {
			return Bundle(bytes.NewReader(bad), knows(t, key, "x"), true, emit)
		}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	stop := errors.New("stop")
	if err := Bundle(bytes.NewReader(data), nil, true, func(Sheet) error { return stop }); err != stop {
		t.Errorf("an error of emit became %v", err)
	}
}

func flip(data []byte, i int) []byte {
	data = bytes.Clone(data)
	data[i] ^= 1
	return data
}

func TestResponse(t *testing.T) {
	seal := edKey(7)
	introduction, typed := world(t)
	in, err := protocol.OpenIntroduction(introduction, typed)
	if err != nil {
		t.Fatal(err)
	}
	result := marshal(t, protocol.Result{ID: digest(2), Outcome: protocol.OutcomeRevoked, Issuer: digest(3), Serial: []byte{0x4f}})
	leaf := must[[]byte](t)(auditlog.Leaf{Kind: auditlog.Changed, Time: 1800000000, Issuer: bytes.Repeat([]byte{3}, 32), Serial: []byte{0x4f}, Status: auditlog.Revoked, Body: digest(5)}.Encode())
	crl := must[[]byte](t)(os.ReadFile("../../appliance/issue/testdata/issuing-P-256.crl"))
	var rest bytes.Buffer
	for _, part := range [][]byte{marshal(t, protocol.Answer{Body: result, Index: 5, Salt: bytes.Repeat([]byte{1}, 16)}), leaf, crl} {
		if err := protocol.WriteString(&rest, part); err != nil {
			t.Fatal(err)
		}
	}
	origin := auditlog.Origin(typed)
	checkpoint := must[[]byte](t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, 17, auditlog.Hash(digest(4))), origin, edKey(8)))
	h := protocol.ResponseHeader{Version: 1, From: typed, To: "prefecture", Answers: 7, Bundle: digest(9), Created: 1800000000, Last: 9, Missing: []uint64{8}, Pending: []uint64{7, 9},
		Results: 1, FirstLeaf: 5, Leaves: 1, CRLs: 1, Checkpoint: checkpoint, State: in.State, Rest: protocol.DigestOf(rest.Bytes()),
		Refusal: protocol.Refuse(protocol.CodeClock, "now", "x", "reason", "y")}
	var all bytes.Buffer
	if err := protocol.WriteResponseHeader(&all, h, nil, seal); err != nil {
		t.Fatal(err)
	}
	data := append(all.Bytes(), rest.Bytes()...)
	text, err := collect(t, func(emit func(Sheet) error) error {
		return Response(bytes.NewReader(data), knows(t, seal, "the appliance"), false, emit)
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "response", text)
	for name, bad := range map[string][]byte{"flipped": flip(data, len(data)-3), "cut": data[:len(data)-20]} {
		if _, err := collect(t, func(emit func(Sheet) error) error { return Response(bytes.NewReader(bad), nil, true, emit) }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestJSON(t *testing.T) {
	s := Sheet{{Name: "type", Value: "x"}, {Name: "key", Value: "ab", Groups: "1 2"}, {Name: "n", Value: uint64(7)}, {Name: "two words", List: []string{"a", "b"}},
		{Name: "sub", Rows: Sheet{{Name: "a", Value: true}}}, {Name: "both", Value: "v", Rows: Sheet{{Name: "a", Value: "\x1b"}}}, {Name: "items", Items: []Sheet{{{Name: "i", Value: 1}}}}, {Name: "none"}}
	const want = `{"type":"x","key":"ab","key_groups":"1 2","n":7,"two_words":["a","b"],"sub":{"a":true},"both":{"value":"v","a":"\u001b"},"items":[{"i":1}],"none":null}`
	got, err := json.Marshal(s)
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	if got, err := json.Marshal(Sheet{}); err != nil || string(got) != "{}" {
		t.Errorf("nothing is %s, %v", got, err)
	}
}

// FuzzShow shows anything as everything: nothing panics, and nothing hidden comes out.
func FuzzShow(f *testing.F) {
	introduction, typed := world(f)
	f.Add(introduction)
	f.Add(issueRequest(f, hostile, "openssl-p256-san"))
	f.Add(bundle(f, edKey(3)))
	for _, raw := range many(f) {
		f.Add(raw)
	}
	f.Add(approve(f, edKey(1), many(f), func(int) []protocol.Statement { return nil }))
	f.Add(marshal(f, agentParty(f)))
	f.Add(policyRaw(f))
	f.Add([]byte("coldseal/0000000000000000\n1\nAAA\n\n— x AAA\n"))
	for _, name := range certificates() {
		f.Add(must[[]byte](f)(os.ReadFile(filepath.Join("../../appliance/issue/testdata", name))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		emit := func(s Sheet) error {
			if text := s.String(); strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), Hidden) {
				t.Errorf("hidden characters come out of %x: %q", data, text)
			}
			if _, err := json.Marshal(s); err != nil {
				t.Errorf("%x: %v", data, err)
			}
			return s.Write(io.Discard)
		}
		try := func(s Sheet, err error) {
			if err == nil {
				err = emit(s)
			}
			if err != nil {
				Lines(err.Error())
			}
		}
		try(Request(data))
		try(Item(data))
		try(Requests([][]byte{data, data}, nil, false))
		try(Approval(data, nil, true))
		try(Receipt(data, nil))
		try(Party(data))
		try(Policy(data))
		try(Roster(data))
		try(Genesis(data, protocol.DigestOf(data)))
		try(Introduction(data, typed))
		try(Result(data))
		try(Checkpoint(data))
		try(Proof(data))
		try(BundleHeader(data, nil))
		if _, err := OpenLast(data, typed); err != nil {
			Lines(err.Error())
		}
		try(Certificate(data))
		try(CRL(data, true))
		try(PublicKey(data))
		try(CSR(data), nil)
		try(nil, Bundle(bytes.NewReader(data), nil, true, emit))
		try(nil, Response(bytes.NewReader(data), nil, true, emit))
		if l, err := auditlog.ParseLeaf(data); err == nil {
			try(Leaf(0, l), nil)
		}
	})
}
