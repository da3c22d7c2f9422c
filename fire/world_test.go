package fire

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long any command may take.
const patience = 2 * time.Minute

// world is a folder with an appliance, an agent and a stick.
type world struct {
	dir    string
	digest string // of genesis
	load   load
	run    func(cmd *exec.Cmd) (outcome, error) // how commands are run; nil is as they are
}

// load is what the agent of a world has to send.
type load struct {
	issue  []string // ids of requests that are to be issued
	done   []string // of those that something else becomes of: revoked, held, released, refused for good
	open   []string // of those that lack approvals
	listed []string // serials that the CRL then has
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// outcome is how a command ended.
type outcome struct {
	code   int // -1 if it was killed
	signal syscall.Signal
	out    string
	words  string // for people, on stderr
}

// command makes a program's command line. The first word is coldseal, agent or appliance; the last two get the flags
// that say where their state is.
func (w *world) command(line ...string) *exec.Cmd {
	program, args := line[0], line[1:]
	switch program {
	case "appliance":
		args = append(slices.Clone(args), "--state", "appliance", "--secret-file", "secret", "--libexec", home.libexec)
	case "agent":
		args = append(slices.Clone(args), "--state", "agent")
	}
	if program != "coldseal" {
		program = "coldseal-" + program
	}
	cmd := exec.Command(filepath.Join(home.libexec, realDir, program), args...)
	cmd.Dir = w.dir
	return cmd
}

// try runs a command to its end, whatever that is.
func (w *world) try(t *testing.T, line ...string) outcome {
	t.Helper()
	run := w.run
	if run == nil {
		run = execute
	}
	o, err := run(w.command(line...))
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(line, " "), err)
	}
	if o.code == 2 || strings.Contains(o.words, "goroutine ") {
		t.Fatalf("%s panicked: %s", strings.Join(line, " "), o.words)
	}
	return o
}

func execute(cmd *exec.Cmd) (outcome, error) { return watched(cmd, nil) }

// starts are done by one thread, which does nothing else: tracers wait for all children of their threads, and must not
// find those of others there.
var starts = make(chan func())

func starter() {
	runtime.LockOSThread()
	for f := range starts {
		f()
	}
}

func start(cmd *exec.Cmd) error {
	started := make(chan error)
	starts <- func() { started <- cmd.Start() }
	return <-started
}

// watched runs a command and calls began, if there is one, beside it.
func watched(cmd *exec.Cmd, began func(pid int, ended <-chan struct{})) (outcome, error) {
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := start(cmd); err != nil {
		return outcome{}, err
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	hung := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	ended := make(chan struct{})
	var beside sync.WaitGroup
	if began != nil {
		beside.Go(func() { began(cmd.Process.Pid, ended) })
	}
	err := cmd.Wait()
	close(ended)
	beside.Wait()
	if !hung() {
		return outcome{}, fmt.Errorf("it hung: %s", words.String())
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return outcome{}, err
	}
	o := outcome{code: cmd.ProcessState.ExitCode(), out: out.String(), words: words.String()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		o.signal = status.Signal()
	}
	return o, nil
}

// must runs a command that has to succeed, and gives what it prints.
func (w *world) must(t *testing.T, line ...string) string {
	t.Helper()
	o := w.try(t, line...)
	if o.code != 0 {
		t.Fatalf("%s: exit %d %v\n%s%s", strings.Join(line, " "), o.code, o.signal, o.out, o.words)
	}
	return strings.TrimSpace(o.out)
}

// copy gives a world that may be used up.
func (w *world) copy(t *testing.T) *world {
	t.Helper()
	again := *w
	again.dir, again.run = t.TempDir(), nil
	copyTree(t, w.dir, again.dir)
	return &again
}

// copyTree copies files as they are, with the holes that databases have.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if o, err := execute(exec.Command("cp", "-a", from+"/.", to)); err != nil || o.code != 0 {
		t.Fatalf("copy %s to %s: %v: %s", from, to, err, o.words)
	}
}

// order has an order carried out at the console by two officers, and gives what the console prints.
func (w *world) order(t *testing.T, line ...string) string {
	t.Helper()
	w.introduce(t)
	if err := os.RemoveAll(w.path("order")); err != nil {
		t.Fatal(err)
	}
	w.must(t, slices.Concat([]string{"coldseal", "order"}, line, []string{"--introduction", "introduction", "--digest", w.digest, "--out", "order"})...)
	return w.must(t, "appliance", "console", "order", "--request", "order", "--officer", "1.key", "--officer", "2.key", "--yes")
}

func (w *world) introduce(t *testing.T) {
	t.Helper()
	w.must(t, "appliance", "export", "introduction", "--out", "introduction")
}

