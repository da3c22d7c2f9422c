package coldseal

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// claim is one claim of docs/security.md with its evidence, as it is written there.
type claim struct {
	title    string
	accepted []string
	refused  []string
	sabotage []string
}

var (
	claimTitle = regexp.MustCompile(`^### [0-9]+\. .+`)
	evidence   = regexp.MustCompile("^- (accepted|refused|sabotage): ((?:`[^`]+`, )*`[^`]+`)$")
)

func claims(t *testing.T) (all []claim) {
	t.Helper()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	inClaims := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if claimTitle.MatchString(line) {
			all = append(all, claim{title: line})
		}
		inClaims = strings.HasPrefix(line, "### ") || inClaims && !strings.HasPrefix(line, "## ")
		if !inClaims || !strings.HasPrefix(line, "- ") {
			continue
		}
		m := evidence.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s: not evidence: %s", all[len(all)-1].title, line)
		}
		c, names := &all[len(all)-1], strings.Split(strings.ReplaceAll(m[2], "`", ""), ", ")
		switch m[1] {
		case "accepted":
			c.accepted = append(c.accepted, names...)
		case "refused":
			c.refused = append(c.refused, names...)
		case "sabotage":
			c.sabotage = append(c.sabotage, names...)
		}
	}
	return all
}

// TestAttackersHaveTheirClaims holds the numbers in the table of attackers against the parts of the page, one for each.
func TestAttackersHaveTheirClaims(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	var table, parts []string
	first, last := "", ""
	for line := range strings.Lines(string(text) + "## the end\n") {
		if m := claimRange.FindStringSubmatch(line); m != nil {
			table = append(table, m[1])
		}
		if m := claimNumber.FindStringSubmatch(line); m != nil {
			first, last = cmp.Or(first, m[1]), m[1]
		}
		if strings.HasPrefix(line, "## ") && first != "" {
			parts = append(parts, first+"–"+last)
			first = ""
		}
	}
	if len(table) == 0 || !slices.Equal(table, parts) {
		t.Errorf("the table has claims %v, the parts have %v", table, parts)
	}
}

var (
	claimRange  = regexp.MustCompile(`(?m)\| ([0-9]+–[0-9]+) \|$`)
	claimNumber = regexp.MustCompile(`^### ([0-9]+)\. `)
)

// TestSecurityClaims holds docs/security.md against the tests: each claim has both sides, all names exist, and each patch
// of make sabotage takes something away from a claim, which a refusing test of that claim notices.
func TestSecurityClaims(t *testing.T) {
	all := claims(t)
	if len(all) < 40 {
		t.Fatalf("%d claims", len(all))
	}
	var taken []string
	for i, c := range all {
		if !strings.HasPrefix(c.title, "### "+strconv.Itoa(i+1)+". ") {
			t.Errorf("claim %d is called %s", i+1, c.title)
		}
		if len(c.accepted) == 0 || len(c.refused) == 0 {
			t.Errorf("%s has %d accepting and %d refusing tests", c.title, len(c.accepted), len(c.refused))
		}
		for _, name := range slices.Concat(c.accepted, c.refused) {
			if !isTest(t, name) {
				t.Errorf("%s: there is no %s", c.title, name)
			}
		}
		for _, name := range c.sabotage {
			patch, err := os.ReadFile(filepath.Join("sabotage", name+".patch"))
			if err != nil {
				t.Errorf("%s: %v", c.title, err)
				continue
			}
			m := patchTest.FindSubmatch(patch)
			if m == nil || !slices.ContainsFunc(c.refused, func(test string) bool {
				return strings.HasPrefix(test+"/", strings.TrimLeft(string(m[1]), "./")+"."+string(m[2])+"/")
			}) {
				t.Errorf("%s: the test of %s is none of those that refuse", c.title, name)
			}
		}
		taken = append(taken, c.sabotage...)
	}
	patches, err := filepath.Glob("sabotage/*.patch")
	if err != nil {
		t.Fatal(err)
	}
	for _, patch := range patches {
		name := strings.TrimSuffix(filepath.Base(patch), ".patch")
		if !slices.Contains(taken, name) {
			t.Errorf("%s belongs to no claim", name)
		}
	}
}

var patchTest = regexp.MustCompile(`(?m)^test: (\./\S*|\.) (Test\w+)`)

var testName = regexp.MustCompile(`^([a-z0-9/-]*)\.(Test\w+)(?:/(.+))?$`)

// isTest tells whether a name is that of a script, or FOLDER.TestName/CASE, of a test whose package writes that case out.
func isTest(t *testing.T, name string) bool {
	t.Helper()
	if strings.HasPrefix(name, "testdata/script/") {
		_, err := os.Stat(name)
		return err == nil
	}
	m := testName.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	files, err := filepath.Glob(filepath.Join(".", m[1], "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(text, []byte("\nfunc "+m[2]+"(t *testing.T) {")) && (m[3] == "" || bytes.Contains(text, []byte(`"`+m[3]+`"`)))
	})
}
