package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

func program(run func(*cobra.Command, []string) error) *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "Test the edge"}
	nouns := &cobra.Command{Use: "noun", Short: "Group verbs"}
	verb := &cobra.Command{Use: "verb FILE", Short: "Do it", Args: cobra.ExactArgs(1), RunE: run}
	verb.Flags().Bool("flag", false, "a flag")
	need := &cobra.Command{Use: "need", Short: "Want flags", RunE: run}
	for _, name := range []string{"one", "two", "left", "right"} {
		need.Flags().Bool(name, false, "a flag")
	}
	Require(need, "one", "two")
	need.MarkFlagsOneRequired("left", "right")
	need.MarkFlagsMutuallyExclusive("left", "right")
	root.AddCommand(need)
	nouns.AddCommand(verb)
	root.AddCommand(nouns, ManCommand())
	return root
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		args   string
		err    error
		code   int
		stderr string
	}{
		{"noun verb x", nil, 0, ""},
		{"noun verb", nil, 64, "error: accepts 1 arg(s), received 0\nhint: prog noun verb --help shows how it is used\n"},
		{"noun verb x --nonsense", nil, 64, "error: unknown flag: --nonsense\n"},
		{"noun", nil, 64, "error: prog noun: which command? there is verb\n"},
		{"noun verbs", nil, 64, "error: prog noun has no command \"verbs\"; there is verb\n"},
		{"need --left", nil, 64, "error: missing: --one, --two\nhint: prog need --help shows how it is used\n"},
		{"need --one --two", nil, 64, "error: missing: --left or --right\n"},
		{"need --one --two --left --right", nil, 64, "error: --left and --right exclude each other\n"},
		{"nouns", nil, 64, "error: prog has no command \"nouns\"; there is noun\n"},
		{"man", nil, 64, "error: --dir says where the pages go\n"},
		{"noun verb x", errors.New("broken\x1b[2J"), 1, "error: broken\\u{001b}[2J\n"},
		{"noun verb x", fmt.Errorf("open: %w", fs.ErrNotExist), 3, "error: open: file does not exist\n"},
		{"noun verb x", fmt.Errorf("x: %w", cose.ErrSignature), 7, "error: x: signature does not verify\n"},
		{"noun verb x", auditlog.ErrProof, 7, "error: "},
		{"noun verb x", Usage("no %s", "way"), 64, "error: no way\nhint: prog noun verb --help shows how it is used\n"},
		{"noun verb x", Fail(6, "type it again", "wrong"), 6, "error: wrong\nhint: type it again\n"},
		{"noun verb x", &ExitError{Code: 4}, 4, ""},
		{"noun verb x", Refused(protocol.Refuse(protocol.CodeApprovalsMissing, "have", "1", "need", "2", "missing", "1", "who", "role officer")), 5,
			"error: 1 of 2 persons approved\nhint: needs 1 more: role officer\n"},
		{"noun verb x", Refused(protocol.Refuse(protocol.CodeProfileChanged, "profile", "p")), 4, "error: the profile p has changed"},
		{"noun verb x", Refused(protocol.Refuse(protocol.CodeBadSeal, "reason", "r")), 7, "error: the file is not sealed"},
		{"noun verb x", Refused(protocol.Malformed("bundle", errors.New("r"))), 1, "error: the bundle cannot be read: r\n"},
		{"noun verb x", Refused(nil), 0, ""},
	} {
		var stdout, stderr bytes.Buffer
		code := Run(program(func(*cobra.Command, []string) error { return test.err }), strings.Fields(test.args), nil, &stdout, &stderr)
		if code != test.code || !strings.HasPrefix(stderr.String(), test.stderr) || (test.stderr == "") != (stderr.Len() == 0) || stdout.Len() != 0 {
			t.Errorf("%s, %v: exit %d, stderr %q, stdout %q", test.args, test.err, code, stderr.String(), stdout.String())
		}
	}
}

