// Package shamir splits one secret of 32 bytes among people, so that any k of n of them open what it opens and fewer know
// nothing of it: Shamir's scheme over GF(256), byte by byte. The format of a share, and how it is written as words or for
// a QR code, is specified in share.md.
//
// It exists for the key of a backup. A share says of itself which set it is of, and binds the whole set, so that one that
// was mistyped, altered or brought from elsewhere is named and never makes another secret. The package keeps nothing,
// reads no clock, disk or device, and encrypts nothing: what the secret opens is its caller's. Arithmetic on secrets
// takes the same time whatever they are; the numbers of shares are public.
package shamir

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// SecretSize is the only size of a secret, in bytes.
	SecretSize = 32

	// MaxShares bounds a set; more people than that don't meet.
	MaxShares = 16

	idSize         = 8
	commitmentSize = 16
	digestSize     = 16
)

// ID names a set of shares. It is random, and public.
type ID [idSize]byte

// String is lowercase hexadecimal.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Share is one person's part of a secret. Any Threshold of the Count shares of a set make the secret.
type Share struct {
	Set        ID
	Threshold  int // k
	Count      int // n
	Index      int // 1 to n
	Value      [SecretSize]byte
	Commitment [commitmentSize]byte // of the set; the same in all its shares
}

// Set is what may be known of a set by anybody. It tells a good share from an altered one without opening anything.
type Set struct {
	_         struct{} `cbor:",toarray"`
	ID        ID
	Threshold uint8
	Digests   [][digestSize]byte // of the shares, in their order; as many as there are shares
}

// Split makes count shares of a secret, any threshold of which give it back: from 2 of 2 to 16 of 16. Randomness that
// ends too early is an error; it must be good and never used again.
func Split(secret [SecretSize]byte, threshold, count int, random io.Reader) (Set, []Share, error) {
	if threshold < 2 || threshold > count || count > MaxShares {
		return Set{}, nil, fmt.Errorf("split secret: %d of %d shares; from 2 of 2 to %d of %d", threshold, count, MaxShares, MaxShares)
	}
	polynomials := make([]byte, threshold*SecretSize) // coefficient 0 of all bytes, then coefficient 1, …
	defer clear(polynomials)
	set := Set{Threshold: uint8(threshold), Digests: make([][digestSize]byte, count)}
	if _, err := io.ReadFull(random, set.ID[:]); err != nil {
		return Set{}, nil, fmt.Errorf("split secret: draw the set's name: %w", err)
	}
	if _, err := io.ReadFull(random, polynomials[SecretSize:]); err != nil {
		return Set{}, nil, fmt.Errorf("split secret: draw coefficients: %w", err)
	}
	copy(polynomials, secret[:])
	shares := make([]Share, count)
	for i := range shares {
		s := &shares[i]
		*s = Share{Set: set.ID, Threshold: threshold, Count: count, Index: i + 1}
		for j := range s.Value {
			var y byte // Horner, from the highest coefficient
			for c := threshold - 1; c >= 0; c-- {
				y = multiply(y, byte(s.Index)) ^ polynomials[c*SecretSize+j]
			}
			s.Value[j] = y
		}
		set.Digests[i] = s.digest()
	}
	for i := range shares {
		shares[i].Commitment = set.commitment()
	}
	return set, shares, nil
}

// digest is what the set says of a share.
func (s *Share) digest() [digestSize]byte {
	h := sha256.New()
	h.Write([]byte("coldseal/shamir/share/v1"))
	h.Write(s.Set[:])
	h.Write([]byte{byte(s.Threshold), byte(s.Count), byte(s.Index)})
	h.Write(s.Value[:])
	return [digestSize]byte(h.Sum(nil))
}

// commitment is what each share says of the set.
func (s *Set) commitment() [commitmentSize]byte {
	h := sha256.New()
	h.Write([]byte("coldseal/shamir/set/v1"))
	h.Write(s.ID[:])
	h.Write([]byte{s.Threshold, byte(len(s.Digests))})
	for _, d := range s.Digests {
		h.Write(d[:])
	}
	return [commitmentSize]byte(h.Sum(nil))
}

// Valid tells whether the set can be one.
func (s *Set) Valid() bool {
	return s.Threshold >= 2 && int(s.Threshold) <= len(s.Digests) && len(s.Digests) <= MaxShares
}

// The ways in which a share is not one of a set. They are wrapped by the errors of this package.
var (
	ErrForeign = errors.New("it is of another set")
	ErrAltered = errors.New("it was altered")
	ErrTwice   = errors.New("it is there twice")
	ErrTooFew  = errors.New("too few shares")
)

// Check tells whether a share is one of the set, unaltered.
func (s *Set) Check(share Share) error {
	commitment, expected := s.commitment(), [digestSize]byte{}
	switch {
	case share.Set != s.ID:
		return fmt.Errorf("share %d of set %s: %w, not %s", share.Index, share.Set, ErrForeign, s.ID)
	case share.Threshold != int(s.Threshold) || share.Count != len(s.Digests) || share.Index < 1 || share.Index > share.Count:
		return fmt.Errorf("share %d of set %s: %w: it says %d of %d, the set %d of %d", share.Index, share.Set, ErrAltered,
			share.Threshold, share.Count, s.Threshold, len(s.Digests))
	}
	expected = s.Digests[share.Index-1]
	digest := share.digest()
	if subtle.ConstantTimeCompare(digest[:], expected[:])&subtle.ConstantTimeCompare(commitment[:], share.Commitment[:]) != 1 {
		return fmt.Errorf("share %d of set %s: %w", share.Index, share.Set, ErrAltered)
	}
	return nil
}

