package fire

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/protocol/media"
)

// witness remembers every bundle that was on the stick, and every response. Once there, it is the same for ever.
type witness struct {
	world *world
	seen  map[string][32]byte
}

func (w *world) witness() *witness { return &witness{w, map[string][32]byte{}} }

// look compares what can be seen now with what was seen before: bundles on the stick; responses where the appliance keeps
// them, and decrypted as they are on the stick.
func (s *witness) look(t *testing.T) {
	t.Helper()
	w := s.world
	for _, pattern := range []string{"stick/coldseal/*/to-appliance/*.bundle", "appliance/responses/desk/*.response"} {
		for _, name := range w.glob(t, pattern) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s.same(t, strings.TrimPrefix(filepath.Base(name), "desk-"), name, sha256.Sum256(data))
		}
	}
	for _, name := range w.glob(t, "stick/coldseal/*/to-agent/desk/*.response") {
		s.same(t, filepath.Base(name), name, sha256.Sum256(w.decrypt(t, name)))
	}
}

func (s *witness) same(t *testing.T, key, name string, digest [32]byte) {
	t.Helper()
	if before, found := s.seen[key]; found && before != digest {
		t.Errorf("%s is not what it was before", name)
	}
	s.seen[key] = digest
}

func (w *world) glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(w.path(pattern))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// decrypt opens a response as the agent does; one that can't be opened was released in part.
func (w *world) decrypt(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(w.path("agent", "receiver.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := private.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	key, err := media.NewSoftwareKey(receiver)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := media.NewSpool(filepath.Join(t.TempDir(), "spool"), 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := media.OpenMedium(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := spool.Take(m, filepath.Base(name), media.MaxBundleBytes)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := spool.Decrypt(context.Background(), sealed, key)
	if err != nil {
		t.Fatalf("%s was released in part: %v", name, err)
	}
	data, err := io.ReadAll(plain.Reader())
	if err := errors.Join(err, plain.Close(), sealed.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}