func TestPrintJSON(t *testing.T) {
	type report struct {
		Name string `json:"name"`
	}
	for _, test := range []struct {
		v    any
		want string
	}{
		{report{"a<b\u202e\x1b\U000e0041é"}, `{"schema":1,"name":"a<b\u202e\u001b\udb40\udc41é"}` + "\n"},
		{struct{}{}, `{"schema":1}` + "\n"},
	} {
		var b bytes.Buffer
		if err := PrintJSON(&b, test.v); err != nil || b.String() != test.want {
			t.Errorf("PrintJSON(%v) = %q, %v, want %q", test.v, b.String(), err, test.want)
		}
	}
	if err := PrintJSON(new(bytes.Buffer), []int{1}); err == nil {
		t.Error("an array was printed without a schema")
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"good": "hunter2\r\n", "inner": " a \n\n", "empty": "\n", "long": strings.Repeat("x", MaxSecret+1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args string
		want string
		ok   bool
	}{
		{"--passphrase-file good", "hunter2", true},
		{"--passphrase-file inner", " a \n", true},
		{"--passphrase-file empty", "", false},
		{"--passphrase-file long", "", false},
		{"--passphrase-file absent", "", false},
		{"--passphrase-file good --no-passphrase", "", false},
		{"--passphrase-fd 250", "", false},
		{"--no-passphrase", "", true},
	} {
		var got []byte
		c := &cobra.Command{Use: "x"}
		s := AddSecret(c, "passphrase", "passphrase of the key", true)
		c.RunE = func(*cobra.Command, []string) (err error) {
			got, err = s.Read()
			return err
		}
		args := strings.Fields(test.args)
		if args[0] == "--passphrase-file" {
			args[1] = filepath.Join(dir, args[1])
		}
		code := Run(c, args, nil, new(bytes.Buffer), new(bytes.Buffer))
		if (code == 0) != test.ok || string(got) != test.want {
			t.Errorf("%s: exit %d, secret %q", test.args, code, got)
		}
	}
}

func TestDigestFlag(t *testing.T) {
	want := protocol.DigestOf([]byte("genesis"))
	for _, typed := range []string{want.String(), want.Groups(), strings.ToUpper(want.String())} {
		var got protocol.Digest
		c := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }}
		DigestVar(c.Flags(), &got, "digest", "digest of the genesis")
		if code := Run(c, []string{"--digest", typed}, nil, new(bytes.Buffer), new(bytes.Buffer)); code != 0 || got != want {
			t.Errorf("--digest %q: exit %d, %s", typed, code, got)
		}
	}
	var got protocol.Digest
	c := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }}
	DigestVar(c.Flags(), &got, "digest", "digest of the genesis")
	if code := Run(c, []string{"--digest", "12345"}, nil, new(bytes.Buffer), new(bytes.Buffer)); code != ExitUsage {
		t.Errorf("a short digest: exit %d", code)
	}
}

func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if code := Run(program(nil), []string{"man", "--dir", dir}, nil, new(bytes.Buffer), new(bytes.Buffer)); code != 0 {
		t.Fatalf("exit %d", code)
	}
	page, err := os.ReadFile(filepath.Join(dir, "prog-noun.1"))
	if err != nil || !strings.Contains(string(page), "prog\\-noun \\- Group verbs") {
		t.Errorf("page %q, %v", page, err)
	}
}

func TestFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	if err := WriteOutput(name, nil, []byte("one"), true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := WriteOutput(name, nil, []byte("one"), true); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := WriteOutput(name, nil, []byte("two"), true); err == nil {
		t.Error("another content replaced the file")
	}
	if code, _ := Judge(WriteOutput(filepath.Join(name+"-absent", "out"), nil, nil, false)); code != ExitNotFound {
		t.Errorf("a folder that is not there: exit %d", code)
	}
	if data, err := ReadInput(name, nil, 3); err != nil || string(data) != "one" {
		t.Errorf("ReadInput = %q, %v", data, err)
	}
	if _, err := ReadInput(name, nil, 2); err == nil {
		t.Error("more than the limit was read")
	}
	if data, err := ReadInput("-", strings.NewReader("in"), 3); err != nil || string(data) != "in" {
		t.Errorf("ReadInput of stdin = %q, %v", data, err)
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := NewProgress(&b, "items", 10)
	for n := range uint64(10) {
		p.At(n)
	}
	if b.Len() != 0 {
		t.Errorf("less than ten seconds printed %q", b.String())
	}
	p.Done(10)
	if got := b.String(); !strings.HasPrefix(got, `{"schema":1,"progress":"items","done":10,"total":10,"per_second":`) || !strings.HasSuffix(got, `"seconds_left":0}`+"\n") {
		t.Errorf("the end printed %q", got)
	}
}
