// Package tpm keeps keys, the counter of law 7 and the genesis digest in a TPM 2.0, on its character device or on the
// Unix socket of swtpm. It is a device and the anchor of the signer process, and the only importer of go-tpm.
//
// Keys are made in the TPM, can't leave it, and lie in files, wrapped by its storage key, for a TPM has room for three at
// a time. Two NV indices belong to an appliance: the counter, which only counts up, and a record of the number it counts
// from, the genesis digest and a secret. The record is read with the PIN, which the TPM protects from guessing; what
// authorizes everything else is derived from the secret, so that noise on the bus never locks the TPM.
//
// All commands go through sessions salted to the storage key: answers are authenticated, and secrets encrypted, on the
// bus. The storage key's name is kept beside the key files, so that another TPM is noticed. A connection that is lost is
// opened again once. The package does not verify signatures (the appliance does) and shares no TPM without its resource
// manager: what it finds in one that is opened directly is flushed.
package tpm

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
)

// firstIndex is the NV index of the counter where the locator names none, in the range of the TPM's owner; the record
// has the next one.
const firstIndex = 0x01800ca0

// TPM is an open TPM.
type TPM struct {
	locator signer.Locator
	dir     string
	index   uint32
	pin     []byte // what the PIN came to (HKDF)
	curves  map[tpm2.TPMECCCurve]bool

	mu     sync.Mutex // one command at a time
	conn   *conn
	parent parent
	loaded loaded
	nv     nvSession
	record record
	keys   []key
}

// Open opens the TPM, checks the PIN and finds the keys in dir, which it makes. The first time, it makes the counter.
func Open(l signer.Locator, pin []byte, dir string) (*TPM, error) {
	t := &TPM{locator: l, index: firstIndex}
	if text := l.Attribute("index"); text != "" {
		n, err := strconv.ParseUint(text, 16, 32)
		if err != nil || n < 0x01800000 || n > 0x01bffffe {
			return nil, fmt.Errorf("locator %s: index is a hexadecimal number from 01800000 to 01bffffe, the range of the TPM's owner", l)
		}
		t.index = uint32(n)
	}
	t.dir = filepath.Join(dir, fmt.Sprintf("tpm-%08x", t.index))
	if err := t.open(pin); err != nil {
		if t.conn != nil {
			err = errors.Join(err, t.conn.Close())
		}
		return nil, err
	}
	return t, nil
}

func (t *TPM) open(pin []byte) (err error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of key files: %w", err)
	}
	if err := t.connect(); err != nil {
		return err
	}
	known, err := t.compareParent()
	if err != nil {
		return err
	}
	// The salt ties what is stored to this TPM: the same PIN comes to something else in another one.
	if t.pin, err = hkdf.Key(sha256.New, pin, t.parent.name.Buffer, "coldseal tpm 1 record", sha256.Size); err != nil {
		return err
	}
	t.pin = authorization(t.pin)
	if err := t.findCurves(); err != nil {
		return err
	}
	if err := t.openRecord(known); err != nil {
		return err
	}
	if !known {
		if err := t.writeDurable(parentName, t.parent.name.Buffer); err != nil {
			return err
		}
	}
	t.keys, err = t.readKeys()
	return err
}

// authorization makes an authorization value without zero bytes: TPMs cut them at its end, and go-tpm 0.9.8 cuts it at
// the first one (hmacKeyFromAuthValue), so that one key in eight would not open.
func authorization(b []byte) []byte {
	for i := range b {
		b[i] = max(b[i], 1)
	}
	return b
}

// connect opens the TPM and makes its storage key anew, which is the same each time.
func (t *TPM) connect() (err error) {
	if t.conn, err = dial(t.locator); err != nil {
		return err
	}
	t.loaded, t.nv = loaded{}, nvSession{}
	_, err = tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(t.conn)
	if err != nil && !errors.Is(err, tpm2.TPMRCInitialize) {
		return t.explain("start", err)
	}
	if err := t.flushAll(); err != nil {
		return t.explain("flush what others left", err)
	}
	if err := t.makeParent(); err != nil {
		return t.explain("make the storage key", err)
	}
	return nil
}

// again opens the TPM once more after something was lost. It must be the same TPM.
func (t *TPM) again() error {
	before := t.parent.name.Buffer
	_ = t.conn.Close() // it is of no use any more
	if err := t.connect(); err != nil {
		return err
	}
	if string(t.parent.name.Buffer) != string(before) {
		return t.trouble(signer.TokenSwapped, "it has another storage key than a moment ago")
	}
	return nil
}

// use runs f alone. If it fails for something that a new connection may mend, the TPM is opened again and f runs once
// more.
func (t *TPM) use(what string, f func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := f()
	if err == nil || !mendable(err) {
		return t.explain(what, err)
	}
	if again := t.again(); again != nil {
		return again
	}
	return t.explain(what, f())
}

// Close flushes what is loaded and closes the connection.
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.pin)
	clear(t.record.secret[:])
	_ = t.flushAll() // or the connection is lost, and who opens the TPM next does it
	return t.conn.Close()
}
