package main

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/policy"
)

func encodeRoster(s *site) ([]byte, error) { return policy.EncodeRoster(s.roster) }

// testLog is a log in memory.
type testLog struct {
	s        *site
	leaves   [][]byte
	hashes   hashList
	appender *auditlog.Appender
}

type hashList []auditlog.Hash

func (h hashList) ReadHashes(indexes []int64) ([]auditlog.Hash, error) {
	var out []auditlog.Hash
	for _, i := range indexes {
		out = append(out, h[i])
	}
	return out, nil
}

func newTestLog(s *site) *testLog {
	return &testLog{s: s, appender: auditlog.NewAppender(auditlog.Range{})}
}

func (l *testLog) add(leaf auditlog.Leaf) {
	l.s.t.Helper()
	leaf.Time = 1800000000
	data := must[[]byte](l.s.t)(leaf.Encode())
	_, hashes := l.appender.Append(data)
	l.leaves, l.hashes = append(l.leaves, data), append(l.hashes, hashes...)
}

func (l *testLog) size() int64 { return int64(len(l.leaves)) }

func (l *testLog) checkpoint(key ed25519.PrivateKey) []byte {
	l.s.t.Helper()
	edge := must[auditlog.Range](l.s.t)(auditlog.ReadRange(l.size(), l.hashes))
	origin := auditlog.Origin(l.s.digest)
	return must[[]byte](l.s.t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, l.size(), edge.Root()), origin, key))
}

// reply is a response in the making: a certificate issued, another revoked, a request refused.
type reply struct {
	header  protocol.ResponseHeader
	results []protocol.Result
	index   []uint64 // of the leaf of each; 0 is none
	leaves  []auditlog.Leaf
	crls    [][]byte
	log     ed25519.PrivateKey
	seal    crypto.Signer
	after   []byte
	answers [][]byte // instead of results
}

var testSalt = [16]byte{5}

func (s *site) receipt(id protocol.Digest, issuer protocol.Digest, serial []byte) []byte {
	return must[[]byte](s.t)(cose.Sign(s.seal, protocol.ContextReceipt, marshal(s.t, protocol.Receipt{
		Appliance: s.digest, Request: id, Outcome: protocol.OutcomeRevoked, Issuer: issuer, Serial: serial, Time: 1800000000})))
}

func (s *site) newReply(p *pki) *reply {
	issuer := protocol.DigestOf(p.root.RawSubjectPublicKeyInfo)
	revoked := []byte{0x17}
	r := &reply{log: s.log, seal: s.seal, crls: [][]byte{s.crl(p, 0x17)}, index: []uint64{3, 4, 0}}
	r.header = protocol.ResponseHeader{Version: 1, From: s.digest, To: "desk", Answers: 7, Bundle: protocol.Digest{9}, Created: time.Now().Unix(), Last: 7, FirstLeaf: 2, State: s.state}
	r.results = []protocol.Result{
		{ID: protocol.Digest{1}, Outcome: protocol.OutcomeIssued, Issuer: issuer, Serial: p.leaf.SerialNumber.Bytes(), Certificate: p.leaf.Raw},
		{ID: protocol.Digest{2}, Outcome: protocol.OutcomeRevoked, Issuer: issuer, Serial: revoked, Receipt: s.receipt(protocol.Digest{2}, issuer, revoked)},
		{ID: protocol.Digest{3}, Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeQuota, "thing", "items", "limit", "1")},
	}
	body := func(i int) [32]byte { return auditlog.BodyDigest(testSalt, marshal(s.t, r.results[i])) }
	r.leaves = []auditlog.Leaf{
		{Kind: auditlog.Bundle, Number: 7, Body: [32]byte{1}},
		{Kind: auditlog.Issued, Issuer: issuer[:], Serial: r.results[0].Serial, Status: auditlog.Active, Profile: "it-workstation", Body: body(0)},
		{Kind: auditlog.Changed, Issuer: issuer[:], Serial: revoked, Status: auditlog.Revoked, Body: body(1)},
		{Kind: auditlog.Step, Number: 2},
	}
	return r
}

func (s *site) response(r *reply) []byte {
	s.t.Helper()
	l := newTestLog(s)
	l.add(auditlog.Leaf{Kind: auditlog.Genesis, Body: [32]byte{1}})
	l.add(auditlog.Leaf{Kind: auditlog.Step, Number: 1})
	h := &r.header
	h.Range = must[[][]byte](s.t)(auditlog.ProveRange(l.size(), l.hashes))
	for _, leaf := range r.leaves {
		l.add(leaf)
	}
	h.Consistency = must[[][]byte](s.t)(auditlog.ProveConsistency(2, l.size(), l.hashes))
	h.Checkpoint = l.checkpoint(r.log)
	if r.answers == nil {
		for i, result := range r.results {
			a := protocol.Answer{Body: marshal(s.t, result), Index: r.index[i]}
			if a.Index != 0 {
				a.Salt = testSalt[:]
			}
			r.answers = append(r.answers, marshal(s.t, a))
		}
	}
	h.Results, h.Leaves, h.CRLs = uint64(len(r.answers)), uint64(len(r.leaves)), uint64(len(r.crls))
	var rest, whole bytes.Buffer
	for _, part := range append(append(r.answers, l.leaves[2:]...), r.crls...) {
		if err := protocol.WriteString(&rest, part); err != nil {
			s.t.Fatal(err)
		}
	}
	rest.Write(r.after)
	h.Rest = sha256.Sum256(rest.Bytes())
	if err := protocol.WriteResponseHeader(&whole, *h, nil, r.seal); err != nil {
		s.t.Fatal(err)
	}
	return append(whole.Bytes(), rest.Bytes()...)
}

