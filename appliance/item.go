package appliance

import (
	"fmt"

	"coldseal/appliance/issue"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// item is one request on its way through the engine. The first refusal stays.
type item struct {
	item    protocol.Item
	id      protocol.Digest
	req     protocol.Request
	parsed  bool // req is the decoded request; its refusal may be recorded under its id
	refusal *protocol.Refusal

	// of issue and renew, in the order in which they are found out
	content     protocol.Issuance
	profile     *policy.CompiledProfile
	ca          *issue.CA
	csr         *csr.Request
	names       policy.Names
	notBefore   int64
	notAfter    int64
	old         store.Certificate // renew: what stands of the certificate that is renewed
	quorum      *protocol.Refusal // why persons did not approve; a renewal may do without them
	serial      []byte
	tbs         []byte
	linted      []byte // with a dummy signature
	certificate []byte

	// what is to be answered
	answered bool
	index    uint64
	result   protocol.Result
}

// parse decodes an item and checks what needs no ledger: form, appliance, time.
func (e *Engine) parse(data []byte, section protocol.Section, now int64) *item {
	it := &item{}
	if it.item, it.refusal = protocol.ParseItem(data); it.refusal != nil {
		it.id = protocol.ID(data) // so that the sender finds which one it was
		return it
	}
	it.id = protocol.ID(it.item.Request)
	if it.req, it.refusal = protocol.ParseRequest(it.item.Request); it.refusal != nil {
		return it
	}
	switch {
	case protocol.SectionOf(it.req.Kind) != section:
		it.refusal = protocol.Malformed("bundle", fmt.Errorf("a request to %s is in section %d", it.req.Kind, section))
	case it.req.Appliance != e.appliance:
		it.refusal = protocol.Refuse(protocol.CodeWrongAppliance, "appliance", it.req.Appliance.String())
	case now >= it.req.Expires:
		it.refusal = protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(it.req.Expires))
	case it.req.Created > now+auditlog.Skew && section != protocol.SectionTakeAway:
		it.refusal = protocol.Refuse(protocol.CodeRequestEarly, "created", protocol.Date(it.req.Created))
	default:
		it.parsed = true
	}
	return it
}

// conclude refuses the item, and logs that if it is final: a request that was refused for good is never done later.
func (it *item) conclude(r *recorder, refusal *protocol.Refusal) error {
	it.answered = true
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: refusal}
	if refusal.Open() || !it.parsed {
		return nil
	}
	return it.record(r, auditlog.Leaf{Kind: auditlog.Refused})
}

// record logs the item's result and remembers that the request has one.
func (it *item) record(r *recorder, leaf auditlog.Leaf) error {
	body, err := cose.Marshal(it.result)
	if err != nil {
		return err
	}
	it.answered = true
	if it.index, _, err = r.append(leaf, body); err != nil {
		return err
	}
	return r.tx.PutDone(it.id, it.index)
}

// recall answers with the result that the request has, if it has one.
func (it *item) recall(tx *store.Tx) error {
	index, found := tx.Done(it.id)
	if !found {
		if _, withdrawn := tx.Done(withdrawn(it.id, it.req.Body)); withdrawn && it.parsed {
			it.answered = true
			it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeWithdrawn)}
		}
		return nil
	}
	var err error
	if it.result, err = resultAt(tx, index); err != nil {
		return err
	}
	it.answered, it.index = true, index
	return nil
}

// resultAt reads the result that a leaf records.
func resultAt(tx *store.Tx, index uint64) (protocol.Result, error) {
	encoded, err := tx.Leaf(index)
	if err != nil {
		return protocol.Result{}, err
	}
	leaf, err := auditlog.ParseLeaf(encoded)
	if err != nil {
		return protocol.Result{}, fmt.Errorf("ledger: leaf %d: %w", index, err)
	}
	_, body, err := tx.Body(index)
	if err != nil {
		return protocol.Result{}, err
	}
	if leaf.Kind == auditlog.Order {
		var o auditlog.OrderBody
		if err := cose.Unmarshal(body, &o); err != nil {
			return protocol.Result{}, fmt.Errorf("ledger: body of leaf %d: %w", index, err)
		}
		body = o.Result
	}
	result, err := protocol.ParseResult(body)
	if err != nil {
		return result, fmt.Errorf("ledger: body of leaf %d: %w", index, err)
	}
	return result, nil
}

// withdrawn marks a request as withdrawn among those that are done. The mark binds the body: an agent withdraws
// requests of its own bodies only, and the request itself may never have been seen.
func withdrawn(id protocol.Digest, body string) protocol.Digest {
	return protocol.DigestOf(append(id[:], body...))
}
