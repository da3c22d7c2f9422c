package auditlog

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/protocol"
)

// Limits of a checkpoint.
const (
	MaxCheckpoint = 4 << 10 // bytes; three lines, our signature, and 15 Ed25519 cosignatures of witnesses
	maxSignatures = 16      // lines; what C2SP signed-note asks every verifier to accept
)

// ErrCheckpoint is returned for a note that is not a checkpoint of this log under this key; the reason is wrapped beside it.
var ErrCheckpoint = errors.New("checkpoint does not verify")

// Checkpoint is the log at one size.
type Checkpoint struct {
	Origin string // which log, see Origin
	Size   int64  // leaves
	Root   Hash
}

// EmptyCheckpoint is that of a log before its first leaf: what is known at first contact.
func EmptyCheckpoint(origin string) Checkpoint {
	return Checkpoint{Origin: origin, Root: Range{}.Root()}
}

const originPrefix = "coldseal/"

// Origin names the log of the appliance with this genesis digest: "coldseal/" and the digest's first 16 hexadecimal
// digits. The log key's name in signatures is the same.
func Origin(genesis [32]byte) string { return originPrefix + hex.EncodeToString(genesis[:8]) }

func validOrigin(origin string) bool {
	digits, found := strings.CutPrefix(origin, originPrefix)
	b, err := hex.DecodeString(digits)
	return found && err == nil && len(b) == 8 && hex.EncodeToString(b) == digits
}

// CheckpointText is the text that the log key signs (C2SP tlog-checkpoint): origin, size, root, a line each.
func CheckpointText(origin string, size int64, root Hash) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
}

// SignCheckpoint makes a signed note (C2SP signed-note) of a CheckpointText with the Ed25519 log key. It refuses a text
// that OpenCheckpoint would refuse for the origin name, and a signature that does not verify.
func SignCheckpoint(text []byte, name string, signer crypto.Signer) ([]byte, error) {
	if _, err := parseText(string(text), name); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("sign checkpoint: log key is %T, want Ed25519", signer.Public())
	}
	signature, err := signer.Sign(nil, text, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	if !ed25519.Verify(public, text, signature) {
		return nil, errors.New("sign checkpoint: signer returned a signature that does not verify")
	}
	id := keyID(name, public)
	line := base64.StdEncoding.EncodeToString(append(id[:], signature...))
	return fmt.Appendf(nil, "%s\n%s%s %s\n", text, signaturePrefix, name, line), nil
}

// OpenCheckpoint returns the checkpoint of an appliance's log that the log key signed which stood at its size. There must
// be exactly one signature by that key; lines of other keys, such as witnesses, are allowed and not verified. The text has
// one form: no extension lines, canonical decimal and base64.
func OpenCheckpoint(note []byte, keys *protocol.Keys) (Checkpoint, error) {
	return verifyCheckpoint(note, Origin(keys.Appliance()), keys.At(ClaimedSize(note)).Log)
}

// ClaimedSize is the size that a note says it is over, for choosing the keys that verify it; 0 if it says none.
func ClaimedSize(note []byte) uint64 {
	lines := strings.SplitN(string(note[:min(len(note), MaxCheckpoint)]), "\n", 3)
	if len(lines) < 3 {
		return 0
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return 0
	}
	return size
}

// verifyCheckpoint returns the checkpoint of the log named origin that logKey signed.
func verifyCheckpoint(note []byte, origin string, logKey ed25519.PublicKey) (Checkpoint, error) {
	c, err := openCheckpoint(note, origin, logKey)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return c, nil
}

func openCheckpoint(note []byte, origin string, logKey ed25519.PublicKey) (Checkpoint, error) {
	if len(logKey) != ed25519.PublicKeySize {
		return Checkpoint{}, fmt.Errorf("log key of %d bytes, want %d", len(logKey), ed25519.PublicKeySize)
	}
	if len(note) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%d bytes, at most %d", len(note), MaxCheckpoint)
	}
	if !utf8.Valid(note) || bytes.ContainsFunc(note, func(r rune) bool { return r < ' ' && r != '\n' }) {
		return Checkpoint{}, errors.New("control character or invalid UTF-8")
	}
	before, lines, found := strings.Cut(string(note), "\n\n")
	if !found {
		return Checkpoint{}, errors.New("no blank line before the signatures")
	}
	text := before + "\n"
	signature, err := findSignature(lines, origin, keyID(origin, logKey))
	if err != nil {
		return Checkpoint{}, err
	}
	if !ed25519.Verify(logKey, []byte(text), signature) {
		return Checkpoint{}, errors.New("signature of the log key is wrong")
	}
	return parseText(text, origin)
}

// parseText reads the one form of a checkpoint's text.
func parseText(text, origin string) (Checkpoint, error) {
	if !validOrigin(origin) {
		return Checkpoint{}, fmt.Errorf("origin %q is not %s and 16 hexadecimal digits", origin, originPrefix)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, errors.New("text is not three lines")
	}
	if lines[0] != origin {
		return Checkpoint{}, fmt.Errorf("origin is %q, want %q", lines[0], origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > MaxSize || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("size %q is not a canonical decimal in 0…%d", lines[1], int64(MaxSize))
	}
	root, err := decodeBase64(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, fmt.Errorf("root %q is not the base64 of %d bytes", lines[2], tlog.HashSize)
	}
	c := Checkpoint{Origin: origin, Size: size, Root: Hash(root)}
	if size == 0 && c != EmptyCheckpoint(origin) {
		return Checkpoint{}, errors.New("root of size 0 is not that of the empty tree")
	}
	return c, nil
}

const signaturePrefix = "— "

// findSignature reads signature lines and returns the one Ed25519 signature of the key with this name and id.
func findSignature(lines, name string, id [4]byte) ([]byte, error) {
	type signer struct {
		name string
		id   [4]byte
	}
	seen := make(map[signer]bool)
	var found []byte
	for lines != "" {
		line, rest, ended := strings.Cut(lines, "\n")
		lines = rest
		value, prefixed := strings.CutPrefix(line, signaturePrefix)
		signerName, encoded, spaced := strings.Cut(value, " ")
		if !ended || !prefixed || !spaced || !validKeyName(signerName) {
			return nil, fmt.Errorf("%q is not a signature line", line)
		}
		signature, err := decodeBase64(encoded)
		if err != nil {
			return nil, fmt.Errorf("signature of %s: %w", signerName, err)
		}
		if len(signature) < 5 {
			return nil, fmt.Errorf("signature of %s has %d bytes, want a key id and a signature", signerName, len(signature))
		}
		by := signer{signerName, [4]byte(signature)}
		if seen[by] {
			return nil, fmt.Errorf("two signatures of %s with key id %x", by.name, by.id)
		}
		seen[by] = true
		if len(seen) > maxSignatures {
			return nil, fmt.Errorf("more than %d signatures", maxSignatures)
		}
		if by == (signer{name, id}) {
			found = signature[4:]
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no signature of %s with key id %x", name, id)
	}
	return found, nil
}

// validKeyName follows C2SP signed-note: not empty, no Unicode space, no plus.
func validKeyName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r == '+' || unicode.IsSpace(r) })
}

// keyID is that of an Ed25519 key in C2SP signed-note.
func keyID(name string, public ed25519.PublicKey) [4]byte {
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), public...))
	return [4]byte(sum[:4])
}

// decodeBase64 accepts only what encoding gives: no line breaks, no stray bits in the last character.
func decodeBase64(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if base64.StdEncoding.EncodeToString(b) != text {
		return nil, fmt.Errorf("%q is not canonical base64", text)
	}
	return b, nil
}
