// Package store is the appliance's ledger: what the log folded to, in one bbolt file.
//
// The log is the truth and the ledger its fold; the ledger exists so that a decision costs a look-up instead of a
// replay. The engine starts only when both agree. The package knows how things are laid out (store.md) and nothing of
// what they mean: no policy, no clock, no signature.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"coldseal/protocol/cose"
)

// Schema is the number of this layout; a ledger with another one is not opened.
const Schema = 1

// The buckets, beside those of the indexes. All keys are in ascending order of what is written in sequence, so that a
// batch touches few pages.
var (
	bucketMeta      = []byte("meta")
	bucketParties   = []byte("parties")   // name → party record
	bucketCAs       = []byte("cas")       // key id → CA
	bucketCerts     = []byte("certs")     // issuer[:8] ‖ serial → Certificate
	bucketApprovers = []byte("approvers") // SHA-256(SubjectPublicKeyInfo) → Approver
	bucketRevoked   = []byte("revoked")   // issuer[:8] ‖ shard (2 bytes) ‖ serial → Revoked
	bucketIntents   = []byte("intents")   // what is being signed now
	bucketBundles   = []byte("bundles")   // agent ‖ 0 ‖ sequence → Bundle
	bucketUsage     = []byte("usage")     // agent → Usage
	bucketCRLs      = []byte("crls")      // issuer[:8] ‖ shard (2 bytes) → CRL
	bucketLeaves    = []byte("leaves")    // leaf index → leaf
	bucketBodies    = []byte("bodies")    // leaf index → salt (16 bytes) ‖ body
	bucketHashes    = []byte("hashes")    // stored hash index → hash
	bucketBrought   = []byte("brought")   // leaf index → item, of leaves that were brought to a restore
)

var buckets = [][]byte{
	bucketMeta, bucketParties, bucketCAs, bucketCerts, bucketApprovers, bucketRevoked,
	bucketIntents, bucketBundles, bucketUsage, bucketCRLs, bucketLeaves, bucketBodies, bucketHashes, bucketBrought,
}

func allBuckets() [][]byte {
	all := slices.Clone(buckets)
	for _, x := range indexes {
		all = append(all, x.tree, x.runs)
	}
	return all
}

var (
	keyMeta    = []byte("meta")
	keyIntents = []byte("intents")
)

// ErrExists is returned when a ledger is to be created where there is one.
var ErrExists = errors.New("there is a ledger already")

// ErrUnfinished is returned for a ledger that genesis did not finish: nobody relies on it.
var ErrUnfinished = errors.New("it was never finished")

// Store is an open ledger. Only one process has it open.
type Store struct {
	db *bbolt.DB
}

// FileName is the ledger's name in the state directory.
const FileName = "ledger.db"

// Create makes a new ledger in dir and leaves it open. It gets its name once all of it is durable: bbolt writes a new file
// in one piece, can't tell when a power cut left half of it, and panics.
func Create(dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("create ledger %s: %w", path, ErrExists)
	}
	return create(path)
}

// Recreate makes a new ledger in the place of one that nobody relies on: that of a genesis which was not finished. At every
// moment there is one of them: it says that the keys on the devices are of this genesis.
func Recreate(dir string) (*Store, error) { return create(filepath.Join(dir, FileName)) }

func create(path string) (*Store, error) {
	if err := write(path); err != nil {
		return nil, fmt.Errorf("create ledger %s: %w", path, err)
	}
	return open(path)
}

// write makes an empty ledger, which gets its name last.
func write(path string) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s, err := open(next)
	if err != nil {
		return err
	}
	err = s.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets() {
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

// Open opens the ledger in dir, checks its layout, and waits at most a second for another process that has it open.
func Open(dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := whole(path); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	s, err := open(path)
	if err != nil {
		return nil, err
	}
	err = s.View(func(tx *Tx) error {
		for _, name := range allBuckets() {
			if tx.tx.Bucket(name) == nil {
				return fmt.Errorf("bucket %s is missing", name)
			}
		}
		m, err := tx.Meta()
		if err == nil && m.Schema != Schema {
			err = fmt.Errorf("layout %d, this release knows %d", m.Schema, Schema)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", path, err), s.Close())
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
	db, err := openFile(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
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

func open(path string) (*Store, error) {
	// The free list is rebuilt at open instead of being written with every transaction.
	db, err := openFile(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	// Who was killed may have left a transaction that can be read and is not durable yet. What is done now builds on it.
	if err := db.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("sync ledger %s: %w", path, err), db.Close())
	}
	return &Store{db}, nil
}

// ErrBusy is returned while another process has the ledger open.
var ErrBusy = errors.New("another coldseal-appliance is at work with it")

func openFile(path string, mode os.FileMode, options *bbolt.Options) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, mode, options)
	if errors.Is(err, bbolterrors.ErrTimeout) {
		err = ErrBusy
	}
	return db, err
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Snapshot writes the whole ledger as it is in this transaction, a file that Open opens.
func (t *Tx) Snapshot(w io.Writer) error {
	n, err := t.tx.WriteTo(w)
	if err == nil && n != t.tx.Size() {
		err = fmt.Errorf("%d of %d bytes", n, t.tx.Size())
	}
	if err != nil {
		return fmt.Errorf("copy ledger: %w", err)
	}
	return nil
}

// SnapshotSize is how many bytes Snapshot writes.
func (t *Tx) SnapshotSize() int64 { return t.tx.Size() }

// Size is the length of the file in bytes.
func (s *Store) Size() (int64, error) {
	info, err := os.Stat(s.db.Path())
	if err != nil {
		return 0, fmt.Errorf("measure ledger: %w", err)
	}
	return info.Size(), nil
}

// View reads one consistent state.
func (s *Store) View(f func(*Tx) error) error {
	return s.db.View(func(tx *bbolt.Tx) error { return f(&Tx{tx: tx}) })
}

// Update changes the ledger: all of it durably, or nothing.
func (s *Store) Update(f func(*Tx) error) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		t := &Tx{tx: tx}
		if err := f(t); err != nil {
			return err
		}
		return t.flush()
	})
}

// Tx is one transaction.
type Tx struct {
	tx      *bbolt.Tx
	indexes [indexCount]indexState
}

func (t *Tx) put(bucket, key []byte, v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return err
	}
	return t.putBytes(bucket, key, data)
}

func (t *Tx) putBytes(bucket, key, data []byte) error {
	if err := t.tx.Bucket(bucket).Put(key, data); err != nil {
		return fmt.Errorf("write %s: %w", bucket, err)
	}
	return nil
}

// get decodes a value; found is false when there is none.
func get[T any](t *Tx, bucket, key []byte) (v T, found bool, err error) {
	data := t.tx.Bucket(bucket).Get(key)
	if data == nil {
		return v, false, nil
	}
	if err := cose.Unmarshal(data, &v); err != nil {
		return v, false, fmt.Errorf("ledger: %s: %w", bucket, err)
	}
	return v, true, nil
}

// each calls f for all entries whose key begins with prefix, in order.
func each[T any](t *Tx, bucket, prefix []byte, f func(key []byte, v T) error) error {
	c := t.tx.Bucket(bucket).Cursor()
	for k, data := c.Seek(prefix); k != nil && len(k) >= len(prefix) && string(k[:len(prefix)]) == string(prefix); k, data = c.Next() {
		var v T
		if err := cose.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("ledger: %s: %w", bucket, err)
		}
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (t *Tx) count(bucket []byte) (n uint64) {
	c := t.tx.Bucket(bucket).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		n++
	}
	return n
}
