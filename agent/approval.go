package agent

import (
	"fmt"
	"slices"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// approval is what counting needs of an attached approval.
type approval struct {
	key      protocol.Digest
	approver policy.Approver
	discount *protocol.Refusal
	created  int64 // unix seconds; 0 if it was not opened
	entries  int
	unproved bool
}

// approval reads an attached approval and finds who made it, as things are known now.
func (v *view) approval(n uint64) (approval, error) {
	if a, cached := v.approvals[n]; cached {
		return a, nil
	}
	stored, err := v.tx.Approval(n)
	if err != nil {
		return approval{}, err
	}
	a := approval{key: stored.Key, entries: int(stored.Entries)}
	approver, key, discount, err := v.approver(stored.Key)
	switch {
	case err != nil:
		return a, err
	case key == nil:
		a.unproved = true
	default:
		a.approver, a.discount = approver, discount
		opened, refusal := protocol.OpenApproval(stored.Message, *key)
		if a.created = opened.Created; refusal != nil {
			a.discount = refusal
		}
	}
	if a.discount == nil && v.now >= stored.Expires {
		a.discount = protocol.Refuse(protocol.CodeApprovalExpired, "person", a.approver.Person, "expires", protocol.Date(stored.Expires))
	}
	v.approvals[n] = a
	return a, nil
}

// approver finds who holds a key: an officer, or the holder of an approver certificate that was imported here. A nil key
// is one that is not known here; the appliance may know it.
func (v *view) approver(id protocol.Digest) (policy.Approver, *cose.Key, *protocol.Refusal, error) {
	if o, found := v.known.officers[id]; found {
		for _, spki := range o.Keys {
			if protocol.DigestOf(spki) != id {
				continue
			}
			key, err := cose.ParseKey(spki)
			if err != nil {
				return policy.Approver{}, nil, nil, fmt.Errorf("key of officer %s: %w", o.Person, err)
			}
			var discount *protocol.Refusal
			if o.Suspended {
				discount = protocol.Refuse(protocol.CodeApproverSuspended, "person", o.Person)
			}
			return o.Approver(), &key, discount, nil
		}
	}
	a, found, err := v.tx.Approver(id)
	if err != nil || !found {
		return policy.Approver{}, nil, nil, err
	}
	key, err := cose.ParseKey(a.SPKI)
	if err != nil {
		return policy.Approver{}, nil, nil, fmt.Errorf("key of approver %s: %w", a.Person, err)
	}
	var discount *protocol.Refusal
	status, err := v.status(a.Issuer, a.Serial)
	switch {
	case err != nil:
		return policy.Approver{}, nil, nil, err
	case status != "":
		discount = protocol.Refuse(protocol.CodeApproverRevoked, "person", a.Person, "status", status)
	case v.now > a.NotAfter:
		discount = protocol.Refuse(protocol.CodeApproverExpired, "person", a.Person, "from", "its issue", "to", protocol.Date(a.NotAfter))
	}
	return policy.Approver{Person: a.Person, Roles: []string{policy.RoleApprover}, Scopes: a.Scopes}, &key, discount, nil
}

// status tells from what was imported whether a certificate is held or revoked; empty if neither.
func (v *view) status(issuer protocol.Digest, serial []byte) (string, error) {
	status, newest := "", uint64(0)
	for _, n := range v.tx.About(issuer, serial) {
		o, answer, found, err := v.answer(n)
		if err != nil {
			return "", err
		}
		if !found || answer.Index < newest {
			continue
		}
		switch o.result.Outcome {
		case protocol.OutcomeRevoked:
			status, newest = "revoked", answer.Index
		case protocol.OutcomeHeld:
			status, newest = "held", answer.Index
		case protocol.OutcomeReleased:
			status, newest = "", answer.Index
		}
	}
	return status, nil
}

// claim is the payload of a COSE_Sign1 whose key is not known here: good for finding what it is about, and no more.
type claim struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

func claimed(message []byte) ([]byte, error) {
	if _, err := cose.KeyID(message); err != nil {
		return nil, err
	}
	var c claim
	if err := cose.Unmarshal(message[1:], &c); err != nil {
		return nil, err
	}
	return c.Payload, nil
}

// Attached is what attaching one file did.
type Attached struct {
	Person   string            // who signed; empty if the key is not known here, so that nothing was verified
	Key      protocol.Digest   //
	Requests []protocol.Digest // covered requests that are here
	Foreign  int               // covered requests that are not
	New      bool              // false if the file was attached before
}

// Attach stores an approval file with the requests it covers. An approval by a key that is not known here is stored
// unverified: the appliance may know it.
func (s *Service) Attach(message []byte) (Attached, error) {
	var result Attached
	err := s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		result, err = v.attach(message)
		if err != nil || !result.New {
			return err
		}
		return tx.PutMeta(v.meta)
	})
	return result, err
}

