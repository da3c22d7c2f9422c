package policy

import (
	"maps"
	"testing"

	"coldseal/protocol"
)

var (
	workstations = protocol.Scope{Profile: "it-workstation", Body: "it/058091"}
	presence     = []protocol.Statement{protocol.StatementPresence}
)

// ballot is one approval and the code with which it doesn't count for testRule; "" is that it does.
type ballot struct {
	Approved
	why protocol.Code
}

func approval(person, role string, scope protocol.Scope, statements []protocol.Statement, covers int) Approved {
	return Approved{Approver: Approver{Person: person, Roles: []string{role}, Scopes: []protocol.Scope{scope}},
		Entry: protocol.ApprovalEntry{Statements: statements}, Covers: covers}
}

var testRule = Rule{Roles: []string{"approver", "ra"}, Statements: presence, Alone: true}

func ballots() []ballot {
	above := protocol.Scope{Profile: "it-workstation", Body: "it"}
	beside := protocol.Scope{Profile: "it-workstation", Body: "it/0580912"}
	star := protocol.Scope{Profile: protocol.Any, Body: protocol.Any}
	officer := approval("it:B", "ra", star, presence, 1)
	officer.Officer = true
	expired := approval("it:C", "ra", workstations, presence, 1)
	expired.Discount = protocol.Refuse(protocol.CodeApprovalExpired, "person", "it:C", "expires", "yesterday")
	return []ballot{
		{approval("it:A", "approver", workstations, presence, 1), ""},
		{approval("it:A", "ra", above, presence, 1), ""}, // the same person with another key
		{officer, ""},
		{approval("it:C", "ra", workstations, append(presence, protocol.StatementFingerprint), 1), ""},
		{expired, protocol.CodeApprovalExpired},
		{approval("it:B", "ra", star, presence, 1), protocol.CodeOutOfScope}, // not of the roster
		{approval("it:D", "ra", beside, presence, 1), protocol.CodeOutOfScope},
		{approval("it:D", "rb", workstations, presence, 1), protocol.CodeApproverRole},
		{approval("it:D", "ra", workstations, nil, 1), protocol.CodeStatementMissing},
		{approval("it:D", "ra", workstations, presence, 2), protocol.CodeOneAtATime},
		{approval("it:S", "ra", workstations, presence, 1), protocol.CodeOwnCertificate},
		{approval("it:R", "ra", workstations, presence, 1), protocol.CodeOwnRequest},
	}
}

// oracle decides as the law says it, and no more.
func oracle(need uint64, cast []ballot) protocol.Code {
	persons := map[string]bool{}
	votes, first := 0, protocol.Code("")
	for _, b := range cast {
		if b.why == "" {
			persons[b.Person] = true
			votes++
		} else if first == "" {
			first = b.why
		}
	}
	switch {
	case uint64(len(persons)) >= need:
		return ""
	case first != "":
		return first
	case uint64(votes) >= need:
		return protocol.CodeSamePerson
	}
	return protocol.CodeApprovalsMissing
}

// Every sequence of up to four of the ballots, for one to four persons.
func TestDecideAgreesWithOracle(t *testing.T) {
	all := ballots()
	seen := map[protocol.Code]bool{}
	var cast []ballot
	var vote func()
	vote = func() {
		approved := make([]Approved, len(cast))
		for i := range cast {
			approved[i] = cast[i].Approved
		}
		for need := uint64(1); need <= 4; need++ {
			rule := testRule
			rule.Persons = need
			refusal := rule.Decide(workstations, "it:S", "it:R", approved)
			var code protocol.Code
			if refusal != nil {
				code = refusal.Code
			}
			if want := oracle(need, cast); code != want {
				t.Fatalf("%d of %+v: %q, want %q", need, cast, code, want)
			}
			seen[code] = true
		}
		if len(cast) == 4 {
			return
		}
		for _, b := range all {
			cast = append(cast, b)
			vote()
			cast = cast[:len(cast)-1]
		}
	}
	vote()
	if len(seen) != 10 {
		t.Errorf("only these codes came up: %v", seen)
	}
}

