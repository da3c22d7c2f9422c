package protocol_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// edit decodes data, lets change act on it and encodes it again.
func edit[T any](t testing.TB, data []byte, change func(*T)) []byte {
	t.Helper()
	var v T
	if err := cose.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	change(&v)
	return marshal(t, v)
}

// parseAll takes a request the whole way: its form, then its content.
func parseAll(data []byte) (protocol.Request, *protocol.Refusal) {
	r, refusal := protocol.ParseRequest(data)
	if refusal != nil {
		return r, refusal
	}
	return r, r.CheckContent()
}

// refuses wants the code, and the words about the reason.
func refuses(t *testing.T, refusal *protocol.Refusal, code protocol.Code, reason string) {
	t.Helper()
	switch {
	case refusal == nil:
		t.Error("was accepted")
	case refusal.Code != code || !strings.Contains(refusal.Words(), reason):
		t.Errorf("refused with %s: %s; want %s about %q", refusal.Code, refusal.Words(), code, reason)
	}
}

func TestRequestVectorsAreAccepted(t *testing.T) {
	for _, v := range requestVectors {
		if _, refusal := parseAll(load(t, "request-"+v.name)); refusal != nil {
			t.Errorf("%s: %s", v.name, refusal.Words())
		}
	}
}

func TestRequestRefusals(t *testing.T) {
	type R = protocol.Request
	long := strings.Repeat("a", 257)
	for _, c := range []struct {
		name, of, reason string
		change           func(*R)
	}{
		{"version", "issue", "version 2", func(r *R) { r.Version = 2 }},
		{"kind 0", "issue", "kind 0", func(r *R) { r.Kind = 0 }},
		{"kind between", "issue", "kind 7", func(r *R) { r.Kind = 7 }},
		{"kind reserved, last", "crl", "kind 28", func(r *R) { r.Kind = 28 }},
		{"created never", "hold", "not in order", func(r *R) { r.Created = 0 }},
		{"expires when created", "hold", "not in order", func(r *R) { r.Expires = r.Created }},
		{"expires too late", "hold", "not in order", func(r *R) { r.Expires = protocol.MaxTime + 1 }},
		{"profile no name", "issue", "not a name", func(r *R) { r.Profile = "It-Workstation" }},
		{"body no body", "issue", "not like", func(r *R) { r.Body = "it//058091" }},
		{"body too deep", "issue", "not like", func(r *R) { r.Body = "1/2/3/4/5/6/7/8/9" }},
		{"subject too long", "issue", "subject of 257 bytes", func(r *R) { r.Subject = long }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refusal := protocol.ParseRequest(edit(t, load(t, "request-"+c.of), c.change))
			refuses(t, refusal, protocol.CodeMalformed, c.reason)
		})
	}
	_, refusal := protocol.ParseRequest(make([]byte, protocol.MaxRequest+1))
	refuses(t, refusal, protocol.CodeMalformed, "at most 65536")
	_, refusal = protocol.ParseRequest(append(load(t, "request-hold"), 0))
	refuses(t, refusal, protocol.CodeMalformed, "")
	_, refusal = protocol.ParseRequest(edit(t, load(t, "request-hold"), func(r *R) { r.Expires, r.Subject = protocol.MaxTime, long[:256] }))
	if refusal != nil {
		t.Error("at its limits:", refusal.Words())
	}
}

