package policy

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"coldseal/protocol"
)

// File is one file of YAML; its name stands in errors.
type File struct {
	Name string
	Data []byte
}

// Load reads a policy from one or more files (policy.md). Profiles may lie in any of them, as in Library; one of them
// names the policy and its clock_ahead. Errors begin with file:line:column. Whether it keeps the laws is asked by Check.
func Load(files ...File) (*Policy, error) {
	p := &Policy{Version: protocol.Version}
	places := map[string]string{}
	for _, f := range files {
		d := &document{file: f.Name}
		if root := d.open(f.Data); root != nil {
			d.policy(p, root, places)
		}
		if d.err != nil {
			return nil, d.err
		}
	}
	if p.Name == "" || p.ClockAhead == 0 {
		return nil, errors.New("read policy: one of the files has to have the keys policy and clock_ahead")
	}
	slices.SortFunc(p.Profiles, func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	return p, nil
}

// LoadRoster reads a roster (policy.md).
func LoadRoster(f File) (*Roster, error) {
	o := &Roster{Version: protocol.Version}
	d := &document{file: f.Name}
	if root := d.open(f.Data); root != nil {
		d.roster(o, root)
	}
	if d.err != nil {
		return nil, d.err
	}
	slices.SortFunc(o.Officers, func(a, b Officer) int { return strings.Compare(a.Person, b.Person) })
	slices.SortFunc(o.Orders, func(a, b OrderRule) int { return int(a.Kind) - int(b.Kind) })
	return o, nil
}

func (d *document) policy(p *Policy, root ast.Node, places map[string]string) {
	once := func(what string, n ast.Node) {
		if at, known := places[what]; known {
			d.fail(place(n), "%s is also at %s", what, at)
		}
		places[what] = fmt.Sprintf("%s:%d", d.file, place(n).Position.Line)
	}
	d.keys(place(root), root, map[string]func(ast.Node){
		"policy":      func(n ast.Node) { once("policy", n); p.Name = d.text(n) },
		"clock_ahead": func(n ast.Node) { once("clock_ahead", n); p.ClockAhead = d.seconds(n) },
		"profiles": func(n ast.Node) {
			for _, e := range d.entries(n) {
				once("profile "+e.key, e.value)
				p.Profiles = append(p.Profiles, d.profile(e))
			}
		},
	})
}

func (d *document) profile(e entry) Profile {
	q := Profile{Name: e.key}
	d.keys(e.token, e.value, map[string]func(ast.Node){
		"use!":        func(n ast.Node) { q.Use = word(d, n, "one of "+joined(uses()), ParseUse) },
		"issuers!":    func(n ast.Node) { q.Issuers = d.set(n) },
		"bodies":      func(n ast.Node) { q.Bodies = d.set(n) },
		"segments":    func(n ast.Node) { q.Segments = uint64(d.number(n)) },
		"scheme":      func(n ast.Node) { q.Scheme = d.text(n) },
		"subject!":    func(n ast.Node) { d.list(n, func(n ast.Node) { q.Subject = append(q.Subject, d.attribute(n)) }) },
		"names":       func(n ast.Node) { d.list(n, func(n ast.Node) { q.Names = append(q.Names, d.altName(n)) }) },
		"fields":      func(n ast.Node) { q.Fields = d.fields(n) },
		"machine":     func(n ast.Node) { q.Machine = d.text(n) },
		"unique":      func(n ast.Node) { q.Unique = d.text(n) },
		"keys!":       func(n ast.Node) { q.Keys = d.set(n) },
		"origins":     func(n ast.Node) { q.Origins = set(d, n, d.origin) },
		"extras":      func(n ast.Node) { q.DropExtras = word(d, n, "drop or refuse", parseExtras) },
		"days!":       func(n ast.Node) { q.Days = d.number(n) },
		"max_days":    func(n ast.Node) { q.MaxDays = d.number(n) },
		"key_usage!":  func(n ast.Node) { q.KeyUsage = d.set(n) },
		"ext_usage":   func(n ast.Node) { q.ExtUsage = d.set(n) },
		"policies":    func(n ast.Node) { q.Policies = d.set(n) },
		"path_length": func(n ast.Node) { q.PathLen = d.number(n) + 1 },
		"ahead_days":  func(n ast.Node) { q.AheadDays = d.number(n) },
		"crl_url":     func(n ast.Node) { q.CRLURL = d.text(n) },
		"issuer_url":  func(n ast.Node) { q.IssuerURL = d.text(n) },
		"ocsp_url":    func(n ast.Node) { q.OCSPURL = d.text(n) },
		"crl_shards":  func(n ast.Node) { q.CRLShards = uint64(d.number(n)) },
		"crl_days":    func(n ast.Node) { q.CRLDays = d.number(n) },
		"lint!":       func(n ast.Node) { q.Lint = d.set(n) },
		"lint_ignore": func(n ast.Node) { q.LintIgnore = d.set(n) },
		"approve":     func(n ast.Node) { q.Approve = d.rule(n) },
		"take_away":   func(n ast.Node) { q.TakeAway = d.rule(n) },
		"release":     func(n ast.Node) { q.Release = d.rule(n) },
		"renew": func(n ast.Node) {
			d.keys(place(n), n, map[string]func(ast.Node){
				"window_days!": func(n ast.Node) { q.Renew.WindowDays = d.number(n) },
				"since_days!":  func(n ast.Node) { q.Renew.SinceDays = d.number(n) },
			})
		},
	})
	if q.MaxDays == 0 {
		q.MaxDays = q.Days
	}
	return q
}

func parseExtras(text string) (drop, ok bool) {
	return text == "drop", text == "drop" || text == "refuse"
}

// attribute reads {CN: "…"}.
func (d *document) attribute(n ast.Node) Attribute {
	all := d.entries(n)
	if len(all) != 1 {
		d.fail(place(n), "wants one attribute, such as CN: \"{name}\"")
		return Attribute{}
	}
	return Attribute{Type: all[0].key, Value: d.text(all[0].value)}
}

// altName reads {dns: "…"} or {dns: "…", optional: true}.
func (d *document) altName(n ast.Node) AltName {
	var name AltName
	for _, e := range d.entries(n) {
		switch {
		case e.key == "optional":
			name.Optional = d.yes(e.value)
		case name.Type == "":
			name.Type, name.Value = e.key, d.text(e.value)
		default:
			d.fail(e.token, "unknown key %q", e.key)
		}
	}
	if name.Type == "" {
		d.fail(place(n), "wants a name, such as dns: \"{host}.{body}.example\"")
	}
	return name
}

func (d *document) fields(n ast.Node) []Field {
	var all []Field
	for _, e := range d.entries(n) {
		f := Field{Name: e.key}
		d.keys(e.token, e.value, map[string]func(ast.Node){
			"pattern!": func(n ast.Node) { f.Pattern = d.text(n) },
			"max!":     func(n ast.Node) { f.Max = uint64(d.number(n)) },
			"optional": func(n ast.Node) { f.Optional = d.yes(n) },
		})
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (d *document) rule(n ast.Node) Rule {
	var r Rule
	d.keys(place(n), n, map[string]func(ast.Node){
		"persons!":   func(n ast.Node) { r.Persons = uint64(d.number(n)) },
		"roles!":     func(n ast.Node) { r.Roles = d.set(n) },
		"statements": func(n ast.Node) { r.Statements = set(d, n, d.statement) },
		"alone":      func(n ast.Node) { r.Alone = d.yes(n) },
	})
	return r
}

func (d *document) statement(n ast.Node) protocol.Statement {
	return word(d, n, "presence or fingerprint", protocol.ParseStatement)
}

func (d *document) origin(n ast.Node) protocol.Origin {
	return word(d, n, "one of attested, station, current, holder, agent", protocol.ParseOrigin)
}

// seconds reads a length of time, such as 100 days or 36 hours.
func (d *document) seconds(n ast.Node) int64 {
	text := d.text(n)
	count, unit, _ := strings.Cut(text, " ")
	v, err := strconv.ParseUint(count, 10, 20)
	size := map[string]int64{"day": 86400, "hour": 3600, "minute": 60}[strings.TrimSuffix(unit, "s")]
	if err != nil || v == 0 || size == 0 {
		d.fail(place(n), "wants days, hours or minutes, such as 100 days, not %q", text)
	}
	return int64(v) * size
}

func (d *document) roster(o *Roster, root ast.Node) {
	d.keys(place(root), root, map[string]func(ast.Node){
		"officers!": func(n ast.Node) {
			for _, e := range d.entries(n) {
				o.Officers = append(o.Officers, d.officer(e))
			}
		},
		"recovery": func(n ast.Node) { o.Recovery = d.recovery(n) },
		"orders!": func(n ast.Node) {
			var others *OrderRule
			for _, e := range d.entries(n) {
				var rule OrderRule
				d.keys(e.token, e.value, map[string]func(ast.Node){
					"persons!": func(n ast.Node) { rule.Persons = uint64(d.number(n)) },
					"role!":    func(n ast.Node) { rule.Role = d.text(n) },
				})
				if e.key == "others" {
					others = &rule
					continue
				}
				kind, known := protocol.ParseKind(e.key)
				if !known || !slices.Contains(protocol.RuledOrders(), kind) {
					d.fail(e.token, "%q is not a kind of order that has a rule", e.key)
					return
				}
				rule.Kind = kind
				o.Orders = append(o.Orders, rule)
			}
			if others == nil {
				return
			}
			for _, kind := range protocol.RuledOrders() {
				if _, ruled := o.Order(kind); !ruled {
					o.Orders = append(o.Orders, OrderRule{Kind: kind, Persons: others.Persons, Role: others.Role})
				}
			}
		},
	})
}

func (d *document) officer(e entry) Officer {
	f := Officer{Person: e.key}
	d.keys(e.token, e.value, map[string]func(ast.Node){
		"name!":     func(n ast.Node) { f.Name = d.text(n) },
		"keys!":     func(n ast.Node) { f.Keys = d.publicKeys(n) },
		"roles!":    func(n ast.Node) { f.Roles = d.set(n) },
		"scopes!":   func(n ast.Node) { f.Scopes = d.scopes(n) },
		"suspended": func(n ast.Node) { f.Suspended = d.yes(n) },
	})
	return f
}

func (d *document) recovery(n ast.Node) *Recovery {
	c := &Recovery{}
	d.keys(place(n), n, map[string]func(ast.Node){
		"persons!": func(n ast.Node) { c.Persons = uint64(d.number(n)) },
		"days!":    func(n ast.Node) { c.Days = d.number(n) },
		"holders!": func(n ast.Node) {
			for _, e := range d.entries(n) {
				h := Holder{Person: e.key}
				d.keys(e.token, e.value, map[string]func(ast.Node){
					"name!": func(n ast.Node) { h.Name = d.text(n) },
					"keys!": func(n ast.Node) { h.Keys = d.publicKeys(n) },
				})
				c.Holders = append(c.Holders, h)
			}
		},
	})
	slices.SortFunc(c.Holders, func(a, b Holder) int { return strings.Compare(a.Person, b.Person) })
	return c
}

func (d *document) publicKeys(n ast.Node) (keys [][]byte) {
	d.list(n, func(n ast.Node) { keys = append(keys, d.key(n)) })
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

// key reads a SubjectPublicKeyInfo: PEM, or base64 alone. That it is a key is asked by Check.
func (d *document) key(n ast.Node) []byte {
	text := strings.TrimSpace(d.text(n))
	if block, rest := pem.Decode([]byte(text)); block != nil && block.Type == "PUBLIC KEY" && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(der) == 0 {
		d.fail(place(n), "wants a public key, as PEM or base64")
	}
	return der
}

// scopes reads a list of {profile: …, body: …}.
func (d *document) scopes(n ast.Node) []protocol.Scope {
	var all []protocol.Scope
	d.list(n, func(n ast.Node) {
		var s protocol.Scope
		d.keys(place(n), n, map[string]func(ast.Node){
			"profile!": func(n ast.Node) { s.Profile = d.text(n) },
			"body!":    func(n ast.Node) { s.Body = d.text(n) },
		})
		if slices.Contains(all, s) {
			d.fail(place(n), "stands twice in the list")
		}
		all = append(all, s)
	})
	slices.SortFunc(all, func(a, b protocol.Scope) int {
		if a.Profile != b.Profile {
			return strings.Compare(a.Profile, b.Profile)
		}
		return strings.Compare(a.Body, b.Body)
	})
	return all
}
