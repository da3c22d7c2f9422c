package appliance

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

// A backup is the ledger, with log and bodies, and the files in which the keys are wrapped, encrypted to a key that is
// split among people and kept by nobody (backup.md). It is unchecked until every share was read back and it was opened
// once for trial.

// Backup is what anybody may read of a backup.
type Backup struct {
	Version   uint64          `cbor:"1,keyasint"`
	Appliance protocol.Digest `cbor:"2,keyasint"`
	Name      string          `cbor:"3,keyasint"` // of the appliance
	Created   int64           `cbor:"4,keyasint"` // unix seconds
	Size      uint64          `cbor:"5,keyasint"` // leaves of the log
	Root      protocol.Digest `cbor:"6,keyasint"` // of their tree
	Set       shamir.Set      `cbor:"7,keyasint"` // of shares that open it
	Ledger    uint64          `cbor:"8,keyasint"` // bytes
	Files     []BackupFile    `cbor:"9,keyasint,omitempty"`
	Parts     uint64          `cbor:"10,keyasint,omitempty"` // absent inside
}

// BackupFile is a file beside the ledger, such as keys/keystore. Its name is relative to the state directory.
type BackupFile struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Size uint64
}

const (
	maxBackupHeader = 64 << 10
	maxBackupFiles  = 256
	maxBackupFile   = 64 << 20

	fileChecked   = "backup"
	fileUnchecked = "unchecked"
	entryHeader   = "backup"
)

// Shares says among how many people the key of a backup is split, and how many of them open it.
type Shares struct {
	Needed, All int
}

// Check asks that the loss of one share loses nothing.
func (s Shares) Check() error {
	if s.Needed < 2 || s.All <= s.Needed || s.All > shamir.MaxShares {
		return fmt.Errorf("%d of %d shares: at least 2 have to be needed, one more has to be there, and at most %d", s.Needed, s.All, shamir.MaxShares)
	}
	return nil
}

// KeyFile is a file in which keys are wrapped.
type KeyFile struct {
	Name string // in the backup: below KeysDir or TokenDir
	Path string // where it is
}

// Backup writes a backup of the appliance as it is to a medium, unchecked, and hands out the shares that open it, which are
// kept nowhere. One whose shares could not be handed out is none. What an interrupted backup left on the medium is removed
// first.
func (e *Engine) Backup(m *media.Medium, shares Shares, files []KeyFile, handOut func(*Backup, []shamir.Share) error) (Backup, error) {
	if err := e.ready(); err != nil {
		return Backup{}, err
	}
	if err := shares.Check(); err != nil {
		return Backup{}, err
	}
	if err := sweepBackups(m, e.appliance); err != nil {
		return Backup{}, err
	}
	b := Backup{Version: protocol.Version, Appliance: e.appliance, Name: e.genesis.Name, Created: e.Now().Unix()}
	private, err := ecdh.P256().GenerateKey(e.Rand)
	if err != nil {
		return b, fault("make the backup's key", err)
	}
	secret := [shamir.SecretSize]byte(private.Bytes())
	defer clear(secret[:])
	var split []shamir.Share
	if b.Set, split, err = shamir.Split(secret, shares.Needed, shares.All, e.Rand); err != nil {
		return b, fault("split the backup's key", err)
	}
	if err := e.writeParts(m, &b, private.PublicKey(), files); err != nil {
		return b, err
	}
	if err := handOut(&b, split); err != nil {
		return b, err
	}
	return b, b.write(m, fileUnchecked)
}

// path is the name of a file of the backup on a medium.
func (b *Backup) path(file string) (string, error) {
	return media.Name{Kind: media.Backup, Appliance: media.Tag(b.Appliance), Set: b.Set.ID.String(), File: file}.Path()
}

func (b *Backup) write(m *media.Medium, file string) error {
	data, err := cose.Marshal(b)
	if err != nil {
		return err
	}
	path, err := b.path(file)
	if err != nil {
		return err
	}
	return m.Write(path, media.WriteOptions{}, media.Contents(data))
}