// TestKinds is the table of request.md: which fields each kind has. Each field too many or missing is refused.
func TestKinds(t *testing.T) {
	table := map[string]string{
		"issue": "ipdbs", "renew": "ipdbs", "revoke": "ipbs", "hold": "ipbs", "release": "ipbs", "withdraw": "b", "create-key": "", "sign-ca": "ipd",
		"roster": "", "policy": "", "agent": "", "station": "", "set-time": "", "crl": "i",
		"restore": "", "destroy-key": "", "foreign-ca": "", "recovery": "", "cross-certify": "ipd", "suspend": "", "revoke-ca": "i", "rotate-key": "",
	}
	type R = protocol.Request
	fields := map[string]struct {
		set, unset func(*R)
		word       string
	}{
		"i": {func(r *R) { r.Issuer[0] = 1 }, func(r *R) { r.Issuer = protocol.Digest{} }, "issuer"},
		"p": {func(r *R) { r.Profile = "p" }, func(r *R) { r.Profile = "" }, "profile"},
		"d": {func(r *R) { r.ProfileDigest[0] = 1 }, func(r *R) { r.ProfileDigest = protocol.Digest{} }, "digest"},
		"b": {func(r *R) { r.Body = "it" }, func(r *R) { r.Body = "" }, "body"},
		"s": {func(r *R) { r.Subject = "s" }, func(r *R) { r.Subject = "" }, "subject"},
	}
	for name, has := range table {
		kind, known := protocol.ParseKind(name)
		if !known || kind.String() != name {
			t.Errorf("kind %s is %s", name, kind)
		}
		if takes := name == "revoke" || name == "hold"; kind.TakesAway() != takes || takes != (protocol.SectionOf(kind) == protocol.SectionTakeAway) {
			t.Errorf("%s takes away: %v", name, kind.TakesAway())
		}
		if kind.IsOrder() != (kind >= 16) || kind.IsOrder() != (protocol.SectionOf(kind) == protocol.SectionOrders) {
			t.Errorf("%s is an order: %v", name, kind.IsOrder())
		}
		if kind.NamesProfile() != strings.Contains(has, "d") {
			t.Errorf("%s names a compiled profile: %v", name, kind.NamesProfile())
		}
		good := load(t, "request-"+name)
		for letter, f := range fields {
			change := f.set
			if strings.Contains(has, letter) {
				change = f.unset
			}
			t.Run(name+" and "+f.word, func(t *testing.T) {
				_, refusal := protocol.ParseRequest(edit(t, good, change))
				refuses(t, refusal, protocol.CodeMalformed, f.word+" is missing or out of place")
			})
		}
	}
	for _, k := range []protocol.Kind{0, 7, 15, 28, 33} {
		if got := k.String(); got != fmt.Sprintf("kind-%d", k) {
			t.Errorf("kind %d is %q", k, got)
		}
	}
	if _, known := protocol.ParseKind("kind-28"); known {
		t.Error("kind-28 is a kind")
	}
}

func TestContentOfAnotherKindIsRefused(t *testing.T) {
	hold, refusal := protocol.ParseRequest(load(t, "request-hold"))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	_, refusal = hold.Issuance()
	refuses(t, refusal, protocol.CodeMalformed, "content of hold")
	hold.Content = []byte{0xa1, 1, 2}
	_, refusal = hold.Revocation()
	refuses(t, refusal, protocol.CodeMalformed, "")
}

// content is the change of a request whose content is changed.
func content[T any](t testing.TB, change func(*T)) func(*protocol.Request) {
	return func(r *protocol.Request) { r.Content = edit(t, r.Content, change) }
}

