package protocol

import (
	"bufio"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"coldseal/protocol/cose"
)

// Spool is a private copy of what a medium held: it answers the same each time. protocol/media makes them.
type Spool interface {
	io.ReaderAt
	Size() int64
}

// sealed is what is behind the header of a spooled sequence, once all of it was hashed.
type sealed struct {
	message  []byte        // the header, a COSE_Sign1
	rest     Digest        // SHA-256 of what follows it
	whole    Digest        // SHA-256 of all bytes
	contents *bufio.Reader // of what follows it
}

// readSealed reads the whole spool once. Before reads what comes before the header; it may be nil.
func readSealed(spool Spool, maxHeader int, thing string, before func(*bufio.Reader) error) (sealed, *Refusal, error) {
	whole, rest := sha256.New(), sha256.New()
	section := io.NewSectionReader(spool, 0, spool.Size())
	r := bufio.NewReaderSize(io.TeeReader(section, whole), bufferSize)
	var message []byte
	var err error
	if before != nil {
		err = before(r)
	}
	if err == nil {
		message, err = ReadString(r, maxHeader)
	}
	if err != nil {
		if err = truncated(err); errors.Is(err, ErrSequence) {
			return sealed{}, Malformed(thing, err), nil
		}
		return sealed{}, nil, fmt.Errorf("read spooled %s: %w", thing, err)
	}
	n, err := io.Copy(rest, r)
	if err != nil {
		return sealed{}, nil, fmt.Errorf("read spooled %s: %w", thing, err)
	}
	read, err := section.Seek(0, io.SeekCurrent)
	if err != nil {
		return sealed{}, nil, fmt.Errorf("read spooled %s: %w", thing, err)
	}
	contents := bufio.NewReaderSize(io.NewSectionReader(spool, read-n, n), bufferSize)
	return sealed{message, sum(rest), sum(whole), contents}, nil, nil
}

const bufferSize = 64 << 10

func sum(h hash.Hash) Digest { return Digest(h.Sum(nil)) }

func writeSigned(w io.Writer, header any, limit int, context string, seal crypto.Signer) error {
	payload, err := cose.Marshal(header)
	if err != nil {
		return err
	}
	message, err := cose.Sign(seal, context, payload)
	if err != nil {
		return err
	}
	if len(message) > limit {
		return fmt.Errorf("write header: %d bytes, at most %d", len(message), limit)
	}
	if err := WriteString(w, message); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	return nil
}
