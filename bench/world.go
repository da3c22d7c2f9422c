package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coldseal/agent"
	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/cose"
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
	sampleFile   = "sample.cer" // a certificate of the profile that is measured
	issuerFile   = "issuer.cer"
	ready        = "ready"      // written last
)

const (
	profile   = "it-workstation"
	perBody   = 10000 // the profile numbers machines with four digits
	role      = "security-officer"
	approverP = "it:RSSCRL70A41H501X"
)

// world is an appliance and an agent with a bundle of n requests on a medium, not processed yet.
type world struct {
	dir, bin string
	n        int

	engine  *appliance.Engine
	agent   *agent.Service
	officer []*ecdsa.PrivateKey
	local   *ecdsa.PrivateKey // of the approver
	issuing protocol.Digest
	policy  *policy.Policy
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// copy gives a world that may be used up.
func (w *world) copy() (*world, error) {
	run := &world{dir: w.path("run"), bin: w.bin, n: w.n}
	if err := os.RemoveAll(run.dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(run.dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{applianceDir, agentDir, stickDir} {
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

func csrName(i int) string { return fmt.Sprintf("%s/%06d.csr", csrDir, i) }

func body(i int) string { return fmt.Sprintf("it/%06d", 58000+i/perBody) }

// make prepares the world: genesis, CAs, agent, approver, requests, approvals, export.
func (w *world) make(ctx context.Context) (err error) {
	fmt.Fprintf(os.Stderr, "preparing %d requests\n", w.n)
	if err := os.RemoveAll(w.dir); err != nil {
		return err
	}
	for _, name := range []string{applianceDir, stickDir, csrDir} {
		if err := os.MkdirAll(w.path(name), 0o700); err != nil {
			return err
		}
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := os.WriteFile(w.path(secretFile), secret, 0o600); err != nil {
		return err
	}
	config := appliance.Config{Dir: w.path(applianceDir), Now: time.Now, Rand: rand.Reader, Built: time.Now().AddDate(0, 0, -1)}
	config.Signer, err = signer.Start(ctx, filepath.Join(w.bin, "coldseal-signer"), []string{"--backend", "softkey", "--dir", filepath.Join(config.Dir, "keys"), "--secret-file", w.path(secretFile)}, signer.Options{})
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
	for _, step := range []func(context.Context) error{w.approver, w.example, w.requests} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return os.WriteFile(w.path(ready), nil, 0o600)
}

// begin holds genesis, makes the CAs and enrols the agent.
func (w *world) begin(config appliance.Config) error {
	files, err := policy.Files(policy.Library())
	if err != nil {
		return err
	}
	if w.policy, err = policy.Load(append(files, policy.File{Name: "bench.yaml", Data: []byte("policy: bench\nclock_ahead: 400 days\n")})...); err != nil {
		return err
	}
	roster := &policy.Roster{Version: protocol.Version}
	for i := range 3 {
		key, spki, err := newKey()
		if err != nil {
			return err
		}
		w.officer = append(w.officer, key)
		person := fmt.Sprintf("it:OFFICER%d", i+1)
		roster.Officers = append(roster.Officers, policy.Officer{
			Person: person, Name: person, Keys: [][]byte{spki}, Roles: []string{role}, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	for kind := protocol.KindCreateKey; kind <= protocol.KindCRL; kind++ {
		roster.Orders = append(roster.Orders, policy.OrderRule{Kind: kind, Persons: 2, Role: role})
	}
	if _, err := appliance.Genesis(config, "bench", roster, w.policy); err != nil {
		return err
	}
	if w.engine, err = appliance.Open(config); err != nil {
		return err
	}
	var root protocol.Digest
	for _, ca := range []struct{ label, profile string }{{"root", "root"}, {"issuing", "issuing-ca"}} {
		made, err := w.order(protocol.Request{Kind: protocol.KindCreateKey}, protocol.CreateKey{Label: ca.label, Algorithm: "P-256"})
		if err != nil {
			return err
		}
		w.issuing = protocol.DigestOf(made.Key)
		if root.IsZero() {
			root = w.issuing
		}
		p, _ := w.policy.Profile(ca.profile)
		digest, err := p.Digest()
		if err != nil {
			return err
		}
		fields := map[string]string{"name": "Bench " + ca.label, "country": "IT", "organization": "Bench"}
		r := protocol.Request{Kind: protocol.KindSignCA, Issuer: root, Profile: ca.profile, ProfileDigest: digest}
		if _, err := w.order(r, protocol.SignCA{Key: w.issuing, Fields: fields}); err != nil {
			return err
		}
	}
	introduction, err := w.engine.Introduction()
	if err != nil {
		return err
	}
	w.agent, err = agent.Init(agent.Config{Dir: w.path(agentDir), Now: time.Now, Rand: rand.Reader}, agent.Beginning{
		Introduction: introduction, Digest: w.engine.Appliance(), Name: "bench", Bodies: []string{"it"}, BundlesPerDay: 100, ItemsPerDay: protocol.MaxItems,
	})
	if err != nil {
		return err
	}
	record, err := w.agent.Enrolment()
	if err != nil {
		return err
	}
	_, err = w.order(protocol.Request{Kind: protocol.KindAgent}, protocol.Enrolment{Party: record})
	return err
}

// order has two officers order something at the console.
func (w *world) order(r protocol.Request, content any) (result protocol.Result, err error) {
	now := time.Now()
	r.Version, r.Appliance, r.Created, r.Expires = protocol.Version, w.engine.Appliance(), now.Unix(), now.Add(time.Hour).Unix()
	rand.Read(r.Nonce[:])
	if r.Content, err = cose.Marshal(content); err != nil {
		return result, err
	}
	raw, err := cose.Marshal(r)
	if err != nil {
		return result, err
	}
	challenge, err := w.engine.Challenge()
	if err != nil {
		return result, err
	}
	var approvals [][]byte
	for _, key := range w.officer[:2] {
		a, err := w.approve(key, challenge, nil, []protocol.Request{r}, []protocol.Digest{protocol.ID(raw)})
		if err != nil {
			return result, err
		}
		approvals = append(approvals, a)
	}
	if result, err = w.engine.Order(raw, approvals); err == nil && result.Refusal != nil {
		err = errors.New(result.Refusal.Words())
	}
	return result, err
}

// approve makes one person's approval. Of the requests only kind, profile and body are needed.
func (w *world) approve(key crypto.Signer, challenge []byte, statements []protocol.Statement, requests []protocol.Request, ids []protocol.Digest) ([]byte, error) {
	now := time.Now()
	a := protocol.Approval{
		Version: protocol.Version, Appliance: w.engine.Appliance(), Created: now.Unix(), Expires: now.Add(7 * 24 * time.Hour).Unix(),
		Challenge: challenge, Manifest: protocol.ManifestOf(requests),
	}
	for _, id := range ids {
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: id, Statements: statements})
	}
	slices.SortFunc(a.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	payload, err := a.Encode()
	if err != nil {
		return nil, err
	}
	return cose.Sign(key, protocol.ContextApproval, payload)
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
		Kind: protocol.KindIssue, Profile: "approver", Body: "it", Subject: approverP, CSR: csr, Fields: map[string]string{"name": "Rossi Carla"},
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

// requests makes keys, requests and approvals, and exports them.
func (w *world) requests(ctx context.Context) error {
	bodies := make([]string, w.n)
	for i := range bodies {
		bodies[i] = body(i)
	}
	if err := w.ask(bodies); err != nil {
		return err
	}
	_, err := w.agent.Export(ctx, w.path(stickDir), agent.Choice{})
	return err
}

// ask requests a workstation for each of the bodies, and has the approver approve them, a group at a time.
func (w *world) ask(bodies []string) error {
	if err := pool(len(bodies), func(i int) bool {
		key, _, err := newKey()
		if err != nil {
			return false
		}
		csr, err := newCSR(key)
		return err == nil && os.WriteFile(w.path(csrName(i)), csr, 0o600) == nil
	}); err != nil {
		return fmt.Errorf("make requests: %w", err)
	}
	table := strings.Builder{}
	table.WriteString("csr,body,subject,number\n")
	for i, body := range bodies {
		number := fmt.Sprintf("%04d", i%perBody)
		fmt.Fprintf(&table, "%06d.csr,%s,%s-PC-%s,%s\n", i, body, filepath.Base(body), number, number)
	}
	if err := os.WriteFile(w.path(tableFile), []byte(table.String()), 0o600); err != nil {
		return err
	}
	made, err := w.agent.RequestBatch(agent.Batch{
		Wish: agent.Wish{Kind: protocol.KindIssue, Profile: profile, Origin: protocol.OriginHolder}, Folder: w.path(csrDir), Table: w.path(tableFile),
	}, nil)
	if err != nil {
		return err
	}
	for first := 0; first < len(made); first += protocol.MaxGroupItems {
		var requests []protocol.Request
		var ids []protocol.Digest
		for i := first; i < min(first+protocol.MaxGroupItems, len(made)); i++ {
			requests = append(requests, protocol.Request{Kind: protocol.KindIssue, Profile: profile, Body: bodies[i]})
			ids = append(ids, made[i].ID)
		}
		if err := w.attach(w.local, []protocol.Statement{protocol.StatementFingerprint}, requests, ids); err != nil {
			return err
		}
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	return key, spki, err
}

func newCSR(key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "workstation"}}, key)
}
