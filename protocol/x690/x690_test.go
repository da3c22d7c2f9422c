package x690

import (
	"crypto"
	"encoding/hex"
	"strings"
	"testing"

	tag "golang.org/x/crypto/cryptobyte/asn1"
)

func TestWellFormed(t *testing.T) {
	for name, c := range map[string]struct {
		hex  string
		want bool
	}{
		"nothing":                 {"", true},
		"sequence of integers":    {"3006020101020102", true},
		"two values":              {"0101ff0500", true},
		"long length not needed":  {"3081030101ff", false},
		"indefinite length":       {"30800101ff0000", false},
		"boolean of another form": {"010101", false},
		"integer with zeros":      {"02020001", false},
		"negative with ones":      {"0202ff80", false},
		"positive with its zero":  {"02020080", true},
		"empty integer":           {"0200", false},
		"null with contents":      {"050100", false},
		"constructed string":      {"2403040100", false},
		"primitive sequence":      {"1000", false},
		"arc with a leading zero": {"06032a8001", false},
		"arc that does not end":   {"06022a81", false},
		"two-octet tag":           {"1f8100", false},
		"cut short":               {"0202", false},
		"bad value deep inside":   {"3005a00330010a", false},
		"too deep":                {nested(MaxNesting + 2), false},
		"deep enough":             {nested(MaxNesting), true},
	} {
		der, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := WellFormed(der); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}

// nested is depth sequences, one in the other.
func nested(depth int) string {
	der := ""
	for range depth {
		der = "30" + hex.EncodeToString([]byte{byte(len(der) / 2)}) + der
	}
	return der
}

func TestOne(t *testing.T) {
	if body, ok := One([]byte{2, 1, 5}, tag.INTEGER); !ok || string(body) != "\x05" {
		t.Errorf("one integer: %x, %t", body, ok)
	}
	for name, der := range map[string][]byte{"another tag": {4, 1, 5}, "bytes behind it": {2, 1, 5, 0}, "nothing": {}} {
		if _, ok := One(der, tag.INTEGER); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOID(t *testing.T) {
	if got := OID([]byte{0x2a, 0x86, 0x48}); got != "1.2.840" {
		t.Error(got)
	}
	for _, contents := range [][]byte{{0x80, 1}, {}, []byte(strings.Repeat("\x2a", 50))} {
		if got := OID(contents); got != "too long to show" {
			t.Errorf("%x: %s", contents, got)
		}
	}
}

func TestDigest(t *testing.T) {
	for hash, want := range map[crypto.Hash]string{
		crypto.SHA256: "ba7816bf", crypto.SHA384: "cb00753f", crypto.SHA512: "ddaf35a1",
	} {
		if got := hex.EncodeToString(Digest(hash, []byte("abc"))[:4]); got != want {
			t.Errorf("%s: %s, want %s", hash, got, want)
		}
	}
}
