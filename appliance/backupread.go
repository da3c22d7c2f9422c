package appliance

import (
	"archive/tar"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

// NamedShare is a share with where it came from, for those who have to look for another one.
type NamedShare struct {
	Name string
	shamir.Share
}

// Key opens a backup with shares of its set. Each share that is not one of them is named.
func (b *Backup) Key(shares []NamedShare) (media.Key, error) {
	var all []shamir.Share
	var bad []error
	seen := map[int]string{}
	for _, s := range shares {
		if err := b.Set.Check(s.Share); err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", s.Name, err))
			continue
		}
		if other, twice := seen[s.Index]; twice {
			bad = append(bad, fmt.Errorf("%s: share %d: %w, in %s too", s.Name, s.Index, shamir.ErrTwice, other))
			continue
		}
		seen[s.Index] = s.Name
		all = append(all, s.Share)
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	if len(all) < int(b.Set.Threshold) {
		return nil, fmt.Errorf("backup of set %s: %w: %d of the %d that are needed", b.Set.ID, shamir.ErrTooFew, len(all), b.Set.Threshold)
	}
	secret, err := shamir.Combine(all)
	if err != nil {
		return nil, err
	}
	defer clear(secret[:])
	private, err := ecdh.P256().NewPrivateKey(secret[:])
	if err != nil {
		return nil, fmt.Errorf("backup of set %s: what the shares make is no key: %w", b.Set.ID, shamir.ErrAltered)
	}
	return media.NewSoftwareKey(private)
}

// Unpack opens a backup into a folder of this machine's disk that is there and empty. What it wrote is whole only if it
// returns nil; then it is durable.
func (b *Backup) Unpack(ctx context.Context, m *media.Medium, key media.Key, dir string) error {
	names := make([]string, b.Parts)
	var err error
	for i := range names {
		if names[i], err = b.path(media.PartName(i + 1)); err != nil {
			return err
		}
	}
	var need uint64
	for _, f := range b.Files {
		need += f.Size
	}
	free, err := diskFree(dir)
	if err != nil {
		return fmt.Errorf("measure free space: %w", err)
	}
	if need += b.Ledger; uint64(free) < need {
		return &media.Error{Op: "open backup", Path: dir, Kind: media.ErrSpace, Err: fmt.Errorf("%d MiB free, %d needed", free>>20, need>>20)}
	}
	err = m.Decrypt(ctx, names, media.MaxPartBytes, key, func(r io.Reader) error { return b.extract(r, dir) })
	switch {
	case errors.Is(err, media.ErrSealed):
		return fmt.Errorf("open backup: %w: it was cut or altered: %w", ErrBackup, err)
	case errors.Is(err, media.ErrReceiver):
		return fmt.Errorf("open backup: %w: its parts are not those of set %s: %w", ErrBackup, b.Set.ID, err)
	case err != nil:
		return fmt.Errorf("open backup: %w", err)
	}
	return syncFolders(dir)
}

// extract writes what is in the archive: the header that is also outside, the ledger, the files that the header names,
// in this order, and nothing else.
func (b *Backup) extract(r io.Reader, dir string) error {
	t := tar.NewReader(r)
	if err := next(t, entryHeader, 0); err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(t, maxBackupHeader+1))
	if err != nil {
		return err
	}
	inner, err := parseBackup(data)
	if err != nil {
		return err
	}
	if !b.same(&inner) {
		return fmt.Errorf("%w: its header was altered", ErrBackup)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range append([]BackupFile{{Name: store.FileName, Size: b.Ledger}}, b.Files...) {
		if err := next(t, f.Name, int64(f.Size)); err != nil {
			return err
		}
		if err := root.MkdirAll(filepath.Dir(f.Name), 0o700); err != nil {
			return err
		}
		if err := extractFile(root, f.Name, t); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if _, err := t.Next(); err != io.EOF {
		return fmt.Errorf("%w: something follows the last file", ErrBackup)
	}
	return nil
}

// next asks for one entry of the archive; a size of 0 is any.
func next(t *tar.Reader, name string, size int64) error {
	h, err := t.Next()
	if err == io.EOF || err == nil && (h.Typeflag != tar.TypeReg || h.Name != name || size != 0 && h.Size != size) {
		return fmt.Errorf("%w: %s is not where it belongs", ErrBackup, name)
	}
	return err
}

func extractFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolders makes a folder and all below it durable.
func syncFolders(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return media.MakeFolder(path)
	})
}

// Checked marks a backup as done: every share was read back and it was opened for trial. The mark is what tells a backup
// that can be relied on.
func (b *Backup) Checked(m *media.Medium) error {
	if err := b.write(m, fileChecked); err != nil {
		return err
	}
	path, err := b.path(fileUnchecked)
	if err != nil {
		return err
	}
	return m.Remove(path)
}

// Identity reads the genesis digest of the appliance in a state directory, from its ledger and without asking its signer:
// enough to find its backups, not to believe them.
func Identity(dir string) (digest protocol.Digest, err error) {
	ledger, err := store.Open(dir)
	if err != nil {
		return digest, err
	}
	err = ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		digest = protocol.DigestOf(m.Genesis)
		return err
	})
	return digest, errors.Join(err, ledger.Close())
}