func TestDecideParameters(t *testing.T) {
	rule := testRule
	rule.Persons = 2
	all := ballots()
	counts := map[string]string{"have": "1", "need": "2", "missing": "1", "who": "role approver or ra with scope it-workstation × it/058091"}
	for _, c := range []struct {
		name  string
		cast  []Approved
		code  protocol.Code
		more  map[string]string
		words string
	}{
		{"missing", []Approved{all[0].Approved}, protocol.CodeApprovalsMissing, nil, "1 of 2 persons approved"},
		{"same person", []Approved{all[0].Approved, all[1].Approved}, protocol.CodeSamePerson, map[string]string{"person": "it:A"},
			"it:A approved more than once, which counts as one; 1 of 2 persons approved"},
		{"discounted", []Approved{all[0].Approved, all[4].Approved}, protocol.CodeApprovalExpired, map[string]string{"person": "it:C", "expires": "yesterday"},
			"the approval of it:C could be used until yesterday"},
		{"scope", []Approved{all[0].Approved, all[6].Approved}, protocol.CodeOutOfScope, map[string]string{"person": "it:D", "profile": "it-workstation", "body": "it/058091"},
			"it:D may not approve it-workstation for it/058091"},
		{"role", []Approved{all[0].Approved, all[7].Approved}, protocol.CodeApproverRole, map[string]string{"person": "it:D"},
			"it:D does not have the role that the rule asks for: role approver or ra with scope it-workstation × it/058091"},
		{"statement", []Approved{all[0].Approved, all[8].Approved}, protocol.CodeStatementMissing, map[string]string{"person": "it:D", "statement": "presence"},
			"it:D did not state: presence"},
		{"alone", []Approved{all[0].Approved, all[9].Approved}, protocol.CodeOneAtATime, map[string]string{"person": "it:D", "count": "2"},
			"it:D approved 2 requests at once; this one is approved alone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rule.Decide(workstations, "it:S", "", c.cast)
			if r == nil || r.Code != c.code {
				t.Fatalf("refused with %v, want %s", r, c.code)
			}
			want := maps.Clone(counts)
			maps.Copy(want, c.more)
			if !maps.Equal(r.Params, want) {
				t.Errorf("parameters %q, want %q", r.Params, want)
			}
			if r.Words() != c.words {
				t.Errorf("words %q, want %q", r.Words(), c.words)
			}
		})
	}
}

func TestDecideWithoutRule(t *testing.T) {
	cast := []Approved{ballots()[0].Approved}
	if r := (Rule{}).Decide(workstations, "", "", cast); r == nil || r.Code != protocol.CodePolicyInvalid {
		t.Errorf("the zero rule was met: %v", r)
	}
	many := make([]Approved, protocol.MaxGroupApprovals+1)
	rule := testRule
	rule.Persons = 1
	if r := rule.Decide(workstations, "", "", many); r == nil || r.Code != protocol.CodeTooLarge {
		t.Errorf("65 approvals were taken: %v", r)
	}
}

func TestDecideOrder(t *testing.T) {
	o := threeOfficers(t)
	index := NewIndex(o)
	vote := func(i, covers int) Approved {
		officer := index[protocol.DigestOf(o.Officers[i].Keys[0])]
		return Approved{Approver: officer.Approver(), Covers: covers}
	}
	stranger := vote(0, 1)
	stranger.Officer = false
	for _, c := range []struct {
		name string
		kind protocol.Kind
		cast []Approved
		want protocol.Code
	}{
		{"two", protocol.KindPolicy, []Approved{vote(0, 1), vote(1, 1)}, ""},
		{"one", protocol.KindPolicy, []Approved{vote(0, 1)}, protocol.CodeApprovalsMissing},
		{"one twice", protocol.KindPolicy, []Approved{vote(0, 1), vote(0, 1)}, protocol.CodeSamePerson},
		{"among others", protocol.KindPolicy, []Approved{vote(0, 1), vote(1, 2)}, protocol.CodeOneAtATime},
		{"not an officer", protocol.KindPolicy, []Approved{stranger, vote(1, 1)}, protocol.CodeApproverRole},
		{"no rule", protocol.KindIssue, []Approved{vote(0, 1), vote(1, 1)}, protocol.CodeRosterInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			var code protocol.Code
			if r := o.DecideOrder(c.kind, c.cast); r != nil {
				code = r.Code
			}
			if code != c.want {
				t.Errorf("%q, want %q", code, c.want)
			}
		})
	}
}

