package agent

import (
	"bytes"
	"fmt"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// view is what one command sees: a transaction, and what all requests are judged by.
type view struct {
	s         *Service
	tx        *store.Tx
	meta      store.Meta
	now       int64
	known     *known
	bundles   map[uint64]store.Bundle
	imports   map[uint64]store.Import
	approvals map[uint64]approval
}

func (s *Service) view(tx *store.Tx) (*view, error) {
	v := &view{
		s: s, tx: tx, now: s.unix(),
		bundles: map[uint64]store.Bundle{}, imports: map[uint64]store.Import{}, approvals: map[uint64]approval{},
	}
	var err error
	if v.meta, err = tx.Meta(); err != nil {
		return nil, err
	}
	state, err := tx.State()
	if err != nil {
		return nil, err
	}
	if v.known, err = decodeState(state); err != nil {
		return nil, err
	}
	if err := tx.EachBundle(func(n uint64, b store.Bundle) error { v.bundles[n] = b; return nil }); err != nil {
		return nil, err
	}
	return v, tx.EachImport(func(n uint64, i store.Import) error {
		if n <= v.meta.Imports {
			v.imports[n] = i
		}
		return nil
	})
}

// State is how far a request is on its journey. The values are stable; Words are for people.
type State string

// The states. Withdrawn and expired requests never left, or came back undone.
const (
	StateRequested State = "requested"
	StateApproved  State = "approved"
	StateOnMedium  State = "on-medium"
	StateImported  State = "imported"
	StatePublished State = "published"
	StateRefused   State = "refused"
	StateWithdrawn State = "withdrawn"
	StateExpired   State = "expired"
)

// States are all states, in the order of the journey.
func States() []State {
	return []State{StateRequested, StateApproved, StateOnMedium, StateImported, StatePublished, StateRefused, StateWithdrawn, StateExpired}
}

// Words is the state in English, as in the table of the crossing.
func (s State) Words() string {
	switch s {
	case StateRequested:
		return "Requested"
	case StateApproved:
		return "Approved"
	case StateOnMedium:
		return "On medium"
	case StateImported:
		return "Response imported"
	case StatePublished:
		return "Published"
	case StateRefused:
		return "Refused"
	case StateWithdrawn:
		return "Withdrawn"
	case StateExpired:
		return "Expired"
	}
	return string(s)
}

// Final tells whether nothing more will come of the request.
func (s State) Final() bool {
	return s == StateImported || s == StatePublished || s == StateRefused || s == StateWithdrawn || s == StateExpired
}

// Standing is where a request stands.
type Standing struct {
	State    State
	Open     bool              // refused, and may be sent again
	Leaving  bool              // a request that withdraws it is on its way
	Outcome  protocol.Outcome  // of the newest answer; zero if there is none
	Serial   []byte            // of the certificate that this answer is about; none if it is about none
	Refusal  *protocol.Refusal // of the newest answer, or of the bundle as a whole
	Missing  *protocol.Refusal // why the approvals attached are not enough; nil if they seem to be
	Bundle   uint64            // the newest it is in
	Import   uint64            // where its newest answer is
	Have     uint64            // persons whose approvals seem to count
	Need     uint64            // persons that the rule needs; zero if it is not known
	Unproved uint64            // of those, approvals whose key is not known here
}

// standing derives where a request stands from its bundles and their responses.
func (v *view) standing(n uint64, r store.Request) (Standing, error) {
	var st Standing
	result, err := v.newest(&st, n, r)
	if err != nil {
		return st, err
	}
	for _, sequence := range r.Bundles {
		st.Bundle = max(st.Bundle, sequence)
	}
	if result != nil && !result.Open {
		st.State = StateImported
		if st.Outcome == protocol.OutcomeRefused {
			st.State = StateRefused
		} else if st.Outcome == protocol.OutcomeIssued && v.imports[st.Import].Published != 0 {
			st.State = StatePublished
		}
		return st, nil
	}
	bundle := v.bundles[st.Bundle]
	if st.Bundle != 0 && !bundle.Answered {
		st.State = StateOnMedium
		return st, nil
	}
	if result == nil && st.Bundle != 0 {
		st.Refusal = bundle.Refusal
	}
	if err := v.judge(&st, n, r); err != nil {
		return st, err
	}
	withdrawn := r.Withdrawn
	if r.Taker != 0 {
		taken, _, found, err := v.answer(r.Taker)
		if err != nil {
			return st, err
		}
		withdrawn = found && taken.result.Outcome == protocol.OutcomeWithdrawn
		st.Leaving = !found
	}
	switch {
	case withdrawn:
		st.State = StateWithdrawn
	case v.now >= r.Expires:
		st.State = StateExpired
	case result != nil && !again(st.Refusal.Code) && r.Attached < st.Import:
		st.State, st.Open = StateRefused, true
	case st.Missing == nil:
		st.State = StateApproved
	default:
		st.State = StateRequested
	}
	return st, nil
}

// again tells whether a request that was refused may be sent again as it is, without anybody having to do something.
func again(code protocol.Code) bool {
	switch code {
	case protocol.CodeQuota, protocol.CodeNoSpace, protocol.CodeClock, protocol.CodeFault, protocol.CodeRepeated:
		return true
	}
	return false
}

// newest finds the answer that counts: one that is final, else the newest.
func (v *view) newest(st *Standing, n uint64, r store.Request) (*store.Result, error) {
	imports := r.Imports
	for _, sequence := range r.Bundles {
		imports = append(imports[:len(imports):len(imports)], v.bundles[sequence].Imports...)
	}
	var best *store.Result
	for _, i := range imports {
		if _, counts := v.imports[i]; !counts {
			continue
		}
		result, found := v.tx.Result(i, n)
		if !found || best != nil && rank(*best) > rank(result) || best != nil && rank(*best) == rank(result) && i < st.Import {
			continue
		}
		best, st.Import, st.Outcome, st.Serial = &result, i, result.Outcome, result.Serial
	}
	if best == nil || best.Outcome != protocol.OutcomeRefused {
		return best, nil
	}
	_, parsed, err := protocol.ParseAnswer(best.Answer)
	if err != nil {
		return nil, fmt.Errorf("stored answer to request %d: %w", n, err)
	}
	st.Refusal = parsed.Refusal
	return best, nil
}

func rank(r store.Result) int {
	switch {
	case r.Outcome != protocol.OutcomeRefused:
		return 2
	case !r.Open:
		return 1
	}
	return 0
}

// judge counts approvals as the appliance will, as far as that can be known here.
func (v *view) judge(st *Standing, n uint64, r store.Request) error {
	rule, target, content, err := v.rule(n, r)
	if err != nil || rule.Persons == 0 {
		if err == nil {
			st.Missing = protocol.Refuse(protocol.CodeProfileUnknown, "profile", r.Profile)
		}
		return err
	}
	st.Need = rule.Persons
	var approved []policy.Approved
	for _, c := range r.Covers {
		a, err := v.approval(c.Approval)
		if err != nil {
			return err
		}
		if a.discount == nil && !r.Kind.TakesAway() && v.meta.Restored != 0 && a.created <= v.meta.Restored {
			a.discount = protocol.Refuse(protocol.CodeApprovalVoid, "person", a.approver.Person, "date", protocol.Date(v.meta.Restored))
		}
		p := policy.Approved{Approver: a.approver, Entry: protocol.ApprovalEntry{ID: r.ID, Statements: c.Statements}, Covers: a.entries, Discount: a.discount}
		if a.unproved {
			st.Unproved++
			p.Approver = policy.Approver{Person: "key:" + a.key.String(), Roles: rule.Roles, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}}, Officer: true}
		}
		approved = append(approved, p)
	}
	if len(approved) > protocol.MaxGroupApprovals {
		approved = approved[:protocol.MaxGroupApprovals]
	}
	st.Missing = rule.Decide(target, r.Subject, "", approved)
	if st.Missing == nil {
		st.Have = st.Need
		if content != nil && len(content.Scopes) != 0 {
			st.Missing = v.known.policy.Escalation(rule, target, content.Scopes, r.Subject, "", approved)
		}
		return nil
	}
	if _, err := fmt.Sscan(st.Missing.Params["have"], &st.Have); err != nil {
		st.Have = 0
	}
	if r.Kind == protocol.KindRenew && r.Current {
		if p, found := v.known.policy.Profile(r.Profile); found && p.Renew.WindowDays != 0 {
			st.Missing = nil // the current key may be enough; the appliance knows how long ago persons approved
		}
	}
	return nil
}

