package appliance_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// many makes a bundle of n workstations in groups of what one approval covers, each approved once.
func (d *desk) many(first, n int) (raws [][]byte, groups []protocol.Group) {
	d.t.Helper()
	key := newKeys(d.t, n)
	for i := range n {
		raws = append(raws, d.encode(d.workstation(d.issuing, unit, fmt.Sprintf("%04d", first+i), key[i])))
	}
	for chunk := range slices.Chunk(raws, 256) {
		g := protocol.Group{Section: protocol.SectionRequests, Approvals: [][]byte{d.approve(d.alp, nil, fingerprint, chunk...)}}
		for _, raw := range chunk {
			g.Items = append(g.Items, group(raw).Items...)
		}
		groups = append(groups, g)
	}
	return raws, groups
}

// restart starts workers and engine anew, whatever became of the former ones.
func (d *desk) restart() {
	d.t.Helper()
	if err := d.engine.Close(); err != nil {
		d.t.Fatal(err)
	}
	_, _ = d.config.Lint.Close(), d.config.Signer.Close() // how they ended is what is being tested
	d.start()
	d.open()
}

// complete asks that a response answers all requests, each with a certificate, and that the log has one for each.
func (d *desk) complete(raws [][]byte, r response) {
	d.t.Helper()
	if len(r.answers) != len(raws) {
		d.t.Errorf("%d answers to %d requests", len(r.answers), len(raws))
	}
	wanted, times := map[protocol.Digest]bool{}, map[protocol.Digest]int{}
	for _, raw := range raws {
		wanted[protocol.ID(raw)] = true
	}
	for _, a := range r.answers {
		if a.result.Outcome != protocol.OutcomeIssued || !wanted[a.result.ID] {
			d.t.Errorf("%s: %+v", a.result.Outcome, a.result.Refusal)
		}
		delete(wanted, a.result.ID)
	}
	serials := map[string]bool{}
	if err := d.engine.EachLeaf(0, func(_ uint64, data, salted []byte) error {
		leaf, err := auditlog.ParseLeaf(data)
		if err != nil || leaf.Kind != auditlog.Issued && leaf.Kind != auditlog.Burned {
			return err
		}
		if serials[string(leaf.Serial)] {
			d.t.Errorf("serial %x stands in two leaves", leaf.Serial)
		}
		serials[string(leaf.Serial)] = true
		if leaf.Kind == auditlog.Issued {
			result, err := protocol.ParseResult(salted[16:])
			times[result.ID]++
			return err
		}
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
	for _, raw := range raws {
		if n := times[protocol.ID(raw)]; n != 1 {
			d.t.Errorf("request %s has %d certificates", protocol.ID(raw), n)
		}
	}
	if len(wanted) != 0 {
		d.t.Errorf("%d requests were not answered", len(wanted))
	}
}

// A worker that dies or hangs between the intents of a batch and its results is a fault: nothing more is done, start
// burns the serials, they are on the next CRL, and the same bundle then finishes.
func TestWorkerFailsInMidBatch(t *testing.T) {
	for name, fail := range map[string]struct {
		signer bool
		signal syscall.Signal
		items  int
	}{
		"the signer is killed":  {true, syscall.SIGKILL, 1100},
		"the signer is stopped": {true, syscall.SIGSTOP, 1100},
		"two are under way":     {true, syscall.SIGKILL, 2100},
		"lint is killed":        {false, syscall.SIGKILL, 4200},
		"lint is stopped":       {false, syscall.SIGSTOP, 4200},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			if fail.signal == syscall.SIGSTOP { // who is dead need not be waited for
				d.patience = 5 * time.Second
			}
			d.restart()
			raws, groups := d.many(1, fail.items)
			bundle := d.seal(groups...)
			// Answers are reported when a batch is recorded: the second may be signed then, and the fourth prepared.
			d.config.Report = func(appliance.Progress) {
				pid := d.config.Lint.Pid()
				if fail.signer {
					pid = d.config.Signer.Pid()
				}
				if err := syscall.Kill(pid, fail.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
					t.Error(err)
				}
			}
			d.restart()
			if _, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil); !errors.Is(err, appliance.ErrFault) {
				t.Fatalf("got %v, want a fault", err)
			}
			if _, err := os.Stat(d.responsePath(d.sequence)); err == nil {
				t.Error("a response was stored")
			}
			if _, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil); !errors.Is(err, appliance.ErrFault) {
				t.Errorf("it went on after the fault: %v", err)
			}
			if _, err := d.engine.Order(nil, nil); !errors.Is(err, appliance.ErrFault) {
				t.Errorf("it took an order after the fault: %v", err)
			}
			if _, err := d.engine.Challenge(); !errors.Is(err, appliance.ErrFault) {
				t.Errorf("it made a challenge after the fault: %v", err)
			}
			issued := d.logged(auditlog.Issued)
			d.config.Report = nil
			d.restart()
			burned := d.logged(auditlog.Burned)
			if fail.signer && burned != fail.items-1024 {
				t.Errorf("%d serials were burned, want those of all batches but the first", burned)
			}
			if d.logged(auditlog.Issued) != issued {
				t.Error("start issued something")
			}
			d.restart()
			if d.logged(auditlog.Burned) != burned {
				t.Error("a second start burned more")
			}
			if out := d.process(bundle); out.Refusal != nil || out.Again {
				t.Fatalf("the same bundle: %+v", out)
			}
			d.complete(raws, d.read(d.responsePath(d.sequence)))
			crl := d.newest("issuing")
			if len(crl.RevokedCertificateEntries) != burned {
				t.Errorf("%d entries on the CRL, %d serials were burned", len(crl.RevokedCertificateEntries), burned)
			}
			if out := d.process(bundle); !out.Again {
				t.Errorf("once more: %+v", out)
			}
		})
	}
}