func TestContentRefusals(t *testing.T) {
	type (
		I = protocol.Issuance
		V = protocol.Revocation
		E = protocol.Enrolment
		P = protocol.Party
	)
	many := map[string]string{}
	for i := range protocol.MaxFields + 1 {
		many[fmt.Sprint("f", i)] = "v"
	}
	party := func(change func(*P)) func(*protocol.Request) {
		return content(t, func(e *E) { e.Party = edit(t, e.Party, change) })
	}
	for _, c := range []struct {
		name, of, reason string
		change           func(*protocol.Request)
	}{
		{"issue renews", "issue", "renews is missing or out of place", content(t, func(i *I) { i.Renews = &protocol.CertificateID{Serial: []byte{1}} })},
		{"renew renews nothing", "renew", "renews is missing or out of place", content(t, func(i *I) { i.Renews = nil })},
		{"renews without issuer", "renew", "name no certificate", content(t, func(i *I) { i.Renews.Issuer = protocol.Digest{} })},
		{"renews without serial", "renew", "name no certificate", content(t, func(i *I) { i.Renews.Serial = nil })},
		{"no origin", "issue", "origin 0", content(t, func(i *I) { i.Origin = 0 })},
		{"unknown origin", "issue", "origin 6", content(t, func(i *I) { i.Origin = 6 })},
		{"evidence of the agent", "issue", "evidence is out of place", content(t, func(i *I) { i.Evidence = []byte{1} })},
		{"no CSR", "issue", "no CSR", content(t, func(i *I) { i.CSR = nil })},
		{"too many fields", "issue", "33 fields", content(t, func(i *I) { i.Fields = many })},
		{"bad field name", "issue", "bad name", content(t, func(i *I) { i.Fields = map[string]string{"A": "v"} })},
		{"empty field", "issue", "no value", content(t, func(i *I) { i.Fields = map[string]string{"a": ""} })},
		{"long field", "issue", "more than 256", content(t, func(i *I) { i.Fields = map[string]string{"a": strings.Repeat("v", 257)} })},
		{"starts before 1970", "issue", "not in order", content(t, func(i *I) { i.NotBefore = -1 })},
		{"ends before 1970", "issue", "not in order", content(t, func(i *I) { i.NotAfter = -1 })},
		{"starts after 9999", "issue", "not in order", content(t, func(i *I) { i.NotBefore, i.NotAfter = protocol.MaxTime+1, 0 })},
		{"ends after 9999", "issue", "not in order", content(t, func(i *I) { i.NotAfter = protocol.MaxTime + 1 })},
		{"ends before it starts", "issue", "not in order", content(t, func(i *I) { i.NotBefore = i.NotAfter + 1 })},
		{"scopes out of order", "issue-approver", "scope 1", content(t, func(i *I) { i.Scopes[0], i.Scopes[1] = i.Scopes[1], i.Scopes[0] })},
		{"scope twice", "issue-approver", "scope 1", content(t, func(i *I) { i.Scopes[0] = i.Scopes[1] })},
		{"scope of any profile", "issue-approver", "scope 0", content(t, func(i *I) { i.Scopes[0].Profile = protocol.Any })},
		{"scope of any body", "issue-approver", "scope 0", content(t, func(i *I) { i.Scopes[0].Body = protocol.Any })},

		{"revoke nothing", "revoke", "serial", content(t, func(v *V) { v.Serial = nil })},
		{"serial with zero", "revoke", "serial 0001", content(t, func(v *V) { v.Serial = []byte{0, 1} })},
		{"serial negative", "revoke", "serial 80", content(t, func(v *V) { v.Serial = []byte{0x80} })},
		{"serial long", "revoke", "serial 01", content(t, func(v *V) { v.Serial = bytes.Repeat([]byte{1}, 21) })},
		{"reason hold", "revoke", "reason 6", content(t, func(v *V) { v.Reason = protocol.ReasonCertificateHold })},
		{"reason unused", "revoke", "reason 7", content(t, func(v *V) { v.Reason = 7 })},
		{"reason removeFromCRL", "revoke", "reason 8", content(t, func(v *V) { v.Reason = 8 })},
		{"reason aACompromise", "revoke", "reason 10", content(t, func(v *V) { v.Reason = 10 })},
		{"since before 1970", "revoke", "date -1", content(t, func(v *V) { v.Since = -1 })},
		{"since after 9999", "revoke", "date 2534", content(t, func(v *V) { v.Since = protocol.MaxTime + 1 })},
		{"hold with reason", "hold", "out of place", content(t, func(v *V) { v.Reason = 1 })},
		{"hold with date", "hold", "out of place", content(t, func(v *V) { v.Since = now })},
		{"release of no hold", "release", "name no hold", content(t, func(r *protocol.Release) { r.Hold = 0 })},
		{"release of nothing", "release", "name no hold", content(t, func(r *protocol.Release) { r.Serial = nil })},
		{"withdraw nothing", "withdraw", "no request", content(t, func(w *protocol.Withdrawal) { w.Request = protocol.Digest{} })},

		{"key without label", "create-key", "label", content(t, func(k *protocol.CreateKey) { k.Label = "" })},
		{"key of weak algorithm", "create-key", "RSA-2048", content(t, func(k *protocol.CreateKey) { k.Algorithm = "RSA-2048" })},
		{"CA without key", "sign-ca", "no key", content(t, func(s *protocol.SignCA) { s.Key = protocol.Digest{} })},
		{"CA with bad field", "sign-ca", "no value", content(t, func(s *protocol.SignCA) { s.Fields["name"] = "" })},
		{"CA beyond 9999", "sign-ca", "not in order", content(t, func(s *protocol.SignCA) { s.NotAfter = protocol.MaxTime + 1 })},
		{"roster for nothing", "roster", "missing or out of place", content(t, func(r *protocol.Replacement) { r.Replaces = protocol.Digest{} })},
		{"no roster", "roster", "missing or out of place", content(t, func(r *protocol.Replacement) { r.New = nil })},
		{"policy with possession", "policy", "missing or out of place", content(t, func(r *protocol.Replacement) { r.Possession = [][]byte{{1}} })},
		{"time 0", "set-time", "time 0", content(t, func(s *protocol.SetTime) { s.Time = 0 })},
		{"time negative", "set-time", "time -1", content(t, func(s *protocol.SetTime) { s.Time = -1 })},
		{"time after 9999", "set-time", "time 2534", content(t, func(s *protocol.SetTime) { s.Time = protocol.MaxTime + 1 })},
		{"station as agent", "agent", "role in the record is station", content(t, func(e *E) { e.Party = load(t, "party-station") })},
		{"agent as station", "station", "role in the record is agent", content(t, func(e *E) { e.Party = load(t, "party-agent") })},

		{"use 0", "rotate-key", "use 0", content(t, func(c *protocol.Rotation) { c.Use = 0 })},
		{"use 4", "rotate-key", "use 4", content(t, func(c *protocol.Rotation) { c.Use = 4 })},
		{"replaces no key", "rotate-key", "no key is named", content(t, func(c *protocol.Rotation) { c.Replaces = protocol.Digest{} })},
		{"destroys no key", "destroy-key", "no key is named", content(t, func(c *protocol.DestroyKey) { c.Key = protocol.Digest{} })},

		{"party version", "agent", "version 2", party(func(p *P) { p.Version = 2 })},
		{"party name", "agent", "name", party(func(p *P) { p.Name = "Registry" })},
		{"party role 0", "agent", "role 0", party(func(p *P) { p.Role = 0 })},
		{"party role 3", "agent", "role 3", party(func(p *P) { p.Role = 3 })},
		{"bodies out of order", "agent", "not in order", party(func(p *P) { p.Bodies[0], p.Bodies[1] = p.Bodies[1], p.Bodies[0] })},
		{"body no body", "agent", "not valid", party(func(p *P) { p.Bodies[0] = "/" })},
		{"too many bodies", "agent", "257 bodies", party(func(p *P) { p.Bodies = make([]string, protocol.MaxBodies+1) })},
		{"agent without bundles", "agent", "all three", party(func(p *P) { p.BundlesPerDay = 0 })},
		{"agent without items", "agent", "all three", party(func(p *P) { p.ItemsPerDay = 0 })},
		{"agent without receiver", "agent", "all three", party(func(p *P) { p.Receiver = nil })},
		{"station with bundles", "station", "all three", party(func(p *P) { p.BundlesPerDay = 1 })},
		{"station with items", "station", "all three", party(func(p *P) { p.ItemsPerDay = 1 })},
		{"station with receiver", "station", "all three", party(func(p *P) { p.Receiver = spki(t, "agent-receiver") })},
		{"seal RSA", "agent", "seal key: an RSA key", party(func(p *P) { p.Seal = spki(t, "approver-rsa") })},
		{"no seal key", "agent", "seal key", party(func(p *P) { p.Seal = []byte{1} })},
		{"receiver on another curve", "agent", "not on P-256", party(func(p *P) { p.Receiver = spki(t, "approver-p384") })},
		{"receiver no key", "agent", "receiver key", party(func(p *P) { p.Receiver = []byte{1} })},
		{"receiver Ed25519", "agent", "not on P-256", party(func(p *P) { p.Receiver = spki(t, "machine") })},
		{"one key for all", "agent", "another for receiving", party(func(p *P) { p.Receiver = p.Seal })},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, refusal := parseAll(edit(t, load(t, "request-"+c.of), c.change))
			refuses(t, refusal, protocol.CodeMalformed, c.reason)
		})
	}
}

