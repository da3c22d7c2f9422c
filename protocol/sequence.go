package protocol

import (
	"bufio"
	"fmt"
	"io"
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

// ReadString reads one byte string of at most max bytes. It returns io.EOF at the end, and only there.
func ReadString(r *bufio.Reader, max int) ([]byte, error) {
	first, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if first>>5 != 2 || first&31 > 26 {
		return nil, fmt.Errorf("read byte string: initial byte %#02x", first)
	}
	n := uint64(first & 31)
	if n >= 24 {
		width := 1 << (n - 24)
		least := uint64(24)
		if width > 1 {
			least = 1 << (4 * width)
		}
		n = 0
		for range width {
			b, err := r.ReadByte()
			if err != nil {
				return nil, fmt.Errorf("read byte string: %w", unexpected(err))
			}
			n = n<<8 | uint64(b)
		}
		if n < least {
			return nil, fmt.Errorf("read byte string: length %d is not in its shortest form", n)
		}
	}
	if n > uint64(max) {
		return nil, fmt.Errorf("read byte string: %d bytes, at most %d", n, max)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read byte string: %w", unexpected(err))
	}
	return data, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
