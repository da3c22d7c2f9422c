package forge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	random "math/rand/v2"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// message is an item with a request with a CSR, as a true one, in a sequence.
func message(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"a.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	content, err := cose.Marshal(protocol.Issuance{CSR: csr, Fields: map[string]string{"number": "0001", "host": "a"}, Origin: protocol.OriginHolder})
	if err != nil {
		t.Fatal(err)
	}
	request, err := cose.Marshal(protocol.Request{Version: 1, Kind: protocol.KindIssue, Issuer: protocol.Digest{1}, Profile: "p", ProfileDigest: protocol.Digest{2}, Body: "it/1", Subject: "x", Created: 1_700_000_000, Expires: 1_800_000_000, Content: content})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := protocol.SignID(key, protocol.ContextRequester, protocol.ID(request))
	if err != nil {
		t.Fatal(err)
	}
	item, err := cose.Marshal(protocol.Item{Request: request, Requester: signed})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, part := range [][]byte{signed, item, item} {
		if err := protocol.WriteString(&out, part); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// What is taken apart and not changed is the same bytes again, and it is taken apart down to the names in the CSR.
func TestParseThenEncode(t *testing.T) {
	m := message(t)
	root := parse(m)
	if again := root.encode(nil); !bytes.Equal(again, m) {
		t.Fatalf("%x becomes %x", m, again)
	}
	found := map[string]bool{}
	nodes := 0
	root.each(nil, func(_, n *node) {
		nodes++
		found[string(n.data)] = true
	})
	for _, part := range []string{"it/1", "0001", "number", "x", "\x55\x04\x03"} {
		if !found[part] {
			t.Errorf("%q is not a part", part)
		}
	}
	if nodes < 100 {
		t.Errorf("%d parts", nodes)
	}
}

// Changes reach every level and leave most messages well formed; some come out as they were.
func BenchmarkChange(b *testing.B) {
	f := New(random.New(random.NewPCG(1, 2)))
	m := message(b)
	f.Learn("m", m)
	b.ReportAllocs()
	for b.Loop() {
		f.Change("m", m)
	}
}

func TestChange(t *testing.T) {
	f := New(random.New(random.NewPCG(1, 2)))
	m, other := message(t), message(t)
	f.Learn("m", m)
	f.Learn("m", other)
	same, formed, request, csr := 0, 0, 0, 0
	const n = 20_000
	for range n {
		changed := f.Change("m", m)
		if bytes.Equal(changed, m) {
			same++
			continue
		}
		root := parse(changed)
		if len(root.kids) != 3 {
			continue
		}
		formed++
		for _, kid := range root.kids[1:] {
			item, refusal := protocol.ParseItem(kid.body())
			if refusal != nil {
				continue
			}
			r, refusal := protocol.ParseRequest(item.Request)
			if refusal != nil {
				continue
			}
			request++
			if c, refusal := r.Issuance(); refusal == nil && c.CSR != nil {
				if _, err := x509.ParseCertificateRequest(c.CSR); err == nil {
					csr++
				}
			}
		}
	}
	t.Logf("of %d: %d the same, %d well formed sequences with %d requests and %d CSRs", n, same, formed, request, csr)
	if same > n/5 || formed < n/2 || request < n/2 || csr < n/2 {
		t.Errorf("of %d: %d the same, %d well formed sequences with %d requests and %d CSRs", n, same, formed, request, csr)
	}
	if !bytes.Equal(parse(m).encode(nil), m) {
		t.Error("the message itself was changed")
	}
}

// Whatever bytes there are, they can be taken apart and put together.
func FuzzParse(f *testing.F) {
	f.Add(message(f), uint64(1))
	f.Add([]byte{0x9f, 0xff}, uint64(2))
	f.Add([]byte{0x30, 0x80, 0, 0}, uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		forger := New(random.New(random.NewPCG(seed, 0)))
		forger.Learn("x", data)
		forger.Change("x", data)
		forger.Raw(data)
	})
}
