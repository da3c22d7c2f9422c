package protocol_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"coldseal/protocol"
)

func TestReadString(t *testing.T) {
	long := make([]byte, 200_000)
	for _, c := range []struct {
		name string
		data []byte
		size int // of the string; -1: refused
	}{
		{"empty", []byte{0x40}, 0},
		{"23", append([]byte{0x57}, long[:23]...), 23},
		{"24", append([]byte{0x58, 24}, long[:24]...), 24},
		{"255", append([]byte{0x58, 255}, long[:255]...), 255},
		{"256", append([]byte{0x59, 1, 0}, long[:256]...), 256},
		{"65535", append([]byte{0x59, 0xff, 0xff}, long[:65535]...), 65535},
		{"65536", append([]byte{0x5a, 0, 1, 0, 0}, long[:65536]...), 65536},
		{"limit", append([]byte{0x5a, 0, 3, 0xd, 0x40}, long...), 200_000},
		{"above limit", append([]byte{0x5a, 0, 3, 0xd, 0x41}, long...), -1},
		{"23 in two bytes", append([]byte{0x58, 23}, long[:23]...), -1},
		{"255 in three bytes", append([]byte{0x59, 0, 255}, long[:255]...), -1},
		{"65535 in five bytes", append([]byte{0x5a, 0, 0, 0xff, 0xff}, long[:65535]...), -1},
		{"8 bytes of length", append([]byte{0x5b, 0, 0, 0, 0, 0, 1, 0, 0}, long[:65536]...), -1},
		{"indefinite", []byte{0x5f, 0x40, 0xff}, -1},
		{"reserved", []byte{0x5c}, -1},
		{"text", []byte{0x60}, -1},
		{"length cut", []byte{0x59, 1}, -1},
		{"string cut", []byte{0x42, 1}, -1},
		{"long string cut", append([]byte{0x5a, 0, 2, 0, 0}, long[:100_000]...), -1},
	} {
		got, err := protocol.ReadString(bufio.NewReader(bytes.NewReader(c.data)), 200_000)
		switch {
		case c.size < 0 && !errors.Is(err, protocol.ErrSequence):
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		case c.size >= 0 && (err != nil || len(got) != c.size):
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
	if _, err := protocol.ReadString(bufio.NewReader(bytes.NewReader(nil)), 1); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestStringsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(65_000, 140_000)), 1, 4).Draw(t, "sizes")
		var out bytes.Buffer
		var want [][]byte
		for i, n := range sizes {
			data := bytes.Repeat([]byte{byte(i + 1)}, n)
			want = append(want, data)
			if err := protocol.WriteString(&out, data); err != nil {
				t.Fatal(err)
			}
		}
		r := bufio.NewReader(&out)
		for i := range want {
			if got, err := protocol.ReadString(r, 1<<20); err != nil || !bytes.Equal(got, want[i]) {
				t.Fatalf("string %d of %d bytes: %d bytes, %v", i, sizes[i], len(got), err)
			}
		}
		if _, err := protocol.ReadString(r, 1); err != io.EOF {
			t.Fatal(err)
		}
	})
}

// TestLengthsAreNotBelieved: a string that claims 64 MiB and has a few bytes allocates next to nothing.
func TestLengthsAreNotBelieved(t *testing.T) {
	claim := []byte{0x5a, 4, 0, 0, 0, 1, 2, 3}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := protocol.ReadString(bufio.NewReader(bytes.NewReader(claim)), protocol.MaxCRL); !errors.Is(err, protocol.ErrSequence) {
		t.Fatal(err)
	}
	groups := rawGroup(t, groupHeader{Section: 1, Items: protocol.MaxGroupItems}, nil)
	w := makeWorld(t)
	header, _ := split(t, w.seal("stranger", nil, nil))
	var bundle bytes.Buffer
	if err := protocol.WriteString(&bundle, header); err != nil {
		t.Fatal(err)
	}
	_, _, refusal := readBundle(t, append(bundle.Bytes(), groups...), nobody)
	refuses(t, refusal, protocol.CodeMalformed, "item 1")
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d bytes were allocated", got)
	}
}

// failingWriter fails after some bytes.
type failingWriter int

func (w *failingWriter) Write(p []byte) (int, error) {
	if *w -= failingWriter(len(p)); *w < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWritersReportFailures(t *testing.T) {
	w := makeWorld(t)
	h, _ := headerOf(t)
	for name, write := range map[string]func(io.Writer) error{
		"string": func(w io.Writer) error { return protocol.WriteString(w, make([]byte, 1000)) },
		"group":  func(out io.Writer) error { return protocol.WriteGroup(out, w.groups[1]) },
		"header": func(out io.Writer) error { return protocol.WriteResponseHeader(out, h, nil, testKey(t, "seal")) },
	} {
		for after := range 600 {
			limit := failingWriter(after)
			if err := write(&limit); !errors.Is(err, errDisk) {
				t.Fatalf("%s, full after %d bytes: %v", name, after, err)
			}
		}
	}
}