// rule finds whose approval a request needs. The content is decoded only where it matters.
func (v *view) rule(n uint64, r store.Request) (rule policy.Rule, target protocol.Scope, content *protocol.Issuance, err error) {
	about := r
	if r.Kind == protocol.KindWithdraw {
		req, err := v.request(n)
		if err != nil {
			return rule, target, nil, err
		}
		withdrawal, refusal := req.Withdrawal()
		if refusal != nil {
			return rule, target, nil, fmt.Errorf("stored request %d: %s", n, refusal.Words())
		}
		if withdrawn := v.tx.RequestNumber(withdrawal.Request); withdrawn != 0 {
			if about, err = v.tx.Request(withdrawn); err != nil {
				return rule, target, nil, err
			}
		}
	}
	target = protocol.Scope{Profile: about.Profile, Body: about.Body}
	profile, found := v.known.policy.Profile(about.Profile)
	if !found {
		return rule, target, nil, nil
	}
	var origin protocol.Origin
	if r.Kind == protocol.KindIssue || r.Kind == protocol.KindRenew {
		req, err := v.request(n)
		if err != nil {
			return rule, target, nil, err
		}
		issuance, refusal := req.Issuance()
		if refusal != nil {
			return rule, target, nil, fmt.Errorf("stored request %d: %s", n, refusal.Words())
		}
		content, origin = &issuance, issuance.Origin
	}
	return profile.RuleFor(about.Kind, origin), target, content, nil
}