func TestContentLimitsAreInclusive(t *testing.T) {
	many := map[string]string{}
	for i := range protocol.MaxFields {
		many[fmt.Sprint("f", i)] = strings.Repeat("v", protocol.MaxText)
	}
	for name, data := range map[string][]byte{
		"fields, dates": edit(t, load(t, "request-issue"), content(t, func(i *protocol.Issuance) {
			i.Fields, i.NotBefore, i.NotAfter = many, protocol.MaxTime, protocol.MaxTime
		})),
		"serial, since": edit(t, load(t, "request-revoke"), content(t, func(v *protocol.Revocation) {
			v.Serial, v.Since, v.Reason = bytes.Repeat([]byte{0x7f}, 20), protocol.MaxTime, protocol.ReasonPrivilegeWithdrawn
		})),
		"first CRL": edit(t, load(t, "request-crl"), content(t, func(c *protocol.CRLOrder) { c.Replaces = protocol.Digest{} })),
		"any body": edit(t, load(t, "request-agent"), content(t, func(e *protocol.Enrolment) {
			e.Party = edit(t, e.Party, func(p *protocol.Party) { p.Bodies = []string{protocol.Any} })
		})),
	} {
		if _, refusal := parseAll(data); refusal != nil {
			t.Errorf("%s: %s", name, refusal.Words())
		}
	}
}

