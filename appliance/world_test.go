package appliance_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// bin is where TestMain puts the real workers.
var bin string

func TestMain(m *testing.M) {
	signers := map[string]func() error{countingSigner: runCountingSigner, overseer: runOverseer, mortal: runMortal}
	if run, isSigner := signers[filepath.Base(os.Args[0])]; isSigner {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if file := os.Getenv(childVariable); file != "" {
		if err := child(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "coldseal-")
	if err != nil {
		panic(err)
	}
	bin = dir
	for _, name := range []string{"coldseal-signer", "coldseal-lint"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "coldseal/cmd/"+name).CombinedOutput()
		if err != nil {
			panic(fmt.Sprintf("build %s: %v\n%s", name, err, out))
		}
	}
	for name := range signers {
		self, err := os.Executable()
		if err == nil {
			err = os.Symlink(self, filepath.Join(dir, name))
		}
		if err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

const (
	unit = "it/058091"
	day  = 24 * time.Hour
)

// world is an appliance with its officers, and an agent that trusts and is trusted with nothing.
type world struct {
	t        testing.TB
	dir      string
	now      time.Time
	config   appliance.Config
	engine   *appliance.Engine
	officers []*person
	agent    *ecdsa.PrivateKey
	receiver *ecdsa.PrivateKey
	sequence uint64
	known    struct {
		size uint64
		root protocol.Digest
	}
	acknowledged []uint64
	policy       *policy.Policy
	patience     time.Duration           // with workers; zero is the usual one
	secret       string                  // file that opens the keys
	counted      string                  // file in which the counting signer writes; empty is the real signer
	overseen     bool                    // the overseer is the signer
	mortal       bool                    // the mortal one is
	life         int                     // of the mortal one
	device       *device                 // keeps the keys; nil is the key store alone
	leaves       map[uint64][]byte       // all that responses brought
	roots        map[int64]auditlog.Hash // of the trees that responses brought
}

// person is somebody with an approval key.
type person struct {
	id     string
	key    *ecdsa.PrivateKey
	serial []byte // of an approver's certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKeys(t testing.TB, n int) []*ecdsa.PrivateKey {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, n)
	for i := range keys {
		keys[i] = newKey(t)
	}
	return keys
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// base is the policy of the tests: the whole library.
func base(t testing.TB) *policy.Policy {
	t.Helper()
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	files = append(files, policy.File{Name: "base.yaml", Data: []byte("policy: test\nclock_ahead: 400 days\n")})
	return must[*policy.Policy](t)(policy.Load(files...))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
}

// newWorldAt is a world that begins at a time: judges without a clock of their own need the real one.
func newWorldAt(t testing.TB, now time.Time) *world {
	t.Helper()
	return newWorldUnder(t, now, base(t))
}

// newWorldUnder is a world with a policy of its own.
func newWorldUnder(t testing.TB, now time.Time, p *policy.Policy) *world {
	t.Helper()
	return newWorldOn(t, now, p, nil)
}

// newWorldOn is a world whose keys are in a device.
func newWorldOn(t testing.TB, now time.Time, p *policy.Policy, on *device) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "state"), now: now, policy: p, device: on}
	w.leaves, w.roots = map[uint64][]byte{}, map[int64]auditlog.Hash{0: auditlog.EmptyCheckpoint("").Root}
	roster := &policy.Roster{Version: 1}
	for i := range 3 {
		p := &person{id: fmt.Sprintf("it:OFFICER%d", i+1), key: newKey(t)}
		w.officers = append(w.officers, p)
		roster.Officers = append(roster.Officers, policy.Officer{
			Person: p.id, Name: p.id, Keys: [][]byte{spki(t, p.key)}, Roles: []string{"security-officer"},
			Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	for _, k := range protocol.RuledOrders() {
		roster.Orders = append(roster.Orders, policy.OrderRule{Kind: k, Persons: 2, Role: "security-officer"})
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(w.secret, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	w.config = w.configuration()
	w.start()
	if _, err := appliance.Genesis(w.config, "test", roster, w.policy); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(w.stop)
	return w
}

func (w *world) configuration() appliance.Config {
	return appliance.Config{Dir: w.dir, Now: func() time.Time { return w.now }, Rand: rand.Reader, Built: w.now.Add(-30 * day)}
}

// start starts the workers.
func (w *world) start() {
	w.t.Helper()
	if err := w.workers(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) workers() (err error) {
	ctx := context.Background()
	args := []string{"--dir", filepath.Join(w.dir, "keys"), "--secret-file", w.secret}
	program := "coldseal-signer"
	if w.counted != "" {
		program, args = countingSigner, append(args, "--count", w.counted)
	}
	if w.overseen {
		program = overseer
	}
	if w.mortal {
		program, args = mortal, append(args, "--life", strconv.Itoa(w.life))
	}
	opts := signer.Options{Timeout: w.patience}
	program = filepath.Join(bin, program)
	if w.device != nil {
		more, pin, err := w.device.flags()
		if err != nil {
			return err
		}
		defer pin.Close()
		program, args, opts.Files = w.device.program, append(args, more...), []*os.File{pin}
	}
	if w.config.Signer, err = signer.Start(ctx, program, args, opts); err != nil {
		return err
	}
	if w.config.Lint, err = lint.Start(ctx, filepath.Join(bin, "coldseal-lint")); err != nil {
		return err
	}
	if w.patience != 0 {
		w.config.Lint.Deadline = w.patience
	}
	return nil
}

func (w *world) open() {
	w.t.Helper()
	w.engine = must[*appliance.Engine](w.t)(appliance.Open(w.config))
}

func (w *world) stop() {
	if err := errors.Join(w.engine.Close(), w.config.Lint.Close(), w.config.Signer.Close()); err != nil {
		w.t.Error(err)
	}
}

// reopen starts the engine anew, which replays its log.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.engine.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// process has the engine process a bundle.
func (w *world) process(bundle []byte) appliance.Outcome {
	w.t.Helper()
	out, err := w.engine.Process(spool{bytes.NewReader(bundle)}, func(protocol.Digest, []byte) error { return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// response opens the stored response to a bundle and verifies all of it.
func (w *world) response(sequence uint64) (protocol.ResponseHeader, map[protocol.Digest]protocol.Result, [][]byte) {
	w.t.Helper()
	r := w.read(w.responsePath(sequence))
	results := map[protocol.Digest]protocol.Result{}
	for _, a := range r.answers {
		results[a.result.ID] = a.result
	}
	return r.header, results, r.crls
}

// send seals, processes and opens the response.
func (w *world) send(groups ...protocol.Group) map[protocol.Digest]protocol.Result {
	w.t.Helper()
	if out := w.process(w.seal(groups...)); out.Refusal != nil {
		w.t.Fatalf("bundle refused: %s", out.Refusal.Words())
	}
	_, results, _ := w.response(w.sequence)
	return results
}
