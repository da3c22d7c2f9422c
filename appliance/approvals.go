package appliance

import (
	"errors"
	"fmt"
	"slices"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// approval is an approval whose signature was verified, or what is left of one that was not.
type approval struct {
	protocol.Approval
	approver policy.Approver
	discount *protocol.Refusal // why it does not count, whatever it covers
}

// person finds who holds a key that was enrolled for approving: an officer, or the holder of an approver certificate.
// The refusal tells why what they sign does not count now.
func (e *Engine) person(tx *store.Tx, keyID protocol.Digest, now int64) (policy.Approver, cose.Key, *protocol.Refusal, error) {
	if o, key, found := auditlog.Officer(e.state.CurrentRoster(), keyID); found {
		var refusal *protocol.Refusal
		if o.Suspended {
			refusal = protocol.Refuse(protocol.CodeApproverSuspended, "person", o.Person)
		}
		return policy.Approver{Person: o.Person, Roles: o.Roles, Scopes: o.Scopes, Officer: true}, key, refusal, nil
	}
	a, found, err := tx.Approver(keyID)
	if err != nil {
		return policy.Approver{}, cose.Key{}, nil, err
	}
	if !found {
		return policy.Approver{}, cose.Key{}, nil, nil
	}
	key, err := cose.ParseKey(a.SPKI)
	if err != nil {
		return policy.Approver{}, key, nil, fmt.Errorf("ledger: approver %s: %w", keyID, err)
	}
	c, found, err := tx.Certificate(a.Issuer, a.Serial)
	if err == nil && !found {
		err = errors.New("it has no certificate")
	}
	if err != nil {
		return policy.Approver{}, key, nil, fmt.Errorf("ledger: approver %s: %w", keyID, err)
	}
	var refusal *protocol.Refusal
	use, _ := tx.KeyUse(keyID)
	switch {
	case use.Compromised: // by another certificate of the same key
		refusal = protocol.Refuse(protocol.CodeApproverRevoked, "person", a.Person, "status", protocol.ReasonKeyCompromise.String())
	case c.Status != auditlog.Active:
		refusal = protocol.Refuse(protocol.CodeApproverRevoked, "person", a.Person, "status", c.Status.String())
	case now < c.NotBefore || now > c.NotAfter:
		refusal = protocol.Refuse(protocol.CodeApproverExpired, "person", a.Person, "from", protocol.Date(c.NotBefore), "to", protocol.Date(c.NotAfter))
	}
	return policy.Approver{Person: a.Person, Roles: []string{policy.RoleApprover}, Scopes: a.Scopes}, key, refusal, nil
}

// openApprovals verifies the approvals of a group. An approval that is no good stays in the list with its reason, so
// that whoever lacks one is told why; the reason is always an open one, for another approval mends it. Those for taking
// away may have been made later than a clock which is not believed says it is.
func (e *Engine) openApprovals(tx *store.Tx, g protocol.Group, items []*item, now int64) ([]approval, error) {
	var approvals []approval
	for _, message := range g.Approvals {
		keyID, err := cose.KeyID(message)
		if err != nil {
			approvals = append(approvals, approval{discount: protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error())})
			continue
		}
		who, key, discount, err := e.person(tx, keyID, now)
		if err != nil {
			return nil, err
		}
		if who.Person == "" {
			approvals = append(approvals, approval{discount: protocol.Refuse(protocol.CodeApproverUnknown, "key", protocol.Digest(keyID).String())})
			continue
		}
		opened, refusal := protocol.OpenApproval(message, key)
		if refusal != nil {
			approvals = append(approvals, approval{discount: protocol.Refuse(protocol.CodeApprovalInvalid, "reason", refusal.Words())})
			continue
		}
		a := approval{opened, who, discount}
		at, restored := now, e.state.Restored
		if g.Section == protocol.SectionTakeAway {
			at, restored = max(now, opened.Created), 0
		}
		if a.discount == nil {
			a.discount = auditlog.CheckApproval(&opened, e.appliance, who.Person, at, restored)
		}
		if a.discount == nil && !manifestHolds(&opened, items) {
			a.discount = protocol.Refuse(protocol.CodeManifestMismatch, "person", who.Person)
		}
		approvals = append(approvals, a)
	}
	return approvals, nil
}

// manifestHolds compares what the person was shown with the covered requests that are here. When some are elsewhere,
// those that are here may at most be as many as were shown.
func manifestHolds(a *protocol.Approval, items []*item) bool {
	var here []protocol.Request
	seen := make(map[protocol.Digest]bool, len(a.Entries))
	for _, it := range items {
		if _, covers := a.Entry(it.id); covers && it.parsed && !seen[it.id] {
			here, seen[it.id] = append(here, it.req), true
		}
	}
	counts := protocol.ManifestOf(here)
	if len(here) == len(a.Entries) {
		return slices.Equal(counts, a.Manifest)
	}
	for _, c := range counts {
		shown := slices.IndexFunc(a.Manifest, func(m protocol.Count) bool {
			return m.Kind == c.Kind && m.Profile == c.Profile && m.Body == c.Body
		})
		if shown < 0 || a.Manifest[shown].N < c.N {
			return false
		}
	}
	return true
}

// approvedFor collects what the approvals of a group say about one request.
func approvedFor(approvals []approval, id protocol.Digest) []policy.Approved {
	approved := make([]policy.Approved, 0, len(approvals))
	for i := range approvals {
		a := &approvals[i]
		if a.approver.Person == "" { // nobody knows what it covers
			approved = append(approved, policy.Approved{Discount: a.discount})
			continue
		}
		if entry, covers := a.Entry(id); covers {
			approved = append(approved, policy.Approved{Approver: a.approver, Entry: entry, Covers: len(a.Entries), Discount: a.discount})
		}
	}
	return approved
}

// requester finds the person who signed that they ask for the request; empty if nobody did.
func (e *Engine) requester(tx *store.Tx, it *item, now int64) (string, *protocol.Refusal, error) {
	if len(it.item.Requester) == 0 {
		return "", nil, nil
	}
	keyID, err := cose.KeyID(it.item.Requester)
	if err != nil {
		return "", protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error()), nil
	}
	who, key, _, err := e.person(tx, keyID, now)
	if err != nil {
		return "", nil, err
	}
	if who.Person == "" {
		return "", protocol.Refuse(protocol.CodeApproverUnknown, "key", protocol.Digest(keyID).String()), nil
	}
	if err := protocol.VerifyID(it.item.Requester, protocol.ContextRequester, key, it.id); err != nil {
		return "", protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error()), nil
	}
	return who.Person, nil, nil
}