func TestVerifyResponse(t *testing.T) {
	s := newSite(t)
	p := s.newPKI()
	s.state.CAs, s.state.Labels = [][]byte{p.root.Raw}, []string{"root"}
	s.introduce()
	stranger := s.newPKI() // the same names, another key
	stranger.key = ecKey(t, 22)
	for _, test := range []struct {
		name    string
		change  func(*reply)
		reasons string
	}{
		{"plain", func(r *reply) {}, ""},
		{"refused as a whole", func(r *reply) { r.header.Refusal = protocol.Refuse(protocol.CodeRetiredSender, "name", "desk") }, ""},
		{"leaf known before", func(r *reply) { r.index[0] = 1 }, ""},
		{"for another agent", func(r *reply) { r.header.To = "other" }, "not-for-agent"},
		{"of another appliance", func(r *reply) { r.header.From = protocol.Digest{1} }, "wrong-appliance"},
		{"sealed by another", func(r *reply) { r.seal = ecKey(t, 80) }, "bad-seal"},
		{"checkpoint by another key", func(r *reply) { r.log = ed25519.NewKeyFromSeed(make([]byte, 32)) }, "checkpoint"},
		{"leaves from elsewhere", func(r *reply) { r.header.FirstLeaf = 3 }, "proof"},
		{"no step at the end", func(r *reply) { r.leaves = r.leaves[:3] }, "proof"},
		{"leaf of another kind", func(r *reply) { r.leaves[1].Kind, r.leaves[1].Status = auditlog.Burned, auditlog.Revoked }, "answer"},
		{"leaf of another serial", func(r *reply) { r.leaves[2].Serial = []byte{0x18} }, "answer"},
		{"leaf of another status", func(r *reply) { r.leaves[2].Status = auditlog.Held }, "answer"},
		{"leaf of another body", func(r *reply) { r.leaves[1].Body[0] ^= 1 }, "answer"},
		{"another leaf", func(r *reply) { r.index[0], r.index[1] = 4, 3 }, "answer answer"},
		{"two answers, one leaf", func(r *reply) { r.index[1] = 3 }, "answer"},
		{"no leaf", func(r *reply) { r.index[0] = 9 }, "answer"},
		{"not recorded", func(r *reply) { r.index[0] = 0 }, "answer"},
		{"receipt about another", func(r *reply) {
			r.results[1].Receipt = s.receipt(protocol.Digest{9}, r.results[1].Issuer, r.results[1].Serial)
		}, "receipt answer"},
		{"receipt damaged", func(r *reply) {
			r.results[1].Receipt = append(bytes.Clone(r.results[1].Receipt[:len(r.results[1].Receipt)-1]), 0)
		}, "receipt answer"},
		{"certificate of another serial", func(r *reply) { r.results[0].Serial = []byte{1} }, "answer answer"},
		{"certificate of another issuer", func(r *reply) { r.results[0].Issuer[0] ^= 1 }, "answer answer"},
		{"certificate changed", func(r *reply) {
			r.results[0].Certificate = bytes.Clone(r.results[0].Certificate)
			r.results[0].Certificate[len(r.results[0].Certificate)-1] ^= 1
		}, "signature answer"},
		{"certificate unreadable", func(r *reply) { r.results[0].Certificate = []byte{1} }, "form answer"},
		{"no CA", func(r *reply) { r.header.State.CAs, r.header.State.Labels = nil, nil }, "no-path crl-issuer"},
		{"CRL by another key", func(r *reply) { r.crls[0] = s.crl(stranger) }, "crl-signature"},
		{"CRL unreadable", func(r *reply) { r.crls[0] = []byte{1} }, "crl-form"},
		{"answer unreadable", func(r *reply) { r.answers = [][]byte{{0xa0}} }, "form"},
		{"bytes after it", func(r *reply) { r.after = []byte{0} }, "form"},
	} {
		r := s.newReply(p)
		test.change(r)
		s.write("response", s.response(r))
		code, reasons, out := s.verdictOf("verify response $KNOWN --agent desk @response")
		if reasons != test.reasons {
			t.Errorf("%s: exit %d, reasons %q, want %q\n%s", test.name, code, reasons, test.reasons, out)
		}
	}
	whole := s.response(s.newReply(p))
	s.write("response", whole)
	s.write("cut", whole[:len(whole)-1])
	s.write("receiver.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 60), nil)))
	s.write("signing.key", must[[]byte](t)(keyfile.Encode(s.log, nil)))
	s.write("sealed", s.sealed(60, whole))
	s.decide([]decided{
		{"verify response $KNOWN --agent desk --key @receiver.key @sealed", ""},
		{"verify response $KNOWN --agent desk --key @signing.key @sealed", "input"},
		{"verify response $KNOWN --agent desk @sealed", "usage"},
		{"verify response $KNOWN --agent desk @cut", "bad-seal"},
		{"verify response $KNOWN --agent desk @introduction", "malformed"},
		{"verify response $KNOWN @response", "usage"},
		{"verify response --agent desk @response", "usage"},
	})
	stdout, _ := s.ok("verify response $KNOWN --agent desk @response")
	for _, want := range []string{"results        3", "issued         1", "revoked        1", "refused        1", "leaves         4", "crls           1", "log size       6"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
}
