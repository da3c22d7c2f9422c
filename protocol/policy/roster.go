package policy

import (
	"slices"

	"coldseal/protocol"
)

// Order finds the rule of one kind of order.
func (r *Roster) Order(kind protocol.Kind) (OrderRule, bool) {
	for _, o := range r.Orders {
		if o.Kind == kind {
			return o, true
		}
	}
	return OrderRule{}, false
}

// DecideOrder tells whether enough officers approved an order, each by itself (law 1); nil is yes. That they did so at
// the console is the caller's to know. A change of roster or policy is decided twice, by the old and by the new one.
func (r *Roster) DecideOrder(kind protocol.Kind, approved []Approved) *protocol.Refusal {
	order, found := r.Order(kind)
	if !found {
		return protocol.Refuse(protocol.CodeRosterInvalid, "reason", "there is no rule for orders of kind "+kind.String())
	}
	rule := Rule{Persons: order.Persons, Roles: []string{order.Role}, Alone: true}
	q := question{rule: rule, order: true}
	return q.decide(approved)
}

// LastResort is the rule for taking away certificates whose profile is no longer in the policy: anybody whose scope
// covers them.
func (r *Roster) LastResort() Rule {
	rule := Rule{Persons: 1, Roles: []string{RoleApprover}}
	for _, o := range r.Officers {
		rule.Roles = append(rule.Roles, o.Roles...)
	}
	slices.Sort(rule.Roles)
	rule.Roles = slices.Compact(rule.Roles)
	return rule
}

// Index finds officers by the id of a key: the SHA-256 of its SubjectPublicKeyInfo.
type Index map[protocol.Digest]*Officer

// NewIndex indexes all keys of a roster, those of suspended officers too. It keeps pointers into the roster.
func NewIndex(r *Roster) Index {
	index := make(Index, 2*len(r.Officers))
	for i := range r.Officers {
		for _, spki := range r.Officers[i].Keys {
			index[protocol.DigestOf(spki)] = &r.Officers[i]
		}
	}
	return index
}

// Approver is what rules know of an officer. A suspended one is discounted by the caller.
func (o *Officer) Approver() Approver {
	return Approver{Person: o.Person, Roles: o.Roles, Scopes: o.Scopes, Officer: true}
}