// An appliance that is killed at any moment starts again, and the same bundle finishes: each request has one
// certificate, what was taken away stays so, and the answer is complete.
func TestKilledAtAnyMoment(t *testing.T) {
	d := newDesk(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var pc protocol.Request
	var serial []byte
	for round := range 20 {
		raws, groups := d.many(300*round, 300)
		hold := []byte(nil)
		if serial != nil {
			hold = d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
			groups = append([]protocol.Group{d.taken(hold, d.alp)}, groups...)
		}
		file := filepath.Join(t.TempDir(), "bundle")
		if err := os.WriteFile(file, d.seal(groups...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.engine.Close(), d.config.Signer.Close(), d.config.Lint.Close()); err != nil {
			t.Fatal(err)
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childVariable+"="+file, "COLDSEAL_BIN="+bin, "COLDSEAL_STATE="+d.dir, "COLDSEAL_SECRET="+d.secret,
			"COLDSEAL_NOW="+strconv.FormatInt(d.now.Unix(), 10))
		var said bytes.Buffer
		child.Stderr = &said
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.IntN(600))*time.Millisecond, func() {
			if err := child.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
		})
		if err := child.Wait(); err != nil && child.ProcessState.ExitCode() > 0 {
			t.Fatalf("child: %v: %s", err, said.String())
		}
		timer.Stop()
		d.start()
		d.open()
		if out := d.process(must[[]byte](t)(os.ReadFile(file))); out.Refusal != nil {
			t.Fatal(out.Refusal.Words())
		}
		r := d.read(d.responsePath(d.sequence))
		if hold != nil {
			if a := r.of(t, hold); a.result.Outcome != protocol.OutcomeRevoked {
				t.Errorf("the revocation: %+v", a.result)
			}
			if _, listed := reason(d.newest("issuing"), serial); !listed {
				t.Error("what was revoked is not on the CRL")
			}
			r.answers = slices.DeleteFunc(r.answers, func(a answered) bool { return a.result.ID == protocol.ID(hold) })
		}
		d.complete(raws, r)
		pc, _ = protocol.ParseRequest(raws[0])
		serial = r.of(t, raws[0]).result.Serial
		d.learn(r)
		d.now = d.now.Add(time.Minute)
	}
	t.Logf("%d serials were burned, %d certificates issued", d.logged(auditlog.Burned), d.logged(auditlog.Issued))
	d.reopen()
}

// childVariable names the bundle that a child process is to process.
const childVariable = "COLDSEAL_BUNDLE"

// child is the appliance that gets killed.
func child(file string) error {
	seconds, err := strconv.ParseInt(os.Getenv("COLDSEAL_NOW"), 10, 64)
	if err != nil {
		return err
	}
	bin = os.Getenv("COLDSEAL_BIN")
	w := &world{dir: os.Getenv("COLDSEAL_STATE"), secret: os.Getenv("COLDSEAL_SECRET"), now: time.Unix(seconds, 0)}
	w.config = w.configuration()
	if err := w.workers(); err != nil {
		return err
	}
	bundle, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	e, err := appliance.Open(w.config)
	if err != nil {
		return err
	}
	_, err = e.Process(spool{bytes.NewReader(bundle)}, nil)
	return errors.Join(err, e.Close())
}
