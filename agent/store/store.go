// Package store is what the agent keeps, in one bbolt file: requests and the approvals attached to them, bundles,
// responses, the leaves of the appliance's log, CRLs, keys made here, and a line of history for each command.
//
// It exists so that a command is one transaction: all of it or nothing. What is imported is first staged: it lies in the
// file without counting until one transaction says that it does, so that a response of any size is imported whole or not
// at all. The package knows how things are laid out and nothing of what they mean: no policy, no clock, no signature.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"coldseal/protocol/cose"
)

// Schema is the number of this layout; a file with another one is not opened.
const Schema = 1

// The buckets. Keys ascend as they are written, so that a batch touches few pages; ids and wishes are random, and are
// written only when a request is made.
var (
	bucketMeta         = []byte("meta")
	bucketRequests     = []byte("requests")     // number → Request
	bucketAsked        = []byte("asked")        // number → Asked
	bucketItems        = []byte("items")        // number → protocol.Item, encoded
	bucketIDs          = []byte("ids")          // id → number
	bucketWishes       = []byte("wishes")       // SHA-256 of what was wished → number of the newest request for it
	bucketCertificates = []byte("certificates") // issuer ‖ length of serial ‖ serial ‖ number: requests about a certificate
	bucketApprovals    = []byte("approvals")    // number → Approval
	bucketMessages     = []byte("messages")     // SHA-256 of an approval → its number
	bucketApprovers    = []byte("approvers")    // key id → Approver
	bucketBundles      = []byte("bundles")      // sequence → Bundle
	bucketGroups       = []byte("groups")       // sequence ‖ group → Group
	bucketImports      = []byte("imports")      // import → Import
	bucketResults      = []byte("results")      // import ‖ number → Result; without a request: import ‖ 2⁶³+place
	bucketLeaves       = []byte("leaves")       // index of the first → leaves, each a CBOR byte string
	bucketHashes       = []byte("hashes")       // stored index of the first → hashes of 32 bytes (sumdb/tlog layout)
	bucketCRLs         = []byte("crls")         // issuer → CRL
	bucketKeys         = []byte("keys")         // key id → PKCS#8
	bucketHistory      = []byte("history")      // number → Line
)

var buckets = [][]byte{
	bucketMeta, bucketRequests, bucketAsked, bucketItems, bucketIDs, bucketWishes, bucketCertificates, bucketApprovals,
	bucketMessages, bucketApprovers, bucketBundles, bucketGroups, bucketImports, bucketResults, bucketLeaves, bucketHashes,
	bucketCRLs, bucketKeys, bucketHistory,
}

// fileName is the store's name in the state directory.
const fileName = "agent.db"

// ErrBusy is returned when another command has the store open.
var ErrBusy = errors.New("another command is using the state directory")

// Store is an open store. Only one process has it open.
type Store struct {
	db *bbolt.DB
}

// Exists tells whether there is a store in dir.
func Exists(dir string) (bool, error) {
	_, err := os.Stat(filepath.Join(dir, fileName))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create opens the store in dir and makes it first if it is not there. It gets its name once all of it is durable: bbolt
// writes a new file in one piece, can't tell when a power cut left half of it, and panics.
func Create(dir string) (*Store, error) {
	path := filepath.Join(dir, fileName)
	err := whole(path)
	if errors.Is(err, os.ErrNotExist) {
		err = create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("create store %s: %w", path, err)
	}
	return open(path)
}

func create(path string) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s, err := open(next)
	if err != nil {
		return err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open opens the store in dir and waits at most five seconds for another command. The error is os.ErrNotExist if there
// is none, or none that was finished.
func Open(dir string) (*Store, error) {
	if found, err := Exists(dir); !found {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, os.ErrNotExist), err)
	}
	if err := whole(filepath.Join(dir, fileName)); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	s, err := open(filepath.Join(dir, fileName))
	if err != nil {
		return nil, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("bucket %s is missing", name)
			}
		}
		m, found, err := get[Meta](&Tx{tx: tx}, bucketMeta, keyMeta)
		switch {
		case err != nil:
			return err
		case !found:
			return os.ErrNotExist
		case m.Schema != Schema:
			return fmt.Errorf("layout %d, this release knows %d", m.Schema, Schema)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store in %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// whole asks whether a file is as long as it says itself. bbolt reads through a memory map, where what is missing ends
// the program.
func whole(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: timeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	var size int64
	err = db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	if err = errors.Join(err, db.Close()); err == nil && size > info.Size() {
		err = fmt.Errorf("%d of its %d bytes are missing", size-info.Size(), size)
	}
	return err
}

// timeout is how long another command is waited for.
const timeout = 5 * time.Second

func open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: timeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true,
		InitialMmapSize: 1 << 30, // address space only: growing the map would make an import's readers wait
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open store %s: %w", path, ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	// Who was killed may have left a transaction that can be read and is not durable yet. What is done now builds on it.
	if err := db.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync store %s: %w", path, err), db.Close())
	}
	return &Store{db}, nil
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// View reads one consistent state.
func (s *Store) View(f func(*Tx) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return f(&Tx{tx: tx}) })
}

// Update changes the store: all of it durably, or nothing.
func (s *Store) Update(f func(*Tx) error) error {
	var own error
	err := s.db.Update(func(tx *bbolt.Tx) error {
		own = f(&Tx{tx: tx})
		return own
	})
	if err != nil && own == nil {
		err = &writeError{s.db.Path(), err}
	}
	return err
}

// writeError is a disk's failure to keep what was written, of which bbolt does not say what it was about.
type writeError struct {
	path string
	err  error
}

func (e *writeError) Error() string { return "write store " + e.path + ": " + e.err.Error() }

func (e *writeError) Unwrap() error { return e.err }

// Hint says what to do next.
func (e *writeError) Hint() string {
	return "make room on this machine's disk, or mend it, then run the same command again"
}

// Tx is one transaction. Values that are returned are copies; numbers of things count from 1.
type Tx struct {
	tx *bbolt.Tx
}

func (t *Tx) put(bucket, key []byte, v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return err
	}
	return t.putBytes(bucket, key, data)
}

func (t *Tx) putBytes(bucket, key, data []byte) error {
	b := t.tx.Bucket(bucket)
	b.FillPercent = 0.9 // nearly all keys ascend
	if err := b.Put(key, data); err != nil {
		return fmt.Errorf("write %s: %w", bucket, err)
	}
	return nil
}

func get[T any](t *Tx, bucket, key []byte) (v T, found bool, err error) {
	data := t.tx.Bucket(bucket).Get(key)
	if data == nil {
		return v, false, nil
	}
	if err := cose.Unmarshal(data, &v); err != nil {
		return v, false, fmt.Errorf("read %s: %w", bucket, err)
	}
	return v, true, nil
}

// each calls f for all entries from the key on, in order, until f returns an error.
func each[T any](t *Tx, bucket, from []byte, f func(key []byte, v T) error) error {
	c := t.tx.Bucket(bucket).Cursor()
	for k, data := c.Seek(from); k != nil; k, data = c.Next() {
		var v T
		if err := cose.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("read %s: %w", bucket, err)
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func pair(a, b uint64) []byte { return binary.BigEndian.AppendUint64(number(a), b) }

func toNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key) }
