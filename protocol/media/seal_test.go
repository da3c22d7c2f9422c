package media

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"

	"filippo.io/age"
)

var update = flag.Bool("update", false, "write testdata/vector.age anew")

const (
	vectorScalar    = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100"
	vectorPlaintext = "what crosses the gap\n"
	vectorFile      = "testdata/vector.age"
)

func newKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func software(t testing.TB, k *ecdh.PrivateKey) Key {
	t.Helper()
	key, err := NewSoftwareKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func vectorKey(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	scalar, err := hex.DecodeString(vectorScalar)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ecdh.P256().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealed(t testing.TB, receiver *ecdh.PublicKey, plaintext []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Encrypt(&out, receiver)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plaintext); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unseal(data []byte, key Key) ([]byte, error) {
	r, err := decrypt(context.Background(), bytes.NewReader(data), key)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	k := newKey(t)
	spool := newSpool(t, 0)
	for _, n := range []int{0, 1, 65535, 65536, 65537, 131072, 1 << 20} {
		plaintext := pattern(n)
		data := sealed(t, k.PublicKey(), plaintext)
		file := spooled(t, spool, data)
		got, err := spool.Decrypt(t.Context(), file, software(t, k))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if b, err := io.ReadAll(got.Reader()); err != nil || !bytes.Equal(b, plaintext) || got.Size() != int64(n) {
			t.Errorf("%d bytes: came back as %d bytes, %v", n, len(b), err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		want, err := KeyID(k.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		if id, err := Receiver(bytes.NewReader(data)); err != nil || id != want {
			t.Errorf("receiver %x, %v, want %x", id, err, want)
		}
	}
}

// countingKey is a key held elsewhere.
type countingKey struct {
	private *ecdh.PrivateKey
	calls   int
	answer  func(x []byte) ([]byte, error)
}

func (k *countingKey) PublicKey() *ecdh.PublicKey { return k.private.PublicKey() }
func (k *countingKey) ECDH(_ context.Context, point []byte) ([]byte, error) {
	k.calls++
	peer, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	x, err := k.private.ECDH(peer)
	if err != nil || k.answer == nil {
		return x, err
	}
	return k.answer(x)
}

func TestKeyHolder(t *testing.T) {
	k := newKey(t)
	data := sealed(t, k.PublicKey(), pattern(1000))
	unplugged := errors.New("device unplugged")
	for _, c := range []struct {
		name   string
		answer func([]byte) ([]byte, error)
		want   error
	}{
		{"answers", nil, nil},
		{"fails", func([]byte) ([]byte, error) { return nil, unplugged }, ErrKey},
		{"answers short", func(x []byte) ([]byte, error) { return x[:31], nil }, ErrKey},
		{"answers nothing", func([]byte) ([]byte, error) { return nil, nil }, ErrKey},
		{"answers wrong", func(x []byte) ([]byte, error) { x[0] ^= 1; return x, nil }, ErrSealed},
	} {
		key := &countingKey{private: k, answer: c.answer}
		_, err := unseal(data, key)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.name == "fails" && !errors.Is(err, unplugged) {
			t.Errorf("the cause is lost: %v", err)
		}
		if key.calls != 1 {
			t.Errorf("%s: asked %d times, want once", c.name, key.calls)
		}
	}
}

func TestTruncated(t *testing.T) {
	k := newKey(t)
	data := sealed(t, k.PublicKey(), pattern(150_000))
	cuts := []int{1, 21, 22, 100, len(data) - 1}
	for n := 0; n < len(data); n += 512 {
		cuts = append(cuts, n)
	}
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 200 {
		cuts = append(cuts, random.IntN(len(data)))
	}
	spool := newSpool(t, 0)
	for _, n := range cuts {
		file := spooled(t, spool, data[:n])
		if got, err := spool.Decrypt(t.Context(), file, software(t, k)); !errors.Is(err, ErrSealed) {
			t.Errorf("first %d of %d bytes: %v, %v, want %v", n, len(data), got, err, ErrSealed)
		}
	}
}

func TestFlippedBits(t *testing.T) {
	k := newKey(t)
	data := sealed(t, k.PublicKey(), pattern(70_000))
	header := bytes.Index(data, []byte("\n---")) + 4 + 1 + 43 + 1
	random := mathrand.New(mathrand.NewPCG(3, 4))
	refuse := func(at int, bit byte) {
		bad := bytes.Clone(data)
		bad[at] ^= bit
		if _, err := unseal(bad, software(t, k)); !errors.Is(err, ErrSealed) && !errors.Is(err, ErrReceiver) {
			t.Errorf("bit %08b of byte %d: %v", bit, at, err)
		}
	}
	for at := range header + 64 {
		for bit := range 8 {
			refuse(at, 1<<bit)
		}
	}
	for range 500 {
		refuse(random.IntN(len(data)), 1<<random.IntN(8))
	}
	for at := len(data) - 16; at < len(data); at++ {
		refuse(at, 0x80)
	}
}

// stanzas lets a test write any header around a file key.
type stanzas func(fileKey []byte) ([]*age.Stanza, error)

func (s stanzas) Wrap(fileKey []byte) ([]*age.Stanza, error) { return s(fileKey) }

func withStanzas(t *testing.T, recipients ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipients...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRefusedHeaders(t *testing.T) {
	k, other := newKey(t), newKey(t)
	ours := recipient{k.PublicKey()}
	x25519, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	passphrase, err := age.NewScryptRecipient("passphrase")
	if err != nil {
		t.Fatal(err)
	}
	passphrase.SetWorkFactor(4)
	changed := func(change func(*age.Stanza)) []byte {
		return withStanzas(t, stanzas(func(fileKey []byte) ([]*age.Stanza, error) {
			s, err := ours.Wrap(fileKey)
			if err == nil {
				change(s[0])
			}
			return s, err
		}))
	}
	good := withStanzas(t, ours)
	if _, err := unseal(good, software(t, k)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	offCurve := append([]byte{4}, bytes.Repeat([]byte{1}, 64)...)
	var longHeader []age.Recipient
	for range 30 {
		longHeader = append(longHeader, recipient{other.PublicKey()})
	}

	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"another receiver", withStanzas(t, recipient{other.PublicKey()}), ErrReceiver},
		{"two of ours", withStanzas(t, ours, ours), ErrSealed},
		{"ours and a foreign one", withStanzas(t, ours, x25519.Recipient()), ErrSealed},
		{"thirty, above the cap", withStanzas(t, longHeader...), ErrSealed},
		{"a foreign one", withStanzas(t, x25519.Recipient()), ErrSealed},
		{"a passphrase", withStanzas(t, passphrase), ErrSealed},
		{"other type", changed(func(s *age.Stanza) { s.Type = "coldseal/p384" }), ErrSealed},
		{"third argument", changed(func(s *age.Stanza) { s.Args = append(s.Args, "x") }), ErrSealed},
		{"no arguments", changed(func(s *age.Stanza) { s.Args = nil }), ErrSealed},
		{"short key id", changed(func(s *age.Stanza) { s.Args[0] = "AAAA" }), ErrSealed},
		{"key id with loose bits", changed(func(s *age.Stanza) { s.Args[0] = s.Args[0][:42] + "/" }), ErrSealed},
		{"padded encapsulated key", changed(func(s *age.Stanza) { s.Args[1] += "=" }), ErrSealed},
		{"compressed point", changed(func(s *age.Stanza) {
			s.Args[1] = base64.RawStdEncoding.EncodeToString(append([]byte{2}, offCurve[1:33]...))
		}), ErrSealed},
		{"point off the curve", changed(func(s *age.Stanza) { s.Args[1] = base64.RawStdEncoding.EncodeToString(offCurve) }), ErrSealed},
		{"point at infinity", changed(func(s *age.Stanza) { s.Args[1] = "AA" }), ErrSealed},
		{"short body", changed(func(s *age.Stanza) { s.Body = s.Body[:31] }), ErrSealed},
		{"long body", changed(func(s *age.Stanza) { s.Body = append(s.Body, 0) }), ErrSealed},
		{"trailing byte", append(bytes.Clone(good), 0), ErrSealed},
		{"appended to itself", append(bytes.Clone(good), good...), ErrSealed},
		{"armor", []byte("-----BEGIN AGE ENCRYPTED FILE-----\n---\n"), ErrSealed},
		{"carriage returns", bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")), ErrSealed},
		{"empty", nil, ErrSealed},
		{"blank", make([]byte, 10_000), ErrSealed},
	} {
		key := &countingKey{private: k}
		if _, err := unseal(c.data, key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if key.calls != 0 && c.name != "trailing byte" && c.name != "appended to itself" {
			t.Errorf("%s: the key was used", c.name)
		}
	}
}

// endless counts what is read of a header that never ends.
type endless struct {
	start string
	fill  byte
	read  int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.fill
		if e.read+i < len(e.start) {
			p[i] = e.start[e.read+i]
		}
	}
	e.read += len(p)
	return len(p), nil
}

func TestHugeHeader(t *testing.T) {
	key := software(t, newKey(t))
	for _, start := range []string{"", "age-encryption.org/v1\n", "age-encryption.org/v1\n-> coldseal/p256 ", "age-encryption.org/v1\n-> coldseal/p256 a b\n", "age-encryption.org/v1\n---"} {
		for _, fill := range []byte("A \n") {
			r := &endless{start: start, fill: fill}
			if _, err := decrypt(t.Context(), r, key); !errors.Is(err, ErrSealed) {
				t.Errorf("%q then %q: %v", start, fill, err)
			}
			if r.read > MaxHeaderBytes {
				t.Errorf("%q then %q: read %d bytes, want at most %d", start, fill, r.read, MaxHeaderBytes)
			}
		}
	}
}

// failing is a disk that breaks after n bytes.
type failing struct {
	r io.Reader
	n int
}

var errDisk = errors.New("disk broke")

func (f *failing) Read(p []byte) (int, error) {
	if f.n == 0 {
		return 0, errDisk
	}
	n, err := f.r.Read(p[:min(len(p), f.n)])
	f.n -= n
	return n, err
}

func TestReadFaultIsNotABadSeal(t *testing.T) {
	k := newKey(t)
	data := sealed(t, k.PublicKey(), pattern(200_000))
	for _, n := range []int{0, 100, 300, 70_000, len(data) - 1, len(data)} {
		r, err := decrypt(t.Context(), &failing{bytes.NewReader(data), n}, software(t, k))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if !errors.Is(err, errDisk) || errors.Is(err, ErrSealed) {
			t.Errorf("disk breaks after %d bytes: %v", n, err)
		}
	}
}

func TestOnlyP256(t *testing.T) {
	k, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSoftwareKey(k); err == nil {
		t.Error("P-384 private key accepted")
	}
	if _, err := Encrypt(io.Discard, k.PublicKey()); err == nil {
		t.Error("P-384 receiver accepted")
	}
	_, err = unseal(sealed(t, newKey(t).PublicKey(), nil), &countingKey{private: k})
	if !errors.Is(err, ErrKey) {
		t.Errorf("P-384 identity: %v, want %v", err, ErrKey)
	}
}

func TestVector(t *testing.T) {
	k := vectorKey(t)
	cryptotest.SetGlobalRandom(t, 1)
	made := sealed(t, k.PublicKey(), []byte(vectorPlaintext))
	if *update {
		if err := os.WriteFile(vectorFile, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(made, data) {
		t.Errorf("%s is not what is made today; look why, then -update", vectorFile)
	}
	if got, err := unseal(data, software(t, k)); err != nil || string(got) != vectorPlaintext {
		t.Errorf("opened as %q, %v", got, err)
	}
	spec, err := os.ReadFile("media.md")
	if err != nil {
		t.Fatal(err)
	}
	id, err := KeyID(k.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	header := bytes.Index(data, []byte("\n---")) + 49
	for _, want := range []string{
		vectorScalar, fmt.Sprintf("%x", id), fmt.Sprintf("%x", k.PublicKey().Bytes()), strings.TrimSpace(vectorPlaintext),
		string(data[:header]), fmt.Sprintf("%x", data[header:header+16]), fmt.Sprintf("%x", data[header+16:]),
	} {
		if !bytes.Contains(spec, []byte(want)) {
			t.Errorf("the example in media.md lacks\n%s", want)
		}
	}
}

// TestForeignReader has code that shares nothing with this package open the vector and a file of several chunks.
func TestForeignReader(t *testing.T) {
	k := vectorKey(t)
	open := func(file string) []byte {
		t.Helper()
		cmd := exec.Command("/usr/bin/python3", "testdata/open.py", vectorScalar, file)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v (needs python3-cryptography)\n%s", cmd, err, stderr.Bytes())
		}
		return got
	}
	if got := open(vectorFile); string(got) != vectorPlaintext {
		t.Errorf("vector opened as %q", got)
	}
	for _, n := range []int{0, 65536, 200_000} {
		plaintext := pattern(n)
		file := filepath.Join(t.TempDir(), "file.age")
		if err := os.WriteFile(file, sealed(t, k.PublicKey(), plaintext), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := open(file); !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes opened as %d others", n, len(got))
		}
	}
}

// FuzzOpen: whatever opens under the vector's key was made by the age format and no other way, so that its length
// follows from the plaintext's; nothing else is accepted, nothing panics, the key is used at most once.
func FuzzOpen(f *testing.F) {
	private := vectorKey(f)
	vector, err := os.ReadFile(vectorFile)
	if err != nil {
		f.Fatal(err)
	}
	header := bytes.Index(vector, []byte("\n---")) + 49
	for _, seed := range [][]byte{vector, vector[:header], vector[:header+16], append(bytes.Clone(vector), 0), nil} {
		f.Add(seed)
	}
	f.Add(sealed(f, private.PublicKey(), nil))
	f.Add(sealed(f, private.PublicKey(), pattern(65537)))
	f.Fuzz(func(t *testing.T, data []byte) {
		key := &countingKey{private: private}
		plaintext, err := unseal(data, key)
		if key.calls > 1 {
			t.Fatalf("key used %d times", key.calls)
		}
		if err != nil {
			if !errors.Is(err, ErrSealed) && !errors.Is(err, ErrReceiver) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		chunks := max(1, (len(plaintext)+65535)/65536)
		if len(data) != header+16+len(plaintext)+16*chunks {
			t.Fatalf("%d bytes opened to %d", len(data), len(plaintext))
		}
	})
}

// FuzzReceiver: whom a file says that it is for is whom it opens for.
func FuzzReceiver(f *testing.F) {
	private := vectorKey(f)
	vector, err := os.ReadFile(vectorFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(vector)
	f.Add(sealed(f, newKey(f).PublicKey(), nil))
	ours, err := KeyID(private.PublicKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := Receiver(bytes.NewReader(data))
		if _, opened := unseal(data, software(t, private)); opened == nil && (err != nil || id != ours) {
			t.Errorf("it opens, and says %x, %v", id, err)
		}
	})
}
