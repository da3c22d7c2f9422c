package protocol

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"reflect"
	"testing"
)

var alsScope = ApproverScope{Person: "it:FTTCRL84C52H501V", Scopes: []Scope{
	{Profile: "it-server", Body: "it/058091"},
	{Profile: "it-workstation", Body: "it/058091"},
}}

func TestScopeRoundTrip(t *testing.T) {
	der, err := alsScope.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const want = "0447a2017369743a46545443524c38344335324835303156" + "0282" +
		"82" + "6969742d736572766572" + "6969742f303538303931" +
		"82" + "6e69742d776f726b73746174696f6e" + "6969742f303538303931"
	if got := hex.EncodeToString(der); got != want {
		t.Errorf("Encode = %s, want %s", got, want)
	}
	other := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte{5, 0}}
	own := pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 1}, Value: der}
	got, found, err := ScopeOf(&x509.Certificate{Extensions: []pkix.Extension{other, own}})
	if err != nil || !found || !reflect.DeepEqual(got, alsScope) {
		t.Errorf("ScopeOf = %v, %v, %v", got, found, err)
	}
	if _, found, err := ScopeOf(&x509.Certificate{Extensions: []pkix.Extension{other}}); found || err != nil {
		t.Errorf("without the extension: found %v, %v", found, err)
	}
	own.Value = der[:len(der)-1]
	if _, found, err := ScopeOf(&x509.Certificate{Extensions: []pkix.Extension{own}}); !found || err == nil {
		t.Errorf("cut extension: found %v, %v", found, err)
	}
}

func TestScopeRefusals(t *testing.T) {
	var many []Scope
	for i := range 300 {
		many = append(many, Scope{Profile: "p", Body: fmt.Sprintf("it/%06d-with-a-long-name", i)})
	}
	for name, a := range map[string]ApproverScope{
		"no person":       {Scopes: alsScope.Scopes},
		"person in small": {Person: "it:abc", Scopes: alsScope.Scopes},
		"no scope":        {Person: "it:A"},
		"out of order":    {Person: "it:A", Scopes: []Scope{{Profile: "b", Body: "it"}, {Profile: "a", Body: "it"}}},
		"twice":           {Person: "it:A", Scopes: []Scope{{Profile: "a", Body: "it"}, {Profile: "a", Body: "it"}}},
		"any profile":     {Person: "it:A", Scopes: []Scope{{Profile: Any, Body: "it"}}},
		"any body":        {Person: "it:A", Scopes: []Scope{{Profile: "a", Body: Any}}},
		"too many":        {Person: "it:A", Scopes: many},
	} {
		if _, err := a.Encode(); err == nil {
			t.Errorf("%s: was encoded", name)
		}
	}
	der, err := alsScope.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"empty":         {},
		"trailing":      append(bytes.Clone(der), 0),
		"bare CBOR":     der[2:],
		"long length":   append([]byte{0x04, 0x81, der[1]}, der[2:]...),
		"no map":        {0x04, 0x01, 0x01},
		"field missing": {0x04, 0x01, 0xa0},
		"too large":     make([]byte, MaxScope+1),
	} {
		if _, err := ParseScope(bad); err == nil {
			t.Errorf("%s: was decoded", name)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	der, err := alsScope.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseScope(data)
		if err != nil {
			return
		}
		if again, err := a.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("decoded %x, encoded again %x, %v", data, again, err)
		}
	})
}
