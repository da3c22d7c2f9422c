package auditlog

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// approverKey is that of the only approver of the vector.
var approverKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{10}, 32))

// intentsBodies are bodies of intents leaves, one for each kind of thing that is announced.
type intentsBodies struct{ certificates, hold, withdrawal, crl string }

// makeIntents announces what makeVector does.
func makeIntents(t testing.TB, appliance protocol.Digest) intentsBodies {
	encode := func(v any) []byte {
		data, err := cose.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	ca := protocol.Digest(issuer)
	body := func(approved bool, intents ...Intent) string {
		b := IntentsBody{Intents: intents}
		a := protocol.Approval{Version: protocol.Version, Appliance: appliance, Created: 1_800_000_000, Expires: 1_800_003_600}
		var requests []protocol.Request
		for _, in := range intents {
			item, refusal := protocol.ParseItem(in.Item)
			if !approved || refusal != nil {
				return string(encode(b))
			}
			r, refusal := protocol.ParseRequest(item.Request)
			if refusal != nil {
				t.Fatal(refusal.Words())
			}
			requests = append(requests, r)
			a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: protocol.ID(item.Request)})
		}
		slices.SortFunc(a.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
		a.Manifest = protocol.ManifestOf(requests)
		payload, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		message, err := cose.Sign(approverKey, protocol.ContextApproval, payload)
		if err != nil {
			t.Fatal(err)
		}
		b.Approvals = [][]byte{message}
		return string(encode(b))
	}
	item := func(kind protocol.Kind, subject string, content any) []byte {
		r := protocol.Request{Version: protocol.Version, Appliance: appliance, Kind: kind, Body: "it/058091",
			Nonce: [16]byte{byte(kind)}, Created: 1_800_000_000, Expires: 1_800_003_600, Content: encode(content)}
		if subject != "" {
			r.Issuer, r.Profile, r.Subject = ca, "it-workstation", subject
		}
		if kind.NamesProfile() {
			r.ProfileDigest = protocol.DigestOf([]byte("profile"))
		}
		return encode(protocol.Item{Request: encode(r)})
	}
	issue := func(number string) []byte {
		return item(protocol.KindIssue, "058091-PC-"+number, protocol.Issuance{CSR: []byte("PKCS #10"), Origin: protocol.OriginAgent})
	}
	tbs := func(name string) protocol.Digest { return protocol.DigestOf([]byte(name)) }
	held := []byte{0x4f, 0, 0x17}
	return intentsBodies{
		certificates: body(true, Intent{Item: issue("0001"), Issuer: ca, Serial: held, TBS: tbs("TBSCertificate 1")},
			Intent{Item: issue("0002"), Issuer: ca, Serial: []byte{0x4f, 0, 0x18}, TBS: tbs("TBSCertificate 2")}),
		hold:       body(true, Intent{Item: item(protocol.KindHold, "058091-PC-0001", protocol.Revocation{Serial: held}), Issuer: ca, Serial: held}),
		withdrawal: body(false, Intent{Item: item(protocol.KindWithdraw, "", protocol.Withdrawal{Request: protocol.DigestOf([]byte("request"))})}),
		crl:        body(false, Intent{Issuer: ca, TBS: tbs("TBSCertList")}),
	}
}

func (b intentsBodies) all() []string { return []string{b.certificates, b.hold, b.withdrawal, b.crl} }

func TestIntents(t *testing.T) {
	for i, body := range makeIntents(t, protocol.Digest{1}).all() {
		b, err := ParseIntents([]byte(body))
		if err != nil {
			t.Fatalf("body %d: %v", i, err)
		}
		for _, in := range b.Intents {
			if signs := i == 0 || i == 3; signs == in.TBS.IsZero() {
				t.Errorf("body %d: %+v", i, in)
			}
		}
	}
}

func TestParseIntentsRefuses(t *testing.T) {
	id := protocol.Digest{1}
	for name, intents := range map[string][]Intent{
		"none":                          {},
		"nothing":                       {{}},
		"a signature by nobody":         {{Item: []byte{1}, Serial: []byte{1}, TBS: id}},
		"a certificate without serial":  {{Item: []byte{1}, Issuer: id, TBS: id}},
		"a certificate without request": {{Issuer: id, Serial: []byte{1}, TBS: id}},
		"a CRL by nobody":               {{TBS: id}},
		"a CRL that is not signed":      {{Issuer: id}},
		"a change of no certificate":    {{Item: []byte{1}, Issuer: id}},
		"a change by no CA":             {{Item: []byte{1}, Serial: []byte{1}}},
		"a change without request":      {{Issuer: id, Serial: []byte{1}}},
		"a withdrawal that is signed":   {{Item: []byte{1}, TBS: id}},
		"the second":                    {{Issuer: id, TBS: id}, {}},
	} {
		body, err := cose.Marshal(IntentsBody{Intents: intents})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := ParseIntents(body); err == nil {
			t.Errorf("%s: accepted as %+v", name, b)
		}
	}
	good := makeIntents(t, id).hold
	for _, body := range []string{"", good[:len(good)-1], good + "\x00"} {
		if _, err := ParseIntents([]byte(body)); err == nil {
			t.Errorf("%x was accepted", body)
		}
	}
}

func TestStatusAfter(t *testing.T) {
	for kind, want := range map[protocol.Kind]Status{protocol.KindRevoke: Revoked, protocol.KindHold: Held, protocol.KindRelease: Active, protocol.KindIssue: None, protocol.KindWithdraw: None} {
		if got := StatusAfter(kind); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}

func FuzzParseIntents(f *testing.F) {
	for _, body := range makeIntents(f, protocol.Digest{1}).all() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseIntents(data)
		if err != nil {
			return
		}
		if again, err := cose.Marshal(b); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x was accepted and encodes as %x, %v", data, again, err)
		}
	})
}
