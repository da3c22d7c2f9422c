package protocol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A bundle and a response are CBOR sequences (RFC 8742) of byte strings. WriteString and ReadString are the only code
// that reads and writes them, so that no length is believed before it is compared with a limit.

// WriteString writes one byte string.
func WriteString(w io.Writer, data []byte) error {
	if _, err := w.Write(stringHead(uint64(len(data)))); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func stringHead(n uint64) []byte {
	const bytesType = 0x40
	switch {
	case n < 24:
		return []byte{bytesType | byte(n)}
	case n < 1<<8:
		return []byte{bytesType | 24, byte(n)}
	case n < 1<<16:
		return []byte{bytesType | 25, byte(n >> 8), byte(n)}
	default: // every limit is below 2³²
		return []byte{bytesType | 26, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
}

// ErrSequence is wrapped by errors about bytes that are no byte string within the limit, or end too early. Any other
// error of ReadString is the reader's own.
var ErrSequence = errors.New("not a sequence of byte strings")

// readAhead is how much ReadString allocates before it has seen that so many bytes are there.
const readAhead = 64 << 10

// ReadString reads one byte string of at most limit bytes, whose length must be in its shortest form. It returns io.EOF
// at the end, and only there. What it allocates is at most readAhead or twice what it read.
func ReadString(r *bufio.Reader, limit int) ([]byte, error) {
	n, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if n > uint64(limit) {
		return nil, fmt.Errorf("read byte string: %d bytes, at most %d: %w", n, limit, ErrSequence)
	}
	size := int(n)
	data := make([]byte, 0, min(size, readAhead))
	for {
		have := len(data)
		data = data[:min(size, cap(data))]
		if _, err := io.ReadFull(r, data[have:]); err != nil {
			return nil, fmt.Errorf("read byte string: %w", truncated(err))
		}
		if len(data) == size {
			return data, nil
		}
		data = slices.Grow(data, min(size-len(data), len(data)))
	}
}

// readLength reads the head of a byte string.
func readLength(r *bufio.Reader) (uint64, error) {
	first, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if first>>5 != 2 || first&31 > 26 {
		return 0, fmt.Errorf("read byte string: initial byte %#02x: %w", first, ErrSequence)
	}
	short := uint64(first & 31)
	if short < 24 {
		return short, nil
	}
	var n uint64
	width := 1 << (short - 24) // 1, 2 or 4 bytes
	for range width {
		b, err := r.ReadByte()
		if err != nil {
			return 0, fmt.Errorf("read byte string: %w", truncated(err))
		}
		n = n<<8 | uint64(b)
	}
	if n < [...]uint64{1: 24, 2: 1 << 8, 4: 1 << 16}[width] {
		return 0, fmt.Errorf("read byte string: length %d is not in its shortest form: %w", n, ErrSequence)
	}
	return n, nil
}

// truncated tells an end that came too early from a reader that failed.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: %w", ErrSequence, io.ErrUnexpectedEOF)
	}
	return err
}