// approve has one person approve all requests that wait, but for those kept back.
func (w *world) approve(t *testing.T, key, statements string, back ...string) {
	t.Helper()
	pending, approvals := w.path("pending"), w.path("approvals")
	w.must(t, "agent", "pending", "--out", "pending")
	for _, id := range back {
		if err := os.Remove(filepath.Join(pending, id+".request")); err != nil {
			t.Fatal(err)
		}
	}
	w.must(t, "coldseal", "approve", "--key", key, "--introduction", "introduction", "--digest", w.digest, "--dir", "pending",
		"--statement", statements, "--yes", "--out", "approvals/")
	files, err := filepath.Glob(filepath.Join(approvals, "*"))
	if err != nil {
		t.Fatal(err)
	}
	w.must(t, append([]string{"agent", "attach"}, files...)...)
	for _, dir := range []string{pending, approvals} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// carry carries the stick to the appliance and back.
func (w *world) carry(t *testing.T) {
	t.Helper()
	w.must(t, "agent", "export", "--media", "stick")
	w.must(t, "appliance", "process", "--media", "stick")
	w.must(t, "agent", "import", "--media", "stick")
	if err := errors.Join(os.RemoveAll(w.path("stick")), os.Mkdir(w.path("stick"), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// begin makes an appliance with its CAs, an agent, an approver, and five workstations of which one is on hold.
func begin(t *testing.T, dir string, run func(*exec.Cmd) (outcome, error)) *world {
	t.Helper()
	w := &world{dir: dir, run: run}
	secret := make([]byte, 32)
	rand.Read(secret)
	err := errors.Join(os.WriteFile(w.path("secret"), secret, 0o600), os.Mkdir(w.path("stick"), 0o755),
		os.WriteFile(w.path("policy.yaml"), []byte("policy: fire\nclock_ahead: 400 days\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	genesis := []string{"appliance", "genesis", "--name", "fire", "--policy", "policy.yaml", "--policy", "library:all", "--quorum", "2"}
	for i, person := range []string{"it:SMPBRN79S03F205N", "it:PRVLCU91M67L736T", "it:CMPGUO66A30A326C"} {
		key := fmt.Sprintf("%d.key", i+1)
		w.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", key)
		genesis = append(genesis, "--officer", person+"="+key+".pub")
	}
	w.digest = w.must(t, genesis...)
	root := w.order(t, "create-key", "--label", "root", "--algorithm", "P-256")
	w.order(t, "sign-ca", "--profile", "root", "--key", root, "--field", "name=Root", "--field", "organization=Fire", "--field", "country=IT")
	issuing := w.order(t, "create-key", "--label", "issuing", "--algorithm", "P-256")
	w.order(t, "sign-ca", "--profile", "issuing-ca", "--issuer", root, "--key", issuing, "--field", "name=Issuing", "--field", "organization=Fire", "--field", "country=IT")
	w.introduce(t)
	w.must(t, "agent", "init", "--appliance", "introduction", "--digest", w.digest, "--name", "desk", "--bodies", "it", "--items-per-day", "100000")
	w.order(t, "agent", "--party", "agent/enrolment")
	w.introduce(t)
	w.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", "local.key")
	w.must(t, "coldseal", "key", "csr", "--key", "local.key", "--out", "local.csr")
	w.must(t, "agent", "request", "issue", "--profile", "approver", "--body", "it/058091", "--subject", "it:FTTCRL84C52H501V", "--origin", "holder",
		"--csr", "local.csr", "--field", "name=Carla Fittizia", "--scope", "it-workstation=it/058091")
	w.approve(t, "1.key", "presence,fingerprint")
	w.approve(t, "2.key", "presence,fingerprint")
	w.carry(t)
	w.batch(t, 9000, 5)
	w.approve(t, "local.key", "fingerprint")
	w.carry(t)
	w.must(t, "agent", "request", "hold", "--serial", w.serial(t, "9004"))
	w.approve(t, "local.key", "")
	w.carry(t)
	return w
}

// batch has the agent make requests for n workstations, numbered from first on, and gives their ids.
func (w *world) batch(t *testing.T, first, n int) []string {
	t.Helper()
	if err := os.MkdirAll(w.path("csrs"), 0o755); err != nil {
		t.Fatal(err)
	}
	table := strings.Builder{}
	table.WriteString("csr,body,subject,number\n")
	for i := first; i < first+n; i++ {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if err := os.WriteFile(w.path("csrs", fmt.Sprintf("%04d.csr", i)), text, 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&table, "%04d.csr,it/058091,058091-PC-%04d,%04d\n", i, i, i)
	}
	if err := os.WriteFile(w.path("table.csv"), []byte(table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	ids := strings.Fields(w.must(t, "agent", "request", "batch", "--profile", "it-workstation", "--dir", "csrs", "--csv", "table.csv", "--origin", "holder"))
	if err := os.RemoveAll(w.path("csrs")); err != nil {
		t.Fatal(err)
	}
	return ids
}

// row is a line of coldseal-agent list.
type row struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	State   string `json:"state"`
	Outcome string `json:"outcome"`
	Open    bool   `json:"open"`
}

// rows lists the agent's requests.
func (w *world) rows(t *testing.T) (rows []row) {
	t.Helper()
	for line := range strings.Lines(w.must(t, "agent", "list", "--json")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("list: %v: %s", err, line)
		}
		rows = append(rows, r)
	}
	return rows
}

// serial finds the serial of a workstation's certificate.
func (w *world) serial(t *testing.T, number string) string {
	t.Helper()
	for _, r := range w.rows(t) {
		if r.Subject == "058091-PC-"+number && r.Kind == "issue" {
			var shown struct{ Serial string }
			if err := json.Unmarshal([]byte(w.must(t, "agent", "show", r.ID, "--json")), &shown); err != nil || shown.Serial == "" {
				t.Fatalf("serial of %s: %v", number, err)
			}
			return shown.Serial
		}
	}
	t.Fatalf("there is no workstation %s", number)
	return ""
}

// lade gives the agent n workstations to send, and one each of what else there is: a revocation, a hold, a release, a
// request that is refused for good, one whose name is taken and one that lacks its approvals.
func (w *world) lade(t *testing.T, n int) {
	t.Helper()
	ask := func(line ...string) string { return w.must(t, append([]string{"agent", "request"}, line...)...) }
	workstation := func(number string, key ...string) string {
		return ask(append([]string{"issue", "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-" + number,
			"--field", "number=" + number, "--unchecked"}, key...)...)
	}
	weak, err := filepath.Abs("../testdata/csr/openssl-rsa1024-badkey.csr")
	if err != nil {
		t.Fatal(err)
	}
	w.load.issue = w.batch(t, 1, n)
	w.load.listed = []string{w.serial(t, "9001"), w.serial(t, "9002")}
	w.load.done = []string{
		ask("revoke", "--serial", w.load.listed[0], "--reason", "keyCompromise"), ask("hold", "--serial", w.load.listed[1]),
		ask("release", "--serial", w.serial(t, "9004")), workstation("9998", "--csr", weak, "--origin", "holder"),
	}
	w.load.open = []string{workstation("9999", "--new-key", "P-256"), workstation("9003", "--new-key", "P-256")}
	w.approve(t, "local.key", "fingerprint", w.load.open[0])
}

// templates are the worlds that were made, by name.
var templates struct {
	sync.Mutex
	made map[string]*world
}

// template gives the world of that name, and makes it first if there is none. It is for copying.
func template(t *testing.T, name string, make func(t *testing.T, dir string) *world) *world {
	t.Helper()
	templates.Lock()
	defer templates.Unlock()
	return templateLocked(t, name, make)
}

func templateLocked(t *testing.T, name string, makes func(t *testing.T, dir string) *world) *world {
	t.Helper()
	if templates.made[name] == nil {
		dir := filepath.Join(home.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w := makes(t, dir)
		if templates.made == nil {
			templates.made = map[string]*world{}
		}
		templates.made[name] = w
	}
	return templates.made[name]
}

// from makes a template of another one.
func from(base func(t *testing.T) *world, change func(t *testing.T, w *world)) func(t *testing.T, dir string) *world {
	return func(t *testing.T, dir string) *world {
		w := *base(t)
		copyTree(t, w.dir, dir)
		w.dir = dir
		change(t, &w)
		return &w
	}
}

// laden gives a template whose agent has n workstations to send.
func laden(t *testing.T, n int) *world {
	t.Helper()
	begun := func(t *testing.T) *world {
		return templateLocked(t, "begun", func(t *testing.T, dir string) *world { return begin(t, dir, nil) })
	}
	return template(t, fmt.Sprint("laden-", n), from(begun, func(t *testing.T, w *world) { w.lade(t, n) }))
}

// travelled gives a template that is laden, with the first of the three commands done by which its bundle comes and goes.
func travelled(t *testing.T, n, done int) *world {
	t.Helper()
	w := laden(t, n)
	for i, line := range journey[:done] {
		base := w
		w = template(t, fmt.Sprintf("%s-%d-%d", line[1], n, i), from(func(*testing.T) *world { return base }, func(t *testing.T, w *world) { w.must(t, line...) }))
	}
	return w
}

// journey is how the bundle of a laden world comes and goes.
var journey = [][]string{
	{"agent", "export", "--media", "stick", "--incomplete"},
	{"appliance", "process", "--media", "stick"},
	{"agent", "import", "--media", "stick"},
}

// finish gives a command until it is done, as a person does who is told that it was done before.
func (w *world) finish(t *testing.T, line []string) {
	t.Helper()
	o := w.try(t, line...)
	if o.code == 3 && strings.Contains(o.words, "--again 4") {
		o = w.try(t, "agent", "export", "--media", "stick", "--again", "4")
	}
	if o.code != 0 {
		t.Fatalf("%s: exit %d\n%s%s", strings.Join(line, " "), o.code, o.out, o.words)
	}
}
