package tpm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
	"coldseal/protocol/cose"
)

// key is a key file: deterministic CBOR. What it says of label and purpose is believed only because the key does not
// open otherwise (TPM.authOf).
type key struct {
	Label     string           `cbor:"1,keyasint"`
	Purpose   signer.Purpose   `cbor:"2,keyasint"`
	Algorithm signer.Algorithm `cbor:"3,keyasint"`
	Public    []byte           `cbor:"4,keyasint"` // TPM2B_PUBLIC
	Private   []byte           `cbor:"5,keyasint"` // TPM2B_PRIVATE, encrypted by the storage key

	info   signer.KeyInfo
	name   tpm2.TPM2BName
	public *tpm2.TPMTPublic
}

const (
	keySuffix = ".key"
	maxFile   = 8 << 10
)

// check reads the public area and compares it with what the file says, and with what we would have made.
func (k *key) check() error {
	outer, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
	if err != nil {
		return err
	}
	if k.public, err = outer.Contents(); err != nil {
		return err
	}
	der, err := spkiOf(k.public)
	if err != nil {
		return err
	}
	k.info = signer.KeyInfo{Label: k.Label, Purpose: k.Purpose, Algorithm: k.Algorithm, SPKI: der}
	if _, err := k.info.Check(); err != nil {
		return err
	}
	if k.public.ObjectAttributes != template(k.Purpose, k.Algorithm).ObjectAttributes {
		return errors.New("it is not fixed to the TPM, or for something else")
	}
	name, err := tpm2.ObjectName(k.public)
	if err != nil {
		return err
	}
	k.name = *name
	return nil
}

func parseKey(data []byte) (k key, err error) {
	if err := cose.Unmarshal(data, &k); err != nil {
		return k, err
	}
	return k, k.check()
}

func (k *key) file() string {
	id := k.info.ID()
	return hex.EncodeToString(id[:]) + keySuffix
}

// files lists the key files.
func (t *TPM) files() (names []string, err error) {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return nil, fmt.Errorf("list key files: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), keySuffix) {
			names = append(names, e.Name())
		}
	}
	if len(names) > signer.MaxKeys {
		return nil, fmt.Errorf("list key files: more than %d in %s", signer.MaxKeys, t.dir)
	}
	return names, nil
}

func (t *TPM) readFile(name string) (k key, err error) {
	f, err := os.Open(filepath.Join(t.dir, name))
	if err != nil {
		return k, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return k, err
	}
	if len(data) > maxFile {
		return k, fmt.Errorf("more than %d bytes", maxFile)
	}
	if k, err = parseKey(data); err != nil {
		return k, err
	}
	if k.file() != name {
		return k, errors.New("it holds another key than its name says")
	}
	return k, nil
}

// readKeys reads the key files. One that can't be read, or whose label another has, is left to the inventory.
func (t *TPM) readKeys() (keys []key, err error) {
	names, err := t.files()
	if err != nil {
		return nil, err
	}
	labels := map[string]int{}
	for _, name := range names {
		if k, err := t.readFile(name); err == nil {
			keys = append(keys, k)
			labels[k.Label]++
		}
	}
	return slices.DeleteFunc(keys, func(k key) bool { return labels[k.Label] > 1 }), nil
}

func (t *TPM) writeKey(k key) error {
	data, err := cose.Marshal(k)
	if err != nil {
		return err
	}
	return t.writeDurable(k.file(), data)
}

// writeDurable writes a file that is whole or not there.
func (t *TPM) writeDurable(name string, data []byte) error {
	path := filepath.Join(t.dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return t.syncDir()
}

func (t *TPM) syncDir() error {
	dir, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (t *TPM) find(id [32]byte) (key, error) {
	i := slices.IndexFunc(t.keys, func(k key) bool { return k.info.ID() == id })
	if i < 0 {
		return key{}, t.trouble(signer.KeyMissing, "no key %x", id)
	}
	return t.keys[i], nil
}

// Keys lists the keys in the order of their files.
func (t *TPM) Keys() ([]signer.KeyInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	infos := make([]signer.KeyInfo, len(t.keys))
	for i, k := range t.keys {
		infos[i] = k.info
	}
	return infos, nil
}

// Destroy overwrites the file of a key and removes it; without it the TPM can't load the key again.
func (t *TPM) Destroy(id [32]byte) error {
	return t.use("destroy key", func() error {
		k, err := t.find(id)
		if err != nil {
			return err
		}
		if t.loaded.id == id {
			if err := t.unload(); err != nil {
				return err
			}
		}
		path := filepath.Join(t.dir, k.file())
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return t.trouble(signer.KeyMissing, "%v", err)
		}
		about, err := f.Stat()
		if err == nil {
			_, err = f.Write(make([]byte, about.Size()))
		}
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Remove(path)
		}
		if err == nil {
			err = t.syncDir()
		}
		if err != nil {
			return t.trouble(signer.DeviceFails, "remove the file of key %s: %v", k.Label, err)
		}
		t.keys = slices.DeleteFunc(t.keys, func(k key) bool { return k.info.ID() == id })
		return nil
	})
}

// Objects lists the key files, read or not, and the NV indices.
func (t *TPM) Objects() (list []signer.Object, err error) {
	err = t.use("list objects", func() error {
		names, err := t.files()
		if err != nil {
			return t.trouble(signer.DeviceFails, "%v", err)
		}
		list = nil
		for _, name := range names {
			o := signer.Object{Class: signer.ClassKeyFile, Handle: name, Ours: true}
			k, err := t.readFile(name)
			if err == nil {
				o.Label, o.Key = k.Label, k.info.ID()
				if _, err = t.find(o.Key); err != nil {
					err = errors.New("another key has the same label")
				} else {
					err = t.load(k)
				}
			}
			var code tpm2.TPMRC
			switch {
			case errors.As(err, &code) && mendable(err):
				return err
			case err != nil:
				o.Note = err.Error()
			}
			list = append(list, o)
		}
		for _, index := range []tpm2.TPMHandle{t.counterIndex(), t.recordIndex()} {
			if _, _, found, err := t.public(index); err != nil {
				return err
			} else if found {
				list = append(list, signer.Object{Class: signer.ClassCounter, Ours: true, Handle: fmt.Sprintf("0x%08x", uint32(index))})
			}
		}
		return nil
	})
	return list, err
}
