package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"

	"coldseal/protocol"
)

// spki makes a public key from a name, the same each time.
func spki(t testing.TB, name string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	d := new(big.Int).SetBytes(sum[:])
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// threeOfficers is a roster of three with every power, two of whom decide orders.
func threeOfficers(t testing.TB) *Roster {
	o := &Roster{Version: 1}
	for _, person := range []string{"it:CMPGUO66A30A326C", "it:PRVLCU91M67L736T", "it:SMPBRN79S03F205N"} {
		o.Officers = append(o.Officers, Officer{Person: person, Name: "Officer " + person[3:9], Keys: [][]byte{spki(t, person)},
			Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}}})
	}
	for _, kind := range protocol.RuledOrders() {
		o.Orders = append(o.Orders, OrderRule{Kind: kind, Persons: 2, Role: "security-officer"})
	}
	return o
}

func libraryPolicy(t testing.TB) *Policy {
	t.Helper()
	files, err := Files(Library())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(append(files, File{Name: "test.yaml", Data: []byte("policy: test\nclock_ahead: 100 days\n")})...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLibraryKeepsTheLaws(t *testing.T) {
	p := libraryPolicy(t)
	for _, problem := range Check(p, threeOfficers(t)) {
		t.Error(problem)
	}
	var names []string
	for _, q := range p.Profiles {
		names = append(names, q.Name)
	}
	want := []string{"approver", "gr-public-servant", "issuing-ca", "it-server", "it-workstation", "ocsp-responder", "root", "station"}
	if !slices.Equal(names, want) {
		t.Errorf("profiles %q, want %q", names, want)
	}
	data, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 16<<10 {
		t.Errorf("the library has %d bytes compiled: a policy of 40 such profiles wouldn't fit", len(data))
	}
	t.Logf("%d bytes compiled", len(data))
	if _, err := Compile(p); err != nil {
		t.Fatal(err)
	}
}

func TestOrderKinds(t *testing.T) {
	var all []protocol.Kind
	for k := range protocol.Kind(1000) {
		if _, known := protocol.ParseKind(k.String()); known && k.IsOrder() && k != protocol.KindRecovery && k != protocol.KindSuspend {
			all = append(all, k)
		}
	}
	if !slices.Equal(all, protocol.RuledOrders()) {
		t.Errorf("orders are %v, a roster has rules for %v", all, protocol.RuledOrders())
	}
}

func BenchmarkCheckLibrary(b *testing.B) {
	p, o := libraryPolicy(b), threeOfficers(b)
	for b.Loop() {
		if problems := Check(p, o); len(problems) > 0 {
			b.Fatal(problems[0])
		}
	}
}
