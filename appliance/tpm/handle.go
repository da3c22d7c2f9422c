package tpm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
)

// parentName is the file with the name of the storage key, which is the TPM's identity to us.
const parentName = "parent"

// parent is the storage key: the TCG's template for it, in the owner's hierarchy.
type parent struct {
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

func (t *TPM) makeParent() error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t.conn)
	if err != nil {
		return err
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		return err
	}
	name, err := tpm2.ObjectName(public) // not the name the TPM says: what is salted to is what is compared
	if err != nil {
		return err
	}
	t.parent = parent{made.ObjectHandle, *public, *name}
	return nil
}

// compareParent tells whether this TPM was used for this directory before. Another one is a trouble.
func (t *TPM) compareParent() (known bool, err error) {
	name, err := os.ReadFile(filepath.Join(t.dir, parentName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read name of the storage key: %w", err)
	}
	if !bytes.Equal(name, t.parent.name.Buffer) {
		return false, t.trouble(signer.CounterMissing, "its storage key is not the one in %s", t.dir)
	}
	return true, nil
}

// flushAll flushes all objects and sessions that this connection sees: through the resource manager ours alone, without
// it also what a signer before us left when it was killed.
func (t *TPM) flushAll() error {
	for _, kind := range []tpm2.TPMHandle{0x80000000, 0x02000000, 0x03000000} { // objects; sessions that are loaded, that are saved
		answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(kind), PropertyCount: 64}.Execute(t.conn)
		if err != nil {
			return err
		}
		list, err := answer.CapabilityData.Data.Handles()
		if err != nil {
			return err
		}
		for _, handle := range list.Handle {
			if handle>>24 != kind>>24 {
				continue
			}
			if err := t.flush(handle); err != nil {
				return err
			}
		}
	}
	t.loaded, t.nv = loaded{}, nvSession{}
	return nil
}

func (t *TPM) flush(handle tpm2.TPMHandle) error {
	_, err := tpm2.FlushContext{FlushHandle: handle}.Execute(t.conn)
	return err
}

// session is one for a single command, salted to the storage key.
func (t *TPM) session(auth []byte, more ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, append(more, tpm2.Auth(auth), tpm2.Salted(t.parent.handle, t.parent.public))...)
}

// lasting is a session for many commands, and what ends it.
func (t *TPM) lasting(auth []byte, more ...tpm2.AuthOption) (tpm2.Session, error) {
	s, _, err := tpm2.HMACSession(t.conn, tpm2.TPMAlgSHA256, 16, append(more, tpm2.Auth(auth), tpm2.Salted(t.parent.handle, t.parent.public))...)
	return s, err
}

// owner authorizes what the owner of the TPM may do, who has no secret; the session is there for what it encrypts.
func (t *TPM) owner(more ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: t.session(nil, more...)}
}

func (t *TPM) parentAuth(more ...tpm2.AuthOption) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: t.parent.handle, Name: t.parent.name, Auth: t.session(nil, more...)}
}

var (
	encryptIn    = tpm2.AESEncryption(128, tpm2.EncryptIn)
	encryptOut   = tpm2.AESEncryption(128, tpm2.EncryptOut)
	encryptInOut = tpm2.AESEncryption(128, tpm2.EncryptInOut)
)
