package appliance

import (
	"context"
	"errors"
	"maps"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/store"
	"coldseal/appliance/wire"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// What only the ledger or the CAs know of an order that is authorized (auditlog.State.Authorize).

// checkRoster asks that the officers' keys are for approving and nothing else (law 1).
func (r *run) checkRoster(it *item) (*protocol.Refusal, error) {
	c, _ := it.req.Replacement()
	next, err := policy.DecodeRoster(c.New)
	if err != nil {
		return nil, err // it was decoded a moment ago
	}
	keys := policy.NewIndex(next)
	maps.Copy(keys, policy.NewIndex(next.Recovery.Roster()))
	var refusal *protocol.Refusal
	err = r.ledger.View(func(tx *store.Tx) error {
		for id, officer := range keys {
			if _, certified := tx.KeyUse(id); certified {
				refusal = protocol.Refuse(protocol.CodeRosterInvalid, "reason", "a key of "+officer.Person+" has a certificate")
			}
		}
		return nil
	})
	for name, record := range r.state.Parties {
		if party, parseErr := protocol.ParseParty(record); parseErr == nil && keys[protocol.DigestOf(party.Seal)] != nil {
			refusal = protocol.Refuse(protocol.CodeRosterInvalid, "reason", "the key of "+name+" cannot approve as well")
		}
	}
	return refusal, err
}

// checkParty asks that the key of an agent or station is no approval key.
func (r *run) checkParty(it *item) (refusal *protocol.Refusal, err error) {
	_, party, _ := it.req.Enrolment()
	key := protocol.DigestOf(party.Seal)
	err = r.ledger.View(func(tx *store.Tx) error {
		_, approves, err := tx.Approver(key)
		if approves || r.officers[key] != nil || r.holders[key] != nil {
			refusal = protocol.Refuse(protocol.CodeKeyKnown)
		}
		return err
	})
	return refusal, err
}

// checkPolicy asks that the CAs there are can go on under a new policy: their own profiles stay, for these say how their
// CRLs are made, and all certificates that they are to sign can be shaped.
func (r *run) checkPolicy(it *item) (*protocol.Refusal, error) {
	c, _ := it.req.Replacement()
	next, err := policy.Decode(c.New)
	if err != nil {
		return nil, err // it was decoded a moment ago
	}
	invalid := func(reason string) (*protocol.Refusal, error) {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", reason), nil
	}
	for id, ca := range r.cas {
		was, found := r.state.CurrentPolicy().Profile(r.state.CAs[id].Profile)
		p, stays := next.Profile(r.state.CAs[id].Profile)
		if !found || !stays || p.Use != was.Use || p.CRLShards != was.CRLShards {
			return invalid("the profile " + r.state.CAs[id].Profile + " of the CA " + ca.Label + " is gone, or is for something else")
		}
		if err := shapeAll(map[shapeKey]*issue.Shape{}, ca, next, r.shards(id)); err != nil {
			return invalid(err.Error())
		}
	}
	reason, err := r.unknownLints(next)
	if err != nil || reason == "" {
		return nil, err
	}
	return invalid(reason)
}

// unknownLints asks the lint worker whether it knows all that a policy names, and says what it does not.
func (e *Engine) unknownLints(p *policy.Policy) (string, error) {
	for i := range p.Profiles {
		q := &p.Profiles[i]
		nothing := [][]byte{{0x30, 0}} // an empty SEQUENCE: what is found in it does not matter
		_, err := e.Lint.Certificates(context.Background(), lint.Config{Sets: q.Lint, Ignore: q.LintIgnore}, nothing)
		if refused, is := errors.AsType[*wire.Refused](err); is {
			return "profile " + q.Name + ": " + refused.Message, nil
		}
		if err != nil {
			return "", fault("lint", err)
		}
	}
	return "", nil
}