func TestEscalation(t *testing.T) {
	p := libraryPolicy(t)
	two := func(q *Profile) { q.Release.Persons = 2 } // so that workstations need two for something
	maker, _ := p.Profile("approver")
	target := protocol.Scope{Profile: "approver", Body: "it/058091"}
	both := []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
	officer := func(person string, scopes ...protocol.Scope) Approved {
		return Approved{Approver: Approver{Person: person, Roles: []string{"security-officer"}, Scopes: append(scopes, target), Officer: true},
			Entry: protocol.ApprovalEntry{Statements: both}, Covers: 1}
	}
	holder := officer("it:H", workstations)
	holder.Officer, holder.Roles = false, []string{RoleApprover}
	retired := officer("it:B", workstations)
	retired.Discount = protocol.Refuse(protocol.CodeApproverSuspended, "person", "it:B")
	scope := func(profile, body string) []protocol.Scope { return []protocol.Scope{{Profile: profile, Body: body}} }
	delegated := maker.Approve
	delegated.Roles = []string{RoleApprover, "security-officer"}
	for _, c := range []struct {
		name   string
		rule   Rule
		scopes []protocol.Scope
		cast   []Approved
		need   func(*Profile)
		want   protocol.Code
	}{
		{"one who has it", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations)}, nil, ""},
		{"everything is his", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", protocol.Scope{Profile: "*", Body: "*"})}, nil, ""},
		{"one of two has it", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:B"), officer("it:A", workstations)}, nil, ""},
		{"nobody has it", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A")}, nil, protocol.CodeEscalation},
		{"two are needed, one has it", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations), officer("it:B")}, two, protocol.CodeEscalation},
		{"two are needed, two have it", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations), officer("it:B", workstations)}, two, ""},
		{"two are needed, one is there", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations)}, two, protocol.CodeApprovalsMissing},
		{"two are needed, one twice", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations), officer("it:A", workstations)}, two, protocol.CodeSamePerson},
		{"two are needed, one is suspended", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:A", workstations), retired}, two, protocol.CodeApproverSuspended},
		{"a wider body", maker.Approve, scope("it-workstation", "it"), []Approved{officer("it:A", workstations)}, nil, protocol.CodeEscalation},
		{"another body", maker.Approve, scope("it-workstation", "it/0580912"), []Approved{officer("it:A", workstations)}, nil, protocol.CodeEscalation},
		{"another profile", maker.Approve, scope("it-server", "it/058091"), []Approved{officer("it:A", workstations)}, nil, protocol.CodeEscalation},
		{"the second scope", maker.Approve, append(scope("it-workstation", "it/058091"), scope("it-workstation", "it/999999")...), []Approved{officer("it:A", workstations)}, nil, protocol.CodeEscalation},
		{"to oneself", maker.Approve, scope("it-workstation", "it/058091"), []Approved{officer("it:SUBJECT", workstations)}, nil, protocol.CodeOwnCertificate},
		{"without a scope", maker.Approve, nil, []Approved{officer("it:A", workstations)}, nil, protocol.CodeSubjectMismatch},
		{"a CA", maker.Approve, scope("issuing-ca", "it"), []Approved{officer("it:A", protocol.Scope{Profile: "*", Body: "*"})}, nil, protocol.CodeProfileUnknown},
		{"an unknown profile", maker.Approve, scope("nothing", "it"), []Approved{officer("it:A", protocol.Scope{Profile: "*", Body: "*"})}, nil, protocol.CodeProfileUnknown},
		{"a body it isn't for", maker.Approve, scope("it-workstation", "gr/1"), []Approved{officer("it:A", protocol.Scope{Profile: "*", Body: "*"})}, nil, protocol.CodeBodyNotAllowed},
		{"below its bodies", maker.Approve, scope("it-workstation", "it/058091/anagrafe"), []Approved{officer("it:A", workstations)}, nil, protocol.CodeBodyNotAllowed},
		{"what no approver does", maker.Approve, scope("ocsp-responder", "pki"), []Approved{officer("it:A", protocol.Scope{Profile: "*", Body: "*"})}, nil, protocol.CodeSubjectMismatch},
		{"not of the rule's role", maker.Approve, scope("it-workstation", "it/058091"), []Approved{holder}, nil, protocol.CodeApproverRole},
		{"a holder, where the rule takes holders", delegated, scope("it-workstation", "it/058091"), []Approved{holder}, nil, ""},
		{"approvers, by a holder", delegated, scope("approver", "it/058091"), []Approved{holder, officer("it:A")}, nil, protocol.CodeEscalation},
		{"approvers, by officers", delegated, scope("approver", "it/058091"), []Approved{officer("it:B"), officer("it:A")}, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := libraryPolicy(t)
			if c.need != nil {
				q, _ := p.Profile("it-workstation")
				c.need(q)
			}
			var code protocol.Code
			if r := p.Escalation(c.rule, target, c.scopes, "it:SUBJECT", "", c.cast); r != nil {
				code = r.Code
			}
			if code != c.want {
				t.Errorf("%q, want %q", code, c.want)
			}
		})
	}
}

