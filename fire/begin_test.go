package fire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// people makes the keys of three officers, and what else there is before genesis.
func people(t *testing.T, dir string, run func(*exec.Cmd) (outcome, error)) *world {
	t.Helper()
	w := &world{dir: dir, run: run}
	secret := make([]byte, 32)
	rand.Read(secret)
	err := errors.Join(os.WriteFile(w.path("secret"), secret, 0o600), os.Mkdir(w.path("stick"), 0o755),
		os.WriteFile(w.path("policy.yaml"), []byte("policy: fire\nclock_ahead: 400 days\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"1.key", "2.key", "3.key"} {
		w.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", key)
	}
	return w
}

var genesis = []string{"appliance", "genesis", "--name", "fire", "--policy", "policy.yaml", "--policy", "library:all", "--quorum", "2",
	"--officer", "it:SMPBRN79S03F205N=1.key.pub", "--officer", "it:PRVLCU91M67L736T=2.key.pub", "--officer", "it:CMPGUO66A30A326C=3.key.pub"}

// begin makes an appliance with its CAs, an agent, an approver, and five workstations of which one is on hold.
func begin(t *testing.T, dir string, run func(*exec.Cmd) (outcome, error)) *world {
	t.Helper()
	w := people(t, dir, run)
	w.digest = w.must(t, genesis...)
	root := w.order(t, "create-key", "--label", "root", "--algorithm", "P-256")
	w.order(t, "sign-ca", "--profile", "root", "--key", root, "--field", "name=Root", "--field", "organization=Fire", "--field", "country=IT")
	w.root = root
	w.order(t, w.certify(w.order(t, "create-key", "--label", "issuing", "--algorithm", "P-256"), "Issuing")...)
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

// certify is the order by which the root certifies a CA key.
func (w *world) certify(key, name string) []string {
	return []string{"sign-ca", "--profile", "issuing-ca", "--issuer", w.root, "--key", key, "--field", "name=" + name, "--field", "organization=Fire", "--field", "country=IT"}
}

// batch has the agent make requests for n workstations, numbered from first on, and gives their ids.
func (w *world) batch(t *testing.T, first, n int) []string {
	t.Helper()
	w.tabulate(t, first, n)
	ids := strings.Fields(w.must(t, batch...))
	if err := os.RemoveAll(w.path("csrs")); err != nil {
		t.Fatal(err)
	}
	return ids
}

var batch = []string{"agent", "request", "batch", "--profile", "it-workstation", "--dir", "csrs", "--csv", "table.csv", "--origin", "holder"}

// tabulate writes the CSRs and the table for a batch.
func (w *world) tabulate(t *testing.T, first, n int) {
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
func template(t *testing.T, name string, makes func(t *testing.T, dir string) *world) *world {
	t.Helper()
	templates.Lock()
	w := templates.made[name]
	templates.Unlock()
	if w != nil {
		return w
	}
	dir, err := os.MkdirTemp(home.dir, name+"-") // should two make it at once, either will do
	if err != nil {
		t.Fatal(err)
	}
	w = makes(t, dir)
	templates.Lock()
	defer templates.Unlock()
	if templates.made == nil {
		templates.made = map[string]*world{}
	}
	templates.made[name] = w
	return w
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

// begun gives a template of an appliance and an agent at work.
func begun(t *testing.T) *world {
	t.Helper()
	return template(t, "begun", func(t *testing.T, dir string) *world { return begin(t, dir, nil) })
}

// laden gives a template whose agent has n workstations to send.
func laden(t *testing.T, n int) *world {
	t.Helper()
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
