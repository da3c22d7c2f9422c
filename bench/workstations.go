package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"coldseal/agent"
	"coldseal/protocol"
)

const (
	profile = "it-workstation"
	perBody = 10000 // the profile numbers machines with four digits
)

func csrName(i int) string { return fmt.Sprintf("%s/%06d.csr", csrDir, i) }

func body(i int) string { return fmt.Sprintf("it/%06d", 58000+i/perBody) }

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
