package softkey

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func counterFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readBack(path string) (uint64, error) {
	c, err := openCounter(path)
	if err != nil {
		return 0, err
	}
	return c.value, c.file.Close()
}

func TestCounterCounts(t *testing.T) {
	path := counterFile(t, newCounter())
	for want := range uint64(20) {
		c, err := openCounter(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.value != want {
			t.Fatalf("reads %d, want %d", c.value, want)
		}
		for _, jump := range []uint64{want, want + 2, want - 1} {
			if c.set(jump) == nil {
				t.Errorf("from %d to %d", want, jump)
			}
		}
		if err := c.set(want + 1); err != nil {
			t.Fatal(err)
		}
		if err := c.file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTornWrite stops the writing of a value after each byte: the value before must be read, or the new one.
func TestTornWrite(t *testing.T) {
	for value := uint64(0); value < 6; value++ {
		path := counterFile(t, newCounter())
		c, err := openCounter(path)
		if err != nil {
			t.Fatal(err)
		}
		for to := uint64(1); to <= value; to++ {
			if err := c.set(to); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.file.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		next := slot(value + 1)
		at := int(value+1) % 2 * slotSpacing
		for written := range slotSize {
			torn := append([]byte(nil), before...)
			copy(torn[at:], next[:written])
			if got, err := readBack(counterFile(t, torn)); err != nil || got != value {
				t.Errorf("%d bytes of %d written: reads %d, %v, want %d", written, value+1, got, err, value)
			}
			// A block that came to nothing takes its whole slot along.
			for i := range slotSpacing {
				torn[at+i] = 0xff
			}
			if got, err := readBack(counterFile(t, torn)); err != nil || got != value {
				t.Errorf("block of %d lost: reads %d, %v, want %d", value+1, got, err, value)
			}
		}
		whole := append([]byte(nil), before...)
		copy(whole[at:], next)
		if got, err := readBack(counterFile(t, whole)); err != nil || got != value+1 {
			t.Errorf("reads %d, %v, want %d", got, err, value+1)
		}
	}
}

func TestDamagedCounter(t *testing.T) {
	in := func(even, odd uint64) []byte {
		b := newCounter()
		copy(b, slot(even))
		copy(b[slotSpacing:], slot(odd))
		return b
	}
	for name, b := range map[string][]byte{
		"empty":               {},
		"zeros":               make([]byte, counterSize),
		"cut":                 newCounter()[:counterSize-1],
		"long":                append(newCounter(), 0),
		"gap":                 in(2, 7),
		"in each other's":     in(1, 2),
		"odd in the even one": in(3, 3)[:counterSize-slotSpacing],
	} {
		if value, err := readBack(counterFile(t, b)); !errors.Is(err, errCounter) {
			t.Errorf("%s: %d, %v", name, value, err)
		}
	}
	if value, err := readBack(counterFile(t, in(2, 3))); err != nil || value != 3 {
		t.Errorf("two that follow: %d, %v", value, err)
	}
}

func FuzzCounter(f *testing.F) {
	f.Add(slot(4), slot(5))
	f.Add(slot(6), slot(5))
	f.Add([]byte{}, slot(1))
	f.Fuzz(func(t *testing.T, even, odd []byte) {
		b := make([]byte, counterSize)
		copy(b[:slotSpacing], even)
		copy(b[slotSpacing:], odd)
		value, err := readBack(counterFile(t, b))
		if err != nil {
			return
		}
		if want := string(slot(value)); string(b[:slotSize]) != want && string(b[slotSpacing:][:slotSize]) != want {
			t.Fatalf("reads %d, which is in neither slot", value)
		}
	})
}