func TestNamesParseBack(t *testing.T) {
	for o := protocol.OriginAttested; o <= protocol.OriginAgent; o++ {
		if got, ok := protocol.ParseOrigin(o.String()); !ok || got != o {
			t.Errorf("origin %d: %s is %d", o, o, got)
		}
	}
	for _, u := range protocol.Uses() {
		if got, ok := protocol.ParseUse(u.String()); !ok || got != u {
			t.Errorf("use %d: %s is %d", u, u, got)
		}
	}
	for r := range protocol.Reason(12) {
		got, ok := protocol.ParseReason(r.String())
		if known := r <= 6 || r == 9; ok != known || ok && got != r {
			t.Errorf("reason %d: %s is %d, %v", r, r, got, ok)
		}
	}
	for _, name := range []string{"", "origin-6", "reason-7", "statement-3", "use-4", "*"} {
		_, origin := protocol.ParseOrigin(name)
		_, reason := protocol.ParseReason(name)
		_, statement := protocol.ParseStatement(name)
		_, use := protocol.ParseUse(name)
		if origin || reason || statement || use {
			t.Errorf("%q is a name", name)
		}
	}
	for s := protocol.StatementPresence; s <= protocol.StatementFingerprint; s++ {
		if got, ok := protocol.ParseStatement(s.String()); !ok || got != s {
			t.Errorf("statement %d: %s is %d", s, s, got)
		}
	}
	if protocol.Origin(6).String() != "origin-6" || protocol.Statement(3).String() != "statement-3" || protocol.Outcome(8).String() != "outcome-8" || protocol.PartyRole(3).String() != "role-3" || protocol.Use(4).String() != "use-4" {
		t.Error("unknown numbers have names")
	}
}

func TestServes(t *testing.T) {
	p, err := protocol.ParseParty(load(t, "party-agent"))
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]bool{"it/058091": true, "it/058091/anagrafe": true, "it/0580912": false, "it": false, "it/058092": true, "gr/1": false} {
		if p.Serves(body) != want {
			t.Errorf("%s: %v", body, !want)
		}
	}
	p.Bodies = []string{protocol.Any}
	if !p.Serves("gr/1") {
		t.Error("an agent of any body does not serve gr/1")
	}
}
