package tpm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
)

// record is what stands in the second NV index: the value that the counter had when it was made, for a TPM's counters
// never begin at zero; the genesis digest; the secret that authorizes all but the record itself.
type record struct {
	base   uint64
	digest [32]byte
	secret [32]byte
}

const recordSize = 8 + 32 + 32

func (r record) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, r.base)
	return append(append(b, r.digest[:]...), r.secret[:]...)
}

// nvSession is a session for the counter, kept because it moves at every step.
type nvSession struct {
	session tpm2.Session
	name    tpm2.TPM2BName
}

func (t *TPM) counterIndex() tpm2.TPMHandle { return tpm2.TPMHandle(t.index) }
func (t *TPM) recordIndex() tpm2.TPMHandle  { return tpm2.TPMHandle(t.index + 1) }

// attributesOf are those of our indices: for whoever has the authorization, and for the record a limit on guessing.
func attributesOf(kind tpm2.TPMNT) tpm2.TPMANV {
	return tpm2.TPMANV{AuthRead: true, AuthWrite: true, NT: kind, NoDA: kind == tpm2.TPMNTCounter}
}

// public reads what the TPM says of an index; found is false if there is none.
func (t *TPM) public(index tpm2.TPMHandle) (public tpm2.TPMSNVPublic, name tpm2.TPM2BName, found bool, err error) {
	answer, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t.conn)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return public, name, false, nil
	}
	if err != nil {
		return public, name, false, err
	}
	contents, err := answer.NVPublic.Contents()
	if err != nil {
		return public, name, false, err
	}
	computed, err := tpm2.NVName(contents) // what is authorized is what was looked at
	if err != nil {
		return public, name, false, err
	}
	return *contents, *computed, true, nil
}

// ours tells whether an index has the form of one of ours.
func ours(public tpm2.TPMSNVPublic, kind tpm2.TPMNT, size uint16) bool {
	a := public.Attributes
	a.Written = false
	return a == attributesOf(kind) && public.DataSize == size && public.NameAlg == tpm2.TPMAlgSHA256 && len(public.AuthPolicy.Buffer) == 0
}

// openRecord reads the record, which checks the PIN. Where no counter was ever, it makes counter and record; interrupted,
// it goes on the next time.
func (t *TPM) openRecord(known bool) error {
	counter, _, hasCounter, err := t.public(t.counterIndex())
	if err != nil {
		return t.explain("look for the counter", err)
	}
	rec, name, hasRecord, err := t.public(t.recordIndex())
	if err != nil {
		return t.explain("look for the counter", err)
	}
	written := hasRecord && rec.Attributes.Written
	switch {
	case known && (!hasCounter || !written || !counter.Attributes.Written):
		return t.trouble(signer.CounterMissing, "there is no NV index 0x%08x, or no 0x%08x", t.index, t.index+1)
	case hasCounter && !ours(counter, tpm2.TPMNTCounter, 8), hasRecord && !ours(rec, tpm2.TPMNTOrdinary, recordSize):
		return t.trouble(signer.CounterForeign, "NV index 0x%08x or 0x%08x is not one of ours", t.index, t.index+1)
	}
	if written {
		err := t.readRecord(name)
		if err == nil && !known && t.record.digest != [32]byte{} {
			return t.trouble(signer.CounterForeign, "NV index 0x%08x belongs to the appliance with genesis %x", t.index+1, t.record.digest)
		}
		return err
	}
	if hasCounter { // of a beginning that was interrupted, when its secret was not written yet
		if _, err := (tpm2.NVUndefineSpace{AuthHandle: t.owner(), NVIndex: t.named(t.counterIndex())}).Execute(t.conn); err != nil {
			return t.explain("remove the counter of a beginning that was interrupted", err)
		}
	}
	return t.explain("make the counter", t.makeRecord(hasRecord))
}

func (t *TPM) named(index tpm2.TPMHandle) tpm2.NamedHandle {
	_, name, _, err := t.public(index)
	if err != nil {
		return tpm2.NamedHandle{Handle: index} // the command then fails, and says why
	}
	return tpm2.NamedHandle{Handle: index, Name: name}
}

// makeRecord makes the counter and writes the record, last. The counter's first increment gives it its first value.
func (t *TPM) makeRecord(hasRecord bool) error {
	if !hasRecord {
		if err := t.define(t.recordIndex(), tpm2.TPMNTOrdinary, recordSize, t.pin); err != nil {
			return err
		}
	}
	rand.Read(t.record.secret[:])
	if err := t.define(t.counterIndex(), tpm2.TPMNTCounter, 8, t.auth("counter")); err != nil {
		return err
	}
	if err := t.increment(); err != nil {
		return err
	}
	value, err := t.readCounter()
	if err != nil {
		return err
	}
	t.record.base = value
	return t.writeRecord(t.record)
}

