package appliance

import (
	"bytes"
	"fmt"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// reserved is what batches take before the ledger shows it: the one that is decided, and the one that is signed meanwhile.
type reserved struct {
	names     map[string][]byte // to the serial
	keys      map[protocol.Digest]string
	ids       map[protocol.Digest]bool
	renewed   map[string]bool
	withdrawn map[protocol.Digest]bool
}

func newReserved() *reserved {
	return &reserved{map[string][]byte{}, map[protocol.Digest]string{}, map[protocol.Digest]bool{}, map[string]bool{}, map[protocol.Digest]bool{}}
}

// add takes what an item takes for which it was decided what it comes to.
func (t *reserved) add(it *item) {
	if it.answered {
		return
	}
	t.ids[it.id] = t.ids[it.id] || it.refusal == nil || !it.refusal.Open()
	if it.refusal != nil || it.profile == nil {
		return
	}
	t.names[string(it.name)], t.keys[it.key] = it.serial, string(it.name)
	if it.content.Renews != nil {
		t.renewed[string(it.content.Renews.Serial)] = true
	}
}

// decide asks what only the ledger knows: may persons' approval be done without, is the name free, is the key new.
func (r *run) decide(tx *store.Tx, it *item, taken *reserved, now int64) (*protocol.Refusal, error) {
	if taken.withdrawn[withdrawn(it.id, it.req.Body)] {
		return protocol.Refuse(protocol.CodeWithdrawn), nil
	}
	name, key := it.name, it.key
	renews := ""
	if it.content.Renews != nil {
		renews = string(it.content.Renews.Serial)
		if refusal, err := r.decideRenewal(tx, it, name, now); refusal != nil || err != nil {
			return refusal, err
		}
		if taken.renewed[renews] {
			return protocol.Refuse(protocol.CodeAlreadyRenewed, "serial", fmt.Sprintf("%x", renews)), nil
		}
	} else if it.quorum != nil {
		return it.quorum, nil
	}
	active := func(serial []byte) *protocol.Refusal {
		return protocol.Refuse(protocol.CodeNameActive, "name", it.names.Unique, "serial", fmt.Sprintf("%x", serial))
	}
	holders, err := tx.Holders(name)
	if err != nil {
		return nil, err
	}
	for _, h := range holders {
		if h.Status != auditlog.Revoked && now <= h.NotAfter && string(h.Serial) != renews {
			return active(h.Serial), nil
		}
	}
	if serial, inBatch := taken.names[string(name)]; inBatch {
		return active(serial), nil
	}
	if r.officers[key] != nil || r.holders[key] != nil || it.profile.Use == policy.UseApprover && r.enrolled[key] {
		return protocol.Refuse(protocol.CodeKeyKnown), nil
	}
	use, known := tx.KeyUse(key)
	switch other, inBatch := taken.keys[key]; {
	case known && use.Compromised:
		return protocol.Refuse(protocol.CodeKeyCompromised), nil
	case known && !bytes.Equal(use.Name, name), inBatch && other != string(name):
		return protocol.Refuse(protocol.CodeKeyKnown), nil
	}
	return nil, nil
}

// decideRenewal asks whether the certificate may be renewed, and by its key alone if persons did not approve (law 4).
func (r *run) decideRenewal(tx *store.Tx, it *item, name []byte, now int64) (*protocol.Refusal, error) {
	renews, p := it.content.Renews, it.profile
	serial := fmt.Sprintf("%x", renews.Serial)
	old, found, err := tx.Certificate(renews.Issuer, renews.Serial)
	if err != nil || !found {
		return protocol.Refuse(protocol.CodeNotOurs, "serial", serial), err
	}
	it.old = old
	switch {
	case old.Status != auditlog.Active:
		return protocol.Refuse(protocol.CodeNotActive, "serial", serial, "status", old.Status.String()), nil
	case now > old.NotAfter:
		return protocol.Refuse(protocol.CodeNotActive, "serial", serial, "status", "expired"), nil
	case old.Renewed:
		return protocol.Refuse(protocol.CodeAlreadyRenewed, "serial", serial), nil
	case !bytes.Equal(old.Name, name) || old.Profile != it.req.Profile || old.Body != it.req.Body || old.Subject != it.req.Subject:
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "subject", "profile", p.Name, "reason", "it is not that of the certificate to be renewed"), nil
	case it.quorum == nil:
		return nil, nil
	case len(it.item.Current) == 0 || it.content.Origin != protocol.OriginCurrent || p.Renew.WindowDays == 0 || p.Use == policy.UseApprover:
		return it.quorum, nil // for an approver persons look again, whatever the policy says (law 4)
	case it.req.Created <= r.state.Restored: // it may have been done, and that forgotten
		return protocol.Refuse(protocol.CodeApprovalVoid, "person", "the current key", "date", protocol.Date(r.state.Restored)), nil
	}
	return p.Renew.Renews(renews.Serial, now, old.NotAfter, old.Approved), nil
}
