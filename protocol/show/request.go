package show

import (
	"fmt"
	"maps"
	"slices"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// Request shows every field of a request, with the CSR in it decoded. A CSR that may not be worked with is shown as
// refused: that is no error here.
func Request(raw []byte) (Sheet, error) {
	r, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		return nil, refused(refusal)
	}
	s := Sheet{{Name: "type", Value: "request"}, {Name: "kind", Value: r.Kind.String()}}
	s.digest("id", protocol.ID(raw))
	s.add("appliance", r.Appliance.String())
	if !r.Issuer.IsZero() {
		s.add("issuer", r.Issuer.String())
	}
	s.text("profile", r.Profile)
	if !r.ProfileDigest.IsZero() {
		s.add("profile digest", r.ProfileDigest.String())
	}
	s.text("body", r.Body)
	s.text("subject", r.Subject)
	s.time("created", r.Created)
	s.time("expires", r.Expires)
	s.add("nonce", fmt.Sprintf("%x", r.Nonce))
	content, err := contentOf(&r)
	return append(s, content...), err
}

func contentOf(r *protocol.Request) (Sheet, error) {
	switch r.Kind {
	case protocol.KindIssue, protocol.KindRenew:
		c, refusal := r.Issuance()
		return issuance(&c), refused(refusal)
	case protocol.KindRevoke, protocol.KindHold:
		c, refusal := r.Revocation()
		s := Sheet{{Name: "serial", Value: fmt.Sprintf("%x", c.Serial)}}
		if r.Kind == protocol.KindRevoke {
			s.add("reason", c.Reason.String())
		}
		s.time("since", c.Since)
		if len(c.Certificate) > 0 {
			s.below("certificate", nil, orReason(Certificate(c.Certificate)))
		}
		return s, refused(refusal)
	case protocol.KindRelease:
		c, refusal := r.Release()
		return Sheet{{Name: "serial", Value: fmt.Sprintf("%x", c.Serial)}, {Name: "hold", Value: fmt.Sprintf("log entry %d", c.Hold)}}, refused(refusal)
	case protocol.KindWithdraw:
		c, refusal := r.Withdrawal()
		return Sheet{{Name: "withdraws", Value: c.Request.String()}}, refused(refusal)
	case protocol.KindCreateKey:
		c, refusal := r.CreateKey()
		return Sheet{{Name: "label", Value: c.Label}, {Name: "algorithm", Value: c.Algorithm}}, refused(refusal)
	case protocol.KindSignCA:
		c, refusal := r.SignCA()
		var s Sheet
		s.digest("key", c.Key)
		if c.Key == r.Issuer {
			s.add("signs", "itself: a root")
		}
		s.fields(c.Fields)
		s.time("not before", c.NotBefore)
		s.time("not after", c.NotAfter)
		return s, refused(refusal)
	case protocol.KindRoster, protocol.KindPolicy:
		return replacement(r)
	case protocol.KindAgent, protocol.KindStation:
		c, _, refusal := r.Enrolment()
		if refusal != nil {
			return nil, refused(refusal)
		}
		var s Sheet
		if !c.Replaces.IsZero() {
			s.digest("replaces", c.Replaces)
		}
		party, err := Party(c.Party)
		s.below("party", nil, party)
		return s, err
	case protocol.KindSetTime:
		c, refusal := r.SetTime()
		return Sheet{{Name: "time", Value: protocol.Date(c.Time)}}, refused(refusal)
	case protocol.KindCRL:
		c, refusal := r.CRLOrder()
		var s Sheet
		if !c.Replaces.IsZero() {
			s.add("replaces", c.Replaces.String())
		}
		return s, refused(refusal)
	}
	return standing(r)
}

func issuance(c *protocol.Issuance) Sheet {
	var s Sheet
	s.add("origin", c.Origin.String())
	if len(c.Evidence) > 0 {
		s.add("evidence", fmt.Sprintf("%d bytes", len(c.Evidence)))
	}
	s.fields(c.Fields)
	s.time("not before", c.NotBefore)
	s.time("not after", c.NotAfter)
	s.list("scopes", each(c.Scopes, scope))
	if c.Renews != nil {
		s.below("renews", nil, Sheet{{Name: "issuer", Value: c.Renews.Issuer.String()}, {Name: "serial", Value: fmt.Sprintf("%x", c.Renews.Serial)}})
	}
	s.below("csr", nil, csrSheet(c.CSR))
	return s
}

func (s *Sheet) fields(fields map[string]string) {
	var rows Sheet
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		rows.add(name, fields[name])
	}
	if len(rows) > 0 {
		s.below("fields", nil, rows)
	}
}

func scope(s protocol.Scope) string { return s.Profile + " × " + s.Body }

func replacement(r *protocol.Request) (Sheet, error) {
	c, refusal := r.Replacement()
	if refusal != nil {
		return nil, refused(refusal)
	}
	var s Sheet
	s.digest("replaces", c.Replaces)
	if r.Kind == protocol.KindPolicy {
		new, err := Policy(c.New)
		s.below("new", nil, new)
		return s, err
	}
	new, err := Roster(c.New)
	if err != nil {
		return nil, err
	}
	roster, err := policy.DecodeRoster(c.New)
	if err != nil {
		return nil, err
	}
	s.list("possession", possession(roster, c))
	s.below("new", nil, new)
	return s, nil
}

