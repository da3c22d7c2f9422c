package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"coldseal/agent"
	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// begin holds genesis, makes the CAs and enrols the agent.
func (w *world) begin(config appliance.Config) error {
	files, err := policy.Files(policy.Library())
	if err != nil {
		return err
	}
	if w.policy, err = policy.Load(append(files, policy.File{Name: "bench.yaml", Data: []byte("policy: bench\nclock_ahead: 400 days\n")})...); err != nil {
		return err
	}
	const role = "security-officer"
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
	for _, kind := range protocol.RuledOrders() {
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
