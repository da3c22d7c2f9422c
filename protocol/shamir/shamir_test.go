package shamir

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func split(t testing.TB, secret [SecretSize]byte, k, n int) (Set, []Share) {
	t.Helper()
	set, shares, err := Split(secret, k, n, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return set, shares
}

func secretOf(t testing.TB) (secret [SecretSize]byte) {
	t.Helper()
	if _, err := rand.Read(secret[:]); err != nil {
		t.Fatal(err)
	}
	return secret
}

// TestField compares the field with the definition of its product, of all pairs, and of inverses.
func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			product := 0
			for i := range 8 {
				if b>>i&1 == 1 {
					product ^= a << i
				}
			}
			for i := 14; i >= 8; i-- {
				if product>>i&1 == 1 {
					product ^= 0x11b << (i - 8)
				}
			}
			if got := multiply(byte(a), byte(b)); got != byte(product) {
				t.Fatalf("%d × %d = %d, want %d", a, b, got, product)
			}
		}
		if want := byte(min(a, 1)); multiply(byte(a), inverse(byte(a))) != want {
			t.Fatalf("inverse of %d is %d", a, inverse(byte(a)))
		}
	}
}

// TestEverySubset splits 2 of 2 to 5 of 6 and tries all subsets: those that are large enough give the secret, no other
// gives anything.
func TestEverySubset(t *testing.T) {
	for n := 2; n <= 6; n++ {
		for k := 2; k <= n; k++ {
			secret := secretOf(t)
			set, shares := split(t, secret, k, n)
			for subset := 1; subset < 1<<n; subset++ {
				var some []Share
				for i := range n {
					if subset>>i&1 == 1 {
						some = append(some, shares[i])
						if err := set.Check(shares[i]); err != nil {
							t.Fatal(err)
						}
					}
				}
				got, err := Combine(some)
				switch enough := bits.OnesCount(uint(subset)) >= k; {
				case enough && (err != nil || got != secret):
					t.Fatalf("%d of %d, subset %b: %v", k, n, subset, err)
				case !enough && (!errors.Is(err, ErrTooFew) || got != [SecretSize]byte{}):
					t.Fatalf("%d of %d, subset %b: %x, %v", k, n, subset, got, err)
				}
			}
		}
	}
}

// TestFewerKnowNothing goes through all polynomials of one byte: whatever one share of a 2-of-n set is, each secret has
// exactly one polynomial that goes through it.
func TestFewerKnowNothing(t *testing.T) {
	for _, index := range []byte{1, 2, 16} {
		for value := range 256 {
			var seen [256]bool
			for coefficient := range 256 {
				secret := byte(value) ^ multiply(byte(coefficient), index)
				if seen[secret] {
					t.Fatalf("share %d of value %d says something of the secret", index, value)
				}
				seen[secret] = true
			}
		}
	}
}

// TestOneShareIsNotTheSecret has the same secret split twice: no two shares have anything in common, or with the secret.
func TestOneShareIsNotTheSecret(t *testing.T) {
	secret := secretOf(t)
	seen := map[[SecretSize]byte]bool{secret: true}
	for range 2 {
		_, shares := split(t, secret, 3, MaxShares)
		for _, s := range shares {
			if seen[s.Value] {
				t.Errorf("share %d of set %s is there already, or is the secret", s.Index, s.Set)
			}
			seen[s.Value] = true
		}
	}
}

