package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"coldseal/agent"
	"coldseal/appliance"
	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/lint"
	"coldseal/protocol"
	"coldseal/protocol/media"
	"coldseal/protocol/policy"
)

// What is in a prepared world.
const (
	applianceDir = "appliance"
	agentDir     = "agent"
	stickDir     = "stick"
	csrDir       = "csr"
	tableFile    = "table.csv"
	secretFile   = "secret"
	pinFile      = "pin"
	deviceDir    = "device"     // what the device keeps
	sampleFile   = "sample.cer" // a certificate of the profile that is measured
	issuerFile   = "issuer.cer"
	ready        = "ready" // written last
)

// world is an appliance and an agent with a bundle of n requests on a medium, not processed yet.
type world struct {
	dir, bin string
	kind     kind // of the device
	n        int

	engine  *appliance.Engine
	agent   *agent.Service
	officer []*ecdsa.PrivateKey
	local   *ecdsa.PrivateKey // of the approver
	issuing protocol.Digest
	digest  string // of the genesis
	policy  *policy.Policy
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// copy gives a world that may be used up.
func (w *world) copy() (*world, error) {
	run := &world{dir: w.path("run"), bin: w.bin, kind: w.kind, n: w.n}
	if err := os.RemoveAll(run.dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(run.dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{applianceDir, agentDir, stickDir, deviceDir, secretFile, pinFile} {
		if said, err := exec.Command("cp", "-a", w.path(name), run.dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("copy what was prepared: %w: %s", err, said)
		}
	}
	return run, nil
}

// sample reads requests and a certificate for the limit.
func (w *world) sample() (csrs [][]byte, certificate, issuer []byte, err error) {
	const most = 20000
	for i := range min(w.n, most) {
		data, err := os.ReadFile(w.path(csrName(i)))
		if err != nil {
			return nil, nil, nil, err
		}
		csrs = append(csrs, data)
	}
	if certificate, err = os.ReadFile(w.path(sampleFile)); err == nil {
		issuer, err = os.ReadFile(w.path(issuerFile))
	}
	return csrs, certificate, issuer, err
}

// make prepares the world: genesis, CAs, agent, approver, requests, approvals, export.
func (w *world) make(ctx context.Context) error {
	fmt.Fprintf(os.Stderr, "preparing %d requests\n", w.n)
	if err := os.RemoveAll(w.dir); err != nil {
		return err
	}
	if err := w.with(ctx, w.approver, w.example, w.requests); err != nil {
		return err
	}
	return os.WriteFile(w.path(ready), nil, 0o600)
}

// with begins an appliance and an agent and takes some steps with them.
func (w *world) with(ctx context.Context, steps ...func(context.Context) error) (err error) {
	for _, name := range []string{applianceDir, stickDir, csrDir} {
		if err := os.MkdirAll(w.path(name), 0o700); err != nil {
			return err
		}
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := errors.Join(os.WriteFile(w.path(secretFile), secret, 0o600), os.WriteFile(w.path(pinFile), []byte(softtoken.PIN+"\n"), 0o600)); err != nil {
		return err
	}
	device, err := w.startDevice(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.stop()) }()
	config := appliance.Config{Dir: w.path(applianceDir), Now: time.Now, Rand: rand.Reader, Built: time.Now().AddDate(0, 0, -1)}
	config.Signer, err = w.signer(ctx, device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Signer.Close()) }()
	if config.Lint, err = lint.Start(ctx, filepath.Join(w.bin, "coldseal-lint")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Lint.Close()) }()
	if err := w.begin(config); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.engine.Close(), w.agent.Close()) }()
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// travel carries what is approved to the appliance and back.
func (w *world) travel(ctx context.Context) error {
	if _, err := w.agent.Export(ctx, w.path(stickDir), agent.Choice{}); err != nil {
		return err
	}
	m, err := media.OpenMedium(w.path(stickDir))
	if err != nil {
		return err
	}
	defer m.Close()
	if _, err := w.engine.Medium(m, nil); err != nil {
		return err
	}
	imported, err := w.agent.Import(ctx, w.path(stickDir), nil)
	for _, one := range imported {
		if one.Refused != 0 || one.Refusal != nil {
			err = errors.Join(err, errors.New("what prepares the measurement was refused"))
		}
	}
	return errors.Join(err, os.RemoveAll(w.path(stickDir)), os.Mkdir(w.path(stickDir), 0o700))
}

// approver has an approver certificate made for all bodies.
func (w *world) approver(ctx context.Context) (err error) {
	if w.local, _, err = newKey(); err != nil {
		return err
	}
	csr, err := newCSR(w.local)
	if err != nil {
		return err
	}
	made, err := w.agent.Request(agent.Wish{
		Kind: protocol.KindIssue, Profile: "approver", Body: "it", Subject: "it:RSSCRL70A41H501X", CSR: csr, Fields: map[string]string{"name": "Rossi Carla"},
		Origin: protocol.OriginHolder, Scopes: []protocol.Scope{{Profile: profile, Body: "it"}},
	})
	if err != nil {
		return err
	}
	for _, key := range w.officer[:2] {
		statements := []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
		r := protocol.Request{Kind: protocol.KindIssue, Profile: "approver", Body: "it"}
		if err := w.attach(key, statements, []protocol.Request{r}, []protocol.Digest{made.ID}); err != nil {
			return err
		}
	}
	return w.travel(ctx)
}

func (w *world) attach(key crypto.Signer, statements []protocol.Statement, requests []protocol.Request, ids []protocol.Digest) error {
	a, err := w.approve(key, nil, statements, requests, ids)
	if err != nil {
		return err
	}
	_, err = w.agent.Attach(a)
	return err
}

// example has one certificate issued, for the limit.
func (w *world) example(ctx context.Context) error {
	if err := w.ask([]string{"it/057999"}); err != nil {
		return err
	}
	if err := w.travel(ctx); err != nil {
		return err
	}
	out := w.path("out")
	if _, err := w.agent.WriteCertificates(out, agent.BySubject); err != nil {
		return err
	}
	files, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			return err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && strings.HasSuffix(c.Subject.CommonName, "-PC-0000") {
			cas := w.engine.PublicState().CAs
			return errors.Join(os.WriteFile(w.path(sampleFile), c.Raw, 0o600), os.WriteFile(w.path(issuerFile), cas[len(cas)-1], 0o600))
		}
	}
	return errors.New("the example was not issued")
}

// check asks the agent whether every request of the measurement came back as a certificate: refusals would be quicker.
func (w *world) check() error {
	s, err := agent.Open(agent.Config{Dir: w.path(agentDir), Now: time.Now, Rand: rand.Reader})
	if err != nil {
		return err
	}
	st, err := s.Status()
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if issued := st.States[agent.StateImported]; issued != uint64(w.n) {
		return fmt.Errorf("only %d of %d requests were issued", issued, w.n)
	}
	return nil
}
