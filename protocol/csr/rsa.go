package csr

import (
	"math/big"
	"math/bits"
)

const (
	minRSABits = 2048 // NIST SP 800-57 part 1: 112 bits of strength
	maxRSABits = 8192 // what the holder's side costs us grows with the square; nothing asks for more

	// Below 65537 lie the exponents of the padding attacks, above 2^31-1 those that Go and many tokens can't use.
	minRSAExponent = 65537
	maxRSAExponent = 1<<31 - 1

	// Primes within reach of this many steps come from searching the second one right after the first; random ones
	// never do. https://fermatattack.secvuln.info used 100 for the keys it found.
	fermatRounds = 100

	rocaPrimes = 38 // the first of smallPrimes up to 167
)

// smallPrimes are the odd primes below 752, as CA/Browser Forum Baseline Requirements section 6.1.6 asks to divide by.
var smallPrimes = [...]uint{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113,
	127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241,
	251, 257, 263, 269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331, 337, 347, 349, 353, 359, 367, 373, 379, 383,
	389, 397, 401, 409, 419, 421, 431, 433, 439, 443, 449, 457, 461, 463, 467, 479, 487, 491, 499, 503, 509, 521, 523,
	541, 547, 557, 563, 569, 571, 577, 587, 593, 599, 601, 607, 613, 617, 619, 631, 641, 643, 647, 653, 659, 661, 673,
	677, 683, 691, 701, 709, 719, 727, 733, 739, 743, 751,
}

// checkRSA refuses moduli and exponents that are known to be breakable without solving a hard problem. It is cheap,
// and a modulus that passes may still have been made badly.
func checkRSA(n, e *big.Int) *Error {
	if n.Sign() <= 0 {
		return refuse(WeakKey, "RSA modulus is not positive")
	}
	if n.BitLen() < minRSABits {
		return refuse(WeakKey, "RSA modulus of %d bits, at least %d are needed", n.BitLen(), minRSABits)
	}
	if n.BitLen() > maxRSABits {
		return refuse(WeakKey, "RSA modulus of %d bits, at most %d are accepted", n.BitLen(), maxRSABits)
	}
	if !e.IsInt64() || e.Int64() < minRSAExponent || e.Int64() > maxRSAExponent || e.Bit(0) == 0 {
		return refuse(WeakKey, "RSA exponent not odd and from %d to %d", minRSAExponent, maxRSAExponent)
	}
	if n.Bit(0) == 0 {
		return refuse(WeakKey, "RSA modulus is even")
	}
	residues := modSmallPrimes(n)
	for i, r := range residues {
		if r == 0 {
			return refuse(WeakKey, "RSA modulus is divisible by %d", smallPrimes[i])
		}
	}
	if hasROCAFingerprint(residues[:rocaPrimes]) {
		return refuse(WeakKey, "RSA modulus has the ROCA fingerprint (CVE-2017-15361)")
	}
	if hasClosePrimes(n) {
		return refuse(WeakKey, "RSA primes are too close to each other (CVE-2022-26320)")
	}
	return nil
}

// modSmallPrimes divides by as many primes at once as fit a word: a pass over the modulus costs more than the rest.
func modSmallPrimes(n *big.Int) (residues [len(smallPrimes)]uint) {
	for first := 0; first < len(smallPrimes); {
		product, next := uint(1), first
		for next < len(smallPrimes) {
			overflow, larger := bits.Mul(product, smallPrimes[next])
			if overflow != 0 {
				break
			}
			product = larger
			next++
		}
		r := modWord(n, product)
		for ; first < next; first++ {
			residues[first] = r % smallPrimes[first]
		}
	}
	return residues
}

func modWord(n *big.Int, m uint) uint {
	words := n.Bits()
	r := uint(0)
	for i := len(words) - 1; i >= 0; i-- {
		_, r = bits.Div(r, uint(words[i]), m)
	}
	return r
}

// hasROCAFingerprint reports whether the modulus is a power of 65537 modulo every prime up to 167. Primes from the
// flawed library are k·M + 65537^a mod M, M the product of the first primes: 39 of them for the shortest keys, more for
// longer ones, so these 38 odd ones are in all (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, section
// 3.3). About one good key in 2^27 is refused with them.
func hasROCAFingerprint(residues []uint) bool {
	for i, r := range residues {
		p := smallPrimes[i]
		power := uint(1)
		for power != r {
			power = power * 65537 % p
			if power == 1 {
				return false
			}
		}
	}
	return true
}

// hasClosePrimes is Fermat's factorisation: with a counted up from the root of n, a²-n is a square once a is the mean
// of the primes.
func hasClosePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	b2 := new(big.Int).Mul(a, a)
	if b2.Cmp(n) == 0 {
		return true
	}
	b2.Sub(b2, n) // negative: the root was rounded down
	one := big.NewInt(1)
	step := new(big.Int).Lsh(a, 1)
	step.Add(step, one)
	for range fermatRounds {
		b2.Add(b2, step) // (a+1)² = a² + 2a + 1
		step.Add(step, one).Add(step, one)
		if isSquare(b2) {
			return true
		}
	}
	return false
}

// isSquare takes a root only of the few numbers that are squares modulo 64 and modulo eight small primes.
func isSquare(x *big.Int) bool {
	const squaresMod64 = 0x0202021202030213 // bit i is set when i is a square modulo 64
	words := x.Bits()
	if len(words) == 0 {
		return true
	}
	if squaresMod64>>(words[0]&63)&1 == 0 {
		return false
	}
	r := modWord(x, 3*5*7*11*13*17*19*23)
	for _, p := range smallPrimes[:8] {
		residue, isResidue := r%p, false
		for y := uint(0); y <= p/2; y++ {
			isResidue = isResidue || y*y%p == residue
		}
		if !isResidue {
			return false
		}
	}
	root := new(big.Int).Sqrt(x)
	return root.Mul(root, root).Cmp(x) == 0
}
