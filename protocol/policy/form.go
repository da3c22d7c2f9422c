package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
)

// Limits. A policy and a roster travel in a request (protocol.MaxRequest) with room for its other fields and for proofs
// of possession, and are shown whole to the officers who approve them.
const (
	MaxEncoded  = 56 << 10
	MaxProfiles = 40
	MaxOfficers = 64
	MaxList     = 64       // entries of any other list
	MaxDays     = 366 * 50 // of any term: longer than any CA certificate's
	maxAhead    = MaxDays * 24 * 3600
)

// Encode makes the bytes that genesis and orders carry: deterministic CBOR (policy.md). It fails where Decode would.
func Encode(p *Policy) ([]byte, error) {
	var r report
	if p.checkForm(&r); len(r) > 0 {
		return nil, fmt.Errorf("encode policy: %w", r[0])
	}
	return encode(p, "policy")
}

// Decode reads what Encode made, and nothing else. The form is checked: versions, names, order, ranges. Whether the
// policy keeps the laws is asked by Check.
func Decode(data []byte) (*Policy, error) {
	p := new(Policy)
	if err := decode(data, p, "policy"); err != nil {
		return nil, err
	}
	var r report
	if p.checkForm(&r); len(r) > 0 {
		return nil, fmt.Errorf("decode policy: %w", r[0])
	}
	return p, nil
}

// EncodeRoster is Encode for rosters.
func EncodeRoster(o *Roster) ([]byte, error) {
	var r report
	if o.checkForm(&r); len(r) > 0 {
		return nil, fmt.Errorf("encode roster: %w", r[0])
	}
	return encode(o, "roster")
}

// DecodeRoster is Decode for rosters; keys were parsed.
func DecodeRoster(data []byte) (*Roster, error) {
	o := new(Roster)
	if err := decode(data, o, "roster"); err != nil {
		return nil, err
	}
	var r report
	if o.checkForm(&r); len(r) > 0 {
		return nil, fmt.Errorf("decode roster: %w", r[0])
	}
	return o, nil
}

func encode(v any, thing string) ([]byte, error) {
	data, err := cose.Marshal(v)
	if err == nil && len(data) > MaxEncoded {
		err = fmt.Errorf("%d bytes, at most %d", len(data), MaxEncoded)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", thing, err)
	}
	return data, nil
}

func decode(data []byte, v any, thing string) error {
	if len(data) > MaxEncoded {
		return fmt.Errorf("decode %s: %d bytes, at most %d", thing, len(data), MaxEncoded)
	}
	if err := cose.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %s: %w", thing, err)
	}
	return nil
}

// checkForm asks what every user of a policy may rely on, so that none of them asks again.
func (p *Policy) checkForm(r *report) {
	if p.Version != protocol.Version {
		r.add(0, "policy", "use the release that made it", "has version %d, not %d", p.Version, protocol.Version)
	}
	if !protocol.ValidName(p.Name) {
		r.add(0, "policy", "use small letters, digits and hyphens, at most 32", "the name %q is not one", p.Name)
	}
	if p.ClockAhead < 1 || p.ClockAhead > maxAhead {
		r.add(12, "policy, clock_ahead", "say how long the appliance may rest, such as 100 days", "%d seconds is not possible", p.ClockAhead)
	}
	if len(p.Profiles) == 0 || len(p.Profiles) > MaxProfiles {
		r.add(0, "policy, profiles", fmt.Sprintf("have from 1 to %d", MaxProfiles), "there are %d", len(p.Profiles))
	}
	for i := range p.Profiles {
		if i > 0 && p.Profiles[i-1].Name >= p.Profiles[i].Name {
			r.add(0, "profile "+p.Profiles[i].Name, "compile the policy again", "stands twice or out of order")
		}
		p.Profiles[i].checkForm(r)
	}
}

func (p *Profile) checkForm(r *report) {
	where := "profile " + p.Name
	if !protocol.ValidName(p.Name) {
		r.add(0, where, "use small letters, digits and hyphens, at most 32", "the name is not one")
	}
	if p.Use < UseMachine || p.Use > UseCross {
		r.add(0, where+", use", "use "+joined(uses()), "%d is not known", uint64(p.Use))
	}
	ordered(r, where+", issuers", p.Issuers)
	ordered(r, where+", bodies", p.Bodies)
	ordered(r, where+", keys", p.Keys)
	ordered(r, where+", origins", p.Origins)
	ordered(r, where+", key_usage", p.KeyUsage)
	ordered(r, where+", ext_usage", p.ExtUsage)
	ordered(r, where+", policies", p.Policies)
	ordered(r, where+", lint", p.Lint)
	ordered(r, where+", lint_ignore", p.LintIgnore)
	var fields []string
	for _, f := range p.Fields {
		fields = append(fields, f.Name)
	}
	ordered(r, where+", fields", fields)
	for _, rule := range p.rules() {
		ordered(r, where+", "+rule.name+", roles", rule.Roles)
		ordered(r, where+", "+rule.name+", statements", rule.Statements)
		for _, s := range rule.Statements {
			if s < protocol.StatementPresence || s > protocol.StatementFingerprint {
				r.add(0, where+", "+rule.name, "use presence or fingerprint", "statement %d is not known", uint64(s))
			}
		}
		if rule.Persons > protocol.MaxGroupApprovals {
			r.add(0, where+", "+rule.name, "ask for fewer", "needs %d persons; a group of requests has at most %d approvals", rule.Persons, protocol.MaxGroupApprovals)
		}
	}
	for _, o := range p.Origins {
		if o < protocol.OriginAttested || o > protocol.OriginAgent {
			r.add(0, where+", origins", "use attested, station, current, holder or agent", "%d is not known", uint64(o))
		}
	}
	for name, days := range map[string]int64{"days": p.Days, "max_days": p.MaxDays} {
		if days < 1 || days > MaxDays {
			r.add(0, where+", "+name, fmt.Sprintf("use from 1 to %d", MaxDays), "%d days is not possible", days)
		}
	}
	for name, days := range map[string]int64{"ahead_days": p.AheadDays, "crl_days": p.CRLDays, "renew": p.Renew.WindowDays, "renew, since_days": p.Renew.SinceDays} {
		if days < 0 || days > MaxDays {
			r.add(0, where+", "+name, fmt.Sprintf("use from 0 to %d", MaxDays), "%d days is not possible", days)
		}
	}
	if p.PathLen < 0 || p.PathLen > 8 || p.Segments > protocol.MaxSegments || p.CRLShards > 1<<16 {
		r.add(0, where, "use smaller numbers", "path_length, segments or crl_shards is not possible")
	}
}