func (t *TPM) define(index tpm2.TPMHandle, kind tpm2.TPMNT, size uint16, auth []byte) error {
	_, err := tpm2.NVDefineSpace{
		AuthHandle: t.owner(encryptIn), Auth: tpm2.TPM2BAuth{Buffer: auth},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, Attributes: attributesOf(kind), DataSize: size}),
	}.Execute(t.conn)
	return err
}

func (t *TPM) readRecord(name tpm2.TPM2BName) error {
	answer, err := tpm2.NVRead{
		AuthHandle: tpm2.AuthHandle{Handle: t.recordIndex(), Name: name, Auth: t.session(t.pin, encryptOut)},
		NVIndex:    tpm2.NamedHandle{Handle: t.recordIndex(), Name: name}, Size: recordSize,
	}.Execute(t.conn)
	if errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth) {
		return t.pinTrouble()
	}
	if err != nil {
		return t.explain("check the PIN", err)
	}
	b := answer.Data.Buffer
	if len(b) != recordSize {
		return t.trouble(signer.DeviceFails, "a record of %d bytes", len(b))
	}
	t.record.base = binary.BigEndian.Uint64(b)
	copy(t.record.digest[:], b[8:])
	copy(t.record.secret[:], b[40:])
	clear(b)
	return nil
}

func (t *TPM) writeRecord(r record) error {
	index := t.named(t.recordIndex())
	data := r.encode()
	defer clear(data)
	_, err := tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: index.Handle, Name: index.Name, Auth: t.session(t.pin, encryptIn)},
		NVIndex:    index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: data},
	}.Execute(t.conn)
	return err
}

// counter gives the handle of the counter with its session. Its name changes when it is first written, and is read anew
// then.
func (t *TPM) counter() (tpm2.AuthHandle, tpm2.NamedHandle, error) {
	if t.nv.session == nil {
		_, name, found, err := t.public(t.counterIndex())
		if err != nil {
			return tpm2.AuthHandle{}, tpm2.NamedHandle{}, err
		}
		if !found {
			return tpm2.AuthHandle{}, tpm2.NamedHandle{}, t.trouble(signer.CounterMissing, "there is no NV index 0x%08x", t.index)
		}
		session, err := t.lasting(t.auth("counter"))
		if err != nil {
			return tpm2.AuthHandle{}, tpm2.NamedHandle{}, err
		}
		t.nv = nvSession{session, name}
	}
	index := tpm2.NamedHandle{Handle: t.counterIndex(), Name: t.nv.name}
	return tpm2.AuthHandle{Handle: index.Handle, Name: index.Name, Auth: t.nv.session}, index, nil
}

func (t *TPM) increment() error {
	auth, index, err := t.counter()
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVIncrement{AuthHandle: auth, NVIndex: index}).Execute(t.conn); err != nil {
		return err
	}
	if t.record.base != 0 {
		return nil
	}
	handle := t.nv.session.Handle() // the first increment
	t.nv = nvSession{}
	return t.flush(handle)
}

func (t *TPM) readCounter() (uint64, error) {
	auth, index, err := t.counter()
	if err != nil {
		return 0, err
	}
	answer, err := tpm2.NVRead{AuthHandle: auth, NVIndex: index, Size: 8}.Execute(t.conn)
	if err != nil {
		return 0, err
	}
	if len(answer.Data.Buffer) != 8 {
		return 0, fmt.Errorf("a counter of %d bytes", len(answer.Data.Buffer))
	}
	return binary.BigEndian.Uint64(answer.Data.Buffer), nil
}

// value is the counter as the appliance counts, from zero.
func (t *TPM) value() (uint64, error) {
	value, err := t.readCounter()
	if err == nil && value < t.record.base {
		return 0, t.trouble(signer.CounterMissing, "the counter stands at %d and began at %d", value, t.record.base)
	}
	return value - t.record.base, err
}

// Counter reads the counter.
func (t *TPM) Counter() (value uint64, err error) {
	err = t.use("read the counter", func() error {
		value, err = t.value()
		return err
	})
	return value, err
}

// Advance makes the counter to. It looks before and after: an answer that was lost may have been that it moved.
func (t *TPM) Advance(to uint64) error {
	return t.use("advance the counter", func() error {
		value, err := t.value()
		if err != nil || value == to {
			return err
		}
		if value+1 != to {
			return t.trouble(signer.DeviceFails, "the counter stands at %d, %d is not next", value, to)
		}
		if err := t.increment(); err != nil {
			return err
		}
		if value, err = t.value(); err == nil && value != to {
			err = t.trouble(signer.DeviceFails, "the counter was advanced to %d and stands at %d", to, value)
		}
		return err
	})
}

// Pinned gives the genesis digest.
func (t *TPM) Pinned() ([32]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.digest, nil
}

// Pin writes the genesis digest.
func (t *TPM) Pin(digest [32]byte) error {
	return t.use("pin the genesis digest", func() error {
		next := t.record
		next.digest = digest
		if err := t.writeRecord(next); err != nil {
			return err
		}
		t.record = next
		return nil
	})
}
