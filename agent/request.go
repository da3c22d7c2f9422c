package agent

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Wish is what a person asks for. Which fields it has depends on its kind.
type Wish struct {
	Kind     protocol.Kind // issue, renew, revoke, hold, release
	Issuer   string        // see known.issuer; empty is the only issuing CA
	Profile  string
	Body     string
	Subject  string
	Lifetime time.Duration // of the request; zero is DefaultLifetime

	// issue and renew
	CSR       []byte // PEM or DER
	NewKey    string // key type; a key made here instead of a CSR
	Fields    map[string]string
	NotBefore int64
	NotAfter  int64
	Origin    protocol.Origin
	Evidence  []byte
	Scopes    []protocol.Scope

	// renew, revoke, hold, release
	Serial  []byte
	Current crypto.Signer // renew: the key of the certificate; nil if its signature is attached later
	Reason  protocol.Reason
	Since   int64
	Hold    uint64 // release: log index of the hold; zero if it is to be found

	// Certificate is the certificate to be revoked, DER, where the appliance's log does not know it; Serial is its serial.
	Certificate []byte

	// Unchecked lets through what the appliance will refuse: for rules that are not known here, and to show that it does.
	Unchecked bool
}

// DefaultLifetime is how long a request waits for its approvals and its journey.
const DefaultLifetime = 30 * 24 * time.Hour

// Made is a request that stands in the store.
type Made struct {
	ID  protocol.Digest
	New bool // false if the same was asked for before and is still on its way
}

// Request stores a request. The same wish given again returns the request that is there, as long as it is on its way.
func (s *Service) Request(w Wish) (Made, error) {
	var made Made
	err := s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		if err := v.complete(&w); err != nil {
			return err
		}
		p, err := v.prepare(w)
		if err != nil {
			return err
		}
		made, err = v.add(p, 0)
		if err != nil || !made.New {
			return err
		}
		return tx.PutMeta(v.meta)
	})
	return made, err
}

// prepared is a request that was checked and is not stored yet.
type prepared struct {
	wish  protocol.Digest // the same for the same wish
	req   protocol.Request
	bytes []byte
	item  protocol.Item
	asked store.Asked
	text  string // for searches
	pkcs8 []byte
	key   protocol.Digest // if it was made here
}

// prepare checks a wish and makes the request of it.
func (v *view) prepare(w Wish) (*prepared, error) {
	if w.Lifetime == 0 {
		w.Lifetime = DefaultLifetime
	}
	p := &prepared{req: protocol.Request{
		Version: protocol.Version, Appliance: v.s.id, Kind: w.Kind, Profile: w.Profile, Body: w.Body, Subject: w.Subject,
		Created: v.now, Expires: v.now + int64(w.Lifetime/time.Second),
	}}
	if !w.Unchecked && !v.s.party.Serves(w.Body) {
		return nil, refused("request", protocol.Refuse(protocol.CodeSenderScope, "body", w.Body))
	}
	var err error
	if p.req.Issuer, err = v.known.issuerFor(w.Issuer, w.Profile); err != nil {
		return nil, err
	}
	p.asked = store.Asked{Kind: w.Kind, Profile: w.Profile, Issuer: p.req.Issuer}
	p.text = w.Subject
	var content any
	switch w.Kind {
	case protocol.KindIssue, protocol.KindRenew:
		content, err = v.issuance(p, &w)
	case protocol.KindRevoke, protocol.KindHold:
		content = protocol.Revocation{Serial: w.Serial, Reason: w.Reason, Since: w.Since, Certificate: w.Certificate}
		p.asked.Serial = w.Serial
	case protocol.KindRelease:
		content = protocol.Release{Serial: w.Serial, Hold: w.Hold}
		p.asked.Serial = w.Serial
	default:
		err = &Error{Kind: ErrInput, What: fmt.Sprintf("a request to %s is not made here", w.Kind)}
	}
	if err != nil {
		return nil, err
	}
	if err := v.finish(p, content, w.NewKey != ""); err != nil {
		return nil, err
	}
	if w.Current != nil {
		if err := v.holds(&w, p.req.Issuer); err != nil && !w.Unchecked {
			return nil, err
		}
		if p.item.Current, err = protocol.SignID(w.Current, protocol.ContextCurrentKey, protocol.ID(p.bytes)); err != nil {
			return nil, &Error{Kind: ErrInput, What: "sign with the current key", Err: err, Hint: "attach a signature that is made elsewhere: attach --current"}
		}
	}
	return p, nil
}

// holds asks whether the key that signs a renewal is the one of the certificate, where that is known here.
func (v *view) holds(w *Wish, issuer protocol.Digest) error {
	o, found, err := v.certificate(issuer, w.Serial)
	if err != nil || !found {
		return err
	}
	cert, err := x509.ParseCertificate(o.result.Certificate)
	if err != nil {
		return fmt.Errorf("stored certificate: %w", err)
	}
	if key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(w.Current.Public()) {
		return refused("renew", protocol.Refuse(protocol.CodeKeyNotVouched, "origin", protocol.OriginCurrent.String(),
			"reason", fmt.Sprintf("the key that signs is not the one of the certificate %x", w.Serial)))
	}
	return nil
}

