package store

import (
	"bytes"
	"fmt"

	"coldseal/protocol"
)

// Import is a response that was imported.
type Import struct {
	Response  protocol.Digest   `cbor:"1,keyasint"` // SHA-256 of its header
	Answers   uint64            `cbor:"2,keyasint"` // number of the bundle it answers
	Bundle    protocol.Digest   `cbor:"3,keyasint"` // SHA-256 of that bundle
	Created   int64             `cbor:"4,keyasint"` // unix seconds
	Results   uint64            `cbor:"5,keyasint"`
	Unknown   uint64            `cbor:"6,keyasint,omitempty"` // results of requests that are not known here
	Size      uint64            `cbor:"7,keyasint"`           // of its checkpoint
	Last      uint64            `cbor:"8,keyasint"`
	Pending   []uint64          `cbor:"9,keyasint,omitempty"`
	Refusal   *protocol.Refusal `cbor:"10,keyasint,omitempty"`
	Line      uint64            `cbor:"11,keyasint"`
	Published int64             `cbor:"12,keyasint,omitempty"` // unix seconds: when its certificates were written out
}

// PutImport writes an import; it counts once Meta.Imports has reached it.
func (t *Tx) PutImport(n uint64, i Import) error { return t.put(bucketImports, number(n), i) }

// Import reads an import that is known to be there.
func (t *Tx) Import(n uint64) (Import, error) {
	i, found, err := get[Import](t, bucketImports, number(n))
	if err == nil && !found {
		err = fmt.Errorf("read import %d: it is missing", n)
	}
	return i, err
}

// EachImport calls f for all imports that count.
func (t *Tx) EachImport(f func(n uint64, i Import) error) error {
	return each(t, bucketImports, nil, func(k []byte, i Import) error { return f(toNumber(k), i) })
}

// noRequest is added to the place of a result whose request is not known here.
const noRequest = 1 << 63

// Result is an answer, as received and verified.
type Result struct {
	Outcome protocol.Outcome
	Open    bool   // refused, and may be tried again
	Serial  []byte // of the certificate that it is about, at most 20 bytes; none if it is about none
	Answer  []byte // protocol.Answer, encoded
	Place   uint64 // in the response, where EachResult gives one whose request is not known here
}

// resultSize is a byte each for outcome, open, and the length of the serial.
const resultSize = 3

// PutResult stages or writes the result of a request in an import. Number 0 stands for a request that is not known here;
// place is where its answer stands in the response.
func (t *Tx) PutResult(imported, n, place uint64, r Result) error {
	if n == 0 {
		n = noRequest + place
	}
	value := make([]byte, resultSize, resultSize+len(r.Serial)+len(r.Answer))
	value[0], value[2] = byte(r.Outcome), byte(len(r.Serial))
	if r.Open {
		value[1] = 1
	}
	return t.putBytes(bucketResults, pair(imported, n), append(append(value, r.Serial...), r.Answer...))
}

// Result finds the result of a request in an import.
func (t *Tx) Result(imported, n uint64) (Result, bool) {
	return result(t.tx.Bucket(bucketResults).Get(pair(imported, n)))
}

// Unasked finds the result at a place of an import, whose request is not known here.
func (t *Tx) Unasked(imported, place uint64) (Result, bool) {
	return t.Result(imported, noRequest+place)
}

func result(value []byte) (Result, bool) {
	if len(value) < resultSize || len(value) < resultSize+int(value[2]) {
		return Result{}, false
	}
	data := clone(value[resultSize:])
	serial := int(value[2])
	return Result{Outcome: protocol.Outcome(value[0]), Open: value[1] == 1, Serial: data[:serial:serial], Answer: data[serial:]}, true
}

// EachResult calls f for all results of an import: by number of their request, then those whose request is not known
// here, with number 0.
func (t *Tx) EachResult(imported uint64, f func(n uint64, r Result) error) error {
	prefix := number(imported)
	c := t.tx.Bucket(bucketResults).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		r, whole := result(v)
		if !whole {
			return fmt.Errorf("read results: value of %d bytes", len(v))
		}
		n := toNumber(k[8:])
		if n >= noRequest {
			n, r.Place = 0, n-noRequest
		}
		if err := f(n, r); err != nil {
			return err
		}
	}
	return nil
}