func TestScopesAreForApprovers(t *testing.T) {
	p := libraryPolicy(t)
	q, _ := p.Profile("it-workstation")
	if r := p.Escalation(q.Approve, workstations, nil, "x", "", nil); r != nil {
		t.Errorf("a workstation without scopes: %s", r.Words())
	}
	if r := p.Escalation(q.Approve, workstations, []protocol.Scope{workstations}, "x", "", nil); r == nil || r.Code != protocol.CodeSubjectMismatch {
		t.Errorf("a workstation with a scope: %v", r)
	}
}

func TestRuleFor(t *testing.T) {
	c, err := Compile(libraryPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	q, _ := c.Profile("it-workstation")
	for _, want := range []struct {
		kind       protocol.Kind
		origin     protocol.Origin
		persons    uint64
		statements int
		roles      int
	}{
		{protocol.KindIssue, protocol.OriginAgent, 1, 0, 1},
		{protocol.KindIssue, protocol.OriginHolder, 1, 1, 1},
		{protocol.KindRenew, protocol.OriginHolder, 1, 1, 1},
		{protocol.KindRenew, protocol.OriginCurrent, 1, 0, 1},
		{protocol.KindWithdraw, 0, 1, 0, 1},
		{protocol.KindRevoke, 0, 1, 0, 2},
		{protocol.KindHold, 0, 1, 0, 2},
		{protocol.KindRelease, 0, 1, 0, 1},
		{protocol.KindPolicy, 0, 0, 0, 0},
	} {
		r := q.RuleFor(want.kind, want.origin)
		if r.Persons != want.persons || len(r.Statements) != want.statements || len(r.Roles) != want.roles {
			t.Errorf("%s by %s: %+v, want %d persons, %d statements, %d roles", want.kind, want.origin, r, want.persons, want.statements, want.roles)
		}
	}
	ca, _ := c.Profile("issuing-ca")
	if r := ca.RuleFor(protocol.KindIssue, protocol.OriginHolder); r.Persons != 0 || len(r.Statements) != 0 {
		t.Errorf("a CA certificate may be issued by %+v", r)
	}
}

func BenchmarkDecideAndNames(b *testing.B) {
	c, err := Compile(libraryPolicy(b))
	if err != nil {
		b.Fatal(err)
	}
	q, _ := c.Profile("it-workstation")
	rule := q.RuleFor(protocol.KindIssue, protocol.OriginAgent)
	req := &protocol.Request{Kind: protocol.KindIssue, Profile: q.Name, Body: "it/058091", Subject: "058091-PC-0020"}
	fields := map[string]string{"number": "0020"}
	approved := []Approved{approval("it:A", "approver", workstations, nil, 1000)}
	b.ReportAllocs()
	for b.Loop() {
		if r := rule.Decide(protocol.Scope{Profile: req.Profile, Body: req.Body}, req.Subject, "", approved); r != nil {
			b.Fatal(r.Words())
		}
		if _, r := q.Names(req, fields); r != nil {
			b.Fatal(r.Words())
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	rule := testRule
	rule.Persons = 2
	cast := []Approved{ballots()[0].Approved, ballots()[1].Approved, ballots()[2].Approved}
	if n := testing.AllocsPerRun(100, func() {
		if r := rule.Decide(workstations, "it:S", "it:R", cast); r != nil {
			t.Fatal(r.Words())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
