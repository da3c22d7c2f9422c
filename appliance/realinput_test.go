package appliance_test

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// caTypes are the keys that CAs may have.
func caTypes() []string { return []string{"P-256", "P-384", "RSA-3072", "Ed25519", "RSA-4096"} }

// keyTypes are the keys that others may have.
func keyTypes() []string {
	return []string{"RSA-2048", "RSA-3072", "P-256", "P-384", "Ed25519", "RSA-4096"}
}

// TestRealInput issues every profile with every type of key under every type of CA, from requests that real tools made,
// and puts what it gets to validators that are not ours.
func TestRealInput(t *testing.T) {
	all := sources(t)
	for turn, ca := range caTypes() {
		t.Run(ca, func(t *testing.T) {
			t.Parallel()
			w := newRealWorld(t, ca, bearers(turn))
			wishes, beyond := assign(w.policy, all, turn)
			results := w.send(w.groups(beyond)...)
			for _, x := range beyond {
				if r := results[x.id]; r.Refusal == nil || r.Refusal.Code != protocol.CodeCSRExtra {
					t.Errorf("%s, which asks for more than the profile gives: %s, %v", x, r.Outcome, r.Refusal)
				}
			}
			results = w.send(w.groups(wishes)...)
			for _, x := range wishes {
				x.result = results[x.id]
				x.check(t)
			}
			taken := w.send(w.takeAway(protocol.KindRevoke, "it-workstation", wishes), w.takeAway(protocol.KindHold, "gr-public-servant", wishes))
			for _, r := range taken {
				if r.Refusal != nil {
					t.Errorf("taking away: %s", r.Refusal.Words())
				}
			}
			w.judge(t, ca, wishes)
		})
	}
}

// TestRealInputIsWhole asks that no shipped profile, type of key or tool goes without its turn.
func TestRealInputIsWhole(t *testing.T) {
	all, p := sources(t), base(t)
	used := map[string]bool{}
	for turn, ca := range caTypes() {
		wishes, _ := assign(p, all, turn)
		for _, x := range wishes {
			used[x.profile+" "+x.key], used[x.file] = true, true
		}
		for _, profile := range p.Profiles {
			if profile.Use.IsCA() {
				if !slices.Contains(profile.Keys, ca) {
					t.Errorf("profile %s: no keys of type %s", profile.Name, ca)
				}
				used[profile.Name+" "+ca] = true
			}
		}
	}
	for _, profile := range p.Profiles {
		for _, key := range profile.Keys {
			if !used[profile.Name+" "+key] {
				t.Errorf("no certificate of %s with a key of type %s", profile.Name, key)
			}
		}
	}
	for key, list := range all {
		for _, s := range list {
			if !slices.ContainsFunc(slices.Concat(s.plain, s.asking), func(file string) bool { return used[file] }) {
				t.Errorf("nothing is issued to the %s key of %v %v", key, s.plain, s.asking)
			}
		}
	}
	tools := map[string]map[string]bool{}
	for key, list := range all {
		for _, s := range list {
			if tools[s.tool] == nil {
				tools[s.tool] = map[string]bool{}
			}
			tools[s.tool][key] = true
		}
	}
	want := map[string]int{"openssl": 6, "certtool": 5, "keytool": 5, "certutil": 4} // NSS makes no Ed25519 requests
	for _, tool := range slices.Sorted(maps.Keys(want)) {
		if len(tools[tool]) != want[tool] {
			t.Errorf("requests of %s have keys of types %v, want %d types", tool, tools[tool], want[tool])
		}
	}
}

// wish is one request made from one file, and what came of it.
type wish struct {
	usage
	n      int
	bearer bearer
	key    string
	file   string
	id     protocol.Digest
	from   int64 // what is asked for; 0 is the usual term
	to     int64
	result protocol.Result
	gone   bool // revoked or held afterwards
}

func (x *wish) String() string { return x.profile + " from " + x.file }

// assign gives each profile and type of key a request of its own, another each turn. Beyond is what profiles that refuse
// extras must refuse.
func assign(p *policy.Policy, all map[string][]source, turn int) (wishes, beyond []*wish) {
	n := 0
	for _, key := range keyTypes() {
		start := turn % len(all[key])
		pool := slices.Concat(all[key][start:], all[key][:start])
		profiles := usages()
		if len(pool) == 1 { // another profile each turn
			profiles = profiles[1+turn:]
		}
		for _, u := range profiles {
			profile, _ := p.Profile(u.profile)
			if !slices.Contains(profile.Keys, key) || len(pool) == 0 {
				continue
			}
			one := func(file string) *wish {
				n++
				return &wish{usage: u, n: n, bearer: bearers(n + turn), key: key, file: file}
			}
			i := 0
			if !profile.DropExtras {
				i = slices.IndexFunc(pool, func(s source) bool { return len(s.plain) != 0 })
				for _, s := range all[key] {
					for _, file := range s.asking {
						beyond = append(beyond, one(file))
					}
				}
			}
			files := pool[i].plain
			if profile.DropExtras {
				files = slices.Concat(pool[i].asking, pool[i].plain)
			}
			wishes = append(wishes, one(files[turn%len(files)]))
			pool = slices.Delete(pool, i, i+1)
		}
	}
	return wishes, beyond
}

