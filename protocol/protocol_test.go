package protocol_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"coldseal/protocol"
)

func TestDigestIsReadAsItIsShown(t *testing.T) {
	d := protocol.DigestOf([]byte("abc"))
	const groups = "47736 05823 36609 53226 16705 16606 23982 08739 45059 24995 38423 31388 46096 65377 61952 05549" // of SHA-256("abc"), by Python
	if got := d.Groups(); got != groups {
		t.Errorf("Groups = %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		d := protocol.Digest(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		gap := rapid.SampledFrom([]string{" ", "", "-", "\n", "\r\n\t"}).Draw(t, "gap")
		for _, text := range []string{d.String(), strings.ToUpper(d.String()), d.Groups(), strings.ReplaceAll(d.Groups(), " ", gap), gap + d.String() + gap} {
			if got, err := protocol.ParseDigest(text); err != nil || got != d {
				t.Fatalf("%q is %s, %v", text, got, err)
			}
		}
	})
	for _, bad := range []string{
		"", d.String()[1:], d.String() + "0", "g" + d.String()[1:], groups[1:], groups + "1", "65536" + groups[5:], "4773x" + groups[5:], "é" + d.String()[2:],
		"é" + groups[2:], "+4773" + groups[5:],
	} {
		if got, err := protocol.ParseDigest(bad); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
	if !(protocol.Digest{}).IsZero() || d.IsZero() {
		t.Error("IsZero")
	}
}

func TestValidNames(t *testing.T) {
	for text, want := range map[string]bool{
		"it/058091": true, "a": true, "it/058091/anagrafe": true, "1/2/3/4/5/6/7/8": true, "": false, "1/2/3/4/5/6/7/8/9": false, "/it": false, "it/": false,
		"it//a": false, "It": false, "it a": false, "it/*": false, "it\n": false, "è": false, strings.Repeat("a", 256): true, strings.Repeat("a", 257): false,
	} {
		if protocol.ValidBody(text) != want {
			t.Errorf("body %q: %v", text, !want)
		}
	}
	for text, want := range map[string]bool{
		"registry": true, "a-1": true, strings.Repeat("a", 32): true, strings.Repeat("a", 33): false, "": false, "A": false, "a/b": false, "a\n": false, "*": false,
	} {
		if protocol.ValidName(text) != want {
			t.Errorf("name %q: %v", text, !want)
		}
	}
	for text, want := range map[string]bool{
		"it:FTTCRL84C52H501V": true, "gr:1-2.3": true, "it:": false, ":A": false, "A": false, "": false, "it:a": false, "IT:A": false, "it:A:B": false, "it:A B": false,
		"it:" + strings.Repeat("A", 253): true, "it:" + strings.Repeat("A", 254): false,
	} {
		if protocol.ValidPerson(text) != want {
			t.Errorf("person %q: %v", text, !want)
		}
	}
}

func TestContainment(t *testing.T) {
	for _, c := range []struct {
		scope, body string
		want        bool
	}{
		{"it/058091", "it/058091", true}, {"it/058091", "it/058091/anagrafe", true}, {"it", "it/058091", true},
		{"it/058091", "it/0580912", false}, {"it/058091", "it", false}, {"it/058091", "it/05809", false}, {"it/058091/a", "it/058091", false}, {"gr", "it", false},
	} {
		if got := protocol.BodyContains(c.scope, c.body); got != c.want {
			t.Errorf("%s contains %s: %v", c.scope, c.body, got)
		}
	}
	type S = protocol.Scope
	for _, c := range []struct {
		s, t S
		want bool
	}{
		{S{Profile: "p", Body: "it"}, S{Profile: "p", Body: "it/1"}, true},
		{S{Profile: "p", Body: "it"}, S{Profile: "q", Body: "it/1"}, false},
		{S{Profile: "*", Body: "it"}, S{Profile: "q", Body: "it/1"}, true},
		{S{Profile: "p", Body: "*"}, S{Profile: "p", Body: "gr"}, true},
		{S{Profile: "*", Body: "*"}, S{Profile: "*", Body: "*"}, true},
		{S{Profile: "p", Body: "it"}, S{Profile: "*", Body: "it"}, false},
		{S{Profile: "p", Body: "it"}, S{Profile: "p", Body: "*"}, false},
		{S{Profile: "*", Body: "it"}, S{Profile: "*", Body: "*"}, false},
	} {
		if got := c.s.Contains(c.t); got != c.want {
			t.Errorf("%v contains %v: %v", c.s, c.t, got)
		}
	}
}

func TestContainmentIsAnOrder(t *testing.T) {
	body := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab"}), 1, 4), func(s []string) string { return strings.Join(s, "/") })
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := body.Draw(t, "a"), body.Draw(t, "b"), body.Draw(t, "c")
		switch {
		case !protocol.BodyContains(a, a):
			t.Fatal("not in itself")
		case a != b && protocol.BodyContains(a, b) && protocol.BodyContains(b, a):
			t.Fatal("in each other")
		case protocol.BodyContains(a, b) && protocol.BodyContains(b, c) && !protocol.BodyContains(a, c):
			t.Fatal("not transitive")
		}
	})
}

func TestDate(t *testing.T) {
	for unix, want := range map[int64]string{
		0: "1970-01-01 00:00 UTC", now: "2027-01-15 08:00 UTC", protocol.MaxTime: "9999-12-31 23:59 UTC", -1: "1969-12-31 23:59 UTC",
	} {
		if got := protocol.Date(unix); got != want {
			t.Errorf("%d is %s", unix, got)
		}
	}
}
