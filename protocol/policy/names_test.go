package policy

import (
	"slices"
	"strings"
	"testing"

	"coldseal/protocol"
)

func compiledLibrary(t testing.TB, change func(*Policy)) *Compiled {
	t.Helper()
	p := libraryPolicy(t)
	if change != nil {
		change(p)
	}
	c, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNames(t *testing.T) {
	servant := func(given, family string) map[string]string {
		return map[string]string{"email": "m.p@dimos.gr", "given-name": given, "surname": family, "organization": "Δήμος Αθηναίων"}
	}
	long := strings.Repeat("α", 31)
	for _, c := range []struct {
		name, profile, body, subject string
		fields                       map[string]string
		want                         string // subject | names | unique, or the field that is refused and a part of why
		refused                      protocol.Code
	}{
		{"workstation", "it-workstation", "it/058091", "058091-PC-0020", map[string]string{"number": "0020"},
			"C=IT, O=Anagrafe Nazionale della Popolazione Residente, OU=058091, CN=058091-PC-0020 |  | 058091-pc-0020", ""},
		{"server", "it-server", "it/058091", "058091-CO-9999", map[string]string{"number": "9999", "host": "anpr"},
			"C=IT, O=Anagrafe Nazionale della Popolazione Residente, OU=058091, CN=058091-CO-9999 | dns:anpr.058091.comune.example | 058091-co-9999", ""},
		{"server without host", "it-server", "it/058091", "058091-CO-9999", map[string]string{"number": "9999"},
			"C=IT, O=Anagrafe Nazionale della Popolazione Residente, OU=058091, CN=058091-CO-9999 |  | 058091-co-9999", ""},
		{"Greek", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία", "Παπαδοπούλου-Ιωάννου"),
			"C=GR, O=Δήμος Αθηναίων, SN=Παπαδοπούλου-Ιωάννου, GN=Μαρία, serialNumber=TINGR-000123454, CN=Μαρία Παπαδοπούλου-Ιωάννου | email:m.p@dimos.gr | gr-public-servant:000123454", ""},
		{"Ukrainian", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Мар’яна", "Ґудзь-Їжакевич"),
			"C=GR, O=Δήμος Αθηναίων, SN=Ґудзь-Їжакевич, GN=Мар’яна, serialNumber=TINGR-000123454, CN=Мар’яна Ґудзь-Їжакевич | email:m.p@dimos.gr | gr-public-servant:000123454", ""},
		{"Vietnamese", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Thị Hồng Nhung", "Nguyễn"),
			"C=GR, O=Δήμος Αθηναίων, SN=Nguyễn, GN=Thị Hồng Nhung, serialNumber=TINGR-000123454, CN=Thị Hồng Nhung Nguyễn | email:m.p@dimos.gr | gr-public-servant:000123454", ""},
		{"longest CN", "gr-public-servant", "gr/ypes", "gr:000123454", servant(long, long+"α"),
			"C=GR, O=Δήμος Αθηναίων, SN=" + long + "α, GN=" + long + ", serialNumber=TINGR-000123454, CN=" + long + " " + long + "α | email:m.p@dimos.gr | gr-public-servant:000123454", ""},
		{"approver", "approver", "it/058091", "it:FTTCRL84C52H501V", map[string]string{"name": "Carla Fittizia"},
			"OU=it/058091, serialNumber=it:FTTCRL84C52H501V, CN=Carla Fittizia |  | approver:it:fttcrl84c52h501v", ""},
		{"station", "station", "gr/ypes/athina", "station 01 of gr/ypes/athina", map[string]string{"number": "01"},
			"OU=gr/ypes/athina, CN=station 01 of gr/ypes/athina |  | station 01 of gr/ypes/athina", ""},
		{"CA", "root", "", "", map[string]string{"country": "GR", "organization": "Υπουργείο", "name": "Root CA 1"}, "C=GR, O=Υπουργείο, CN=Root CA 1 |  | ", ""},

		{"another country's body", "it-workstation", "gr/058091", "058091-PC-0020", map[string]string{"number": "0020"}, "", protocol.CodeBodyNotAllowed},
		{"a body like another", "it-workstation", "it/058092/058091", "058091-PC-0020", map[string]string{"number": "0020"}, "", protocol.CodeBodyNotAllowed},
		{"the body above", "it-workstation", "it", "it-PC-0020", map[string]string{"number": "0020"}, "", protocol.CodeBodyNotAllowed},
		{"no body", "it-workstation", "", "058091-PC-0020", map[string]string{"number": "0020"}, "", protocol.CodeBodyNotAllowed},
		{"not a body", "it-workstation", "it/058091\n", "058091-PC-0020", map[string]string{"number": "0020"}, "", protocol.CodeBodyNotAllowed},
		{"another machine", "it-workstation", "it/058091", "058091-PC-0021", map[string]string{"number": "0020"}, "subject: is not 058091-PC-0020", protocol.CodeSubjectMismatch},
		{"another body's machine", "it-workstation", "it/058091", "058092-PC-0020", map[string]string{"number": "0020"}, "subject: is not", protocol.CodeSubjectMismatch},
		{"pattern", "it-workstation", "it/058091", "058091-PC-020", map[string]string{"number": "020"}, "number: doesn't match [0-9]{4}", protocol.CodeSubjectMismatch},
		{"pattern, whole value", "it-workstation", "it/058091", "058091-PC-00200", map[string]string{"number": "00200"}, "number: has more than 4", protocol.CodeSubjectMismatch},
		{"newline at the end", "it-workstation", "it/058091", "058091-PC-002\n", map[string]string{"number": "002\n"}, "number: has the character U+000A", protocol.CodeSubjectMismatch},
		{"missing", "it-workstation", "it/058091", "058091-PC-0020", nil, "number: is missing", protocol.CodeSubjectMismatch},
		{"unknown", "it-workstation", "it/058091", "058091-PC-0020", map[string]string{"number": "0020", "o": "x", "a": "x"}, "a: is not a field", protocol.CodeSubjectMismatch},
		{"empty", "it-server", "it/058091", "058091-CO-9999", map[string]string{"number": "9999", "host": ""}, "host: is empty", protocol.CodeSubjectMismatch},
		{"host ends with hyphen", "it-server", "it/058091", "058091-CO-9999", map[string]string{"number": "9999", "host": "a-"}, "host: doesn't match", protocol.CodeSubjectMismatch},
		{"reserved label", "it-server", "it/058091", "058091-CO-9999", map[string]string{"number": "9999", "host": "ab--c"}, "dns: is not a host's name", protocol.CodeSubjectMismatch},
		{"not a person", "gr-public-servant", "gr/ypes", "000123454", servant("Μαρία", "Π"), "subject: is not a person", protocol.CodeSubjectMismatch},
		{"another scheme", "gr-public-servant", "gr/ypes", "it:000123454", servant("Μαρία", "Π"), "subject: is not a person of scheme gr", protocol.CodeSubjectMismatch},
		{"right to left", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία\u202e", "Π"), "given-name: has the character U+202E", protocol.CodeSubjectMismatch},
		{"zero width", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρ\u200dία", "Π"), "given-name: has the character U+200D", protocol.CodeSubjectMismatch},
		{"filler", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρ\u3164ία", "Π"), "given-name: has the character U+3164", protocol.CodeSubjectMismatch},
		{"no-break space", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία\u00a0Ελένη", "Π"), "given-name: has the character U+00A0", protocol.CodeSubjectMismatch},
		{"control", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μα\x00ρία", "Π"), "given-name: has the character U+0000", protocol.CodeSubjectMismatch},
		{"escape", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Maria\x1b[2J", "Π"), "given-name: has the character U+001B", protocol.CodeSubjectMismatch},
		{"decomposed", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρι\u0301α", "Π"), "given-name: is not in Unicode normal form C", protocol.CodeSubjectMismatch},
		{"singleton", "gr-public-servant", "gr/ypes", "gr:000123454", servant("\u212bsa", "Π"), "given-name: is not in Unicode normal form C", protocol.CodeSubjectMismatch},
		{"mark first", "gr-public-servant", "gr/ypes", "gr:000123454", servant("\u0301α", "Π"), "given-name: begins with the mark", protocol.CodeSubjectMismatch},
		{"lost character", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρ\ufffdα", "Π"), "given-name: has a character that was lost", protocol.CodeSubjectMismatch},
		{"not UTF-8", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρ\xceα", "Π"), "given-name: is not UTF-8", protocol.CodeSubjectMismatch},
		{"space at the end", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία ", "Π"), "GN: begins or ends with a space", protocol.CodeSubjectMismatch},
		{"two spaces", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία  Ελένη", "Π"), "GN: has two spaces", protocol.CodeSubjectMismatch},
		{"digit", "gr-public-servant", "gr/ypes", "gr:000123454", servant("Μαρία2", "Π"), "given-name: doesn't match", protocol.CodeSubjectMismatch},
		{"long", "gr-public-servant", "gr/ypes", "gr:000123454", servant(long+"α", "Π"), "given-name: has more than 31", protocol.CodeSubjectMismatch},
		{"long identifier", "approver", "it/058091", "it:" + strings.Repeat("A", 62), map[string]string{"name": "A"}, "serialNumber: has 65 characters, at most 64", protocol.CodeSubjectMismatch},
		{"long body", "approver", strings.Repeat("a", 65), "it:A", map[string]string{"name": "A"}, "OU: has 65 characters", protocol.CodeSubjectMismatch},
		{"country", "root", "", "", map[string]string{"country": "gr", "organization": "X", "name": "Y"}, "country: doesn't match", protocol.CodeSubjectMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, found := compiledLibrary(t, nil).Profile(c.profile)
			if !found {
				t.Fatal("no such profile")
			}
			n, refusal := q.Names(&protocol.Request{Profile: c.profile, Body: c.body, Subject: c.subject}, c.fields)
			if c.refused != "" {
				if refusal == nil || refusal.Code != c.refused || !strings.HasPrefix(refusal.Params["field"]+": "+refusal.Params["reason"], c.want) && c.want != "" {
					t.Errorf("%+v and %+v, want %s: %s", n, refusal, c.refused, c.want)
				}
				return
			}
			if refusal != nil {
				t.Fatalf("%s: %s", refusal.Words(), refusal.Params)
			}
			got := strings.Join(each(n.Subject, attributeText), ", ") + " | " + strings.Join(each(n.Alt, altNameText), ", ") + " | " + n.Unique
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// What can be an attribute or a name, whatever a profile's patterns would say.
func TestValues(t *testing.T) {
	for _, c := range []struct {
		kind    string
		good    []string
		bad     []string
		altName bool
	}{
		{"C", []string{"GR", "VN"}, []string{"gr", "G", "GRC", "Ελ", "G1", ""}, false},
		{"serialNumber", []string{"TINGR-000123454", "it:FTTCRL84C52H501V", "a (b)"}, []string{"a_b", "a@b", "Ελ", strings.Repeat("a", 65)}, false},
		{"CN", []string{strings.Repeat("Ω", 64), "a_b@c"}, []string{strings.Repeat("Ω", 65), "", " a", "a ", "a  b", "a\u2028b"}, false},
		{"E", []string{"a@b.example"}, []string{"a", "a@", "@b.example", "α@b.example", strings.Repeat("a", 60) + "@" + strings.Repeat("b.", 98) + "example"}, false},
		{"L", []string{strings.Repeat("a", 128)}, []string{strings.Repeat("a", 129)}, false},
		{"dns", []string{"a", "a.b.example", "*.b.example", "xn--4a.example", "1.example"},
			[]string{"A.example", "a..b", "-a.example", "a-.example", "a_b.example", "*.example", "*", "a.*.example", "*a.b.example", "ab--c.example", "1.2.3.4", "a.b.", "ελ.example",
				strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "a", ""}, true},
		{"email", []string{"m.p@dimos.gr", "a+b@c.example"}, []string{"m..p@dimos.gr", ".a@b.example", "a@B.example", "a b@c.example", `"a"@b.example`, "a@b@c.example", strings.Repeat("a", 65) + "@b.example"}, true},
		{"upn", []string{"m.p@dimos.example"}, []string{"m.p", "Μ@dimos.example"}, true},
		{"ip", []string{"192.0.2.1", "2001:db8::1"}, []string{"192.0.2.01", "192.0.2", "2001:db8:0::1", "2001:DB8::1", "fe80::1%eth0", "::ffff:192.0.2.1", "a"}, true},
		{"uri", []string{"http://a.example/b?c", "urn:uuid:1", "https://[2001:db8::1]/", "spiffe://a.example/it/058091"},
			[]string{"a.example", "/b", "http:///b", "http://u@a.example/", "HTTP://a.example", "http://a b.example", "http://ελ.example", "http://a.example/\x00", "http://-a.example"}, true},
		{"other", nil, []string{"a"}, true},
	} {
		judge := func(v string) string {
			if c.altName {
				return badName(c.kind, v)
			}
			return badAttribute(c.kind, v)
		}
		for _, v := range c.good {
			if reason := judge(v); reason != "" {
				t.Errorf("%s %q %s", c.kind, v, reason)
			}
		}
		for _, v := range c.bad {
			if judge(v) == "" {
				t.Errorf("%s %q was taken", c.kind, v)
			}
		}
	}
}

func TestFold(t *testing.T) {
	for _, c := range [][2]string{
		{"058091-PC-0020", "058091-pc-0020"}, {"ΣΊΣΥΦΟΣ", "σίσυφος"}, {"Їжак", "їжАК"}, {"NGUYỄN", "nguyễn"}, {"\u212a", "k"}, {"ſ", "S"}, {"Ω", "ω"}, {"\u0345", "Ι"},
	} {
		if fold(c[0]) != fold(c[1]) {
			t.Errorf("%q and %q are folded to %q and %q", c[0], c[1], fold(c[0]), fold(c[1]))
		}
	}
	for _, c := range [][2]string{{"ß", "ss"}, {"ı", "i"}, {"А", "A"}, {"0", "O"}} { // other letters are other names
		if fold(c[0]) == fold(c[1]) {
			t.Errorf("%q and %q are one", c[0], c[1])
		}
	}
}

// A policy that Check wasn't asked about makes refusals, not certificates without a name.
func TestNamesOfUncheckedPolicy(t *testing.T) {
	req := &protocol.Request{Body: "it/058091", Subject: "058091-PC-0020"}
	fields := map[string]string{"number": "0020"}
	for name, change := range map[string]func(*Profile){
		"no machine":                func(q *Profile) { q.Machine = "" },
		"no uniqueness key":         func(q *Profile) { q.Unique = "" },
		"empty attribute":           func(q *Profile) { q.Subject[3].Value = "" },
		"optional field of subject": func(q *Profile) { q.Fields[0].Optional = true; q.Unique = "x" },
		"field twice":               func(q *Profile) { q.Fields = append(q.Fields, q.Fields[0]) },
		"name without value":        func(q *Profile) { q.Names = []AltName{{Type: "uri"}} },
		"name twice": func(q *Profile) {
			q.Names = slices.Repeat([]AltName{{Type: "uri", Value: "http://{body}.example/"}}, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := func() *Compiled {
				p := libraryPolicy(t)
				q, _ := p.Profile("it-workstation")
				change(q)
				c, err := Compile(p)
				if err != nil {
					return nil
				}
				return c
			}()
			if c == nil {
				return
			}
			q, _ := c.Profile("it-workstation")
			given := fields
			if name == "optional field of subject" {
				given = nil
			}
			if n, refusal := q.Names(req, given); refusal == nil {
				t.Errorf("made %+v", n)
			}
		})
	}
}
