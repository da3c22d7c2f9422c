// Package show renders requests, approvals and what else crosses the gap for eyes. It is the one renderer of inspect,
// approve, console, station and minutes, so that a person sees the same words wherever something is decided.
//
// What it is given is hostile: text may hold control characters that drive a terminal, marks that turn the direction of
// writing, or characters that are not seen at all. All of them come out as visible escapes. Output is stable: the same
// bytes give the same text. It decodes and shows; it verifies no signature, and says so where one is shown unverified.
package show

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks may stand on one character: Vietnamese takes two, Hebrew and Arabic three.
const maxMarks = 3

// Text makes any text safe to show on one line. Printable characters stay. Controls, line ends, bidirectional controls,
// invisible characters, spaces other than U+0020, and marks that stand on nothing or pile up become \u{202e}; bytes that
// are not UTF-8 become \x{ff}; a backslash becomes two.
func Text(text string) string {
	if plain(text) {
		return text
	}
	var b strings.Builder
	marks := maxMarks // none may come first: it would stand on what is before the text
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, "\\x{%02x}", text[0])
			text, marks = text[1:], maxMarks
			continue
		}
		mark := unicode.IsMark(r)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
			marks = 0
		case Hidden(r) || mark && marks >= maxMarks:
			fmt.Fprintf(&b, "\\u{%04x}", r)
			marks = maxMarks
		case mark:
			b.WriteRune(r)
			marks++
		default:
			b.WriteRune(r)
			marks = 0
		}
		text = text[size:]
	}
	return b.String()
}

// Lines is Text for words that may have several lines: line ends stay.
func Lines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Text(line)
	}
	return strings.Join(lines, "\n")
}

// Hidden tells whether an eye would not see the character as what it is: controls, bidirectional controls, characters
// without a shape, spaces other than U+0020, private use, unassigned.
func Hidden(r rune) bool {
	return !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
		unicode.Is(unicode.Variation_Selector, r) || r == 0x034f
}

func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' || text[i] == '\\' {
			return false
		}
	}
	return true
}
