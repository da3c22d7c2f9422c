package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

func (s *saved) path(t testing.TB, file string) string {
	t.Helper()
	return filepath.Join(s.dir, must[string](t)(media.Name{Kind: media.Backup, Appliance: media.Tag(s.backup.Appliance), Set: s.backup.Set.ID.String(), File: file}.Path()))
}

// TestShares names the share that is no good, and why.
func TestShares(t *testing.T) {
	d := newDesk(t)
	s, other := d.backup(), d.backup()
	altered := s.shares[1]
	altered.Value[3] ^= 1
	few := s.shares[0]
	few.Threshold = 1
	for name, c := range map[string]struct {
		shares []appliance.NamedShare
		want   error
		says   string
	}{
		"enough":         {s.shares[:2], nil, ""},
		"all":            {s.shares, nil, ""},
		"too few":        {s.shares[:1], shamir.ErrTooFew, "1 of the 2"},
		"none":           {nil, shamir.ErrTooFew, "0 of the 2"},
		"of another set": {[]appliance.NamedShare{s.shares[0], other.shares[1]}, shamir.ErrForeign, "share-2: share 2 of set " + other.backup.Set.ID.String()},
		"altered":        {[]appliance.NamedShare{s.shares[0], altered}, shamir.ErrAltered, "share-2: "},
		"one too many":   {[]appliance.NamedShare{s.shares[0], s.shares[2], altered}, shamir.ErrAltered, "share-2: "},
		"another number": {[]appliance.NamedShare{few, s.shares[1]}, shamir.ErrAltered, "share-1: "},
		"twice":          {[]appliance.NamedShare{s.shares[0], s.shares[0]}, shamir.ErrTwice, "in share-1 too"},
	} {
		key, err := s.backup.Key(c.shares)
		if !errors.Is(err, c.want) || (key == nil) == (c.want == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, c.want, c.says)
		}
	}
	for _, bad := range []appliance.Shares{{1, 3}, {2, 2}, {3, 3}, {2, 17}, {0, 0}, {4, 3}} {
		if _, err := d.engine.Backup(medium(t, t.TempDir()), bad, d.keyFiles(), nil); err == nil {
			t.Errorf("a backup that %d of %d open: the loss of one would lose it", bad.Needed, bad.All)
		}
	}
}

// TestBackupThatIsNone refuses what is not a whole backup of this appliance, each for what it is, and leaves nothing.
func TestBackupThatIsNone(t *testing.T) {
	d := newDesk(t)
	good := d.backup()
	other := newDesk(t).backup()
	again := d.backup()
	if info, err := os.ReadDir(filepath.Dir(good.path(t, "unchecked"))); err != nil || len(info) != 2 {
		t.Fatalf("%v, %v", info, err)
	}
	for name, c := range map[string]struct {
		spoil func(s *saved)
		want  error
	}{
		"cut by a byte": {func(s *saved) {
			info := must[os.FileInfo](t)(os.Stat(s.path(t, "part-0001")))
			if err := os.Truncate(s.path(t, "part-0001"), info.Size()-1); err != nil {
				t.Fatal(err)
			}
		}, appliance.ErrBackup},
		"cut at a chunk": {func(s *saved) {
			if err := os.Truncate(s.path(t, "part-0001"), 64<<10); err != nil {
				t.Fatal(err)
			}
		}, appliance.ErrBackup},
		"empty":       {func(s *saved) { overwrite(t, s.path(t, "part-0001"), nil) }, appliance.ErrBackup},
		"a bit":       {func(s *saved) { flip(t, s.path(t, "part-0001"), 100_000) }, appliance.ErrBackup},
		"part gone":   {func(s *saved) { without(t, s.path(t, "part-0001")) }, media.ErrGone},
		"other parts": {func(s *saved) { copyOver(t, again.path(t, "part-0001"), s.path(t, "part-0001")) }, appliance.ErrBackup},
		"other key":   {func(s *saved) { s.shares = other.shares }, shamir.ErrForeign},
		"header says other": {func(s *saved) {
			s.backup.Size++
		}, appliance.ErrBackup},
		"header says later": {func(s *saved) { s.backup.Created++ }, appliance.ErrBackup},
		"another's":         {func(s *saved) { *s = other; s.backup.Appliance = good.backup.Appliance }, media.ErrGone},
	} {
		s := good
		s.dir = t.TempDir()
		copyAll(t, good.dir, s.dir)
		c.spoil(&s)
		dir := filepath.Join(t.TempDir(), "state")
		key, err := s.backup.Key(s.shares)
		if err == nil {
			if s.backup.Set.ID != good.backup.Set.ID {
				s.shares = other.shares
			}
			err = appliance.Unpack(context.Background(), medium(t, s.dir), &s.backup, key, dir)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "ledger.db")); err == nil {
			t.Errorf("%s: there is a ledger", name)
		}
	}
	// With a header that lies as the parts do, the ledger inside says whose it is.
	s := other
	s.backup.Appliance = good.backup.Appliance
	if all, bad, err := appliance.Backups(medium(t, other.dir), good.backup.Appliance); err != nil || len(all)+len(bad) != 0 {
		t.Errorf("backups of another appliance: %v, %v, %v", all, bad, err)
	}
	folder := filepath.Join(other.dir, "coldseal")
	if err := os.Rename(filepath.Join(folder, media.Tag(other.backup.Appliance)), filepath.Join(folder, media.Tag(good.backup.Appliance))); err != nil {
		t.Fatal(err)
	}
	if all, bad, err := appliance.Backups(medium(t, other.dir), good.backup.Appliance); err != nil || len(all) != 0 || !errors.Is(errors.Join(bad...), appliance.ErrOtherAppliance) {
		t.Errorf("a backup of another appliance in the folder of this one: %v, %v, %v", all, bad, err)
	}
}