// namedRule is a rule with its name in YAML.
type namedRule struct {
	name string
	Rule
}

func (p *Profile) rules() []namedRule {
	return []namedRule{{"approve", p.Approve}, {"take_away", p.TakeAway}, {"release", p.Release}}
}

// checkForm asks of a roster what checkForm asks of a policy, and that each key can verify and has one holder.
func (o *Roster) checkForm(r *report) {
	if o.Version != protocol.Version {
		r.add(0, "roster", "use the release that made it", "has version %d, not %d", o.Version, protocol.Version)
	}
	if len(o.Officers) == 0 || len(o.Officers) > MaxOfficers {
		r.add(0, "roster, officers", fmt.Sprintf("have from 1 to %d", MaxOfficers), "there are %d", len(o.Officers))
	}
	holders := map[protocol.Digest]string{}
	for i := range o.Officers {
		f := &o.Officers[i]
		where := "roster, officer " + f.Person
		if i > 0 && o.Officers[i-1].Person >= f.Person {
			r.add(0, where, "compile the roster again", "stands twice or out of order")
		}
		checkHolder(r, where, f.Person, Holder{f.Person, f.Name, f.Keys}, holders)
		ordered(r, where+", roles", f.Roles)
		var scopes []string
		for _, s := range f.Scopes {
			scopes = append(scopes, s.Profile+"\x00"+s.Body)
			if s.Profile != protocol.Any && !protocol.ValidName(s.Profile) || s.Body != protocol.Any && !protocol.ValidBody(s.Body) {
				r.add(0, where+", scopes", `write a profile and a body, or "*" for all`, "%q and %q are not a profile and a body", s.Profile, s.Body)
			}
		}
		ordered(r, where+", scopes", scopes)
	}
	var kinds []protocol.Kind
	for _, order := range o.Orders {
		kinds = append(kinds, order.Kind)
		where := "roster, orders of kind " + order.Kind.String()
		if !slices.Contains(protocol.RuledOrders(), order.Kind) {
			r.add(0, where, "leave it out", "is not a kind of order that has a rule")
		}
		if order.Persons < 1 || order.Persons > protocol.MaxGroupApprovals {
			r.add(0, where, "ask for fewer persons, and for at least one", "%d persons is not possible", order.Persons)
		}
		if !protocol.ValidName(order.Role) {
			r.add(0, where, "use small letters, digits and hyphens, at most 32", "the role %q is not a name", order.Role)
		}
	}
	ordered(r, "roster, orders", kinds)
	o.Recovery.checkForm(r, holders)
}

// checkHolder asks of a person with keys that they are one, and that no other has the keys; owner is what holders
// remembers a key by.
func checkHolder(r *report, where, owner string, h Holder, holders map[protocol.Digest]string) {
	if !protocol.ValidPerson(h.Person) {
		r.add(0, where, "write a scheme, a colon and a value, such as it:FTTCRL84C52H501V", "is not a person's identifier")
	}
	if reason := cmp.Or(badCharacter(h.Name), badSpaces(h.Name)); reason != "" || len(h.Name) > protocol.MaxText {
		r.add(0, where+", name", "write the name as it is shown, at most 256 bytes", "%q %s", h.Name, cmp.Or(reason, "is too long"))
	}
	var keys []string
	for i, spki := range h.Keys {
		keys = append(keys, string(spki))
		_, err := cose.ParseKey(spki)
		if _, weak := csr.CheckKey(spki); err == nil && weak != nil { // cards have made RSA keys that are easy to factor
			err = errors.New(weak.(*csr.Error).Detail)
		}
		if err != nil {
			r.add(0, where, "use a key on P-256 or P-384, Ed25519, or RSA of 2048, 3072 or 4096 bits", "key %d can't verify approvals: %v", i+1, err)
		}
		id := protocol.DigestOf(spki)
		if holder, known := holders[id]; known && holder != owner {
			r.add(1, where, "make a key for each officer", "key %d is also that of %s", i+1, holder)
		}
		holders[id] = owner
	}
	ordered(r, where+", keys", keys)
}

// ordered asks that a list is strictly ascending, so that one policy has one encoding, and not too long.
func ordered[T cmp.Ordered](r *report, where string, list []T) {
	if len(list) > MaxList {
		r.add(0, where, fmt.Sprintf("have at most %d", MaxList), "has %d entries", len(list))
	}
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			r.add(0, where, "compile it again", "entry %d stands twice or out of order", i+1)
			return
		}
	}
}