// writeParts writes the encrypted archive in parts, as it is made.
func (e *Engine) writeParts(m *media.Medium, b *Backup, receiver *ecdh.PublicKey, files []KeyFile) error {
	source, sink := io.Pipe()
	made := make(chan error, 1)
	inner, parts := *b, 0
	go func() {
		err := e.archive(sink, &inner, receiver, files)
		sink.CloseWithError(err)
		made <- err
	}()
	r := bufio.NewReaderSize(source, 1<<16)
	err := func() error {
		for {
			if _, err := r.Peek(1); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if parts++; parts > media.MaxParts {
				return fmt.Errorf("more than %d parts", media.MaxParts)
			}
			path, err := b.path(media.PartName(parts))
			if err != nil {
				return err
			}
			err = m.Write(path, media.WriteOptions{Private: true}, func(w io.Writer) error {
				_, err := io.CopyN(w, r, media.MaxPartBytes)
				if err == io.EOF {
					return nil
				}
				return err
			})
			if err != nil {
				return err
			}
		}
	}()
	source.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if own := <-made; err == nil || own != nil && !errors.Is(own, io.ErrClosedPipe) {
		err = own
	}
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	*b, b.Parts = inner, uint64(parts)
	return nil
}

// archive encrypts the header, the ledger and the files to the receiver. What the header says of them is found out here.
func (e *Engine) archive(w io.Writer, b *Backup, receiver *ecdh.PublicKey, files []KeyFile) error {
	sealed, err := media.Encrypt(w, receiver)
	if err != nil {
		return err
	}
	t := tar.NewWriter(sealed)
	err = e.ledger.View(func(tx *store.Tx) error {
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		edge, err := auditlog.NewRange(int64(meta.Size), meta.Edge)
		if err != nil {
			return err
		}
		b.Size, b.Root, b.Ledger = meta.Size, protocol.Digest(edge.Root()), uint64(tx.SnapshotSize())
		opened, err := openFiles(b, files)
		if err != nil {
			return err
		}
		defer closeAll(opened)
		header, err := cose.Marshal(b)
		if err != nil {
			return err
		}
		if err := entry(t, entryHeader, int64(len(header)), media.Contents(header)); err != nil {
			return err
		}
		if err := entry(t, store.FileName, tx.SnapshotSize(), tx.Snapshot); err != nil {
			return err
		}
		for i, f := range b.Files {
			if err := entry(t, f.Name, int64(f.Size), func(w io.Writer) error {
				_, err := io.CopyN(w, opened[i], int64(f.Size))
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return sealed.Close()
}

func entry(t *tar.Writer, name string, size int64, fill func(io.Writer) error) error {
	err := t.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatPAX})
	if err == nil {
		err = fill(t)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openFiles opens the files that go along, and notes their sizes.
func openFiles(b *Backup, files []KeyFile) (opened []*os.File, err error) {
	for _, file := range files {
		f, err := os.Open(file.Path)
		if err != nil {
			closeAll(opened)
			return nil, err
		}
		opened = append(opened, f)
		info, err := f.Stat()
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxBackupFile || len(opened) > maxBackupFiles || !validFile(file.Name)) {
			err = fmt.Errorf("%s cannot go into a backup as %s: not a plain file, too large, or too many", file.Path, file.Name)
		}
		if err != nil {
			closeAll(opened)
			return nil, err
		}
		b.Files = append(b.Files, BackupFile{Name: file.Name, Size: uint64(info.Size())})
	}
	return opened, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // they were only read
	}
}

// sweepBackups removes from a medium the parts of backups that were interrupted before they had a header.
func sweepBackups(m *media.Medium, appliance protocol.Digest) error {
	return eachSet(m, appliance, func(dir string, files []string) error {
		for _, file := range files {
			if file == fileChecked || file == fileUnchecked {
				return nil
			}
		}
		for _, file := range files {
			if _, err := media.ParseName(dir + "/" + file); err != nil {
				continue
			}
			if err := m.Remove(dir + "/" + file); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachSet calls f for the folders of backups of an appliance, with the names of their files.
func eachSet(m *media.Medium, appliance protocol.Digest, f func(dir string, files []string) error) error {
	parent := "coldseal/" + media.Tag(appliance) + "/backup"
	sets, err := m.Folders(parent)
	if err != nil {
		return err
	}
	for _, set := range sets {
		dir, err := media.Name{Kind: media.Backup, Appliance: media.Tag(appliance), Set: set}.Dir()
		if err != nil {
			continue // not one of ours
		}
		files, err := m.List(dir)
		if err != nil {
			return err
		}
		if err := f(dir, files); err != nil {
			return err
		}
	}
	return nil
}

// Found is a backup on a medium.
type Found struct {
	Backup
	Checked bool // every share was read back, and it was opened once
}

// Backups lists the backups of an appliance on a medium, the newest first. Half ones are not among them. Bad says of each that
// has a header that can't be read or is another's what is wrong with it: it hides nothing of the others.
func Backups(m *media.Medium, appliance protocol.Digest) (all []Found, bad []error, err error) {
	err = eachSet(m, appliance, func(dir string, files []string) error {
		for _, name := range []string{fileChecked, fileUnchecked} {
			if !slices.Contains(files, name) {
				continue
			}
			if b, err := readHeader(m, appliance, dir, name); err != nil {
				bad = append(bad, fmt.Errorf("%s/%s: %w", dir, name, err))
			} else {
				all = append(all, Found{b, name == fileChecked})
			}
			return nil
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Found) int { return cmp.Compare(b.Created, a.Created) })
	return all, bad, err
}

func readHeader(m *media.Medium, appliance protocol.Digest, dir, name string) (b Backup, err error) {
	data, err := m.ReadFile(dir+"/"+name, maxBackupHeader)
	if err != nil {
		return b, err
	}
	if b, err = parseBackup(data); err != nil {
		return b, err
	}
	if b.Appliance != appliance {
		return b, fmt.Errorf("it is of the appliance %s: %w", b.Appliance, ErrOtherAppliance)
	}
	if path, err := b.path(name); err != nil || path != dir+"/"+name || b.Parts == 0 {
		return b, fmt.Errorf("%w: it is the header of another one", ErrBackup)
	}
	return b, nil
}

// ErrOtherAppliance is returned for a backup, or leaves, of an appliance with another genesis digest than was typed.
var ErrOtherAppliance = errors.New("another appliance's")

// ErrBackup is returned for what is no backup, or none that is whole.
var ErrBackup = errors.New("not a whole backup")

func parseBackup(data []byte) (b Backup, err error) {
	if err := cose.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	switch {
	case b.Version != protocol.Version:
		err = fmt.Errorf("version %d is not %d", b.Version, protocol.Version)
	case !protocol.ValidName(b.Name) || b.Created <= 0 || b.Created > protocol.MaxTime || b.Size == 0 || b.Size > auditlog.MaxSize || b.Parts > media.MaxParts:
		err = errors.New("its header is not one")
	case !b.Set.Valid():
		err = errors.New("its set of shares is none")
	case b.Ledger == 0 || b.Ledger > 1<<53 || len(b.Files) > maxBackupFiles:
		err = errors.New("it has no ledger, or too many files")
	}
	seen := map[string]bool{entryHeader: true, store.FileName: true}
	for _, f := range b.Files {
		if !validFile(f.Name) || seen[f.Name] || f.Size > maxBackupFile {
			err = fmt.Errorf("the file %q does not belong in it", f.Name)
		}
		seen[f.Name] = true
	}
	if err != nil {
		return Backup{}, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	return b, nil
}

// same tells whether the header inside is the one outside.
func (b *Backup) same(inner *Backup) bool {
	outer := *b
	outer.Parts = 0
	x, errX := cose.Marshal(outer)
	y, errY := cose.Marshal(inner)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// validFile tells whether a name is one that goes into a backup: of the folder of keys, or of a token's.
func validFile(name string) bool {
	top, _, below := strings.Cut(name, "/")
	return below && (top == KeysDir || top == TokenDir) && len(name) <= 200 && fs.ValidPath(name) &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") == ""
}

// The folders of the state directory whose files go along: softkey's, and that of a PKCS#11 token which is kept in files.
const (
	KeysDir  = "keys"
	TokenDir = "token"
)
