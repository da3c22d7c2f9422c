package show

import (
	"errors"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Holder is who a key belongs to, as the reader knows.
type Holder struct {
	Key cose.Key
	Who string
}

// Known finds the holder of a key by its id; nil knows nobody.
type Known func(id protocol.Digest) (Holder, bool)

// envelope is a COSE_Sign1 that nobody verified. Its payload is for eyes only, under the words NOT VERIFIED.
type envelope struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

// open returns the payload of a signed message for showing, and rows that say who signed it and whether that was
// verified. A signature that a known key did not make is an error.
func open(message []byte, context string, known Known) ([]byte, Sheet, error) {
	id, err := cose.KeyID(message)
	if err != nil {
		return nil, nil, err
	}
	var rows Sheet
	if known != nil {
		if holder, found := known(id); found {
			payload, err := cose.Verify(message, context, holder.Key)
			if err != nil {
				return nil, nil, err
			}
			rows.add("signed by", holder.Who)
			rows.add("signature", "verified")
			return payload, rows, nil
		}
	}
	var e envelope
	if err := cose.Unmarshal(message[1:], &e); err != nil {
		return nil, nil, err
	}
	rows.add("signed by", "key "+protocol.Digest(id).String())
	rows.add("signature", "NOT VERIFIED: nobody here knows the key")
	return e.Payload, rows, nil
}

// refused makes an error of a refusal.
func refused(r *protocol.Refusal) error {
	if r == nil {
		return nil
	}
	return errors.New(r.Words())
}

// Approval shows an approval. Of many entries only those whose statements differ from most are listed, unless full.
func Approval(message []byte, known Known, full bool) (Sheet, error) {
	if len(message) > protocol.MaxApproval {
		return nil, fmt.Errorf("approval of %d bytes, at most %d", len(message), protocol.MaxApproval)
	}
	payload, signed, err := open(message, protocol.ContextApproval, known)
	if err != nil {
		return nil, fmt.Errorf("show approval: %w", err)
	}
	var a protocol.Approval
	if err := cose.Unmarshal(payload, &a); err != nil {
		return nil, fmt.Errorf("show approval: %w", err)
	}
	s := append(Sheet{{Name: "type", Value: "approval"}}, signed...)
	s.add("appliance", a.Appliance.String())
	s.time("created", a.Created)
	s.time("expires", a.Expires)
	if len(a.Challenge) > 0 {
		s.add("challenge", fmt.Sprintf("%x", a.Challenge))
	}
	s.add("requests", len(a.Entries))
	s = append(s, Manifest(a.Manifest)...)
	s = append(s, entries(a.Entries, full)...)
	return s, nil
}

func entries(list []protocol.ApprovalEntry, full bool) Sheet {
	usual, most := "", 0
	counts := map[string]int{}
	for _, e := range list {
		text := statements(e)
		counts[text]++
		if n := counts[text]; n > most || n == most && text < usual {
			usual, most = text, n
		}
	}
	var s Sheet
	shown := list
	if len(list) > few && !full {
		shown = nil
		for _, e := range list {
			if statements(e) != usual {
				shown = append(shown, e)
			}
		}
		s.add("most state", fmt.Sprintf("%s (%s)", usual, count(most, "request")))
	}
	var items []Sheet
	for _, e := range shown {
		items = append(items, Sheet{{Name: "id", Value: e.ID.String()}, {Name: "states", Value: statements(e)}})
	}
	name := "entries"
	if len(shown) < len(list) {
		name = "others"
	}
	s.items(name, items)
	return s
}

func statements(e protocol.ApprovalEntry) string {
	if len(e.Statements) == 0 {
		return "nothing but approval"
	}
	text := ""
	for i, st := range e.Statements {
		if i > 0 {
			text += ", "
		}
		text += st.String()
	}
	return text
}

// Manifest shows counts by kind, profile and body.
func Manifest(counts []protocol.Count) Sheet {
	var s Sheet
	s.list("manifest", each(counts, func(c protocol.Count) string {
		text := fmt.Sprintf("%d × %s", c.N, c.Kind)
		if c.Profile != "" {
			text += " " + c.Profile
		}
		if c.Body != "" {
			text += " for " + c.Body
		}
		return text
	}))
	return s
}

// Receipt shows the answer to what took away.
func Receipt(message []byte, known Known) (Sheet, error) {
	if len(message) > protocol.MaxAnswer {
		return nil, fmt.Errorf("receipt of %d bytes, at most %d", len(message), protocol.MaxAnswer)
	}
	payload, signed, err := open(message, protocol.ContextReceipt, known)
	if err != nil {
		return nil, fmt.Errorf("show receipt: %w", err)
	}
	var r protocol.Receipt
	if err := cose.Unmarshal(payload, &r); err != nil {
		return nil, fmt.Errorf("show receipt: %w", err)
	}
	s := append(Sheet{{Name: "type", Value: "receipt"}}, signed...)
	s.add("appliance", r.Appliance.String())
	s.add("request", r.Request.String())
	s.add("outcome", r.Outcome.String())
	s.add("issuer", r.Issuer.String())
	s.add("serial", fmt.Sprintf("%x", r.Serial))
	s.time("time", r.Time)
	s.add("log", fmt.Sprintf("%d entries", r.Size))
	return s, nil
}
