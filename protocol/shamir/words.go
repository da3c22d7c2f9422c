package shamir

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// english is the word list of BIP-39 (MIT licence): 2,048 words in order, no two alike in their first four letters.
//
//go:embed words.txt
var english string

const (
	wordBits  = 11
	wordCount = (ShareSize*8 + wordBits - 1) / wordBits // 47
	telling   = 4                                       // letters by which a word is known
)

func wordList() []string { return strings.Fields(english) }

// Words is the share as 47 words, 11 bits each; the last word ends in five zero bits.
func (s Share) Words() []string {
	list := wordList()
	data := s.Encode()
	words := make([]string, wordCount)
	for i := range words {
		n := 0
		for b := i * wordBits; b < (i+1)*wordBits; b++ {
			n <<= 1
			if b < 8*len(data) {
				n |= int(data[b/8]>>(7-b%8)) & 1
			}
		}
		words[i] = list[n]
	}
	return words
}

// ParseWords reads 47 words, in any case and with any spacing. Of each word its first four letters are enough; numbers
// between them are passed over, so that a numbered list is read as it is printed.
func ParseWords(text string) (Share, error) {
	list := wordList()
	words := slices.DeleteFunc(strings.Fields(strings.ToLower(text)), func(word string) bool { return strings.Trim(word, "0123456789.") == "" })
	if len(words) < wordCount/2 { // nobody's share: perhaps a file with a passphrase, of which no word is to be told
		return Share{}, fmt.Errorf("%w: %d words, want %d", ErrShare, len(words), wordCount)
	}
	var data [ShareSize + 1]byte
	count := 0
	for _, word := range words {
		count++
		n, known := find(list, word)
		if !known {
			return Share{}, fmt.Errorf("%w: word %d, %q, is not in the list", ErrShare, count, cut(word))
		}
		if count > wordCount {
			continue
		}
		for b := range wordBits {
			at := (count-1)*wordBits + b
			data[at/8] |= byte(n>>(wordBits-1-b)&1) << (7 - at%8)
		}
	}
	if count != wordCount {
		return Share{}, fmt.Errorf("%w: %d words, want %d", ErrShare, count, wordCount)
	}
	if data[ShareSize] != 0 {
		return Share{}, fmt.Errorf("%w: the last word is not one that ends a share", ErrShare)
	}
	return Parse(data[:ShareSize])
}

// find looks a word up by its first four letters; what follows them has to be as in the list, as far as it was written.
func find(list []string, word string) (int, bool) {
	at, exact := slices.BinarySearch(list, word)
	if exact {
		return at, true
	}
	known := len(word) >= telling && at < len(list) && strings.HasPrefix(list[at], word)
	return at, known
}

func cut(word string) string {
	if len(word) > 16 {
		word = word[:16]
	}
	return strings.ToValidUTF8(word, "?")
}
