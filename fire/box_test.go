package fire

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
)

// box is the appliance of a world, opened in this process: thousands of times that is too many programs to start. The
// signer is the real one, the lint worker too, which has no state and is shared.
type box struct {
	config appliance.Config
	engine *appliance.Engine
}

// recovery is how long starting may take, whatever was before.
const recovery = 10 * time.Second

// linter starts a lint worker.
func linter(t *testing.T) *lint.Client {
	t.Helper()
	c, err := lint.Start(context.Background(), filepath.Join(home.libexec, "coldseal-lint"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// workers starts the signer of a world.
func (w *world) workers(t *testing.T, lints *lint.Client) *box {
	t.Helper()
	args := []string{"--dir", w.path("appliance", "keys"), "--secret-file", w.path("secret")}
	client, err := signer.Start(context.Background(), filepath.Join(home.libexec, realDir, "coldseal-signer"), args, signer.Options{})
	if err != nil {
		t.Fatalf("start signer: %v", err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("signer: %v", err)
		}
	})
	now := time.Now()
	return &box{config: appliance.Config{Dir: w.path("appliance"), Signer: client, Lint: lints, Now: time.Now, Rand: rand.Reader, Built: now.AddDate(-1, 0, 0)}}
}

// open starts the engine, which replays its log and compares it with its ledger and counter.
func (b *box) open(t *testing.T) {
	t.Helper()
	e, err := appliance.Open(b.config)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	b.engine = e
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// reopen starts the engine once more on what it made.
func (b *box) reopen(t *testing.T) {
	t.Helper()
	if err := b.engine.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(t)
}

// diary is a log as it is in a ledger.
type diary struct {
	*told
	leaves [][]byte
	kinds  []auditlog.Kind
	orders map[protocol.Digest]bool
}

// read reads the log. What is there twice is an error at once.
func (b *box) read(t *testing.T) *diary {
	t.Helper()
	d := &diary{told: newTold(), orders: map[protocol.Digest]bool{}}
	err := b.engine.EachLeaf(0, func(_ uint64, data, salted []byte) error {
		leaf, err := auditlog.ParseLeaf(data)
		if err != nil {
			return err
		}
		var body []byte
		if len(salted) > store.SaltSize {
			body = bytes.Clone(salted[store.SaltSize:])
		}
		d.leaves, d.kinds = append(d.leaves, bytes.Clone(data)), append(d.kinds, leaf.Kind)
		if leaf.Kind == auditlog.Order {
			var o auditlog.OrderBody
			if err := cose.Unmarshal(body, &o); err != nil {
				return err
			}
			d.orders[protocol.ID(o.Request)] = true
		}
		return d.take(t, leaf, body)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// follows asks whether a log that was found after a cut is the beginning of the one that there was before, up to the end
// of a step, and behind it nothing but what starting adds: serials that are burned. It gives how long that beginning is.
func (d *diary) follows(t *testing.T, before *diary) int {
	t.Helper()
	n := 0
	for n < len(d.leaves) && n < len(before.leaves) && bytes.Equal(d.leaves[n], before.leaves[n]) {
		n++
	}
	if n == 0 || d.kinds[n-1] != auditlog.Step {
		t.Errorf("the log parts from what it was in the middle of a step, after %d leaves", n)
	}
	added := d.kinds[n:]
	for i, kind := range added {
		if last := i == len(added)-1; last && kind != auditlog.Step || !last && kind != auditlog.Burned {
			t.Errorf("starting added a leaf of kind %v", kind)
		}
	}
	return n
}

// announces asks whether the log tells of all that the signer was asked to sign.
func (d *diary) announces(t *testing.T, asked []protocol.Digest) {
	t.Helper()
	for _, digest := range asked {
		if !d.announced[digest] {
			t.Errorf("the signer was asked to sign %s, which the log does not announce", digest)
		}
	}
}

// settled asks whether every serial that was announced is issued or burned.
func (d *diary) settled(t *testing.T) {
	t.Helper()
	for serial := range d.intended {
		if d.issued[serial] == nil && !d.burned[serial] {
			t.Errorf("serial %s was announced, and neither issued nor burned", serial)
		}
	}
}

// lists asks whether exactly these serials are on the CRLs.
func (b *box) lists(t *testing.T, serials []string) {
	t.Helper()
	listed := map[string]bool{}
	err := b.engine.CRLs(func(_ string, _ uint16, crl store.CRL) error {
		parsed, err := x509.ParseRevocationList(crl.DER)
		if err != nil {
			return err
		}
		for _, e := range parsed.RevokedCertificateEntries {
			listed[hex.EncodeToString(e.SerialNumber.Bytes())] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(serials)
	if got := sorted(listed); !slices.Equal(got, serials) {
		t.Errorf("the CRLs list %v, want %v", got, serials)
	}
}

// process has the appliance answer what is on the stick.
func (b *box) process(t *testing.T, w *world) appliance.Outcome {
	t.Helper()
	m, err := media.OpenMedium(w.path("stick"))
	if err != nil {
		t.Fatal(err)
	}
	visits, err := b.engine.Medium(m, nil)
	if err = errors.Join(err, m.Close()); err != nil || len(visits) != 1 || visits[0].Problem != nil || visits[0].Outcome.Refusal != nil {
		t.Fatalf("process: %+v, %v", visits, err)
	}
	return visits[0].Outcome
}

// order has the officers order what is in the file of that name.
func (b *box) order(t *testing.T, w *world, raw []byte) protocol.Result {
	t.Helper()
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	challenge, err := b.engine.Challenge()
	if err != nil {
		t.Fatal(err)
	}
	var approvals [][]byte
	for _, file := range []string{"1.key", "2.key"} {
		key, err := keyfile.Decode(readAll(t, w.path(file)), nil)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().Unix()
		a := protocol.Approval{
			Version: protocol.Version, Appliance: req.Appliance, Created: now, Expires: now + 3600, Challenge: challenge,
			Entries: []protocol.ApprovalEntry{{ID: protocol.ID(raw)}}, Manifest: protocol.ManifestOf([]protocol.Request{req}),
		}
		payload, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		message, err := cose.Sign(key, protocol.ContextApproval, payload)
		if err != nil {
			t.Fatal(err)
		}
		approvals = append(approvals, message)
	}
	return b.carryOut(t, raw, approvals)
}

// carryOut gives an order, with no approvals if it is known to be done.
func (b *box) carryOut(t *testing.T, raw []byte, approvals [][]byte) protocol.Result {
	t.Helper()
	result, err := b.engine.Order(raw, approvals)
	if err != nil {
		t.Fatalf("order: %v", err)
	}
	if result.Outcome != protocol.OutcomeDone && result.Outcome != protocol.OutcomeIssued {
		t.Fatalf("the order was %s: %+v", result.Outcome, result.Refusal)
	}
	return result
}

// there reads a file that may not be there.
func (w *world) there(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(w.path(parts...))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}
