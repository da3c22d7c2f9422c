package policy

import (
	"slices"

	"coldseal/protocol"
)

// check asks that every kind of order can be decided, also when one officer is missing.
func (o *Roster) check(r *report) {
	for i := range o.Officers {
		f := &o.Officers[i]
		where := "roster, officer " + f.Person
		if len(f.Keys) == 0 || len(f.Keys) > 8 || len(f.Roles) == 0 {
			r.add(0, where, "give from 1 to 8 keys and at least one role", "has %d keys and %d roles", len(f.Keys), len(f.Roles))
		}
		for _, role := range f.Roles {
			if role == RoleApprover || !protocol.ValidName(role) {
				r.add(4, where+", roles", "use another name", "%q is not a role of the roster; approver is for holders of approver certificates", role)
			}
		}
	}
	o.checkOrders(r)
	o.Recovery.check(o, r)
}

// checkOrders asks that each order has a rule, and one officer more than that needs. Kinds that lack the same are said at once.
func (o *Roster) checkOrders(r *report) {
	type lack struct {
		persons uint64
		role    string
	}
	var lacks []lack
	kinds := map[lack][]string{}
	for _, kind := range protocol.RuledOrders() {
		order, found := o.Order(kind)
		if !found {
			r.add(0, "roster, orders of kind "+kind.String(), "add one", "there is no rule")
			continue
		}
		if l := (lack{order.Persons, order.Role}); o.having(order.Role) <= order.Persons {
			if kinds[l] == nil {
				lacks = append(lacks, l)
			}
			kinds[l] = append(kinds[l], kind.String())
		}
	}
	for _, l := range lacks {
		where := "roster, orders of kind " + joined(kinds[l])
		if len(kinds[l]) == len(protocol.RuledOrders()) {
			where = "roster, all orders"
		}
		r.add(0, where, "add officers, or ask for fewer", "needs %s of role %s, %d are there: the loss of one would stop it for ever", people(l.persons), l.role, o.having(l.role))
	}
}

// having counts the officers with a role who are not suspended.
func (o *Roster) having(role string) uint64 {
	return o.count(func(f *Officer) bool { return slices.Contains(f.Roles, role) })
}

func (o *Roster) count(counts func(*Officer) bool) uint64 {
	var n uint64
	for i := range o.Officers {
		if !o.Officers[i].Suspended && counts(&o.Officers[i]) {
			n++
		}
	}
	return n
}

// checkEnough asks that rules which only officers can meet have one officer more than they need, for every body; and
// that for each profile which approvers approve there are officers enough to make them (law 4).
func (p *Policy) checkEnough(q *Profile, o *Roster, r *report) {
	if q.Use.IsCA() {
		return
	}
	for _, rule := range q.rules() {
		where := "profile " + q.Name + ", " + rule.name
		for _, role := range rule.Roles {
			if role != RoleApprover && o.having(role) == 0 {
				r.add(0, where, "name a role that an officer has", "no officer has the role %s", role)
			}
		}
		if slices.Contains(rule.Roles, RoleApprover) {
			continue
		}
		for _, body := range q.Bodies {
			target := protocol.Scope{Profile: q.Name, Body: body}
			if has := o.count(func(f *Officer) bool { return meets(f, rule.Rule) && covers(f, target) }); has <= rule.Persons {
				r.add(0, where, "add officers or widen their scopes, or ask for fewer", "needs %s for %s, %d of the officers may: the loss of one would stop it for ever", people(rule.Persons), body, has)
			}
		}
	}
	power := q.power()
	if power == 0 {
		return
	}
	for i := range p.Profiles {
		maker := &p.Profiles[i]
		if maker.Use != UseApprover || slices.Contains(maker.Approve.Roles, RoleApprover) {
			continue
		}
		for _, body := range q.Bodies {
			target := protocol.Scope{Profile: q.Name, Body: body}
			if has := o.count(func(f *Officer) bool { return meets(f, maker.Approve) && covers(f, target) }); has < power {
				r.add(4, "profile "+maker.Name+", approve", "widen the scopes of officers", "approvers of %s for %s are made by %s who may approve that themselves; %d of the officers may", q.Name, body, people(power), has)
			}
		}
	}
}

func meets(f *Officer, rule Rule) bool {
	return slices.ContainsFunc(f.Roles, func(role string) bool { return slices.Contains(rule.Roles, role) })
}

func covers(f *Officer, target protocol.Scope) bool {
	a := f.Approver()
	return a.within(target)
}