func (v *view) attach(message []byte) (Attached, error) {
	a, person, key, err := v.open(message)
	if err != nil {
		return Attached{}, err
	}
	result := Attached{Person: person, Key: key}
	if a.Appliance != v.s.id {
		return result, refused("approval", protocol.Refuse(protocol.CodeWrongAppliance, "appliance", a.Appliance.String()))
	}
	if v.now >= a.Expires {
		return result, refused("approval", protocol.Refuse(protocol.CodeApprovalExpired, "person", person, "expires", protocol.Date(a.Expires)))
	}
	numbers, records, err := v.covered(&a)
	if err != nil {
		return result, err
	}
	for _, r := range records {
		result.Requests = append(result.Requests, r.ID)
	}
	if result.Foreign = len(a.Entries) - len(numbers); len(numbers) == 0 {
		return result, &Error{Kind: ErrNotFound, What: fmt.Sprintf("none of the %d requests that the approval covers is here", len(a.Entries)), Hint: "attach it at the agent that made the requests"}
	}
	if result.Foreign == 0 && !slices.Equal(manifest(records), a.Manifest) {
		return result, refused("approval", protocol.Refuse(protocol.CodeManifestMismatch, "person", person))
	}
	if v.tx.ApprovalNumber(message) != 0 {
		return result, nil
	}
	result.New = true
	by := person
	if by == "" {
		by = "key " + key.String()[:16] + " (not known here)"
	}
	line, err := v.tx.AddLine(&v.meta, store.Line{Time: v.now, Code: "attached", Text: "approval by " + by})
	if err != nil {
		return result, err
	}
	stored := store.Approval{Key: key, Person: person, Expires: a.Expires, Line: line, Entries: uint64(len(a.Entries)), Message: message}
	number, err := v.tx.AddApproval(&v.meta, stored)
	if err != nil {
		return result, err
	}
	for i, n := range numbers {
		r := records[i]
		entry, _ := a.Entry(r.ID)
		r.Covers = append(r.Covers, store.Cover{Approval: number, Statements: entry.Statements})
		r.Lines, r.Attached = append(r.Lines, line), v.meta.Imports
		if err := v.tx.PutRequest(n, r); err != nil {
			return result, err
		}
	}
	return result, nil
}

// open verifies an approval if its key is known here.
func (v *view) open(message []byte) (a protocol.Approval, person string, id protocol.Digest, err error) {
	if len(message) > protocol.MaxApproval {
		return a, "", id, refused("approval", protocol.Refuse(protocol.CodeTooLarge, "thing", "approval", "limit", fmt.Sprintf("%d bytes", protocol.MaxApproval)))
	}
	malformed := func(err error) error {
		return &Error{Kind: ErrVerification, What: "this is not an approval", Err: err, Hint: "attach the file that coldseal approve or the station wrote"}
	}
	keyID, err := cose.KeyID(message)
	if err != nil {
		return a, "", id, malformed(err)
	}
	approver, key, _, err := v.approver(keyID)
	if err != nil {
		return a, "", keyID, err
	}
	if key != nil {
		opened, refusal := protocol.OpenApproval(message, *key)
		if refusal != nil {
			return a, "", keyID, &Error{Kind: ErrVerification, What: "approval: " + refusal.Words(), Hint: refusal.Hint(), Err: &RefusalError{refusal}}
		}
		return opened, approver.Person, keyID, nil
	}
	payload, err := claimed(message)
	if err == nil {
		err = cose.Unmarshal(payload, &a)
	}
	if err != nil {
		return a, "", keyID, malformed(err)
	}
	return a, "", keyID, nil
}

// covered finds the requests that an approval covers.
func (v *view) covered(a *protocol.Approval) (numbers []uint64, records []store.Request, err error) {
	for _, e := range a.Entries {
		n := v.tx.RequestNumber(e.ID)
		if n == 0 {
			continue
		}
		r, err := v.tx.Request(n)
		if err != nil {
			return nil, nil, err
		}
		numbers, records = append(numbers, n), append(records, r)
	}
	return numbers, records, nil
}

func manifest(records []store.Request) []protocol.Count {
	requests := make([]protocol.Request, len(records))
	for i, r := range records {
		requests[i] = protocol.Request{Kind: r.Kind, Profile: r.Profile, Body: r.Body}
	}
	return protocol.ManifestOf(requests)
}

// AttachID stores a signature over a request's id that is not an approval: by the key of the certificate being renewed
// (protocol.ContextCurrentKey), or by a person who asks (protocol.ContextRequester) and then may not approve it.
func (s *Service) AttachID(message []byte, context string) (id protocol.Digest, err error) {
	err = s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		payload, err := claimed(message)
		if err != nil || len(payload) != len(id) {
			return &Error{Kind: ErrVerification, What: "this is not a signature over a request's id", Err: err}
		}
		id = protocol.Digest(payload)
		n, r, err := requestOf(tx, id)
		if err != nil {
			return err
		}
		text := "signature of the current key"
		if context == protocol.ContextRequester {
			text = "signature of the requester"
		}
		line, err := tx.AddLine(&v.meta, store.Line{Time: v.now, Code: "attached", Text: text})
		if err != nil {
			return err
		}
		r.Lines, r.Attached = append(r.Lines, line), v.meta.Imports
		if err := v.sign(n, &r, message, context); err != nil {
			return err
		}
		return tx.PutMeta(v.meta)
	})
	return id, err
}

// sign puts a signature over the id into the item.
func (v *view) sign(n uint64, r *store.Request, message []byte, context string) error {
	data, err := v.tx.Item(n)
	if err != nil {
		return err
	}
	item, refusal := protocol.ParseItem(data)
	if refusal != nil {
		return fmt.Errorf("stored item %d: %s", n, refusal.Words())
	}
	if context == protocol.ContextRequester {
		item.Requester = message
	} else {
		item.Current, r.Current = message, true
	}
	if data, err = cose.Marshal(item); err != nil {
		return err
	}
	if len(data) > protocol.MaxItem {
		return &Error{Kind: ErrInput, What: fmt.Sprintf("with this signature the request has %d bytes, at most %d", len(data), protocol.MaxItem)}
	}
	r.Size = uint64(len(data))
	return v.tx.PutItem(n, *r, data)
}
