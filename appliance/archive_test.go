package appliance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

// part is one entry of an archive.
type part struct {
	name string
	data []byte
	link string
}

// TestArchiveThatIsNone opens archives that holders of shares made of something else: nothing is written but what belongs
// there, and no ledger is put in place.
func TestArchiveThatIsNone(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	shares := []shamir.Share{s.shares[0].Share, s.shares[1].Share}
	secret := must[[32]byte](t)(shamir.Combine(shares))
	private := must[*ecdh.PrivateKey](t)(ecdh.P256().NewPrivateKey(secret[:]))
	inner := s.backup
	inner.Parts = 0
	head := part{name: "backup", data: must[[]byte](t)(cose.Marshal(inner))}
	raw := t.TempDir()
	key := must[media.Key](t)(s.backup.Key(s.shares))
	if err := s.backup.Unpack(context.Background(), medium(t, s.dir), key, raw); err != nil {
		t.Fatal(err)
	}
	ledger := part{name: "ledger.db", data: must[[]byte](t)(os.ReadFile(filepath.Join(raw, "ledger.db")))}
	store := part{name: "keys/keystore", data: must[[]byte](t)(os.ReadFile(filepath.Join(raw, "keys/keystore")))}
	counter := part{name: "keys/counter", data: must[[]byte](t)(os.ReadFile(filepath.Join(raw, "keys/counter")))}
	other := inner
	other.Size++
	cut := ledger
	cut.data = bytes.Clone(ledger.data)
	clear(cut.data[len(cut.data)/2:])
	for name, c := range map[string]struct {
		parts []part
		good  bool
	}{
		"as it was":       {[]part{head, ledger, store, counter}, true},
		"no header":       {[]part{ledger, store, counter}, false},
		"another header":  {[]part{{name: "backup", data: must[[]byte](t)(cose.Marshal(other))}, ledger, store, counter}, false},
		"no ledger":       {[]part{head, store, counter}, false},
		"another order":   {[]part{head, ledger, counter, store}, false},
		"a file less":     {[]part{head, ledger, store}, false},
		"a file more":     {[]part{head, ledger, store, counter, {name: "keys/more", data: []byte{1}}}, false},
		"a link":          {[]part{head, {name: "ledger.db", link: "/etc/passwd"}, store, counter}, false},
		"a way out":       {[]part{head, ledger, {name: "../keystore", data: store.data}, counter}, false},
		"another size":    {[]part{head, {name: "ledger.db", data: ledger.data[1:]}, store, counter}, false},
		"a ruined ledger": {[]part{head, {name: "ledger.db", data: make([]byte, len(ledger.data))}, store, counter}, false},
		"nothing":         {nil, false},
	} {
		var sealed bytes.Buffer
		w := must[interface {
			Write([]byte) (int, error)
			Close() error
		}](t)(media.Encrypt(&sealed, private.PublicKey()))
		archive := tar.NewWriter(w)
		for _, p := range c.parts {
			h := &tar.Header{Name: p.name, Size: int64(len(p.data)), Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
			if p.link != "" {
				h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, p.link, 0
			}
			if err := archive.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := archive.Write(p.data); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(archive.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		overwrite(t, s.path(t, "part-0001"), sealed.Bytes())
		home := t.TempDir()
		dir := filepath.Join(home, "state")
		err := appliance.Unpack(context.Background(), medium(t, s.dir), &s.backup, key, dir)
		if (err == nil) != c.good || err != nil && !errors.Is(err, appliance.ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "ledger.db")); (err == nil) != c.good {
			t.Errorf("%s: the ledger is there: %v", name, err == nil)
		}
		if left := must[[]os.DirEntry](t)(os.ReadDir(home)); len(left) != 1 {
			t.Errorf("%s: there is more than the state directory: %v", name, left)
		}
	}
}

// FuzzBackups takes data as what may be read of a backup.
func FuzzBackups(f *testing.F) {
	id := protocol.Digest{1}
	b := appliance.Backup{
		Version: 1, Appliance: id, Name: "test", Created: 1, Size: 2, Root: protocol.Digest{2}, Ledger: 3, Parts: 1,
		Set: shamir.Set{Threshold: 2, Digests: make([][16]byte, 3)}, Files: []appliance.BackupFile{{Name: "keys/keystore", Size: 4}},
	}
	good, err := cose.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	path, err := media.Name{Kind: media.Backup, Appliance: media.Tag(id), Set: b.Set.ID.String(), File: "backup"}.Path()
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	m, err := media.OpenMedium(dir)
	if err != nil {
		f.Fatal(err)
	}
	defer m.Close()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		overwrite(t, filepath.Join(dir, path), data)
		all, bad, err := appliance.Backups(m, id)
		switch {
		case err != nil || len(all)+len(bad) != 1:
			t.Fatalf("%+v, %v, %v", all, bad, err)
		case len(bad) == 1 && strings.Contains(bad[0].Error(), "panic"):
			t.Fatal(bad)
		case len(all) == 1:
			if again, err := cose.Marshal(all[0].Backup); err != nil || !bytes.Equal(again, data) || !all[0].Checked || all[0].Appliance != id {
				t.Fatalf("%x comes back as %x, %v, %+v", data, again, err, all)
			}
		}
	})
}
