package shamir

// GF(256) modulo x⁸+x⁴+x³+x+1, the field of AES (FIPS 197 section 4). There are no tables and no branches: what would
// depend on a secret is done by masks.

// multiply is the product in the field.
func multiply(a, b byte) (product byte) {
	for range 8 {
		product ^= a & -(b & 1)
		carry := -(a >> 7)
		a = a<<1 ^ 0x1b&carry
		b >>= 1
	}
	return product
}

// inverse is a²⁵⁴, the inverse of a; of 0 it is 0.
func inverse(a byte) byte {
	result := byte(1)
	for range 7 { // 254 = 2+4+8+16+32+64+128
		a = multiply(a, a)
		result = multiply(result, a)
	}
	return result
}
