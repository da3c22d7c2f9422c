package coldseal

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What the documentation says is run and held against the programs: a page that has become wrong is a failed test.

// documented lists the files whose commands and flags have to exist.
func documented(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) < 8 {
		t.Fatalf("pages %v, %v", pages, err)
	}
	return append(pages, "README.md")
}

func TestDocs(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	trees := map[string]*command{}
	for _, name := range []string{"coldseal", "coldseal-agent", "coldseal-appliance", "coldseal-station"} {
		trees[name] = readHelp(t, bin, name)
	}
	t.Run("help", func(t *testing.T) { checkHelp(t, bin, trees) })
	for _, page := range documented(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			checkMentions(t, string(text), trees)
			runPage(t, bin, string(text))
		})
	}
}

// command is what --help says of one command.
type command struct {
	path     string
	short    string
	flags    []string
	children map[string]*command
}

var (
	helpChild = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +(\S.*)$`)
	helpFlag  = regexp.MustCompile(`(?m)^ +(?:-[a-z], )?--([a-z-]+)\b.*?(?:   +|$)(.*)$`)
)

// readHelp asks a command and all below it for help.
func readHelp(t *testing.T, bin string, words ...string) *command {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, words[0]), append(slices.Clone(words[1:]), "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v --help: %v\n%s", words, err, out)
	}
	text := string(out)
	c := &command{path: strings.Join(words, " "), children: map[string]*command{}}
	for _, m := range helpFlag.FindAllStringSubmatch(text, -1) {
		c.flags = append(c.flags, m[1])
		if m[2] == "" || strings.HasSuffix(m[2], ".") || strings.Contains(m[0], "-1)") {
			t.Errorf("%s: flag %q is not explained well", c.path, strings.TrimSpace(m[0]))
		}
	}
	if _, list, found := strings.Cut(text, "Available Commands:\n"); found {
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range helpChild.FindAllStringSubmatch(list, -1) {
			child := readHelp(t, bin, append(slices.Clone(words), m[1])...)
			child.short = m[2]
			c.children[m[1]] = child
		}
	}
	return c
}

func (c *command) walk(f func(*command)) {
	f(c)
	for _, child := range c.children {
		child.walk(f)
	}
}

// checkHelp asks all commands for one style of words, and for exit code 64 where the command line is wrong.
func checkHelp(t *testing.T, bin string, trees map[string]*command) {
	number := 0
	for _, tree := range trees {
		tree.walk(func(c *command) {
			number++
			first, _ := strings.CutSuffix(c.short, ".")
			if first != c.short || first != "" && first[:1] != strings.ToLower(first[:1]) && first[1:2] == strings.ToLower(first[1:2]) {
				t.Errorf("%s: %q does not begin with a small letter, or ends with a full stop", c.path, c.short)
			}
			words := strings.Fields(c.path)
			usageError(t, bin, append(words, "--no-such-flag")...)
			if len(c.children) > 0 {
				usageError(t, bin, words...)
				usageError(t, bin, append(words, "no-such-command")...)
			}
		})
	}
	if number < 60 {
		t.Errorf("only %d commands were found", number)
	}
	for _, name := range []string{"coldseal-signer", "coldseal-lint"} {
		usageError(t, bin, name)
		usageError(t, bin, name, "--no-such-flag")
	}
	for name := range trees {
		for _, shell := range []string{"bash", "zsh", "fish"} {
			if out, err := exec.Command(filepath.Join(bin, name), "completion", shell).Output(); err != nil || !strings.Contains(string(out), name) {
				t.Errorf("%s completion %s: %v", name, shell, err)
			}
		}
		out, err := exec.Command(filepath.Join(bin, name), "__complete", "").Output()
		for child := range trees[name].children {
			if err != nil || !strings.Contains(string(out), child+"\t") {
				t.Errorf("%s: %s is not completed: %v\n%s", name, child, err, out)
			}
		}
	}
}

func usageError(t *testing.T, bin string, words ...string) {
	t.Helper()
	c := exec.Command(filepath.Join(bin, words[0]), words[1:]...)
	out, err := c.CombinedOutput()
	if c.ProcessState == nil || c.ProcessState.ExitCode() != 64 || len(out) == 0 {
		t.Errorf("%v: %v, want exit code 64 and words\n%s", words, err, out)
	}
}

var (
	fence     = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")
	span      = regexp.MustCompile("`([^`\n]+)`")
	mention   = regexp.MustCompile(`(?:^|[\s(])(coldseal(?:-agent|-appliance|-station)?)((?: +[^\s|;&)]+)*)`)
	flagInDoc = regexp.MustCompile(`^--([a-z][a-z-]*)`)
	plainWord = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// hidden flags that --help leaves out, and that pages may show: for rehearsals.
var hidden = []string{"clock"}

// checkMentions asks whether every command and flag that a page names exists.
func checkMentions(t *testing.T, text string, trees map[string]*command) {
	var code []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		code = append(code, strings.Split(strings.ReplaceAll(m[2], "\\\n", " "), "\n")...)
	}
	for _, m := range span.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		code = append(code, m[1])
	}
	for _, line := range code {
		for _, m := range mention.FindAllStringSubmatch(strings.ReplaceAll(line, "$(", "; "), -1) {
			checkMention(t, trees[m[1]], strings.Fields(m[2]))
		}
		if m := flagInDoc.FindStringSubmatch(line); m != nil {
			known := slices.Contains(hidden, m[1])
			for _, tree := range trees {
				tree.walk(func(c *command) { known = known || slices.Contains(c.flags, m[1]) })
			}
			if !known {
				t.Errorf("no program has a flag --%s", m[1])
			}
		}
	}
}

func checkMention(t *testing.T, c *command, words []string) {
	for len(words) > 0 && c.children[words[0]] != nil {
		c, words = c.children[words[0]], words[1:]
	}
	if len(words) > 0 && strings.HasPrefix(words[0], `"$`) {
		return // which command is a variable
	}
	if len(c.children) > 0 && len(words) > 0 && plainWord.MatchString(words[0]) {
		t.Errorf("there is no command %s %s", c.path, words[0])
	}
	for _, word := range words {
		if m := flagInDoc.FindStringSubmatch(word); m != nil && !slices.Contains(append(c.flags, hidden...), m[1]) {
			t.Errorf("%s has no flag --%s", c.path, m[1])
		}
	}
}

// shown is one command of a page, with what the page says it prints and how it ends.
type shown struct {
	command string
	want    []string
	exit    string
}

var (
	chapter  = regexp.MustCompile(`<!-- demo: ([0-9]) -->`)
	exitNote = regexp.MustCompile(`\s# exit ([0-9]+)$`)
)

// runPage runs the console blocks of a page in order, in the world that the demo makes up to the chapter named on top of
// the page. A block with a file name writes that file. In what is printed, … stands for anything.
func runPage(t *testing.T, bin, text string) {
	var all []shown
	world := t.TempDir()
	script := "cd " + world + "\nexec </dev/null\n"
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		kind, file, _ := strings.Cut(m[1], " ")
		switch {
		case file != "":
			script += fmt.Sprintf("cat > %s <<'END OF FILE'\n%sEND OF FILE\n", file, m[2])
		case kind == "console":
			for _, s := range parseConsole(t, m[2]) {
				script += fmt.Sprintf("{ %s\n} >out/%d 2>&1\necho $? >out/%[2]d.exit\n", s.command, len(all))
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	m := chapter.FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the page doesn't say after which chapter of the demo its commands are run: <!-- demo: N -->")
	}
	shell := func(script string, env ...string) {
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		defer stop()
		c := exec.CommandContext(ctx, "bash", "-c", script)
		c.Env = append(os.Environ(), append(env, "PATH="+bin+":"+os.Getenv("PATH"))...)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	shell("bash testdata/demo.sh "+world+"; mkdir "+world+"/out", "DEMO_UNTIL="+m[1])
	// The digest is what people have in the minutes.
	shell(`digest=$(coldseal-agent status --state ` + world + `/agent --json 2>/dev/null | sed 's/.*"appliance":"\([0-9a-f]*\)".*/\1/')` + "\n" + script + "true")
	for i, s := range all {
		s.check(t, filepath.Join(world, "out", fmt.Sprint(i)))
	}
}

// parseConsole reads commands, which begin with "$ " and go on after "> " or a backslash, and what each prints.
func parseConsole(t *testing.T, block string) []shown {
	t.Helper()
	var all []shown
	for _, line := range strings.Split(strings.TrimSuffix(strings.ReplaceAll(block, "\\\n", ""), "\n"), "\n") {
		if text, found := strings.CutPrefix(line, "$ "); found {
			s := shown{command: text, exit: "0"}
			if m := exitNote.FindStringSubmatch(text); m != nil {
				s.exit = m[1]
			}
			all = append(all, s)
			continue
		}
		if len(all) == 0 {
			t.Fatalf("a console block begins with %q", line)
		}
		if text, found := strings.CutPrefix(line, "> "); found {
			all[len(all)-1].command += "\n" + text
			continue
		}
		all[len(all)-1].want = append(all[len(all)-1].want, line)
	}
	return all
}

// check holds what a command did against what the page shows: its exit code, and the lines, in their order.
func (s shown) check(t *testing.T, file string) {
	out, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%s was not run: %v", s.command, err)
	}
	exit, err := os.ReadFile(file + ".exit")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(exit)); got != s.exit {
		t.Errorf("$ %s\nexit %s, want %s\n%s", s.command, got, s.exit, out)
		return
	}
	lines := strings.Split(string(out), "\n")
	for _, want := range s.want {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(want), " ")), "…", ".*")
		i := slices.IndexFunc(lines, func(line string) bool {
			matched, err := regexp.MatchString("^"+pattern+"$", strings.Join(strings.Fields(line), " "))
			return err == nil && matched
		})
		if i < 0 {
			t.Errorf("$ %s\nprinted\n%s\nand not, or not in this place,\n%s", s.command, out, want)
			return
		}
		if want != "…" {
			lines = lines[i+1:]
		}
	}
}

// TestPolicyKeys holds the tables of docs/policy.md against the keys that the reader of policies knows.
func TestPolicyKeys(t *testing.T) {
	keys := func(file, pattern string) []string {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(data), -1) {
			all = append(all, m[1]+map[bool]string{true: " is needed"}[m[2] != ""])
		}
		slices.Sort(all)
		return all
	}
	known := keys("protocol/policy/yaml.go", `"([a-z_]+)(!?)": +func\(n ast\.Node\)`)
	told := keys("docs/policy.md", "(?m)^\\| `([a-z_]+)` \\| (yes)? ?\\| \\S")
	known = append(known, "officers is needed", "orders is needed") // of a roster: their functions stand on lines of their own
	slices.Sort(known)
	known = slices.Compact(known)
	if len(known) < 40 || !slices.Equal(known, slices.Compact(told)) {
		t.Errorf("docs/policy.md explains\n%q\nand there are\n%q", told, known)
	}
}
