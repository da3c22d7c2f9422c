package softkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The counter file has two slots, each in a disk block of its own, and value v is written over slot v mod 2: a write
// that is torn spoils the older value only. A slot is the value and the first half of a checksum over both, 16 bytes;
// the file never changes its length, so that one fdatasync makes a value durable.
const (
	slotSize    = 16
	slotSpacing = 4096
	counterSize = 2 * slotSpacing
)

var errCounter = errors.New("counter is damaged; the appliance has to be restored")

type counter struct {
	file  *os.File
	value uint64
}

// newCounter is a counter file that stands at zero.
func newCounter() []byte {
	file := make([]byte, counterSize)
	copy(file, slot(0))
	return file
}

func slot(value uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, value)
	sum := sha256.Sum256(append([]byte("coldseal counter 1"), b...))
	return append(b, sum[:slotSize-8]...)
}

func openCounter(path string) (*counter, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	value, err := readCounter(f)
	if err == nil {
		err = unix.Fdatasync(int(f.Fd())) // whoever wrote the value may have been killed before that
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &counter{f, value}, nil
}

func readCounter(f *os.File) (uint64, error) {
	about, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if about.Size() != counterSize {
		return 0, fmt.Errorf("%w: %d bytes, want %d", errCounter, about.Size(), counterSize)
	}
	var values []uint64
	for i := range uint64(2) {
		var b [slotSize]byte
		if _, err := f.ReadAt(b[:], int64(i)*slotSpacing); err != nil {
			return 0, err
		}
		if v := binary.BigEndian.Uint64(b[:]); v%2 == i && bytes.Equal(b[:], slot(v)) {
			values = append(values, v)
		}
	}
	switch len(values) {
	case 0:
		return 0, fmt.Errorf("%w: neither slot holds a value", errCounter)
	case 1:
		return values[0], nil
	}
	low, high := min(values[0], values[1]), max(values[0], values[1])
	if high-low != 1 {
		return 0, fmt.Errorf("%w: %d does not follow %d", errCounter, high, low)
	}
	return high, nil
}

// set makes the counter to, the next value. After an error the file may hold either, and the counter is not used again.
func (c *counter) set(to uint64) error {
	if c.value+1 != to {
		return fmt.Errorf("counter stands at %d, %d is not next", c.value, to)
	}
	if _, err := c.file.WriteAt(slot(to), int64(to%2)*slotSpacing); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(c.file.Fd())); err != nil {
		return fmt.Errorf("sync counter: %w", err)
	}
	c.value = to
	return nil
}
