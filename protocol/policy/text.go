package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Every function here says what is wrong with a value, to be read after its name; "" is that nothing is.

// badCharacter refuses what an eye doesn't see as it is: controls, marks that turn the direction of writing, characters
// without a shape or without a meaning, spaces other than the one, and a mark with nothing to stand on. What is not in
// normal form C is refused too, since one name would have two spellings.
func badCharacter(value string) string {
	if isPrintableASCII(value) {
		return ""
	}
	if !utf8.ValidString(value) {
		return "is not UTF-8"
	}
	for i, r := range value {
		switch {
		case !unicode.IsPrint(r), unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r), r == 0x034f:
			return fmt.Sprintf("has the character %U, which is not shown", r)
		case r == utf8.RuneError:
			return "has a character that was lost in a conversion"
		case i == 0 && unicode.IsMark(r):
			return fmt.Sprintf("begins with the mark %U", r)
		}
	}
	if !norm.NFC.IsNormalString(value) {
		return "is not in Unicode normal form C"
	}
	return ""
}

func isPrintableASCII(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// badSpaces refuses spaces that directories ignore when they compare names (RFC 4518 section 2.6.1).
func badSpaces(value string) string {
	switch {
	case value == "":
		return "is empty"
	case value[0] == ' ' || value[len(value)-1] == ' ':
		return "begins or ends with a space"
	case strings.Contains(value, "  "):
		return "has two spaces side by side"
	}
	return ""
}

// attributeMax is the upper bounds in characters of RFC 5280 appendix A.1; surname and given name get the 64 of X.520,
// organizationIdentifier, which has none, 256. 0 is an attribute that we don't know.
func attributeMax(attribute string) int {
	switch attribute {
	case "CN", "O", "OU", "SN", "GN", "title", "serialNumber":
		return 64
	case "L", "ST":
		return 128
	case "C":
		return 2
	case "E":
		return 255
	case "organizationIdentifier":
		return 256
	}
	return 0
}

// badAttribute judges a value of the subject.
func badAttribute(attribute, value string) string {
	if reason := badCharacter(value); reason != "" {
		return reason
	}
	if reason := badSpaces(value); reason != "" {
		return reason
	}
	if n := utf8.RuneCountInString(value); n > attributeMax(attribute) {
		return fmt.Sprintf("has %d characters, at most %d", n, attributeMax(attribute))
	}
	switch attribute {
	case "C":
		if len(value) != 2 || value[0] < 'A' || value[0] > 'Z' || value[1] < 'A' || value[1] > 'Z' {
			return "is not two capital letters (ISO 3166)"
		}
	case "serialNumber":
		for _, r := range value {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(" '()+,-./:=?", r) {
				return fmt.Sprintf("has the character %q, which PrintableString has not", r)
			}
		}
	case "E":
		return badMail(value)
	}
	return ""
}

// badName judges a subjectAltName of the type.
func badName(kind, value string) string {
	switch kind {
	case "dns":
		return badHost(strings.TrimPrefix(value, "*."), strings.HasPrefix(value, "*."))
	case "email", "upn":
		return badMail(value)
	case "uri":
		return badURI(value)
	case "ip":
		a, err := netip.ParseAddr(value)
		if err != nil || a.Zone() != "" || a.Is4In6() || a.String() != value {
			return "is not an IP address in its usual form"
		}
		return ""
	}
	return "is of an unknown type"
}

// badHost takes lower-case LDH names (RFC 5890 section 2.3.1, RFC 1123 section 2.1); other scripts come as A-labels.
func badHost(name string, wildcard bool) string {
	if len(name) > 253 {
		return fmt.Sprintf("has %d characters, at most 253", len(name))
	}
	last, labels := "", 0
	for label := range strings.SplitSeq(name, ".") {
		last = label
		labels++
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || len(label) > 3 && label[2:4] == "--" && label[:2] != "xn" {
			return "is not a host's name in small letters"
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "is not a host's name in small letters"
			}
		}
	}
	if strings.Trim(last, "0123456789") == "" {
		return "ends like an IP address"
	}
	if wildcard && labels < 2 {
		return "stands for too many hosts"
	}
	return ""
}

// badMail takes a dot-atom, a sign, and a host (RFC 5321 section 4.1.2, RFC 5280 section 4.2.1.6).
func badMail(address string) string {
	local, domain, found := strings.Cut(address, "@")
	if !found || len(local) > 64 || len(address) > 254 {
		return "is not an e-mail address"
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return "is not an e-mail address"
		}
		for _, c := range []byte(atom) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) < 0 {
				return "is not an e-mail address"
			}
		}
	}
	if badHost(domain, false) != "" {
		return "is not an e-mail address: its host is not a host's name in small letters"
	}
	return ""
}

// badURI takes absolute URIs in ASCII, without a user, and with a host if they have an authority (RFC 5280 section 4.2.1.6).
func badURI(value string) string {
	if !isPrintableASCII(value) || strings.Contains(value, " ") {
		return "has a character that URIs do not have"
	}
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Scheme == "" || !strings.HasPrefix(value, u.Scheme+":") || u.User != nil:
		return "is not an absolute URI"
	case u.Opaque != "":
		return ""
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && badHost(u.Hostname(), false) != "" {
		return "has no host"
	}
	return ""
}

// fold makes names alike that differ in case only. It maps character by character, so that what checkBinding proves of
// templates holds of folded names.
func fold(value string) string {
	if i := strings.IndexFunc(value, func(r rune) bool { return r >= 'A' && r <= 'Z' || r > '~' }); i < 0 {
		return value
	}
	return strings.Map(foldRune, value)
}

// foldRune chooses one of the characters that differ in case only: the first small letter, else the first of all.
func foldRune(r rune) rune {
	if r <= '~' {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r // K and S have a third form above ASCII, which comes here to k and s
	}
	all := orbit(r)
	for _, c := range all {
		if unicode.IsLower(c) {
			return c
		}
	}
	return all[0]
}

// orbit is all characters that differ from r in case only, with r, ascending.
func orbit(r rune) []rune {
	all := []rune{r}
	for c := unicode.SimpleFold(r); c != r; c = unicode.SimpleFold(c) {
		all = append(all, c)
	}
	slices.Sort(all)
	return all
}
