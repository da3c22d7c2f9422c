package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coldseal/protocol"
)

// Approver is who made an approval, as roster or ledger say now.
type Approver struct {
	Person  string
	Roles   []string // of an officer; RoleApprover alone for the holder of an approver certificate
	Scopes  []protocol.Scope
	Officer bool // stands in the roster; others' scopes never hold protocol.Any
}

// Approved is one person's approval of one request.
type Approved struct {
	Approver
	Entry    protocol.ApprovalEntry
	Covers   int               // entries of that approval
	Discount *protocol.Refusal // why it doesn't count, where the caller found that out: expired, revoked, suspended, manifest
}

// Decide tells whether enough persons approved one request about target; nil is yes. A person whose identifier is
// subject or requester is not counted; "" is nobody. At most protocol.MaxGroupApprovals approvals are taken.
//
// If they are too few, the refusal is that of the first approval which doesn't count; else same-person, if one person's
// approvals would have been enough; else approvals-missing. Each has the parameters have, need, missing and who.
func (r Rule) Decide(target protocol.Scope, subject, requester string, approved []Approved) *protocol.Refusal {
	q := question{rule: r, target: target, subject: subject, requester: requester}
	return q.decide(approved)
}

// question is whom to count. It is a struct rather than a function so that deciding allocates nothing.
type question struct {
	rule               Rule
	target             protocol.Scope
	subject, requester string
	order              bool            // of the roster's officers; targets nothing
	grant              *protocol.Scope // must lie within the person's scopes as well
}

func (q *question) decide(approved []Approved) *protocol.Refusal {
	if q.rule.Persons == 0 {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", "no rule says whose approval is needed")
	}
	if len(approved) > protocol.MaxGroupApprovals {
		return protocol.Refuse(protocol.CodeTooLarge, "thing", "list of approvals", "limit", strconv.Itoa(protocol.MaxGroupApprovals))
	}
	var counts [protocol.MaxGroupApprovals]bool
	var have, all uint64
	first, again := -1, -1
	for i := range approved { // few: looking back costs less than a map
		a := &approved[i]
		if a.Discount != nil || q.flaw(a) != "" {
			if first < 0 {
				first = i
			}
			continue
		}
		all++
		known := false
		for j := range i {
			known = known || counts[j] && approved[j].Person == a.Person
		}
		if known {
			again = i
			continue
		}
		counts[i] = true
		if have++; have == q.rule.Persons {
			return nil
		}
	}
	switch {
	case first >= 0:
		code, params := q.reason(&approved[first])
		return q.refuse(have, code, params...)
	case again >= 0 && all >= q.rule.Persons:
		return q.refuse(have, protocol.CodeSamePerson, "person", approved[again].Person)
	}
	return q.refuse(have, protocol.CodeApprovalsMissing)
}

// flaw says why an approval doesn't count; "" is that it does.
func (q *question) flaw(a *Approved) protocol.Code {
	switch {
	case q.subject != "" && a.Person == q.subject:
		return protocol.CodeOwnCertificate
	case q.requester != "" && a.Person == q.requester:
		return protocol.CodeOwnRequest
	case !q.hasRole(a):
		return protocol.CodeApproverRole
	case !q.order && !a.within(q.target):
		return protocol.CodeOutOfScope
	}
	for _, s := range q.rule.Statements {
		if !a.Entry.States(s) {
			return protocol.CodeStatementMissing
		}
	}
	if q.rule.Alone && a.Covers != 1 {
		return protocol.CodeOneAtATime
	}
	if q.grant != nil && !a.within(*q.grant) {
		return protocol.CodeEscalation
	}
	return ""
}

func (q *question) hasRole(a *Approved) bool {
	if q.order && !a.Officer {
		return false
	}
	for _, role := range a.Roles {
		if slices.Contains(q.rule.Roles, role) {
			return true
		}
	}
	return false
}

// within tells whether one of the person's scopes contains all of target. Any is believed of officers only.
func (a *Approver) within(target protocol.Scope) bool {
	for _, s := range a.Scopes {
		if !a.Officer && (s.Profile == protocol.Any || s.Body == protocol.Any) {
			continue
		}
		if s.Contains(target) {
			return true
		}
	}
	return false
}

// reason puts into parameters why an approval doesn't count.
func (q *question) reason(a *Approved) (protocol.Code, []string) {
	if a.Discount != nil {
		var params []string
		for name, value := range a.Discount.Params {
			params = append(params, name, value)
		}
		return a.Discount.Code, params
	}
	code, params := q.flaw(a), []string{"person", a.Person}
	switch code {
	case protocol.CodeOutOfScope:
		params = append(params, "profile", q.target.Profile, "body", q.target.Body)
	case protocol.CodeEscalation:
		params = append(params, "profile", q.grant.Profile, "body", q.grant.Body)
	case protocol.CodeStatementMissing:
		for _, s := range q.rule.Statements {
			if !a.Entry.States(s) {
				return code, append(params, "statement", s.String())
			}
		}
	case protocol.CodeOneAtATime:
		params = append(params, "count", strconv.Itoa(a.Covers))
	}
	return code, params
}