// TestHalfABackup shows that what was interrupted looks like nothing, and goes with the next.
func TestHalfABackup(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	without(t, s.path(t, "unchecked"))
	if all, bad, err := appliance.Backups(medium(t, s.dir), s.backup.Appliance); err != nil || len(all)+len(bad) != 0 {
		t.Fatalf("%v, %v, %v", all, bad, err)
	}
	// Neither does one whose shares could not be handed out.
	pulled := errors.New("the card was pulled")
	if _, err := d.engine.Backup(medium(t, s.dir), appliance.Shares{Needed: 2, All: 3}, d.keyFiles(), func(*appliance.Backup, []shamir.Share) error { return pulled }); !errors.Is(err, pulled) {
		t.Fatal(err)
	}
	if all, bad, err := appliance.Backups(medium(t, s.dir), s.backup.Appliance); err != nil || len(all)+len(bad) != 0 {
		t.Fatalf("%v, %v, %v", all, bad, err)
	}
	again, err := d.engine.Backup(medium(t, s.dir), appliance.Shares{Needed: 2, All: 3}, d.keyFiles(), s.take)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path(t, "part-0001")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the half one is still there")
	}
	all, bad, err := appliance.Backups(medium(t, s.dir), s.backup.Appliance)
	if err != nil || len(all) != 1 || len(bad) != 0 || all[0].Set.ID != again.Set.ID || all[0].Checked {
		t.Fatalf("%v, %v, %v", all, bad, err)
	}
	m := medium(t, s.dir)
	for range 2 { // a mark that was half made is made whole
		if err := again.Checked(m); err != nil {
			t.Fatal(err)
		}
	}
	if all, bad, err = appliance.Backups(m, s.backup.Appliance); err != nil || len(all) != 1 || len(bad) != 0 || !all[0].Checked {
		t.Fatalf("%v, %v, %v", all, bad, err)
	}
	if data := must[[]byte](t)(os.ReadFile(filepath.Join(s.dir, must[string](t)(media.Name{Kind: media.Backup, Appliance: media.Tag(again.Appliance), Set: again.Set.ID.String(), File: "part-0001"}.Path())))); bytes.Contains(data, []byte("OFFICER1")) {
		t.Error("a person's name is in clear on the medium")
	}
}

// TestBadHeader shows that a header that is none hides no good backup beside it.
func TestBadHeader(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	header := must[[]byte](t)(os.ReadFile(s.path(t, "unchecked")))
	for name, spoilt := range map[string][]byte{"empty": {}, "cut": header[:len(header)/2], "of the set beside it": header, "too large": make([]byte, 1<<20)} {
		dir := filepath.Join(filepath.Dir(filepath.Dir(s.path(t, "unchecked"))), "00000000000000aa")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "backup"), spoilt, 0o600)); err != nil {
			t.Fatal(err)
		}
		all, bad, err := appliance.Backups(medium(t, s.dir), s.backup.Appliance)
		if err != nil || len(all) != 1 || all[0].Set.ID != s.backup.Set.ID || len(bad) != 1 || !strings.Contains(bad[0].Error(), "00000000000000aa/backup: ") {
			t.Errorf("%s: %v, %v, %v", name, all, bad, err)
		}
	}
}

// TestUnpackTwice restores nowhere but in an empty place, and finishes what was interrupted.
func TestUnpackTwice(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	key := must[media.Key](t)(s.backup.Key(s.shares))
	unpack := func(dir string) error {
		return appliance.Unpack(context.Background(), medium(t, s.dir), &s.backup, key, dir)
	}
	if err := unpack(d.dir); !errors.Is(err, appliance.ErrLiving) {
		t.Fatalf("over a living appliance: %v", err)
	}
	other := t.TempDir()
	overwrite(t, filepath.Join(other, "something"), []byte("of somebody"))
	if err := unpack(other); !errors.Is(err, appliance.ErrLiving) {
		t.Fatalf("beside something: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "state")
	for _, left := range []string{"restore/ledger.db", "restore/keys/keystore", "keys/keystore"} { // at any step
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(left)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "restore"), 0o700); err != nil {
			t.Fatal(err)
		}
		overwrite(t, filepath.Join(dir, left), []byte("half"))
		if err := unpack(dir); err != nil {
			t.Fatalf("after %s: %v", left, err)
		}
		if err := unpack(dir); err != nil {
			t.Fatalf("once more: %v", err)
		}
		if err := os.Remove(filepath.Join(dir, "ledger.db")); err != nil {
			t.Fatal(err)
		}
	}
	if err := unpack(dir); err != nil {
		t.Fatal(err)
	}
	later := d.backup() // another backup is not the one that waits
	if err := os.Rename(filepath.Join(dir, "restore"), filepath.Join(t.TempDir(), "x")); err != nil {
		t.Fatal(err)
	}
	d.issued(d.pc("0042"), d.alp)
	later = d.backup()
	if err := appliance.Unpack(context.Background(), medium(t, later.dir), &later.backup, must[media.Key](t)(later.backup.Key(later.shares)), dir); !errors.Is(err, appliance.ErrLiving) {
		t.Fatalf("another backup over one that waits: %v", err)
	}
}

