package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance/wire"
	"coldseal/protocol/cose"
)

// memory is a backend that forgets.
type memory struct {
	infos   []KeyInfo
	private map[[32]byte]crypto.Signer
	counter uint64
	pin     [32]byte
	broken  error

	lacks       Algorithm
	attestation *Attestation
}

func newMemory(t testing.TB) *memory {
	t.Helper()
	m := &memory{private: make(map[[32]byte]crypto.Signer)}
	for label, purpose := range map[string]Purpose{"ca": CA, "seal": Seal, "receiver": Receiver} {
		if _, _, err := m.Create(label, purpose, P256); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := m.Create("log", Log, Ed25519); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *memory) id(label string) [32]byte {
	for _, info := range m.infos {
		if info.Label == label {
			return info.ID()
		}
	}
	return [32]byte{}
}

func (m *memory) Keys() ([]KeyInfo, error) { return m.infos, m.broken }

func (m *memory) Create(label string, purpose Purpose, algorithm Algorithm) (KeyInfo, *Attestation, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case P256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA3072:
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil || m.broken != nil {
		return KeyInfo{}, nil, errors.Join(err, m.broken)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	info := KeyInfo{label, purpose, algorithm, spki}
	m.infos = append(m.infos, info)
	m.private[info.ID()] = private
	return info, m.attestation, err
}

func (m *memory) Holds(_ Purpose, algorithm Algorithm) bool { return algorithm != m.lacks }

func (m *memory) Destroy(id [32]byte) error {
	if m.broken != nil {
		return m.broken
	}
	m.infos = slices.DeleteFunc(m.infos, func(k KeyInfo) bool { return k.ID() == id })
	delete(m.private, id)
	return nil
}

func (m *memory) Objects() ([]Object, error) {
	return []Object{{Device: "memory:", Class: "private key", Label: "ca", Key: m.id("ca")}}, m.broken
}

func (m *memory) Parallel([32]byte) int { return 2 }
func (m *memory) Close() error          { return nil }

func (m *memory) Sign(id [32]byte, scheme Scheme, input []byte) ([]byte, error) {
	if m.broken != nil {
		return nil, m.broken
	}
	return m.private[id].Sign(rand.Reader, input, scheme.Options())
}

func (m *memory) ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error) {
	private, err := m.private[id].(*ecdsa.PrivateKey).ECDH()
	if err != nil || m.broken != nil {
		return nil, errors.Join(err, m.broken)
	}
	return private.ECDH(peer)
}

func (m *memory) Counter() (uint64, error)    { return m.counter, m.broken }
func (m *memory) Advance(to uint64) error     { m.counter = to; return m.broken }
func (m *memory) Pinned() ([32]byte, error)   { return m.pin, m.broken }
func (m *memory) Pin(digest [32]byte) error   { m.pin = digest; return m.broken }
func (m *memory) server(t testing.TB) *server { return mustServer(t, m) }

func mustServer(t testing.TB, m *memory) *server {
	t.Helper()
	s, err := newServer(m, Hello{Backend: "memory", Capabilities: map[string]string{"counter": "none"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask runs an operation as the wire would, encoding both ways.
func ask(t testing.TB, s *server, op uint64, request any) (any, error) {
	t.Helper()
	body, err := cose.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.handle(op, body)
	if err != nil {
		return nil, err
	}
	if body, err = cose.Marshal(answer); err != nil {
		t.Fatal(err)
	}
	reply := newReply(op)
	if err := cose.Unmarshal(body, reply); err != nil {
		t.Fatalf("operation %d answers %T, which the client can't read: %v", op, answer, err)
	}
	return reply, nil
}

const head = "coldseal.test/log\n42\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"

func TestRefusals(t *testing.T) {
	m := newMemory(t)
	s := m.server(t)
	m.counter = 7
	if _, err := ask(t, s, opPin, pinMessage{[32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	inputs := func(b ...[]byte) [][]byte { return b }
	point := func(mutate func(b []byte) []byte) []byte {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return mutate(key.PublicKey().Bytes())
	}
	for _, c := range []struct {
		name    string
		op      uint64
		request any
		code    string
	}{
		{"another version", opHello, helloRequest{2}, RefusedVersion},
		{"sign: unknown key", opSign, signRequest{[32]byte{9}, CA, ECDSASHA256, inputs(digest)}, RefusedKey},
		{"sign: CA key seals", opSign, signRequest{m.id("ca"), Seal, ECDSASHA256, inputs(digest)}, RefusedPurpose},
		{"sign: seal key certifies", opSign, signRequest{m.id("seal"), CA, ECDSASHA256, inputs(digest)}, RefusedPurpose},
		{"sign: log key certifies", opSign, signRequest{m.id("log"), CA, Ed25519Message, inputs([]byte(head))}, RefusedPurpose},
		{"sign: CA key signs heads", opSign, signRequest{m.id("ca"), Log, ECDSASHA256, inputs(digest)}, RefusedPurpose},
		{"sign: receiver", opSign, signRequest{m.id("receiver"), Receiver, ECDSASHA256, inputs(digest)}, RefusedPurpose},
		{"sign: no purpose", opSign, signRequest{m.id("ca"), "", ECDSASHA256, inputs(digest)}, RefusedPurpose},
		{"sign: scheme of another algorithm", opSign, signRequest{m.id("ca"), CA, PKCS1SHA256, inputs(digest)}, RefusedScheme},
		{"sign: hash of another curve", opSign, signRequest{m.id("ca"), CA, ECDSASHA384, inputs(make([]byte, 48))}, RefusedScheme},
		{"sign: unknown scheme", opSign, signRequest{m.id("ca"), CA, "ecdsa-sha1", inputs(digest)}, RefusedScheme},
		{"sign: nothing", opSign, signRequest{m.id("ca"), CA, ECDSASHA256, nil}, RefusedBatch},
		{"sign: too much", opSign, signRequest{m.id("ca"), CA, ECDSASHA256, make([][]byte, MaxBatch+1)}, RefusedBatch},
		{"sign: short digest", opSign, signRequest{m.id("ca"), CA, ECDSASHA256, inputs(digest, digest[1:])}, RefusedInput},
		{"sign: long digest", opSign, signRequest{m.id("ca"), CA, ECDSASHA256, inputs(make([]byte, 33))}, RefusedInput},
		{"sign: log signs another text", opSign, signRequest{m.id("log"), Log, Ed25519Message, inputs([]byte(head), []byte("hello"))}, RefusedCheckpoint},
		{"sign: log signs an extended head", opSign, signRequest{m.id("log"), Log, Ed25519Message, inputs([]byte(head + "more\n"))}, RefusedCheckpoint},
		{"ecdh: unknown key", opECDH, ecdhRequest{[32]byte{9}, point(bytes.Clone)}, RefusedKey},
		{"ecdh: CA key", opECDH, ecdhRequest{m.id("ca"), point(bytes.Clone)}, RefusedPurpose},
		{"ecdh: identity", opECDH, ecdhRequest{m.id("receiver"), []byte{0}}, RefusedPoint},
		{"ecdh: zero coordinates", opECDH, ecdhRequest{m.id("receiver"), append([]byte{4}, make([]byte, 64)...)}, RefusedPoint},
		{"ecdh: nothing", opECDH, ecdhRequest{m.id("receiver"), nil}, RefusedPoint},
		{"ecdh: off the curve", opECDH, ecdhRequest{m.id("receiver"), point(func(b []byte) []byte { b[64] ^= 1; return b })}, RefusedPoint},
		{"ecdh: coordinates out of the field", opECDH, ecdhRequest{m.id("receiver"), bytes.Repeat([]byte{0xff}, 65)}, RefusedPoint},
		{"ecdh: compressed", opECDH, ecdhRequest{m.id("receiver"), point(func(b []byte) []byte { return append([]byte{2 + b[64]&1}, b[1:33]...) })}, RefusedPoint},
		{"ecdh: trailing byte", opECDH, ecdhRequest{m.id("receiver"), point(func(b []byte) []byte { return append(b, 0) })}, RefusedPoint},
		{"create: duplicate label", opCreate, createRequest{"ca", CA, P256}, RefusedDuplicate},
		{"create: duplicate label, another purpose", opCreate, createRequest{"ca", Seal, P256}, RefusedDuplicate},
		{"create: no label", opCreate, createRequest{"", CA, P256}, RefusedLabel},
		{"create: label with a control character", opCreate, createRequest{"a\x1b[2J", CA, P256}, RefusedLabel},
		{"create: label beginning with a dash", opCreate, createRequest{"-a", CA, P256}, RefusedLabel},
		{"create: long label", opCreate, createRequest{strings.Repeat("a", MaxLabel+1), CA, P256}, RefusedLabel},
		{"create: RSA receiver", opCreate, createRequest{"new", Receiver, RSA3072}, RefusedAlgorithm},
		{"create: P-384 receiver", opCreate, createRequest{"new", Receiver, P384}, RefusedAlgorithm},
		{"create: P-256 log", opCreate, createRequest{"new", Log, P256}, RefusedAlgorithm},
		{"create: RSA seal", opCreate, createRequest{"new", Seal, RSA4096}, RefusedAlgorithm},
		{"create: small RSA", opCreate, createRequest{"new", CA, "RSA-2048"}, RefusedAlgorithm},
		{"create: unknown purpose", opCreate, createRequest{"new", "tls", P256}, RefusedAlgorithm},
		{"counter: back", opAdvance, counterMessage{6}, RefusedCounter},
		{"counter: two ahead", opAdvance, counterMessage{9}, RefusedCounter},
		{"counter: to zero", opAdvance, counterMessage{0}, RefusedCounter},
		{"counter: far", opAdvance, counterMessage{1<<64 - 1}, RefusedCounter},
		{"pin: another", opPin, pinMessage{[32]byte{2}}, RefusedPin},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(m.infos)
			_, err := ask(t, s, c.op, c.request)
			refused, ok := errors.AsType[*wire.Refused](err)
			if !ok || refused.Code != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			if m.counter != 7 || m.pin != [32]byte{1} || len(m.infos) != before {
				t.Error("refused, and something changed")
			}
		})
	}
}

func TestFullSignerCreatesNoMore(t *testing.T) {
	m := newMemory(t)
	for i := len(m.infos); i < MaxKeys; i++ {
		if _, _, err := m.Create("k"+string(rune('a'+i/26))+string(rune('a'+i%26)), CA, Ed25519); err != nil {
			t.Fatal(err)
		}
	}
	_, err := ask(t, m.server(t), opCreate, createRequest{"one-more", CA, Ed25519})
	if refused, ok := errors.AsType[*wire.Refused](err); !ok || refused.Code != RefusedFull {
		t.Fatalf("got %v", err)
	}
}

func TestCounterAndPin(t *testing.T) {
	m := newMemory(t)
	s := m.server(t)
	for _, step := range []struct {
		op            uint64
		request, want any
	}{
		{opCounter, nothing{}, &counterMessage{0}},
		{opAdvance, counterMessage{0}, &counterMessage{0}},
		{opAdvance, counterMessage{1}, &counterMessage{1}},
		{opAdvance, counterMessage{1}, &counterMessage{1}},
		{opAdvance, counterMessage{2}, &counterMessage{2}},
		{opCounter, nothing{}, &counterMessage{2}},
		{opPin, pinMessage{}, &pinMessage{}},
		{opPin, pinMessage{[32]byte{5}}, &pinMessage{[32]byte{5}}},
		{opPin, pinMessage{[32]byte{5}}, &pinMessage{[32]byte{5}}},
		{opPin, pinMessage{}, &pinMessage{[32]byte{5}}},
	} {
		if got, err := ask(t, s, step.op, step.request); err != nil || !reflect.DeepEqual(got, step.want) {
			t.Errorf("operation %d of %v: got %v, %v, want %v", step.op, step.request, got, err, step.want)
		}
	}
	m.counter = 1<<64 - 1
	if _, err := ask(t, s, opAdvance, counterMessage{0}); err == nil {
		t.Error("the counter wraps")
	}
}

func TestBackendErrorsAreFaults(t *testing.T) {
	m := newMemory(t)
	s := m.server(t)
	m.broken = errors.New("token removed")
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for op, request := range map[uint64]any{
		opKeys:    nothing{},
		opCreate:  createRequest{"new", CA, P256},
		opSign:    signRequest{m.id("ca"), CA, ECDSASHA256, [][]byte{make([]byte, 32)}},
		opECDH:    ecdhRequest{m.id("receiver"), peer.PublicKey().Bytes()},
		opCounter: nothing{},
		opAdvance: counterMessage{1},
		opPin:     pinMessage{[32]byte{1}},
		opDestroy: destroyRequest{m.id("ca"), CA},
		opObjects: nothing{},
	} {
		_, err := ask(t, s, op, request)
		if _, refused := errors.AsType[*wire.Refused](err); !errors.Is(err, m.broken) || refused {
			t.Errorf("operation %d: %v", op, err)
		}
	}
	if _, err := newServer(m, Hello{}); !errors.Is(err, m.broken) {
		t.Errorf("start: %v", err)
	}
}

func TestCheckpoint(t *testing.T) {
	const root = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	for _, good := range []string{head, "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", "Ηράκλειο/λογ\n9223372036854775807\n" + root + "\n"} {
		if err := checkCheckpoint([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "\n", "o", "o\n1\n" + root, "o\n1\n" + root + "\n\n", "o\n1\n" + root + "\nextension\n",
		"\n1\n" + root + "\n", "o\x00\n1\n" + root + "\n", "o\r\n1\n" + root + "\n", "o\xff\n1\n" + root + "\n",
		"o\n01\n" + root + "\n", "o\n+1\n" + root + "\n", "o\n-1\n" + root + "\n", "o\n1 \n" + root + "\n", "o\n\n" + root + "\n",
		"o\n9223372036854775808\n" + root + "\n", "o\n0x1\n" + root + "\n",
		"o\n1\nAAAA\n", "o\n1\n\n", "o\n1\n" + root[:43] + "\n", "o\n1\n" + root + " \n", "o\n1\n" + root + "\r\n",
		"o\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n", // bits that are not in the hash
		"o\n1\n" + root + "\n— o AAAA\n",
	} {
		if err := checkCheckpoint([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a checkpoint", bad)
		}
	}
}

func TestSchemes(t *testing.T) {
	all := map[Algorithm]crypto.Signer{}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all[Algorithm(curve.Params().Name)] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all[Ed25519] = ed
	if all[RSA3072], err = rsa.GenerateKey(rand.Reader, 3072); err != nil {
		t.Fatal(err)
	}
	used := map[Scheme]bool{}
	for algorithm, key := range all {
		if got, err := AlgorithmOf(key.Public()); err != nil || got != algorithm {
			t.Errorf("AlgorithmOf: %v, %v, want %s", got, err, algorithm)
		}
		for _, opts := range []crypto.SignerOpts{
			crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.Hash(0),
			&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, &rsa.PSSOptions{SaltLength: 48, Hash: crypto.SHA384},
			&rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA512}, crypto.SHA1, nil,
		} {
			scheme, err := SchemeFor(algorithm, opts)
			if err != nil {
				continue
			}
			if !scheme.Fits(algorithm) {
				t.Errorf("%s for %s", scheme, algorithm)
			}
			used[scheme] = true
			input := make([]byte, 32)
			if hash := scheme.Options().HashFunc(); hash != 0 {
				input = make([]byte, hash.Size())
			}
			signature, err := key.Sign(rand.Reader, input, scheme.Options())
			if err != nil {
				t.Fatal(err)
			}
			if !scheme.verify(key.Public(), input, signature) {
				t.Errorf("%s with %s does not verify", scheme, algorithm)
			}
			for _, other := range all {
				if scheme.verify(other.Public(), append(bytes.Clone(input[1:]), 1), signature) {
					t.Errorf("%s verifies over another input", scheme)
				}
			}
			if scheme.verify(key.Public(), input, append(bytes.Clone(signature), 0)) || scheme.verify(key.Public(), input, nil) {
				t.Errorf("%s verifies with another signature", scheme)
			}
		}
	}
	want := []Scheme{ECDSASHA256, ECDSASHA384, PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, Ed25519Message}
	if len(used) != len(want) {
		t.Errorf("schemes used: %v, want %v", used, want)
	}
	for _, scheme := range want {
		if !used[scheme] {
			t.Errorf("%s not used", scheme)
		}
	}
}

// examples are one body of each operation.
func examples(t testing.TB) map[uint64]any {
	m := newMemory(t)
	return map[uint64]any{
		opHello:   helloRequest{Version},
		opKeys:    nothing{},
		opCreate:  createRequest{"new", CA, P256},
		opSign:    signRequest{m.id("log"), Log, Ed25519Message, [][]byte{[]byte(head), []byte(head)}},
		opECDH:    ecdhRequest{m.id("receiver"), bytes.Repeat([]byte{4}, 65)},
		opCounter: nothing{},
		opAdvance: counterMessage{1},
		opPin:     pinMessage{sha256.Sum256(nil)},
		opDestroy: destroyRequest{m.id("ca"), CA},
		opObjects: nothing{},
		opShare:   shareRequest{someShare},
	}
}

func FuzzRequest(f *testing.F) {
	for op, example := range examples(f) {
		body, err := cose.Marshal(example)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(op, body)
	}
	m := newMemory(f)
	s := m.server(f)
	f.Fuzz(func(t *testing.T, op uint64, body []byte) {
		request, err := decodeRequest(op, body)
		if err != nil {
			return
		}
		if again, err := cose.Marshal(request); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("read %x, wrote %x, %v", body, again, err)
		}
		if op == opCreate && len(m.infos) > 64 {
			return
		}
		if _, err := s.handle(op, body); err != nil {
			if _, refused := errors.AsType[*wire.Refused](err); !refused {
				t.Fatalf("operation %d of %x is a fault: %v", op, body, err)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	s := newMemory(f).server(f)
	for op, example := range examples(f) {
		body, err := cose.Marshal(example)
		if err != nil {
			f.Fatal(err)
		}
		reply, err := s.handle(op, body)
		if err != nil {
			continue // the example point is none
		}
		if body, err = cose.Marshal(reply); err != nil {
			f.Fatal(err)
		}
		f.Add(op, body)
	}
	f.Fuzz(func(t *testing.T, op uint64, body []byte) {
		reply := newReply(op)
		if reply == nil || cose.Unmarshal(body, reply) != nil {
			return
		}
		if again, err := cose.Marshal(reply); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("read %x, wrote %x, %v", body, again, err)
		}
		if card, is := reply.(*shareReply); is && card.check(nil) == nil && (len(card.Shares) == 0 || len(card.Shares) > MaxShares) {
			t.Fatalf("%d shares", len(card.Shares))
		}
		keys, ok := reply.(*keysReply)
		if !ok {
			return
		}
		for _, info := range keys.Keys {
			if public, err := info.Check(); (public == nil) == (err == nil) {
				t.Fatalf("%v, %v", public, err)
			}
		}
	})
}