// refuse adds how many are there, how many are missing, and who they could be.
func (q *question) refuse(have uint64, code protocol.Code, params ...string) *protocol.Refusal {
	return protocol.Refuse(code, append(params, "have", strconv.FormatUint(have, 10), "need", strconv.FormatUint(q.rule.Persons, 10),
		"missing", strconv.FormatUint(q.rule.Persons-have, 10), "who", q.who())...)
}

func (q *question) who() string {
	who := "role " + strings.Join(q.rule.Roles, " or ")
	if q.order {
		return who
	}
	who += " with scope " + scopeText(q.target)
	if q.grant != nil {
		who += " and " + scopeText(*q.grant)
	}
	return who
}

func scopeText(s protocol.Scope) string { return s.Profile + " × " + s.Body }

// Escalation tells whether a certificate of profile target.Profile may be given these scopes (law 4); nil is yes. Only
// approvers have scopes, and each has one. It asks beyond Decide, of those whom rule counts for target: for each scope P×B as many persons as P's rules need, each with a scope
// containing P×B, none the subject. CA profiles are never granted, nor is what no rule of P lets an approver do.
//
// A scope over an approver profile is the power to make approvers: it is granted by officers only, so that it never
// passes from holder to holder out of the roster's sight.
func (p *Policy) Escalation(rule Rule, target protocol.Scope, scopes []protocol.Scope, subject, requester string, approved []Approved) *protocol.Refusal {
	maker, found := p.Profile(target.Profile)
	if !found || maker.Use != UseApprover {
		if len(scopes) == 0 {
			return nil
		}
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "scopes", "profile", target.Profile, "reason", "is for approvers only")
	}
	if len(scopes) == 0 {
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "scopes", "profile", target.Profile, "reason", "an approver has at least one scope")
	}
	for i := range scopes {
		s := &scopes[i]
		profile, found := p.Profile(s.Profile)
		if !found || profile.Use.IsCA() {
			return protocol.Refuse(protocol.CodeProfileUnknown, "profile", s.Profile)
		}
		if !profile.reaches(s.Body) {
			return protocol.Refuse(protocol.CodeBodyNotAllowed, "profile", s.Profile, "body", s.Body)
		}
		power := profile.power()
		if power == 0 {
			return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "scopes", "profile", target.Profile,
				"reason", fmt.Sprintf("no rule of %s lets an approver do anything", s.Profile))
		}
		need := rule
		need.Persons = power
		q := question{rule: need, target: target, subject: subject, requester: requester, grant: s}
		who := approved
		if profile.Use == UseApprover {
			who = make([]Approved, len(approved))
			copy(who, approved)
			for j := range who {
				if !who[j].Officer && who[j].Discount == nil {
					who[j].Discount = protocol.Refuse(protocol.CodeEscalation, "person", who[j].Person, "profile", s.Profile, "body", s.Body)
				}
			}
		}
		if refusal := q.decide(who); refusal != nil {
			return refusal
		}
	}
	return nil
}

// Renews tells whether the current key alone may renew a certificate now (law 4); nil is yes. That the certificate is
// active and has no successor is the caller's to know. Times are unix seconds: notAfter is inclusive, approved is when
// persons last approved it.
func (r Renewal) Renews(serial []byte, now, notAfter, approved int64) *protocol.Refusal {
	const day = 86400
	if from := notAfter + 1 - r.WindowDays*day; now < from {
		return protocol.Refuse(protocol.CodeRenewalWindow, "serial", fmt.Sprintf("%x", serial), "from", protocol.Date(from), "to", protocol.Date(notAfter))
	}
	if now > approved+r.SinceDays*day {
		return protocol.Refuse(protocol.CodeRenewalTooOld, "date", protocol.Date(approved), "limit", strconv.FormatInt(r.SinceDays, 10))
	}
	return nil
}

// reaches tells whether the profile is for the body or for one below it.
func (p *Profile) reaches(body string) bool {
	if p.Segments != 0 && uint64(strings.Count(body, "/"))+1 > p.Segments {
		return false
	}
	for _, b := range p.Bodies {
		if b == protocol.Any || protocol.BodyContains(b, body) || protocol.BodyContains(body, b) {
			return true
		}
	}
	return false
}

// power is the most persons that any of the profile's rules needs; 0 where none of them takes an approver.
func (p *Profile) power() uint64 {
	if !slices.Contains(p.Approve.Roles, RoleApprover) && !slices.Contains(p.TakeAway.Roles, RoleApprover) && !slices.Contains(p.Release.Roles, RoleApprover) {
		return 0
	}
	return max(p.Approve.Persons, p.TakeAway.Persons, p.Release.Persons)
}