// TestBackupAsItIs puts the ledger of a backup in place by hand, without an order: it is an old copy.
func TestBackupAsItIs(t *testing.T) {
	d := newDesk(t)
	s := d.backup()
	n := d.unpacked(s)
	raw := t.TempDir()
	key := must[media.Key](t)(s.backup.Key(s.shares))
	if err := s.backup.Unpack(context.Background(), medium(t, s.dir), key, raw); err != nil {
		t.Fatal(err)
	}
	if err := n.engine.Close(); err != nil {
		t.Fatal(err)
	}
	copyOver(t, filepath.Join(n.dir, "ledger.db"), filepath.Join(raw, "waiting.db"))
	copyOver(t, filepath.Join(raw, "ledger.db"), filepath.Join(n.dir, "ledger.db"))
	if e, err := appliance.Open(n.config); !errors.Is(err, appliance.ErrRollback) {
		if err == nil {
			err = e.Close()
		}
		t.Errorf("the ledger of the backup alone: %v", err)
	}
	copyOver(t, filepath.Join(raw, "waiting.db"), filepath.Join(n.dir, "ledger.db"))
	n.open()
}

// TestKeysThatAreNotThere does not open a backup without the keys of its CAs.
func TestKeysThatAreNotThere(t *testing.T) {
	d := newDesk(t)
	old := filepath.Join(t.TempDir(), "keystore")
	before := newWorld(t) // whose keystore has no CA
	copyOver(t, filepath.Join(before.dir, "keys/keystore"), old)
	s := d.backup()
	dir := filepath.Join(t.TempDir(), "state")
	if err := appliance.Unpack(context.Background(), medium(t, s.dir), &s.backup, must[media.Key](t)(s.backup.Key(s.shares)), dir); err != nil {
		t.Fatal(err)
	}
	copyOver(t, old, filepath.Join(dir, "keys/keystore"))
	n := *d.world
	n.dir = dir
	n.config = n.configuration()
	n.start()
	defer func() {
		if err := errors.Join(n.config.Lint.Close(), n.config.Signer.Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := appliance.Adopt(n.config, s.backup.Appliance); !errors.Is(err, appliance.ErrFault) {
		t.Errorf("the keys of another appliance: %v", err)
	}
	if _, err := appliance.Open(n.config); err == nil {
		t.Error("opened with the keys of another appliance")
	}
}

func overwrite(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(t testing.TB, file string, at int) {
	t.Helper()
	data := must[[]byte](t)(os.ReadFile(file))
	data[min(at, len(data)-1)] ^= 1
	overwrite(t, file, data)
}

func copyOver(t testing.TB, from, to string) {
	t.Helper()
	overwrite(t, to, must[[]byte](t)(os.ReadFile(from)))
}

func copyAll(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestTokenFiles takes a token along that keeps its keys in files, and nothing from elsewhere.
func TestTokenFiles(t *testing.T) {
	d := newDesk(t)
	object := filepath.Join(t.TempDir(), "object")
	overwrite(t, object, []byte("wrapped"))
	s := saved{dir: t.TempDir()}
	beside := func(name string) []appliance.KeyFile {
		return append(d.keyFiles(), appliance.KeyFile{Name: name, Path: object})
	}
	for _, bad := range []string{"ledger.db", "keys", "../keys/x", "keys/../x", "/etc/x", "token/a b", "other/x", "token//x", "token/" + strings.Repeat("x", 200)} {
		if _, err := d.engine.Backup(medium(t, s.dir), appliance.Shares{Needed: 2, All: 3}, beside(bad), s.take); err == nil || len(s.shares) > 0 {
			t.Errorf("%q went into a backup", bad)
		}
	}
	b, err := d.engine.Backup(medium(t, s.dir), appliance.Shares{Needed: 2, All: 3}, beside("token/0d6c9a5b-1/1.object"), s.take)
	if err != nil {
		t.Fatal(err)
	}
	key := must[media.Key](t)(b.Key(s.shares[:2]))
	dir := filepath.Join(t.TempDir(), "state")
	if err := appliance.Unpack(context.Background(), medium(t, s.dir), &b, key, dir); err != nil {
		t.Fatal(err)
	}
	if data := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "token/0d6c9a5b-1/1.object"))); string(data) != "wrapped" {
		t.Errorf("%q", data)
	}
}
