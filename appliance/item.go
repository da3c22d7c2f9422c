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
	data    []byte // the encoding of item, of what came in a bundle
	item    protocol.Item
	id      protocol.Digest
	req     protocol.Request
	parsed  bool // req is a request to this appliance: what becomes of it may be logged under its id
	refusal *protocol.Refusal

	// of issue and renew, in the order in which they are found out
	content     protocol.Issuance
	profile     *policy.CompiledProfile
	ca          *issue.CA
	csr         *csr.Request
	names       policy.Names
	name        []byte          // what the ledger finds the name by
	key         protocol.Digest // of the CSR
	notBefore   int64
	notAfter    int64
	old         store.Certificate // renew: what stands of the certificate that is renewed
	quorum      *protocol.Refusal // why persons did not approve; a renewal may do without them
	serial      []byte
	tbs         []byte
	linted      []byte // with a dummy signature
	certificate []byte

	answered bool
	result   protocol.Result
	answer   protocol.Answer // the result as it travels; without an index if the log does not record it
}

// parse decodes an item of a bundle.
func (e *Engine) parse(data []byte, section protocol.Section, now int64) *item {
	it := &item{data: data}
	if it.item, it.refusal = protocol.ParseItem(data); it.refusal != nil {
		it.id = protocol.ID(data) // so that the sender finds which one it was
		return it
	}
	e.look(it, section, now)
	return it
}

// look decodes the request and checks what needs no ledger: form, appliance, time. The time of orders is left to those
// who decide them: one of them may be about to set it.
func (e *Engine) look(it *item, section protocol.Section, now int64) {
	it.id = protocol.ID(it.item.Request)
	if it.req, it.refusal = protocol.ParseRequest(it.item.Request); it.refusal != nil {
		return
	}
	switch {
	case protocol.SectionOf(it.req.Kind) != section:
		it.refusal = protocol.Malformed("bundle", fmt.Errorf("a request to %s is in section %d", it.req.Kind, section))
		return
	case it.req.Appliance != e.appliance:
		it.refusal = protocol.Refuse(protocol.CodeWrongAppliance, "appliance", it.req.Appliance.String())
		return
	}
	it.parsed = true
	switch {
	case section == protocol.SectionOrders:
	case now >= it.req.Expires:
		it.refusal = protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(it.req.Expires))
	case it.req.Created > now+auditlog.Skew && section != protocol.SectionTakeAway:
		it.refusal = protocol.Refuse(protocol.CodeRequestEarly, "created", protocol.Date(it.req.Created))
	}
}

// say answers with the result as it is; the log does not record it.
func (it *item) say() (err error) {
	it.answered = true
	it.answer.Body, err = cose.Marshal(it.result)
	return err
}

// refuse answers with a refusal that the log does not record.
func (it *item) refuse(refusal *protocol.Refusal) error {
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: refusal}
	return it.say()
}

// conclude refuses the item, and logs that if it is final: a request that was refused for good is never done later.
// What could not be read, or is for others, is refused for what it is, whenever it comes, and takes no room in the log.
func (it *item) conclude(r *recorder, refusal *protocol.Refusal) error {
	if refusal.Open() || !it.parsed {
		return it.refuse(refusal)
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: refusal}
	return it.record(r, auditlog.Leaf{Kind: auditlog.Refused})
}

// record logs the item's result and remembers that the request has one.
func (it *item) record(r *recorder, leaf auditlog.Leaf) error {
	err := it.say()
	if err != nil {
		return err
	}
	if it.answer.Index, it.answer.Salt, err = r.append(leaf, it.answer.Body); err != nil {
		return err
	}
	return r.tx.PutDone(it.id, it.answer.Index)
}

// recall answers with the result that the request has, if it has one, and refuses it if it was withdrawn. What takes
// away cannot be withdrawn: an agent could stop the revocation that another one carries (law 6).
func (it *item) recall(tx *store.Tx) error {
	index, found := tx.Done(it.id)
	if !found {
		if _, withdrawn := tx.Done(withdrawn(it.id, it.req.Body)); withdrawn && it.parsed && !it.req.Kind.TakesAway() {
			it.refusal = protocol.Refuse(protocol.CodeWithdrawn)
		}
		return nil
	}
	var err error
	if it.result, it.answer, err = resultAt(tx, index); err != nil {
		return err
	}
	it.answered = true
	return nil
}

// resultAt reads the result that a leaf records, and how it travels.
func resultAt(tx *store.Tx, index uint64) (protocol.Result, protocol.Answer, error) {
	fail := func(err error) (protocol.Result, protocol.Answer, error) {
		return protocol.Result{}, protocol.Answer{}, fmt.Errorf("ledger: result in leaf %d: %w", index, err)
	}
	encoded, err := tx.Leaf(index)
	if err != nil {
		return fail(err)
	}
	leaf, err := auditlog.ParseLeaf(encoded)
	if err != nil {
		return fail(err)
	}
	a := protocol.Answer{Index: index}
	if a.Salt, a.Body, err = tx.Body(index); err != nil {
		return fail(err)
	}
	if leaf.Kind == auditlog.Order || leaf.Kind == auditlog.Restored { // its body is the whole order, which is not for agents
		var o auditlog.OrderBody
		if err := cose.Unmarshal(a.Body, &o); err != nil {
			return fail(err)
		}
		a = protocol.Answer{Body: o.Result}
	}
	result, err := protocol.ParseResult(a.Body)
	if err != nil {
		return fail(err)
	}
	return result, a, nil
}

// withdrawn marks a request as withdrawn among those that are done. The mark binds the body: an agent withdraws
// requests of its own bodies only, and the request itself may never have been seen.
func withdrawn(id protocol.Digest, body string) protocol.Digest {
	return protocol.DigestOf(append(id[:], body...))
}
