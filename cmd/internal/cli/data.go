package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"coldseal/protocol"
	"coldseal/protocol/media"
	"coldseal/protocol/show"
)

// Schema is the version of all JSON that our programs print.
const Schema = 1

// PrintJSON writes v, which has to encode as an object, on one line, with "schema" as its first member. Characters that
// an eye doesn't see are escaped: the line may go to a terminal.
func PrintJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print JSON: %w", err)
	}
	text := b.Bytes()
	if text[0] != '{' {
		return fmt.Errorf("print JSON: %T is not an object", v)
	}
	head := fmt.Appendf(nil, `{"schema":%d`, Schema)
	if text[1] != '}' {
		head = append(head, ',')
	}
	_, err := w.Write(append(head, escape(text[1:])...))
	return err
}

func escape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '\n' || !show.Hidden(r):
			out = append(out, text[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, "\\u%04x\\u%04x", high, low)
		default:
			out = fmt.Appendf(out, "\\u%04x", r)
		}
		text = text[size:]
	}
	return out
}

// ReadInput reads a file, or stdin if its name is "-", of at most limit bytes.
func ReadInput(name string, stdin io.Reader, limit int64) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, Fail(ExitFailure, "give a file in it; where the command takes all of a folder, --dir names it", "read %s: it is a folder", name)
		}
		stdin = f
	}
	data, err := io.ReadAll(io.LimitReader(stdin, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, limit)
	}
	return data, nil
}

// WriteOutput writes a file durably, or to stdout if its name is "-". A different file of the same name is never
// replaced; the same content is no error. A private file is for its owner's eyes only.
func WriteOutput(name string, stdout io.Writer, data []byte, private bool) error {
	fill := media.Contents(data)
	if name == "-" {
		return fill(stdout)
	}
	if _, err := os.Stat(filepath.Dir(name)); errors.Is(err, fs.ErrNotExist) {
		return Fail(ExitNotFound, "make the folder first", "write %s: %w", name, err)
	}
	return media.WriteFile(name, media.WriteOptions{Private: private}, fill)
}

// DigestVar adds a flag whose value is a digest as people type it: hexadecimal or groups of five digits.
func DigestVar(flags *pflag.FlagSet, d *protocol.Digest, name, usage string) {
	flags.Var((*digest)(d), name, usage)
}

type digest protocol.Digest

func (d *digest) String() string {
	if protocol.Digest(*d).IsZero() {
		return ""
	}
	return protocol.Digest(*d).String()
}

func (d *digest) Type() string { return "digest" }

func (d *digest) Set(text string) error {
	parsed, err := protocol.ParseDigest(text)
	*d = digest(parsed)
	return err
}
