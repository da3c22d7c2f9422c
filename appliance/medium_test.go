package appliance_test

import (
	"context"
	"crypto/ecdh"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// stick is a folder that stands for a medium.
type stick struct {
	*desk
	dir string
}

func newStick(d *desk) *stick { return &stick{d, d.t.TempDir()} }

// put writes a bundle, encrypted to the appliance, as number n of the desk.
func (s *stick) put(n uint64, bundle []byte) string {
	s.t.Helper()
	in, err := protocol.OpenIntroduction(must[[]byte](s.t)(s.engine.Introduction()), s.engine.Appliance())
	if err != nil {
		s.t.Fatal(err)
	}
	receiver := in.Keys.Now().Receiver
	path := must[string](s.t)(media.Name{Kind: media.Bundle, Appliance: media.Tag(s.engine.Appliance()), Agent: "desk", Sequence: n}.Path())
	s.on(func(m *media.Medium) error {
		return m.Write(path, media.WriteOptions{Replace: true}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, receiver)
			if err != nil {
				return err
			}
			if _, err := sealed.Write(bundle); err != nil {
				return err
			}
			return sealed.Close()
		})
	})
	return filepath.Join(s.dir, path)
}

func (s *stick) on(f func(*media.Medium) error) {
	s.t.Helper()
	m := must[*media.Medium](s.t)(media.OpenMedium(s.dir))
	if err := f(m); err != nil {
		s.t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// visit has the engine process the stick, which holds one bundle.
func (s *stick) visit() (v appliance.Visit) {
	s.t.Helper()
	s.on(func(m *media.Medium) error {
		visits, err := s.engine.Medium(m, nil)
		if len(visits) != 1 {
			s.t.Fatalf("%d visits", len(visits))
		}
		v = visits[0]
		return err
	})
	return v
}

// files lists what is on the stick besides bundles.
func (s *stick) files() (files []string) {
	s.t.Helper()
	for path := range contents(s.t.(*testing.T), s.dir) {
		if name, err := filepath.Rel(s.dir, path); err != nil || !strings.HasSuffix(name, ".bundle") {
			files = append(files, filepath.Base(path))
		}
	}
	slices.Sort(files)
	return files
}

// plain decrypts a response on the stick.
func (s *stick) plain(n uint64) []byte {
	s.t.Helper()
	path := must[string](s.t)(media.Name{Kind: media.Response, Appliance: media.Tag(s.engine.Appliance()), Agent: "desk", Sequence: n}.Path())
	spool := must[*media.Spool](s.t)(media.NewSpool(s.t.TempDir(), 0))
	var data []byte
	s.on(func(m *media.Medium) error {
		sealed, err := spool.Take(m, path, media.MaxBundleBytes)
		if err != nil {
			return err
		}
		key := must[media.Key](s.t)(media.NewSoftwareKey(must[*ecdh.PrivateKey](s.t)(s.receiver.ECDH())))
		file, err := spool.Decrypt(context.Background(), sealed, key)
		if err != nil {
			return err
		}
		data, err = io.ReadAll(file.Reader())
		return err
	})
	return data
}

// What comes on a medium is answered on it: responses for the agent, CA certificates, CRLs, checkpoint and receipts in
// clear. A medium that fails is no fault; brought again, it finishes.
func TestMedium(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	receipt := protocol.ID(revoke).String() + ".receipt"

	t.Run("a bundle that cannot be opened is answered with nothing", func(t *testing.T) {
		s := newStick(d)
		path := s.put(1, []byte("not a bundle"))
		wants(t, s.visit().Outcome.Refusal, protocol.CodeMalformed)
		sealed := must[[]byte](t)(os.ReadFile(path))
		sealed[len(sealed)-1] ^= 1
		if err := os.WriteFile(path, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		wants(t, s.visit().Outcome.Refusal, protocol.CodeBadSeal)
		foreign := d.sealBy(d.agent, func(h *protocol.BundleHeader) { h.To[0]++ }, d.taken(revoke, d.alp))
		s.put(1, foreign)
		wants(t, s.visit().Outcome.Refusal, protocol.CodeWrongAppliance)
		if files := s.files(); len(files) != 0 {
			t.Errorf("it wrote %v", files)
		}
	})
	t.Run("an unknown sender gets receipts and what is public", func(t *testing.T) {
		s := newStick(d)
		s.put(1, d.sealBy(newKey(t), func(*protocol.BundleHeader) {}, d.taken(revoke, d.alp)))
		v := s.visit()
		wants(t, v.Outcome.Refusal, protocol.CodeUnknownSender)
		want := []string{receipt, "checkpoint", "issuing.crl", "issuing.pem", "root.pem"}
		slices.Sort(want)
		if files := s.files(); v.Problem != nil || !slices.Equal(files, want) {
			t.Errorf("%v: %v, want %v", v.Problem, files, want)
		}
		if _, listed := reason(d.newest("issuing"), serial); !listed {
			t.Error("the revocation is not on the CRL")
		}
		for path, data := range contents(t, s.dir) {
			if filepath.Base(path) == "issuing.crl" && string(data) != string(d.newest("issuing").Raw) {
				t.Error("the CRL on the medium is not the newest")
			}
		}
	})
	t.Run("an agent gets all its responses", func(t *testing.T) {
		s := newStick(d)
		raw := d.encode(d.pc("0002"))
		bundle := d.seal(d.approved(raw, d.alp))
		s.put(d.sequence, bundle)
		if v := s.visit(); v.Problem != nil || v.Outcome.Refusal != nil || v.Outcome.Items != 1 {
			t.Fatalf("%+v", v)
		}
		for n := uint64(1); n <= d.sequence; n++ {
			if string(s.plain(n)) != string(must[[]byte](t)(os.ReadFile(d.responsePath(n)))) {
				t.Errorf("response %d is another one", n)
			}
		}
		if v := s.visit(); !v.Outcome.Again {
			t.Errorf("again: %+v", v)
		}
	})
	t.Run("a medium that cannot be written to", func(t *testing.T) {
		s := newStick(d)
		raw := d.encode(d.pc("0003"))
		s.put(d.sequence+1, d.seal(d.approved(raw, d.alp)))
		// A file stands where the folder of responses would be made.
		blocked := must[string](t)(media.Name{Kind: media.Response, Appliance: media.Tag(d.engine.Appliance()), Agent: "desk", Sequence: 1}.Dir())
		blocked = filepath.Join(s.dir, blocked)
		if err := os.MkdirAll(filepath.Dir(blocked), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blocked, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if v := s.visit(); v.Problem == nil {
			t.Errorf("nothing was said: %+v", v)
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		if v := s.visit(); v.Problem != nil || !v.Outcome.Again {
			t.Errorf("brought again: %+v", v)
		}
		if string(s.plain(d.sequence)) != string(must[[]byte](t)(os.ReadFile(d.responsePath(d.sequence)))) {
			t.Error("the response is another one")
		}
	})
	d.reopen()
}
