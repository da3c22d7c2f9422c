package signer

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// Locator says where keys are: a URI in the style of RFC 7512, such as
//
//	pkcs11:token=prod?module-path=/usr/lib/softhsm/libsofthsm2.so
//	tpm:device=/dev/tpmrm0
//	piv:serial=12345678?use=ca
//	softkey:
//
// It never holds a secret: whoever lists processes sees it.
type Locator struct {
	text       string
	scheme     string
	attributes map[string]string
}

// The kinds of places where keys are.
const (
	PKCS11  = "pkcs11"
	TPM     = "tpm"
	PIV     = "piv"
	Softkey = "softkey"
)

// attributes are those of each kind, before and after the question mark; use is the purposes of the keys that are made
// there, all that it can hold where it is left out.
var attributes = map[string]struct{ path, query []string }{
	PKCS11: {[]string{"token", "serial", "manufacturer", "model"}, []string{"module-path", "init-args", "login", "environment", "use"}},
	// index is the first of two NV indices, hexadecimal: those of another appliance are not taken for ours.
	TPM: {[]string{"device", "socket"}, []string{"index", "use"}},
	// reader is a part of the reader's name; socket is that of pcscd, where it is not the usual one.
	PIV:     {[]string{"serial", "reader", "socket"}, []string{"use"}},
	Softkey: {[]string{"dir"}, []string{"use"}},
}

const maxLocator = 1024

// ParseLocator parses a locator. Unknown and repeated attributes, and whatever might hold a secret, are errors.
func ParseLocator(text string) (Locator, error) {
	l := Locator{text: text, attributes: map[string]string{}}
	wrong := func(format string, a ...any) (Locator, error) {
		return Locator{}, fmt.Errorf("locator %s: %s", shown(text), fmt.Sprintf(format, a...))
	}
	if len(text) > maxLocator {
		return wrong("longer than %d bytes", maxLocator)
	}
	scheme, rest, _ := strings.Cut(text, ":")
	known, ok := attributes[scheme]
	if !ok {
		return wrong("it begins with none of %s", strings.Join(slices.Sorted(maps.Keys(attributes)), ":, ")+":")
	}
	l.scheme = scheme
	path, query, _ := strings.Cut(rest, "?")
	for _, part := range []struct {
		text, separator string
		names           []string
	}{{path, ";", known.path}, {query, "&", known.query}} {
		if part.text == "" {
			continue
		}
		for attribute := range strings.SplitSeq(part.text, part.separator) {
			name, value, _ := strings.Cut(attribute, "=")
			value, err := url.PathUnescape(value)
			switch {
			case name == "pin-value" || name == "pin-source":
				return wrong("a locator holds no PIN; it is asked for, or read from --pin-file or --pin-fd")
			case name == "slot-id":
				return wrong("slots move; name the token by its label")
			case !slices.Contains(part.names, name):
				return wrong("%s: has no attribute %q here; there are %s", scheme, name, strings.Join(part.names, ", "))
			case err != nil || value == "" || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }):
				return wrong("no value for %q", name)
			case l.attributes[name] != "":
				return wrong("%q is there twice", name)
			}
			l.attributes[name] = value
		}
	}
	return l, l.check()
}

// shown is a locator as it may be printed: without what somebody took for a place for a PIN.
func shown(text string) string {
	if i := strings.Index(text, "pin-"); i >= 0 {
		text = text[:i] + "…"
	}
	return fmt.Sprintf("%q", text)
}

func (l Locator) check() error {
	for _, name := range []string{"module-path", "device", "socket", "dir"} {
		if v := l.attributes[name]; v != "" && (!filepath.IsAbs(v) || filepath.Clean(v) != v) {
			return fmt.Errorf("locator %s: %s is not an absolute path in its shortest form", l, name)
		}
	}
	for use := range strings.SplitSeq(l.attributes["use"], ",") {
		if use != "" && !slices.Contains([]Purpose{CA, Seal, Log, Receiver}, Purpose(use)) {
			return fmt.Errorf("locator %s: keys are for ca, seal, log or receiver, not for %q", l, use)
		}
	}
	missing := func(name string) error { return fmt.Errorf("locator %s: it does not say %s", l, name) }
	switch l.scheme {
	case PKCS11:
		if l.attributes["module-path"] == "" {
			return missing("module-path, the file of the device's PKCS#11 library")
		}
		if l.attributes["token"] == "" {
			return missing("token, the token's label")
		}
		if login := l.attributes["login"]; login != "" && login != "user" && login != "none" {
			return fmt.Errorf("locator %s: login is user or none", l)
		}
		if e := l.attributes["environment"]; e != "" && !strings.Contains(e, "=") {
			return fmt.Errorf("locator %s: environment is NAME=VALUE, percent-encoded", l)
		}
	case TPM:
		if (l.attributes["device"] == "") == (l.attributes["socket"] == "") {
			return missing("one of device, such as /dev/tpmrm0, and socket")
		}
	case PIV:
		if l.attributes["serial"] == "" && l.attributes["reader"] == "" {
			return missing("serial, the card's number, or for a share reader, a part of the reader's name")
		}
	}
	return nil
}

// String is the text that was parsed.
func (l Locator) String() string { return l.text }

// Scheme is one of PKCS11, TPM, PIV and Softkey.
func (l Locator) Scheme() string { return l.scheme }

// Attribute gives an attribute's value, decoded; empty if it is not there.
func (l Locator) Attribute(name string) string { return l.attributes[name] }

// Uses tells whether keys for the purpose are to be made there.
func (l Locator) Uses(p Purpose) bool {
	use := l.attributes["use"]
	return use == "" || slices.Contains(strings.Split(use, ","), string(p))
}

// NeedsPIN tells whether the device asks for a PIN. The key store asks for its passphrase, which is something else.
func (l Locator) NeedsPIN() bool {
	return l.scheme != Softkey && l.attributes["login"] != "none"
}
