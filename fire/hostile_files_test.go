package fire

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fileLimit is what a program may have of memory for a file of 16 MiB: 256 MiB, and the 64 MiB that the Go runtime takes
// at a time.
const fileLimit = (256 + 64) << 10 // KiB

// Whatever file people are handed and look at, the programs that look end by themselves, say what is wrong, and hold no
// more than they may.
func TestHostileFiles(t *testing.T) {
	const size = 16 << 20
	w := &world{dir: t.TempDir()}
	repeat := func(head, unit string) []byte {
		return append([]byte(head), bytes.Repeat([]byte(unit), (size-len(head))/len(unit))...)
	}
	sequence := func(content ...[]byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: slices.Concat(content...)})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	date := []byte("\x17\x0d300101000000Z")
	algorithm := []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")
	entry := sequence([]byte{2, 1, 1}, date)
	crl := sequence(sequence([]byte{2, 1, 1}, algorithm, []byte("\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02CA"), date, date,
		sequence(bytes.Repeat(entry, size/len(entry)))), algorithm, []byte{3, 1, 0})
	files := map[string][]byte{
		"nothing": repeat("", "\x00"), "sequence of strings": repeat("", "\x41a"), "one string": append(binary.BigEndian.AppendUint32([]byte{0x5a}, size), repeat("", "a")...),
		"map": repeat("\xba\x00\x01\x00\x00", "\x01\x01"), "array of two": repeat("\x82\x5a\x00\xff\xff\xff", "a"), "array of eight": repeat("\x88", "\x01"), "nested arrays": repeat("", "\x81"),
		"signed": repeat("\xd2\x84\x5a\x00\xff\xff\xf0", "\x80"), "nested sequences": repeat("", "\x30\x80"), "CRL": crl,
		"PEM that begins": repeat("", "-----BEGIN CERTIFICATE-----\n"), "PEM of nothing": repeat("", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
		"checkpoint": repeat("coldseal/0123456789abcdef\n", "1\n"), "encrypted": repeat("age-encryption.org/v1\n", "-> coldseal/p256 AAAA\nAAAA\n"), "text": repeat("", "a: b\n"),
	}
	w.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", "receiver.key")
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := strings.ReplaceAll(name, " ", "-")
			if err := os.WriteFile(w.path(file), data, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, line := range [][]string{
				{"inspect", file}, {"inspect", "--key", "receiver.key", file}, {"verify", "crl", "--issuer", file, file}, {"verify", "chain", "--trust", file, file}, {"verify", "csr", file},
				{"log", "verify", "--log", file, "--digest", strings.Repeat("00", 31) + "01"}, {"policy", "check", file}, {"roster", "check", file},
			} {
				limited := exec.Command("/bin/sh", append([]string{"-c", "ulimit -d " + strconv.Itoa(fileLimit) + `; exec "$0" "$@"`,
					filepath.Join(home.libexec, realDir, "coldseal")}, line...)...)
				limited.Dir = w.dir
				o, err := execute(limited)
				switch {
				case err != nil:
					t.Errorf("%v: %v", line, err)
				case o.code == 2 || o.code < 0:
					t.Errorf("%v: exit %d %v\n%.2000s", line, o.code, o.signal, o.words)
				case o.code == 0 && line[0] != "inspect":
					t.Errorf("%v accepts it:\n%.2000s", line, o.out)
				}
			}
			if err := os.Remove(w.path(file)); err != nil {
				t.Error(err)
			}
		})
	}
}