// own is a certificate that was issued to one of this agent's requests.
type own struct {
	number  uint64
	request store.Request
	result  protocol.Result
}

// certificate finds the request that a certificate was issued to.
func (v *view) certificate(issuer protocol.Digest, serial []byte) (own, bool, error) {
	for _, n := range v.tx.About(issuer, serial) {
		o, answer, found, err := v.answer(n)
		if err != nil {
			return o, false, err
		}
		if found && answer.Index != 0 && o.result.Outcome == protocol.OutcomeIssued && o.result.Issuer == issuer && bytes.Equal(o.result.Serial, serial) {
			return o, true, nil
		}
	}
	return own{}, false, nil
}

// hold finds the log index of the hold that a certificate is on.
func (v *view) hold(issuer protocol.Digest, serial []byte) (uint64, error) {
	var index uint64
	for _, n := range v.tx.About(issuer, serial) {
		o, answer, found, err := v.answer(n)
		if err != nil {
			return 0, err
		}
		if found && o.request.Kind == protocol.KindHold && o.result.Outcome == protocol.OutcomeHeld {
			index = max(index, answer.Index)
		}
	}
	if index == 0 {
		return 0, &Error{
			Kind: ErrNotFound, What: fmt.Sprintf("no hold of the certificate %x was imported", serial),
			Hint: "import the response to the hold first, or say its log index with --hold",
		}
	}
	return index, nil
}

// answer reads the answer that counts for a request.
func (v *view) answer(n uint64) (own, protocol.Answer, bool, error) {
	r, err := v.tx.Request(n)
	if err != nil {
		return own{}, protocol.Answer{}, false, err
	}
	var st Standing
	result, err := v.newest(&st, n, r)
	if err != nil || result == nil {
		return own{}, protocol.Answer{}, false, err
	}
	answer, parsed, err := protocol.ParseAnswer(result.Answer)
	return own{number: n, request: r, result: parsed}, answer, err == nil, err
}
