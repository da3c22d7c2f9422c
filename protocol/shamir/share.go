package shamir

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// ShareSize is the length of an encoded share, in bytes.
const ShareSize = 1 + 3 + idSize + SecretSize + commitmentSize + checksumSize

const (
	version      = 1
	checksumSize = 4
)

// ErrShare is wrapped by errors about bytes or text that are no share: mistyped, cut, or something else.
var ErrShare = errors.New("not a share")

// Encode gives the share as 64 bytes (share.md): what lies on a card, and what words and QR codes spell.
func (s Share) Encode() []byte {
	data := make([]byte, 0, ShareSize)
	data = append(data, version, byte(s.Threshold), byte(s.Count), byte(s.Index))
	data = append(data, s.Set[:]...)
	data = append(data, s.Value[:]...)
	data = append(data, s.Commitment[:]...)
	return append(data, checksum(data)...)
}

func checksum(data []byte) []byte {
	sum := sha256.Sum256(append([]byte("coldseal/shamir/checksum/v1"), data...))
	return sum[:checksumSize]
}

// Parse reads 64 bytes. The checksum tells a share that was copied wrongly; it is no protection from who means harm.
func Parse(data []byte) (Share, error) {
	if len(data) != ShareSize {
		return Share{}, fmt.Errorf("%w: %d bytes, want %d", ErrShare, len(data), ShareSize)
	}
	body, sum := data[:ShareSize-checksumSize], data[ShareSize-checksumSize:]
	if !bytes.Equal(checksum(body), sum) {
		return Share{}, fmt.Errorf("%w: its checksum is wrong: something was left out, swapped or mistyped", ErrShare)
	}
	if body[0] != version {
		return Share{}, fmt.Errorf("%w: version %d, this release knows %d", ErrShare, body[0], version)
	}
	s := Share{Threshold: int(body[1]), Count: int(body[2]), Index: int(body[3])}
	if s.Threshold < 2 || s.Threshold > s.Count || s.Count > MaxShares || s.Index < 1 || s.Index > s.Count {
		return Share{}, fmt.Errorf("%w: number %d of %d, %d needed: there is no such share", ErrShare, s.Index, s.Count, s.Threshold)
	}
	rest := body[4:]
	rest = rest[copy(s.Set[:], rest):]
	rest = rest[copy(s.Value[:], rest):]
	copy(s.Commitment[:], rest)
	return s, nil
}

// prefix begins the text of a share, all of whose characters are in the alphanumeric mode of a QR code (ISO/IEC 18004).
const prefix = "COLDSEAL-SHARE-1:"

var base32text = base32.StdEncoding.WithPadding(base32.NoPadding)

// Text is the share in one line of capitals and digits, for a QR code.
func (s Share) Text() string { return prefix + base32text.EncodeToString(s.Encode()) }

// MaxText bounds what ParseText reads, in bytes: a printed share with its comments takes a quarter of it.
const MaxText = 4096

// ParseText reads a share as people bring it: the line that Text gives, in any case, or words (ParseWords). Lines that
// begin with # are comments.
func ParseText(text string) (Share, error) {
	if len(text) > MaxText {
		return Share{}, fmt.Errorf("%w: more than %d bytes", ErrShare, MaxText)
	}
	var content strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			content.WriteString(line)
		}
	}
	trimmed := strings.TrimSpace(content.String())
	encoded, isLine := strings.CutPrefix(strings.ToUpper(trimmed), prefix)
	if !isLine {
		return ParseWords(trimmed)
	}
	data, err := base32text.DecodeString(encoded)
	if err != nil || base32text.EncodeToString(data) != encoded {
		return Share{}, fmt.Errorf("%w: a character after %s was left out or mistyped", ErrShare, prefix)
	}
	return Parse(data)
}
