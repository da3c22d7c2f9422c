package signer

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkCheckpoint tells whether text is a C2SP tlog-checkpoint before it is signed: origin, size, root hash, each on a
// line, and nothing after. Extension lines, which the format allows, are refused: none of ours has any, and they would
// let the log key sign arbitrary text.
func checkCheckpoint(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8")
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return errors.New("not three lines")
	}
	origin, size, root := lines[0], lines[1], lines[2]
	if origin == "" || strings.ContainsFunc(origin, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("origin is empty or has control characters")
	}
	if n, err := strconv.ParseInt(size, 10, 64); err != nil || n < 0 || strconv.FormatInt(n, 10) != size {
		return errors.New("size is not a decimal number without leading zeros")
	}
	// Encoded again, because the decoder passes over carriage returns.
	hash, err := base64.StdEncoding.Strict().DecodeString(root)
	if err != nil || len(hash) != sha256.Size || base64.StdEncoding.EncodeToString(hash) != root {
		return errors.New("root is not 32 bytes in base64")
	}
	return nil
}