// possession says for each proof whose key made it.
func possession(roster *policy.Roster, c protocol.Replacement) []string {
	var all []string
	for _, proof := range c.Possession {
		text := "a proof by no key of the new roster"
		for _, o := range roster.Officers {
			for _, spki := range o.Keys {
				key, err := cose.ParseKey(spki)
				if err == nil && protocol.VerifyID(proof, protocol.ContextPossession, key, protocol.DigestOf(c.New)) == nil {
					text = "proved by " + o.Person + ", key " + protocol.DigestOf(spki).String()
				}
			}
		}
		all = append(all, text)
	}
	return all
}

// few is how many requests or entries are shown whole.
const few = 10

// Requests shows many requests to somebody who is to approve them: counts first; when there are more than ten, those
// that differ from most, those that share a subject or key with another and those whose subject's last certificate says
// something else come next, whole, and the others after them, a line each, unless full. Last gives the last certificate
// of the i-th request and its profile; both may be nil, and so may the function. An error names the request, counted from
// 1, that can't be shown.
func Requests(raws [][]byte, last func(i int) (*Last, *policy.CompiledProfile), full bool) (Sheet, error) {
	all := make([]outline, len(raws))
	parsed := make([]protocol.Request, len(raws))
	shapes, subjects, keys := map[string]int{}, map[string]int{}, map[protocol.Digest]int{}
	for i, raw := range raws {
		r, refusal := protocol.ParseRequest(raw)
		if refusal != nil {
			return nil, fmt.Errorf("request %d: %w", i+1, refused(refusal))
		}
		parsed[i], all[i] = r, outlineOf(&r, raw)
		shapes[all[i].shape]++
		subjects[all[i].subject]++
		keys[all[i].key]++
	}
	usual := ""
	for shape, n := range shapes {
		if n > shapes[usual] || n == shapes[usual] && shape < usual {
			usual = shape
		}
	}
	s := Sheet{{Name: "requests", Value: len(raws)}}
	s = append(s, Manifest(protocol.ManifestOf(parsed))...)
	var exceptions []Sheet
	var others []string
	for i, o := range all {
		shared := o.subject != "" && subjects[o.subject] > 1 || !o.key.IsZero() && keys[o.key] > 1
		var beside Sheet
		var differs bool
		if last != nil {
			if l, profile := last(i); l != nil {
				beside, differs = l.Beside(&parsed[i], profile)
			}
		}
		if len(raws) > few && !full && o.shape == usual && !o.odd && !shared && !differs {
			others = append(others, o.line)
			continue
		}
		sheet, err := Request(raws[i])
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i+1, err)
		}
		sheet = append(sheet, beside...)
		if shared {
			sheet.add("attention", "another of these requests has the same subject or key")
		}
		exceptions = append(exceptions, sheet)
	}
	name := "exceptions"
	if len(others) == 0 {
		name = "all"
	}
	s.items(name, exceptions)
	s.list("others", others)
	return s, nil
}

// outline is what requests are compared by, before they are shown.
type outline struct {
	shape   string // the same in requests that differ in subject, key and values of fields only
	subject string
	key     protocol.Digest
	odd     bool   // to be looked at, whatever the others are
	line    string // on one line
}

func outlineOf(r *protocol.Request, raw []byte) outline {
	o := outline{subject: r.Body + "\x00" + r.Subject, odd: true}
	if r.Subject == "" {
		o.subject = ""
	}
	o.shape = fmt.Sprintf("%s %s %s %s %s %d", r.Kind, r.Issuer, r.Profile, r.ProfileDigest, r.Body, r.Expires-r.Created)
	about := ""
	switch r.Kind {
	case protocol.KindIssue, protocol.KindRenew:
		c, refusal := r.Issuance()
		if refusal != nil {
			break
		}
		o.shape += fmt.Sprintf(" %s %d %v %v", c.Origin, c.NotAfter-c.NotBefore, slices.Sorted(maps.Keys(c.Fields)), c.Scopes)
		checked, err := csr.Check(c.CSR)
		if err != nil {
			break
		}
		o.key = protocol.DigestOf(checked.SPKI)
		o.shape += " " + checked.KeyType
		o.odd = len(c.Scopes) > 0
		about = " key " + o.key.String()
	case protocol.KindRevoke, protocol.KindHold:
		c, refusal := r.Revocation()
		o.shape += " " + c.Reason.String()
		o.odd = refusal != nil
		about = fmt.Sprintf(" serial %x", c.Serial)
	case protocol.KindRelease:
		c, refusal := r.Release()
		o.odd = refusal != nil
		about = fmt.Sprintf(" serial %x", c.Serial)
	}
	// The subject is anybody's text: it comes last, so that nothing after it can be taken for a part of the line.
	o.line = fmt.Sprintf("%s%s %s %s", protocol.ID(raw), about, r.Body, r.Subject)
	return o
}

// Item shows a request on its way in a bundle, with the signatures beside it.
func Item(raw []byte) (Sheet, error) {
	it, refusal := protocol.ParseItem(raw)
	if refusal != nil {
		return nil, refused(refusal)
	}
	s, err := Request(it.Request)
	if err != nil {
		return nil, err
	}
	if len(it.Current) > 0 {
		s.add("current key", "signed the request (not verified here)")
	}
	if len(it.Requester) > 0 {
		s.add("requester", "signed the request (not verified here)")
	}
	return s, nil
}