func TestLargest(t *testing.T) {
	secret := secretOf(t)
	_, shares := split(t, secret, 8, 16)
	slices.Reverse(shares)
	shares[3].Value[0] ^= 1
	shares[9].Value[31] ^= 0x80
	_, err := Combine(shares)
	if wrong, is := errors.AsType[*Wrong](err); !is || !slices.Equal(wrong.Positions, []int{3, 9}) || !errors.Is(err, ErrAltered) {
		t.Fatalf("%v", err)
	}
	if got, err := Combine(shares[10:]); got == secret || !errors.Is(err, ErrTooFew) {
		t.Fatal(err)
	}
	if got, err := Combine(append(shares[:3:3], shares[10:15]...)); got != secret || err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	secret := secretOf(t)
	set, ours := split(t, secret, 3, 5)
	_, theirs := split(t, secret, 3, 5)
	altered := func(change func(*Share)) Share {
		s := ours[1]
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		shares    []Share
		want      error
		positions []int
	}{
		"none":                     {nil, ErrTooFew, nil},
		"too few":                  {ours[:2], ErrTooFew, nil},
		"one foreign":              {[]Share{ours[0], theirs[1], ours[2], ours[3]}, ErrForeign, []int{1}},
		"two foreign":              {[]Share{theirs[0], theirs[1], ours[2], ours[3], ours[4]}, ErrForeign, []int{0, 1}},
		"the same twice":           {[]Share{ours[0], ours[0], ours[1]}, ErrTwice, []int{1}},
		"one altered of enough":    {[]Share{ours[0], altered(func(s *Share) { s.Value[7]++ }), ours[2]}, ErrAltered, nil},
		"one altered of more":      {[]Share{ours[0], altered(func(s *Share) { s.Value[7]++ }), ours[2], ours[3]}, ErrAltered, []int{1}},
		"its number altered":       {[]Share{ours[0], altered(func(s *Share) { s.Index = 5 }), ours[2], ours[3]}, ErrAltered, []int{1}},
		"its commitment altered":   {[]Share{ours[0], altered(func(s *Share) { s.Commitment[0]++ }), ours[2], ours[3]}, ErrForeign, []int{1}},
		"fewer said to be needed":  {[]Share{altered(func(s *Share) { s.Threshold = 2 }), ours[0], ours[2]}, ErrForeign, []int{0}},
		"all say fewer are needed": {lower(ours[:2]), ErrAltered, nil},
	} {
		got, err := Combine(c.shares)
		if !errors.Is(err, c.want) || got != [SecretSize]byte{} {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		wrong, named := errors.AsType[*Wrong](err)
		if named != (c.positions != nil) || named && !slices.Equal(wrong.Positions, c.positions) {
			t.Errorf("%s: %v, want those at %v", name, err, c.positions)
		}
	}
	for name, c := range map[string]struct {
		share Share
		want  error
	}{
		"foreign":    {theirs[0], ErrForeign},
		"value":      {altered(func(s *Share) { s.Value[0] ^= 1 }), ErrAltered},
		"number":     {altered(func(s *Share) { s.Index = 1 }), ErrAltered},
		"no number":  {altered(func(s *Share) { s.Index = 6 }), ErrAltered},
		"threshold":  {altered(func(s *Share) { s.Threshold = 2 }), ErrAltered},
		"commitment": {altered(func(s *Share) { s.Commitment[15] ^= 1 }), ErrAltered},
	} {
		if err := set.Check(c.share); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range [][2]int{{1, 2}, {0, 0}, {3, 2}, {2, 17}, {17, 17}, {-1, 2}} {
		if _, _, err := Split(secret, bad[0], bad[1], rand.Reader); err == nil {
			t.Errorf("split %d of %d", bad[0], bad[1])
		}
	}
	if _, _, err := Split(secret, 2, 3, iotest.TimeoutReader(bytes.NewReader(make([]byte, 20)))); err == nil {
		t.Error("split without randomness")
	}
	if _, err := Combine(make([]Share, 17)); err == nil {
		t.Error("combined 17 shares")
	}
	if _, err := Combine(make([]Share, 2)); err == nil {
		t.Error("combined shares of nothing")
	}
}

func lower(shares []Share) []Share {
	low := slices.Clone(shares)
	for i := range low {
		low[i].Threshold = 2
	}
	return low
}

// TestWritten brings a share through bytes, words and the line for a QR code, and changes each character of what is
// written: whatever comes of it is no share.
func TestWritten(t *testing.T) {
	_, shares := split(t, secretOf(t), 2, 3)
	s := shares[2]
	words := s.Words()
	numbered := "# a comment that names words: abandon\n"
	for i, w := range words {
		numbered += " " + string(rune('0'+i%10)) + ". " + strings.ToUpper(w[:min(4, len(w))]) + "\n"
	}
	for name, text := range map[string]string{
		"words": strings.Join(words, " "), "numbered": numbered, "line": s.Text(), "small letters": " " + strings.ToLower(s.Text()) + "\r\n",
	} {
		if got, err := ParseText(text); err != nil || got != s {
			t.Errorf("%s: %v", name, err)
		}
	}
	data := s.Encode()
	for i := range data {
		for bit := range 8 {
			bad := bytes.Clone(data)
			bad[i] ^= 1 << bit
			if _, err := Parse(bad); !errors.Is(err, ErrShare) {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
	for i := range words {
		for _, other := range []string{"zoo", "abandon", "nonsense", "", words[(i+1)%len(words)]} {
			if other == words[i] {
				continue
			}
			bad := slices.Clone(words)
			bad[i] = other
			if _, err := ParseText(strings.Join(bad, " ")); !errors.Is(err, ErrShare) {
				t.Fatalf("word %d is %q: %v", i+1, other, err)
			}
		}
	}
	for at := range words[1:] {
		bad := slices.Clone(words)
		bad[at], bad[at+1] = bad[at+1], bad[at]
		if _, err := ParseWords(strings.Join(bad, " ")); bad[at] != bad[at+1] && err == nil {
			t.Fatalf("words %d and %d swapped", at+1, at+2)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "a line cut": s.Text()[:100], "two lines": s.Text() + s.Text(), "long": strings.Repeat("zoo ", 2000),
		"more words": strings.Join(words, " ") + " zoo", "another version": strings.Replace(s.Text(), "SHARE-1", "SHARE-2", 1),
	} {
		if _, err := ParseText(text); !errors.Is(err, ErrShare) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, header := range [][4]byte{{2, 2, 3, 1}, {1, 1, 3, 1}, {1, 4, 3, 1}, {1, 2, 17, 1}, {1, 2, 3, 0}, {1, 2, 3, 4}} {
		body := append(header[:], data[4:ShareSize-checksumSize]...)
		if _, err := Parse(append(body, checksum(body)...)); !errors.Is(err, ErrShare) {
			t.Errorf("header %d: %v", header, err)
		}
	}
}

func FuzzParseText(f *testing.F) {
	_, shares := split(f, secretOf(f), 2, 3)
	f.Add(shares[0].Text())
	f.Add(strings.Join(shares[1].Words(), " "))
	f.Add("# nothing\n1. zoo")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseText(text)
		if err != nil {
			if !errors.Is(err, ErrShare) {
				t.Fatal(err)
			}
			return
		}
		for _, again := range []string{s.Text(), strings.Join(s.Words(), " ")} {
			if got, err := ParseText(again); err != nil || got != s {
				t.Fatalf("%q: %v", again, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	_, shares := split(f, secretOf(f), 2, 3)
	data := shares[0].Encode()
	f.Add(data[:len(data)-checksumSize])
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append(bytes.Clone(body), checksum(body)...)
		if s, err := Parse(data); err == nil && !bytes.Equal(s.Encode(), data) {
			t.Fatalf("%x is read and written as %x", data, s.Encode())
		}
	})
}
