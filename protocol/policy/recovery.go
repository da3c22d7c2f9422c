package policy

import (
	"fmt"
	"slices"

	"coldseal/protocol"
)

// Recovery is the way out when a roster's own officers are lost. Its holders decide what the roster's officers would, of
// two kinds of orders: the announcement of a new roster, and that roster itself when the announced days have passed.

// recoveryRole is the role of holders in the roster that they are for a moment.
const recoveryRole = "recovery"

// Roster gives the holders as the officers of a roster, whose rules are for recovery and nothing else. Nil is a roster
// that decides nothing.
func (c *Recovery) Roster() *Roster {
	o := &Roster{Version: protocol.Version}
	if c == nil {
		return o
	}
	for _, h := range c.Holders {
		o.Officers = append(o.Officers, Officer{Person: h.Person, Name: h.Name, Keys: h.Keys, Roles: []string{recoveryRole}})
	}
	for _, kind := range []protocol.Kind{protocol.KindRoster, protocol.KindRecovery} {
		o.Orders = append(o.Orders, OrderRule{Kind: kind, Persons: c.Persons, Role: recoveryRole})
	}
	return o
}

// Alone gives a roster in which the officer decides about their own suspension, and nothing else.
func (o *Roster) Alone(person string) *Roster {
	alone := &Roster{Version: protocol.Version, Orders: []OrderRule{{Kind: protocol.KindSuspend, Persons: 1, Role: "self"}}}
	for _, f := range o.Officers {
		if f.Person == person {
			f.Roles = []string{"self"}
			alone.Officers = append(alone.Officers, f)
		}
	}
	return alone
}

// Suspend gives the roster with an officer suspended. It may have too few officers for some orders then; it is an error
// if nobody could change it any more.
func (o *Roster) Suspend(person string) (*Roster, error) {
	next := *o
	next.Officers = slices.Clone(o.Officers)
	i := slices.IndexFunc(next.Officers, func(f Officer) bool { return f.Person == person })
	if i < 0 || next.Officers[i].Suspended {
		return nil, fmt.Errorf("%s is not an officer, or is suspended", person)
	}
	next.Officers[i].Suspended = true
	rule, _ := o.Order(protocol.KindRoster)
	if left := next.count(func(f *Officer) bool { return slices.Contains(f.Roles, rule.Role) }); left < rule.Persons && o.Recovery == nil {
		return nil, fmt.Errorf("%d officers would be left of %d who change the roster, and nobody is named for recovery", left, rule.Persons)
	}
	return &next, nil
}

func (c *Recovery) checkForm(r *report, holders map[protocol.Digest]string) {
	if c == nil {
		return
	}
	if len(c.Holders) > MaxOfficers {
		r.add(0, "roster, recovery", fmt.Sprintf("have at most %d holders", MaxOfficers), "there are %d", len(c.Holders))
	}
	for i, h := range c.Holders {
		where := "roster, recovery, " + h.Person
		if i > 0 && c.Holders[i-1].Person >= h.Person {
			r.add(0, where, "compile the roster again", "stands twice or out of order")
		}
		// An officer may hold a recovery key as well, but another key: what one is used for the other can't be taken for.
		checkHolder(r, where, where, h, holders)
	}
	if c.Persons < 1 || c.Persons > protocol.MaxGroupApprovals || c.Days < 1 || c.Days > MaxDays {
		r.add(0, "roster, recovery", "ask for at least one person and one day", "%d persons and %d days is not possible", c.Persons, c.Days)
	}
}

// check asks that a recovery is not easier to come by than what it replaces, and can lose a holder.
func (c *Recovery) check(o *Roster, r *report) {
	if c == nil {
		return
	}
	where := "roster, recovery"
	if rule, found := o.Order(protocol.KindRoster); found && c.Persons < rule.Persons {
		r.add(4, where, "ask for as many", "%s could replace a roster that %s change", people(c.Persons), people(rule.Persons))
	}
	for _, h := range c.Holders {
		if len(h.Keys) == 0 || len(h.Keys) > 8 {
			r.add(0, where+", "+h.Person, "give from 1 to 8 keys", "has %d keys", len(h.Keys))
		}
	}
	if uint64(len(c.Holders)) <= c.Persons {
		r.add(0, where, "add holders, or ask for fewer", "needs %s, %d are there: the loss of one would stop it for ever", people(c.Persons), len(c.Holders))
	}
}