// check compares a certificate with what was asked for: the key is the request's, and nothing else of it.
func (x *wish) check(t *testing.T) {
	t.Helper()
	if x.result.Outcome != protocol.OutcomeIssued {
		t.Fatalf("%s: %s: %s", x, x.result.Outcome, x.result.Refusal.Words())
	}
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(x.result.Certificate))
	request := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(readCSR(t, x.file)))
	if string(cert.RawSubjectPublicKeyInfo) != string(request.RawSubjectPublicKeyInfo) {
		t.Errorf("%s: the key is not that of the request", x)
	}
	if cert.Subject.CommonName != x.common(x.n, x.bearer) {
		t.Errorf("%s: common name %q, want %q", x, cert.Subject.CommonName, x.common(x.n, x.bearer))
	}
	if alt := fmt.Sprint(cert.DNSNames, cert.EmailAddresses); alt != x.alt(x.n) || len(cert.IPAddresses)+len(cert.URIs) != 0 {
		t.Errorf("%s: names %s, addresses %v, URIs %v, want %s and no more", x, alt, cert.IPAddresses, cert.URIs, x.alt(x.n))
	}
}

// realWorld is a world with CAs of one type of key and an approver for both countries.
type realWorld struct {
	*world
	root, issuing protocol.Digest
	approver      *person
}

// newRealWorld begins an hour ago: GnuTLS takes no time to judge at.
func newRealWorld(t testing.TB, ca string, b bearer) *realWorld {
	t.Helper()
	w := &realWorld{world: newWorldAt(t, time.Now().Add(-time.Hour).Truncate(time.Second))}
	w.root = w.createKey("root", ca)
	w.mustOrder(w.signCA(w.root, w.root, "root", b, 0))
	w.issuing = w.createKey("issuing", ca)
	w.mustOrder(w.signCA(w.root, w.issuing, "issuing-ca", b, 0))
	w.enrol()
	w.approver = w.world.approver(w.issuing, "it:RSSCRL70A41H501X", protocol.Scope{Profile: "gr-public-servant", Body: "gr/y-psd"},
		protocol.Scope{Profile: "it-server", Body: unit}, protocol.Scope{Profile: "it-workstation", Body: unit})
	return w
}

func (w *world) createKey(label, algorithm string) protocol.Digest {
	w.t.Helper()
	return protocol.DigestOf(w.mustOrder(w.request(protocol.KindCreateKey, protocol.CreateKey{Label: label, Algorithm: algorithm})).Key)
}

func (w *world) signCA(by, key protocol.Digest, profile string, b bearer, notAfter int64) protocol.Request {
	w.t.Helper()
	fields := map[string]string{"country": b.country, "organization": b.organization, "name": b.organization + " " + profile}
	r := w.request(protocol.KindSignCA, protocol.SignCA{Key: key, Fields: fields, NotAfter: notAfter})
	r.Issuer, r.Profile, r.ProfileDigest = by, profile, w.digestOf(profile)
	return r
}

// group makes the request with its approvals. All is stated; what a rule does not ask for, it does not look at.
func (w *realWorld) group(x *wish) protocol.Group {
	w.t.Helper()
	c := protocol.Issuance{CSR: readCSR(w.t, x.file), Fields: x.fields(x.n, x.bearer), NotBefore: x.from, NotAfter: x.to, Origin: protocol.OriginHolder}
	if x.profile == "approver" {
		c.Scopes = []protocol.Scope{{Profile: "it-workstation", Body: unit}}
	}
	raw := w.encode(w.issue(w.issuing, x.profile, x.body, x.subject(x.n), c))
	x.id = protocol.ID(raw)
	if x.officers {
		return group(raw, w.approve(w.officers[0], nil, both, raw), w.approve(w.officers[1], nil, both, raw))
	}
	return group(raw, w.approve(w.approver, nil, both, raw))
}

func (w *realWorld) groups(wishes []*wish) []protocol.Group {
	w.t.Helper()
	groups := make([]protocol.Group, len(wishes))
	for i, x := range wishes {
		groups[i] = w.group(x)
	}
	return groups
}

// takeAway revokes or holds the first certificate of a profile.
func (w *realWorld) takeAway(kind protocol.Kind, profile string, wishes []*wish) protocol.Group {
	w.t.Helper()
	x := wishes[slices.IndexFunc(wishes, func(x *wish) bool { return x.profile == profile })]
	x.gone = true
	c := protocol.Revocation{Serial: x.result.Serial}
	if kind == protocol.KindRevoke {
		c.Reason = protocol.ReasonSuperseded
	}
	r := w.request(kind, c)
	r.Issuer, r.Profile, r.Body, r.Subject = w.issuing, x.profile, x.body, x.subject(x.n)
	raw := w.encode(r)
	return group(raw, w.approve(w.approver, nil, nil, raw))
}

// crls orders the root's CRL and gives both.
func (w *realWorld) crls() map[string][]byte {
	w.t.Helper()
	r := w.request(protocol.KindCRL, protocol.CRLOrder{})
	r.Issuer = w.root
	w.mustOrder(r)
	crls := map[string][]byte{}
	err := w.engine.CRLs(func(label string, _ uint16, crl store.CRL) error {
		crls[label] = slices.Clone(crl.DER)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return crls
}

// caCertificates gives the certificates of the CAs, by label.
func (w *realWorld) caCertificates() map[string][]byte {
	ders := map[string][]byte{}
	for id, ca := range w.engine.State().CAs {
		if id == w.root || id == w.issuing {
			ders[ca.Label] = ca.Certificate
		}
	}
	return ders
}