// finish encodes the request and takes the way of those who receive it, so that no form is sent that is refused.
func (v *view) finish(p *prepared, content any, madeHere bool) error {
	var err error
	if p.req.Content, err = cose.Marshal(content); err != nil {
		return err
	}
	if err := p.wishDigest(content, madeHere); err != nil {
		return err
	}
	if _, err := io.ReadFull(v.s.Rand, p.req.Nonce[:]); err != nil {
		return fmt.Errorf("draw nonce: %w", err)
	}
	if p.bytes, err = cose.Marshal(p.req); err != nil {
		return err
	}
	p.item.Request = p.bytes
	r, refusal := protocol.ParseRequest(p.bytes)
	if refusal == nil {
		switch r.Kind {
		case protocol.KindIssue, protocol.KindRenew:
			_, refusal = r.Issuance()
		case protocol.KindRevoke, protocol.KindHold:
			_, refusal = r.Revocation()
		case protocol.KindRelease:
			_, refusal = r.Release()
		}
	}
	if refusal != nil {
		return &Error{Kind: ErrInput, What: "request: " + refusal.Words(), Hint: "look at what was typed", Err: &RefusalError{refusal}}
	}
	return nil
}

// wishDigest names what is wished, without what is random in it.
func (p *prepared) wishDigest(content any, madeHere bool) error {
	wish := p.req
	wish.Created, wish.Expires = 0, 0
	if issuance, ok := content.(protocol.Issuance); ok && madeHere {
		issuance.CSR = nil
		var err error
		if wish.Content, err = cose.Marshal(issuance); err != nil {
			return err
		}
	}
	data, err := cose.Marshal(wish)
	p.wish = protocol.DigestOf(data)
	return err
}

// add stores a request unless the same is on its way. A line of the history is written for it unless one is given.
func (v *view) add(p *prepared, line uint64) (Made, error) {
	if n := v.tx.Wish(p.wish); n != 0 {
		r, err := v.tx.Request(n)
		if err != nil {
			return Made{}, err
		}
		standing, err := v.standing(n, r)
		if err != nil {
			return Made{}, err
		}
		if !standing.State.Final() || standing.Open {
			return Made{ID: r.ID}, nil
		}
	}
	item, err := cose.Marshal(p.item)
	if err != nil {
		return Made{}, err
	}
	if line == 0 {
		text := strings.Join(slices.DeleteFunc([]string{p.req.Kind.String(), p.req.Profile, p.req.Body, p.req.Subject}, func(s string) bool { return s == "" }), " ")
		if line, err = v.tx.AddLine(&v.meta, store.Line{Time: v.now, Code: "requested", Text: text}); err != nil {
			return Made{}, err
		}
	}
	if p.pkcs8 != nil {
		if err := v.tx.PutKey(p.key, p.pkcs8); err != nil {
			return Made{}, err
		}
	}
	r := store.Request{
		ID: protocol.ID(p.bytes), Kind: p.req.Kind, Profile: p.req.Profile, Body: p.req.Body, Subject: p.req.Subject,
		Created: p.req.Created, Expires: p.req.Expires, Text: p.text, Size: uint64(len(item)), Current: len(p.item.Current) != 0,
		Lines: []uint64{line}, Key: p.key,
	}
	_, err = v.tx.AddRequest(&v.meta, r, p.asked, item, p.wish)
	return Made{ID: r.ID, New: true}, err
}

// complete fills in what the agent's own records tell of the certificate that a wish is about.
func (v *view) complete(w *Wish) error {
	if w.Kind == protocol.KindIssue {
		return nil
	}
	issuer, err := v.known.issuerFor(w.Issuer, w.Profile)
	if err != nil {
		return err
	}
	own, found, err := v.certificate(issuer, w.Serial)
	if err != nil {
		return err
	}
	if found {
		w.Issuer = issuer.String()
		if w.Profile == "" {
			w.Profile = own.request.Profile
		}
		if w.Body == "" {
			w.Body = own.request.Body
		}
		if w.Subject == "" {
			w.Subject = own.request.Subject
		}
		if w.Kind == protocol.KindRenew && w.Fields == nil {
			if w.Fields, err = v.fields(own.number); err != nil {
				return err
			}
		}
	}
	if w.Profile == "" || w.Body == "" || w.Subject == "" {
		return &Error{
			Kind: ErrNotFound, What: fmt.Sprintf("the certificate %x is not one of this agent's", w.Serial),
			Hint: "check the serial, or say --profile, --body and --subject of the certificate",
		}
	}
	if w.Kind != protocol.KindRelease || w.Hold != 0 {
		return nil
	}
	if w.Hold, err = v.hold(issuer, w.Serial); err != nil {
		return err
	}
	return nil
}

// fields are those that a request gave.
func (v *view) fields(n uint64) (map[string]string, error) {
	req, err := v.request(n)
	if err != nil {
		return nil, err
	}
	issuance, refusal := req.Issuance()
	if refusal != nil {
		return nil, errors.New(refusal.Words())
	}
	return issuance.Fields, nil
}

// request decodes a stored request.
func (v *view) request(n uint64) (protocol.Request, error) {
	data, err := v.tx.Item(n)
	if err != nil {
		return protocol.Request{}, err
	}
	item, refusal := protocol.ParseItem(data)
	if refusal != nil {
		return protocol.Request{}, fmt.Errorf("stored item %d: %s", n, refusal.Words())
	}
	req, refusal := protocol.ParseRequest(item.Request)
	if refusal != nil {
		return req, fmt.Errorf("stored request %d: %s", n, refusal.Words())
	}
	return req, nil
}
