package show

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"Καλλιόπη Ωραία", "Καλλιόπη Ωραία"},
		{"Nguyễn Thị Ánh", "Nguyễn Thị Ánh"},
		{"Nguye\u0302\u0303n", "Nguye\u0302\u0303n"},
		{"", ""},
		{"it/058091", "it/058091"},
		{"a\x1b[2Jb", `a\u{001b}[2Jb`},
		{"one\r\ntwo\tthree", `one\u{000d}\u{000a}two\u{0009}three`},
		{"gpj\u202eexe", `gpj\u{202e}exe`},
		{"\u2066x\u2069\u200f\u061c", `\u{2066}x\u{2069}\u{200f}\u{061c}`},
		{"zero\u200bwidth\ufeff\u2060\u00ad", `zero\u{200b}width\u{feff}\u{2060}\u{00ad}`},
		{"no\u00a0break\u3000", `no\u{00a0}break\u{3000}`},
		{"\u0301acute first", `\u{0301}acute first`},
		{"a\u0301\u0301\u0301\u0301", "a\u0301\u0301\u0301\\u{0301}"},
		{"\u200d\u0301", `\u{200d}\u{0301}`},
		{"tag\U000e0041 selector\ufe0f \u115f\u3164", `tag\u{e0041} selector\u{fe0f} \u{115f}\u{3164}`},
		{"private\ue000 unassigned\U0003fffd", `private\u{e000} unassigned\u{3fffd}`},
		{"bad\xffutf\xc3", `bad\x{ff}utf\x{c3}`},
		{"surrogate\xed\xa0\x80", `surrogate\x{ed}\x{a0}\x{80}`},
		{`C:\u{202e}`, `C:\\u{202e}`},
		{"\u0085\u2028\u2029\x7f\x9b", `\u{0085}\u{2028}\u{2029}\u{007f}\x{9b}`},
	} {
		if got := Text(test.in); got != test.want {
			t.Errorf("Text(%q) = %q, want %q", test.in, got, test.want)
		}
	}
	if got := Lines("a\n\x1bb\n"); got != "a\n\\u{001b}b\n" {
		t.Errorf("Lines = %q", got)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "a\u202eb", "\xff\\", "e\u0301\u0301\u0301\u0301"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Text(text)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, Hidden) {
			t.Errorf("Text(%q) = %q", text, got)
		}
	})
}
