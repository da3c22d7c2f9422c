package policy

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coldseal/protocol"
)

var update = flag.Bool("update", false, "write testdata/diff.txt anew")

func TestDiffInWords(t *testing.T) {
	a, b := libraryPolicy(t), libraryPolicy(t)
	change := func(name string, f func(*Profile)) {
		q, _ := b.Profile(name)
		f(q)
	}
	b.ClockAhead = 90000
	change("it-workstation", func(q *Profile) {
		q.Days, q.MaxDays = 365, 365
		q.Keys = []string{"Ed25519", "P-256", "P-521"}
		q.Renew = Renewal{}
		q.Fields[0].Pattern = "[0-9]{5}"
		q.LintIgnore = []string{"w_x"}
		q.Bodies = []string{"it", "sm"}
	})
	change("gr-public-servant", func(q *Profile) {
		q.Approve.Persons, q.Approve.Alone = 2, false
		q.Approve.Statements = q.Approve.Statements[:1]
		q.TakeAway.Roles = []string{"approver"}
		q.Names[0].Optional = true
		q.Subject = q.Subject[:5]
		q.Scheme = ""
		q.DropExtras = true
	})
	change("root", func(q *Profile) { q.PathLen = 2 })
	b.Profiles = slices.DeleteFunc(b.Profiles, func(q Profile) bool { return q.Name == "station" })
	extra := b.Profiles[4]
	extra.Name = "zz-tablet"
	b.Profiles = append(b.Profiles, extra)
	o, n := threeOfficers(t), threeOfficers(t)
	n.Officers[0].Suspended = true
	n.Officers[1].Keys = [][]byte{spki(t, "new")}
	n.Officers[1].Roles = []string{"ra", "security-officer"}
	n.Officers[1].Scopes = []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}
	n.Officers[2].Person = "it:Z"
	n.Orders[0].Persons, n.Orders[1].Role = 1, "ra"
	n.Orders = slices.Delete(n.Orders, 7, 8)
	lines := slices.Concat(Diff(a, b), DiffRoster(o, n), DiffRoster(n, o))
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile("testdata/diff.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/diff.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if lines := DiffRoster(threeOfficers(t), withRecovery(t)); len(lines) != 2 || lines[0] != "recovery: possible from now on, by 2 persons after 30 days" {
		t.Errorf("a recovery that is new: %q", lines)
	}
	if lines := DiffRoster(withRecovery(t), threeOfficers(t)); len(lines) != 1 || lines[0] != "recovery: not possible any more" {
		t.Errorf("a recovery that is gone: %q", lines)
	}
	if lines := Diff(a, a); len(lines) > 0 {
		t.Errorf("a policy differs from itself: %q", lines)
	}
}

// No change goes unsaid: each value in a profile or an officer, changed alone, makes a line.
func TestDiffSaysEverything(t *testing.T) {
	for _, name := range []string{"it-server", "gr-public-servant", "issuing-ca"} {
		for i, done := 0, false; !done; i++ {
			a, b := libraryPolicy(t), libraryPolicy(t)
			q, _ := b.Profile(name)
			q.LintIgnore, q.Policies = []string{"x"}, []string{"1.2"}
			*mustProfile(a, name) = *q
			q = mustProfile(libraryPolicy(t), name)
			q.LintIgnore, q.Policies = []string{"x"}, []string{"1.2"}
			left := i
			path := alter(reflect.ValueOf(q).Elem(), &left)
			*mustProfile(b, name) = *q
			if done = path == ""; !done && len(Diff(a, b)) == 0 {
				t.Errorf("%s%s changed and nothing was said", name, path)
			}
			if done && i < 40 {
				t.Errorf("only %d values of %s were changed", i, name)
			}
		}
	}
	for i, done := 0, false; !done; i++ {
		a, b := withRecovery(t), withRecovery(t)
		left := i
		path := alter(reflect.ValueOf(b).Elem(), &left)
		if done = path == ""; !done && len(DiffRoster(a, b)) == 0 {
			t.Errorf("roster%s changed and nothing was said", path)
		}
	}
}

// withRecovery is a roster of three, whose roster others may replace.
func withRecovery(t testing.TB) *Roster {
	o := threeOfficers(t)
	o.Recovery = recovery(t)
	return o
}

// recovery is a recovery by three persons who are none of three officers.
func recovery(t testing.TB) *Recovery {
	c := &Recovery{Persons: 2, Days: 30}
	for _, person := range []string{"gr:000123454", "it:FTTCRL84C52H501V", "it:RSSCRL70A41H501X"} {
		c.Holders = append(c.Holders, Holder{person, "Holder", [][]byte{spki(t, "recovery "+person)}})
	}
	return c
}

func mustProfile(p *Policy, name string) *Profile {
	q, _ := p.Profile(name)
	return q
}

// alter changes the value that is left-th in v and says where it is; "" is that there are fewer.
func alter(v reflect.Value, left *int) string {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Name != "_" {
				if path := alter(v.Field(i), left); path != "" {
					return "." + f.Name + path
				}
			}
		}
		return ""
	case reflect.Pointer:
		return alter(v.Elem(), left)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				if path := alter(v.Index(i), left); path != "" {
					return "[]" + path
				}
			}
			if *left--; *left == -1 {
				v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
				return "[new]"
			}
			return ""
		}
	}
	if *left--; *left != -1 {
		return ""
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	default:
		v.SetBytes(append(v.Bytes(), 1))
	}
	return " "
}