// Wrong is the error of Combine that names shares. Positions count from 0, as the shares were given; a caller that knows
// where they came from says that instead.
type Wrong struct {
	Positions []int
	Err       error // ErrForeign, ErrAltered or ErrTwice
}

func (w *Wrong) Error() string {
	places := make([]string, len(w.Positions))
	for i, p := range w.Positions {
		places[i] = fmt.Sprint(p + 1)
	}
	return fmt.Sprintf("combine shares: number %s of those given: %v", strings.Join(places, ", "), w.Err)
}

// Unwrap gives the cause.
func (w *Wrong) Unwrap() error { return w.Err }

// Combine gives the secret of at least threshold good shares of one set. Of more shares than are needed, altered ones are
// found and named, and the secret is not given; with exactly as many as are needed it can only be said that one of them
// is bad (ErrAltered). Shares of another set than most are named. Fewer than are needed are ErrTooFew.
func Combine(shares []Share) ([SecretSize]byte, error) {
	var none [SecretSize]byte
	if len(shares) == 0 {
		return none, fmt.Errorf("combine shares: %w: there are none", ErrTooFew)
	}
	if len(shares) > MaxShares {
		return none, fmt.Errorf("combine shares: %d of them, at most %d", len(shares), MaxShares)
	}
	if err := oneSet(shares); err != nil {
		return none, err
	}
	k := shares[0].Threshold
	if len(shares) < k {
		return none, fmt.Errorf("combine shares: %w: %d of the %d that are needed of set %s", ErrTooFew, len(shares), k, shares[0].Set)
	}
	good, found := agreeing(shares)
	if !found {
		return none, fmt.Errorf("combine shares of set %s: at least one of them is bad: %w", shares[0].Set, ErrAltered)
	}
	if bad := outside(shares, good); len(bad) > 0 {
		return none, &Wrong{bad, ErrAltered}
	}
	return interpolate(good, 0), nil
}

// oneSet asks that all shares are of one set, and each of them once.
func oneSet(shares []Share) error {
	type sort struct {
		set        ID
		k, n       int
		commitment [commitmentSize]byte
	}
	of := func(s Share) sort { return sort{s.Set, s.Threshold, s.Count, s.Commitment} }
	counts := map[sort]int{}
	for _, s := range shares {
		if s.Threshold < 2 || s.Threshold > s.Count || s.Count > MaxShares || s.Index < 1 || s.Index > s.Count {
			return fmt.Errorf("combine shares: share %d of %d, threshold %d: there is no such share", s.Index, s.Count, s.Threshold)
		}
		counts[of(s)]++
	}
	most := of(shares[0])
	for _, s := range shares {
		if counts[of(s)] > counts[most] {
			most = of(s)
		}
	}
	var foreign, twice []int
	seen := map[int]bool{}
	for i, s := range shares {
		if of(s) != most {
			foreign = append(foreign, i)
			continue
		}
		if seen[s.Index] {
			twice = append(twice, i)
		}
		seen[s.Index] = true
	}
	switch {
	case len(foreign) > 0:
		return &Wrong{foreign, ErrForeign}
	case len(twice) > 0:
		return &Wrong{twice, ErrTwice}
	}
	return nil
}

// agreeing finds as many shares as are needed that make the set which all of them bind. There are at most 12,870 choices.
func agreeing(shares []Share) ([]Share, bool) {
	k := shares[0].Threshold
	chosen := make([]int, k)
	for i := range chosen {
		chosen[i] = i
	}
	for {
		some := make([]Share, k)
		for i, at := range chosen {
			some[i] = shares[at]
		}
		if binds(some) {
			return some, true
		}
		at := k - 1 // the next choice, in the order of a dictionary
		for at >= 0 && chosen[at] == len(shares)-k+at {
			at--
		}
		if at < 0 {
			return nil, false
		}
		chosen[at]++
		for i := at + 1; i < k; i++ {
			chosen[i] = chosen[i-1] + 1
		}
	}
}

// binds tells whether all shares that follow from these are those that their commitment is over.
func binds(some []Share) bool {
	first := some[0]
	set := Set{ID: first.Set, Threshold: uint8(first.Threshold), Digests: make([][digestSize]byte, first.Count)}
	for i := range set.Digests {
		s := first
		s.Index = i + 1
		s.Value = interpolate(some, byte(s.Index))
		set.Digests[i] = s.digest()
	}
	commitment := set.commitment()
	return subtle.ConstantTimeCompare(commitment[:], first.Commitment[:]) == 1
}

// outside lists the shares that don't lie where the good ones say.
func outside(shares, good []Share) (bad []int) {
	for i, s := range shares {
		value := interpolate(good, byte(s.Index))
		if subtle.ConstantTimeCompare(value[:], s.Value[:]) != 1 {
			bad = append(bad, i)
		}
	}
	return bad
}

// interpolate gives the value at x of the polynomials that go through the shares (Lagrange); at 0 it is the secret.
func interpolate(shares []Share, x byte) (value [SecretSize]byte) {
	for i, s := range shares {
		weight := byte(1)
		for j, other := range shares {
			if i != j {
				xi, xj := byte(s.Index), byte(other.Index)
				weight = multiply(weight, multiply(x^xj, inverse(xi^xj)))
			}
		}
		for b := range value {
			value[b] ^= multiply(weight, s.Value[b])
		}
	}
	return value
}
