package protocol_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

// annotator writes CBOR as hexadecimal with a comment to each item. Names of fields are those of the Go types.
type annotator struct {
	strings.Builder
	t      testing.TB
	inside map[string]any // label of a byte string → a value of the type that it encodes, or a message
}

// message is a COSE_Sign1 whose payload encodes a value like this.
type message struct{ payload any }

// sign1 and protectedHeader mirror RFC 9052 sections 3 and 4.2.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

type protectedHeader struct {
	Algorithm int64  `cbor:"1,keyasint"`
	KeyID     []byte `cbor:"4,keyasint"`
}

func (a *annotator) line(depth int, data, comment string) {
	if data = strings.Repeat("   ", depth) + data; comment != "" {
		data = fmt.Sprintf("%-36s# %s", data+" ", comment)
	}
	a.WriteString(data + "\n")
}

// item writes one item of the type, and returns what follows it. before is what stands on the same line: the item's key.
func (a *annotator) item(depth int, before, label string, data []byte, like reflect.Type) []byte {
	if like != nil && like.Kind() == reflect.Pointer {
		like = like.Elem()
	}
	major, n, head := cborHead(a.t, data)
	at, rest := before+hex.EncodeToString(data[:head]), data[head:]
	switch major {
	case 0, 1:
		a.line(depth, at, label+": "+number(n, major == 1, like))
	case 2, 3:
		content := rest[:n]
		rest = rest[n:]
		if major == 3 {
			a.line(depth, at+" "+hex.EncodeToString(content), fmt.Sprintf("%s: %q", label, content))
			break
		}
		if inner, ok := a.inside[label]; ok && n > 0 {
			a.line(depth, at, fmt.Sprintf("%s: %d bytes, which are", label, n))
			a.whole(depth+1, label, content, inner)
			break
		}
		if n <= 40 {
			a.line(depth, strings.TrimSpace(at+" "+hex.EncodeToString(content)), label)
			break
		}
		a.line(depth, at, fmt.Sprintf("%s: %d bytes", label, n))
		for ; len(content) > 40; content = content[40:] {
			a.line(depth+1, hex.EncodeToString(content[:40]), "")
		}
		a.line(depth+1, hex.EncodeToString(content), "")
	case 4:
		a.line(depth, at, fmt.Sprintf("%s: array of %d", label, n))
		for i := range int(n) {
			switch {
			case like.Kind() == reflect.Struct:
				f := like.Field(i + 1) // after the one that says toarray
				rest = a.item(depth+1, "", words(f.Name), rest, f.Type)
			default:
				rest = a.item(depth+1, "", singular(label), rest, like.Elem())
			}
		}
	case 5:
		a.line(depth, at, fmt.Sprintf("%s: map of %d", label, n))
		for range n {
			keyMajor, key, keyHead := cborHead(a.t, rest)
			if keyMajor == 3 {
				end := keyHead + int(key)
				rest = a.item(depth+1, hex.EncodeToString(rest[:end])+" ", string(rest[keyHead:end]), rest[end:], nil)
				continue
			}
			f := fieldOf(a.t, like, key)
			rest = a.item(depth+1, hex.EncodeToString(rest[:keyHead])+" ", words(f.Name), rest[keyHead:], f.Type)
		}
	case 6:
		a.line(depth, at, "COSE_Sign1")
		rest = a.item(depth, "", label, rest, reflect.TypeFor[sign1]())
	case 7:
		a.line(depth, at, fmt.Sprintf("%s: %t", label, n == 21))
	}
	return rest
}

// whole writes all of data as one value like inner.
func (a *annotator) whole(depth int, label string, data []byte, inner any) {
	if m, ok := inner.(message); ok {
		outer := a.inside
		a.inside = map[string]any{"protected": protectedHeader{}, "payload": m.payload}
		for k, v := range outer {
			if k != label {
				a.inside[k] = v
			}
		}
		if m.payload == nil {
			delete(a.inside, "payload")
		}
		defer func() { a.inside = outer }()
		inner = sign1{}
	}
	if rest := a.item(depth, "", label, data, reflect.TypeOf(inner)); len(rest) != 0 {
		a.t.Fatalf("annotate %s: %d bytes follow", label, len(rest))
	}
}

func cborHead(t testing.TB, data []byte) (major byte, n uint64, size int) {
	major, n = data[0]>>5, uint64(data[0]&31)
	switch n {
	case 24:
		return major, uint64(data[1]), 2
	case 25:
		return major, uint64(binary.BigEndian.Uint16(data[1:])), 3
	case 26:
		return major, uint64(binary.BigEndian.Uint32(data[1:])), 5
	case 27:
		return major, binary.BigEndian.Uint64(data[1:]), 9
	}
	if n > 27 {
		t.Fatalf("annotate: initial byte %#02x", data[0])
	}
	return major, n, 1
}

func number(n uint64, negative bool, like reflect.Type) string {
	if negative {
		return fmt.Sprint(-1 - int64(n))
	}
	if like != nil {
		v := reflect.New(like).Elem()
		if v.CanUint() {
			v.SetUint(n)
		}
		if s, ok := v.Interface().(fmt.Stringer); ok {
			return fmt.Sprintf("%d (%s)", n, s)
		}
		if like.Kind() == reflect.Int64 {
			return time.Unix(int64(n), 0).UTC().Format(time.RFC3339)
		}
	}
	return fmt.Sprint(n)
}

func fieldOf(t testing.TB, like reflect.Type, key uint64) reflect.StructField {
	for i := range like.NumField() {
		f := like.Field(i)
		if tag, _, _ := strings.Cut(f.Tag.Get("cbor"), ","); tag == fmt.Sprint(key) {
			return f
		}
	}
	t.Fatalf("annotate: %s has no field %d", like, key)
	return reflect.StructField{}
}

// words makes "profile digest" of ProfileDigest, and "csr" of CSR.
func words(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(runes[i-1]) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func singular(label string) string {
	if label == "bodies" {
		return "body"
	}
	return strings.TrimSuffix(label, "s")
}

// part is one item of a sequence: a value, or a byte string that encodes one.
type part struct {
	label    string
	like     any // nil if the byte string is no CBOR
	stringed bool
	inside   map[string]any // see annotator
}

// annotate writes data, a sequence of parts, under lines of comment.
func annotate(t testing.TB, comment []string, data []byte, parts ...part) string {
	a := &annotator{t: t}
	for _, c := range comment {
		a.WriteString("# " + c + "\n")
	}
	for _, p := range parts {
		a.WriteString("\n")
		a.inside = maps.Clone(p.inside)
		if !p.stringed {
			a.whole(0, p.label, data, p.like)
			data = nil
			continue
		}
		if p.like != nil {
			if a.inside == nil {
				a.inside = map[string]any{}
			}
			a.inside[p.label] = p.like
		}
		data = a.item(0, "", p.label, data, nil)
	}
	if len(data) != 0 {
		t.Fatalf("annotate: %d bytes follow", len(data))
	}
	return a.String()
}

// unannotate reads the bytes of an annotated vector.
func unannotate(t testing.TB, text string) []byte {
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.Fields(line) {
			digits.WriteString(word)
		}
	}
	data, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return data
}
