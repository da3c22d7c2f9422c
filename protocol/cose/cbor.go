// Package cose is strict deterministic CBOR (RFC 8949 section 4.2.1) and COSE_Sign1 (RFC 9052 section 4.2), no more.
//
// Every message of this product is hashed or signed as the bytes that were received, so one value must have one
// encoding: a decoder here refuses whatever it would not itself have written. Libraries for COSE accept labels in both
// headers, unknown critical headers and high-S signatures; this package accepts one form, and takes the algorithm from
// the enrolled key rather than from the message.
//
// It knows no message, no key store and no purpose; callers bring the context string and the key.
package cose

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// MaxNesting is how deep a message may nest. The deepest of ours is 6 (a policy: map, profiles, profile, rule, list, entry).
const MaxNesting = 10

// Modes are immutable and safe for concurrent use once made.
var (
	encMode = must(cbor.EncOptions{
		Sort:          cbor.SortCoreDeterministic,
		ShortestFloat: cbor.ShortestFloat16,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
		TagsMd:        cbor.TagsForbidden,
	}.EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   MaxNesting,
		MaxArrayElements:  1 << 17,
		MaxMapPairs:       1 << 16,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode())
)

// must serves the two package constants above: options that are wrong are a mistake of this file, found by any test.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ErrNotCanonical is returned for CBOR that is well formed but not in the one form that is accepted.
var ErrNotCanonical = errors.New("not deterministic CBOR")

// Marshal encodes v as deterministic CBOR (RFC 8949 section 4.2.1); nil slices and maps are empty ones.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// Unmarshal decodes exactly one item into v, a pointer. It refuses unknown and duplicate fields, tags, indefinite
// lengths, trailing bytes, and any input that Marshal(v) would not reproduce byte for byte.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode again %T: %w", v, err)
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("decode %T: %w", v, ErrNotCanonical)
	}
	return nil
}
