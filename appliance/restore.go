package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// A restore begins with a backup that is opened into an empty state directory. What comes of it is an appliance that
// waits: it takes what is known outside of the log since (restoreleaves.go), applies it (restoreapply.go), and is live
// again when officers have ordered so at its console (restoreorder.go). Until then it signs nothing and processes nothing.

// restoreDir holds what a restore needs until it is over: first the backup being opened, then what was brought.
const restoreDir = "restore"

// ErrRestoring is returned for all that an appliance does not do while it waits for the order to restore it.
var ErrRestoring = errors.New("the appliance was opened from a backup and waits for the order to restore it")

// ErrLiving is returned when a backup is to be opened where there is an appliance, or anything else.
var ErrLiving = errors.New("the state directory is not empty")

// ready refuses after a fault, and while a restore waits for its order.
func (e *Engine) ready() error {
	if e.broken == nil && e.restoring != nil {
		return ErrRestoring
	}
	return e.broken
}

// Restoring tells whether the appliance waits for the order to restore it.
func (e *Engine) Restoring() bool { return e.restoring != nil }

// Unpack opens a backup of the appliance whose genesis digest was typed into a state directory that is empty or not
// there. Interrupted, it is begun again by the same call, which changes nothing once it was done. What it leaves is opened
// like any appliance, and waits.
func Unpack(ctx context.Context, m *media.Medium, b *Backup, key media.Key, dir string) error {
	if err := vacant(dir); err != nil {
		if errors.Is(err, ErrLiving) && b.waits(dir) {
			return nil
		}
		return err
	}
	inside := filepath.Join(dir, restoreDir)
	if err := os.RemoveAll(inside); err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	if err := media.MakeFolder(inside); err != nil {
		return err
	}
	for _, name := range []string{KeysDir, TokenDir} { // of an interrupted one
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("open backup: %w", err)
		}
	}
	if err := b.Unpack(ctx, m, key, inside); err != nil {
		return err
	}
	if err := b.wait(inside); err != nil {
		return err
	}
	for _, name := range []string{KeysDir, TokenDir, store.FileName} { // the ledger last: with it the appliance is there
		err := os.Rename(filepath.Join(inside, name), filepath.Join(dir, name))
		if err != nil && (name == store.FileName || !errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("open backup: %w", err)
		}
		if err := media.MakeFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// vacant asks that nothing is in a state directory but an interrupted Unpack.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open backup: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	begun := slices.Contains(names, restoreDir) && !slices.Contains(names, store.FileName)
	for _, name := range names {
		if !begun || !slices.Contains([]string{restoreDir, KeysDir, TokenDir}, name) {
			return fmt.Errorf("open backup into %s: %w: there is %s", dir, ErrLiving, name)
		}
	}
	return nil
}

// waits tells whether a state directory holds this backup, waiting for its order.
func (b *Backup) waits(dir string) (same bool) {
	ledger, err := store.Open(dir)
	if err != nil {
		return false
	}
	err = ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		same = m.Restoring != nil && m.Restoring.From == b.Size && protocol.DigestOf(m.Genesis) == b.Appliance
		return err
	})
	return errors.Join(err, ledger.Close()) == nil && same
}

// wait marks an unpacked ledger as one that waits for its order, once it is the one that the header describes.
func (b *Backup) wait(dir string) error {
	ledger, err := store.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBackup, err)
	}
	err = ledger.Update(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		if protocol.DigestOf(m.Genesis) != b.Appliance {
			return fmt.Errorf("the ledger is of the appliance %s: %w", protocol.DigestOf(m.Genesis), ErrOtherAppliance)
		}
		edge, err := auditlog.NewRange(int64(m.Size), m.Edge)
		if err != nil {
			return err
		}
		if m.Size != b.Size || protocol.Digest(edge.Root()) != b.Root {
			return fmt.Errorf("the ledger has another log than its header says: %w", ErrBackup)
		}
		m.Restoring, m.Challenge, m.Making = &store.Restoring{From: m.Size}, nil, ""
		return tx.PutMeta(m)
	})
	return errors.Join(err, ledger.Close())
}

// openRestoring is what start does for an appliance that waits.
func (e *Engine) openRestoring(counter uint64) error {
	if err := e.hasKeys(); err != nil {
		return err
	}
	if !e.Trial {
		if err := e.leaveBehind(counter); err != nil {
			return err
		}
	}
	return e.adopt()
}

// hasKeys asks that the signer has the keys of all CAs that sign.
func (e *Engine) hasKeys() error {
	var missing []string
	for id, ca := range e.state.CAs {
		if !ca.Signs() {
			continue
		}
		if !e.hasKey(id) {
			missing = append(missing, ca.Label)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrKeysMissing, strings.Join(missing, ", "))
	}
	return nil
}

func (e *Engine) hasKey(id protocol.Digest) bool {
	return slices.ContainsFunc(e.Signer.Keys(), func(k signer.KeyInfo) bool { return protocol.Digest(k.ID()) == id })
}

// ErrKeysMissing is returned when a backup is opened whose CA keys the signer does not have.
var ErrKeysMissing = errors.New("the signer lacks the keys of these CAs")

// leaveBehind moves the device's counter past the one that the backup's ledger names, so that this ledger by itself is
// refused as an old copy, whatever becomes of the restore.
func (e *Engine) leaveBehind(counter uint64) error {
	for {
		device, err := e.Signer.Counter()
		if err != nil {
			return fmt.Errorf("read counter: %w", err)
		}
		if device != 0 && device != counter && device+1 != counter {
			return nil
		}
		if err := e.Signer.Advance(device + 1); err != nil {
			return fmt.Errorf("advance counter: %w", err)
		}
	}
}
