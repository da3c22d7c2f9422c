package show

import (
	"crypto/x509"
	"fmt"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Party shows the record of an agent or a station.
func Party(raw []byte) (Sheet, error) {
	p, err := protocol.ParseParty(raw)
	if err != nil {
		return nil, err
	}
	s := Sheet{{Name: "type", Value: "party"}, {Name: "role", Value: p.Role.String()}, {Name: "name", Value: p.Name}}
	s.digest("digest", protocol.DigestOf(raw))
	if p.Retired {
		s.add("retired", true)
	}
	s.digest("seal key", protocol.DigestOf(p.Seal))
	if len(p.Receiver) > 0 {
		s.digest("receiver key", protocol.DigestOf(p.Receiver))
		s.add("bundles a day", p.BundlesPerDay)
		s.add("items a day", p.ItemsPerDay)
	}
	s.list("bodies", p.Bodies)
	return s, nil
}

// Genesis shows the identity of an appliance whose digest was typed.
func Genesis(raw []byte, typed protocol.Digest) (Sheet, error) {
	g, err := protocol.ParseGenesis(raw, typed)
	if err != nil {
		return nil, err
	}
	s := Sheet{{Name: "type", Value: "genesis"}, {Name: "name", Value: g.Name}}
	s.digest("digest", typed)
	s.time("created", g.Created)
	s.add("log key", protocol.DigestOf(g.Log).String())
	s.add("receiver key", protocol.DigestOf(g.Receiver).String())
	s.add("seal key", protocol.DigestOf(g.Seal).String())
	s.add("first roster", protocol.DigestOf(g.Roster).String())
	s.add("first policy", protocol.DigestOf(g.Policy).String())
	return s, nil
}

// Introduction shows what first contact carries: genesis and the state as it was signed.
func Introduction(raw []byte, typed protocol.Digest) (Sheet, error) {
	in, err := protocol.OpenIntroduction(raw, typed)
	if err != nil {
		return nil, err
	}
	g, err := Genesis(in.Bytes, typed)
	if err != nil {
		return nil, err
	}
	rows, err := State(in.State)
	if err != nil {
		return nil, err
	}
	s := Sheet{{Name: "type", Value: "introduction"}, {Name: "signature", Value: "verified"}}
	s.below("genesis", nil, g[1:])
	s = append(s, ownKeys(in.Keys)...)
	return append(s, rows...), nil
}

// ownKeys shows the keys that took the place of those of the genesis.
func ownKeys(keys *protocol.Keys) (s Sheet) {
	if len(keys.Handovers()) == 0 {
		return nil
	}
	s.add("keys replaced", len(keys.Handovers()))
	for _, use := range protocol.Uses() {
		s.add(use.String()+" key now", keys.Now().ID(use).String())
	}
	return s
}

// State shows roster, policy and CAs of an appliance.
func State(state protocol.State) (Sheet, error) {
	var s Sheet
	var cas []Sheet
	if len(state.Labels) != len(state.CAs) {
		return nil, fmt.Errorf("show state: %d labels for %d CA certificates", len(state.Labels), len(state.CAs))
	}
	for i, der := range state.CAs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("show CA certificate: %w", err)
		}
		ca := Sheet{{Name: "label", Value: state.Labels[i]}, {Name: "subject", List: name(c.RawSubject)}}
		ca.add("key type", KeyType(c.PublicKey))
		ca.digest("key", protocol.DigestOf(c.RawSubjectPublicKeyInfo))
		ca.add("not after", protocol.Date(c.NotAfter.Unix()))
		cas = append(cas, ca)
	}
	s.items("cas", cas)
	roster, err := Roster(state.Roster)
	if err != nil {
		return nil, err
	}
	s.below("roster", nil, roster[1:])
	policy, err := Policy(state.Policy)
	if err != nil {
		return nil, err
	}
	s.below("policy", nil, policy[1:])
	return s, nil
}

// Result shows what became of a request.
func Result(raw []byte) (Sheet, error) {
	r, err := protocol.ParseResult(raw)
	if err != nil {
		return nil, err
	}
	s := Sheet{{Name: "type", Value: "result"}, {Name: "request", Value: r.ID.String()}, {Name: "outcome", Value: r.Outcome.String()}}
	if !r.Issuer.IsZero() {
		s.add("issuer", r.Issuer.String())
	}
	if len(r.Serial) > 0 {
		s.add("serial", fmt.Sprintf("%x", r.Serial))
	}
	if len(r.Certificate) > 0 {
		s.add("certificate", "SHA-256 "+protocol.DigestOf(r.Certificate).String())
	}
	if len(r.Key) > 0 {
		s.digest("key", protocol.DigestOf(r.Key))
	}
	if len(r.Handover) > 0 {
		s.add("handover", count(len(r.Handover), "byte"))
	}
	if len(r.Receipt) > 0 {
		s.add("receipt", count(len(r.Receipt), "byte"))
	}
	if r.Refusal != nil {
		s.below("refusal", string(r.Refusal.Code), Refusal(r.Refusal))
	}
	return s, nil
}

// Refusal shows why something was not done, and what to do next.
func Refusal(r *protocol.Refusal) Sheet {
	again := "no: make a new request"
	if r.Open() {
		again = "yes, until the request expires"
	}
	return Sheet{{Name: "words", Value: r.Words()}, {Name: "next", Value: r.Hint()}, {Name: "again", Value: again}}
}

// Leaf shows an entry of the log.
func Leaf(index uint64, l auditlog.Leaf) Sheet {
	s := Sheet{{Name: "index", Value: index}, {Name: "kind", Value: l.Kind.String()}, {Name: "time", Value: protocol.Date(l.Time)}}
	if len(l.Issuer) > 0 {
		s.add("issuer", fmt.Sprintf("%x", l.Issuer))
	}
	if len(l.Serial) > 0 {
		s.add("serial", fmt.Sprintf("%x", l.Serial))
	}
	if l.Status != auditlog.None {
		s.add("status", l.Status.String())
	}
	s.text("profile", l.Profile)
	if l.Number != 0 {
		s.add("number", l.Number)
	}
	if l.Body != [32]byte{} {
		s.add("body", fmt.Sprintf("%x", l.Body))
	}
	return s
}

// Checkpoint shows a signed note, unverified: its lines as they are.
func Checkpoint(note []byte) (Sheet, error) {
	if len(note) > auditlog.MaxCheckpoint {
		return nil, fmt.Errorf("checkpoint of %d bytes, at most %d", len(note), auditlog.MaxCheckpoint)
	}
	text, signatures, found := strings.Cut(string(note), "\n\n")
	lines := strings.Split(text, "\n")
	if !found || len(lines) != 3 {
		return nil, fmt.Errorf("checkpoint of %d lines before the first empty one, want 3", len(lines))
	}
	s := Sheet{{Name: "type", Value: "checkpoint"}, {Name: "origin", Value: lines[0]}, {Name: "size", Value: lines[1]}, {Name: "root", Value: lines[2]}}
	s.list("signatures", strings.Split(strings.TrimSuffix(signatures, "\n"), "\n"))
	s.add("signature", "NOT VERIFIED: coldseal verify checkpoint does that")
	return s, nil
}

// Proof shows an inclusion proof, unverified.
func Proof(raw []byte) (Sheet, error) {
	if len(raw) > auditlog.MaxInclusionProof {
		return nil, fmt.Errorf("proof of %d bytes, at most %d", len(raw), auditlog.MaxInclusionProof)
	}
	var p auditlog.InclusionProof
	if err := cose.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("show proof: %w", err)
	}
	l, err := auditlog.ParseLeaf(p.Leaf)
	if err != nil {
		return nil, fmt.Errorf("show proof: %w", err)
	}
	s := append(Sheet{{Name: "type", Value: "proof"}}, Leaf(p.Index, l)...)
	s.add("with body", len(p.Salted) > 0)
	s.add("genesis", protocol.DigestOf(p.Genesis).String())
	if len(p.Handovers) > 0 {
		s.add("keys replaced", len(p.Handovers))
	}
	s.below("checkpoint", nil, orReason(Checkpoint(p.Checkpoint)))
	s.add("signature", "NOT VERIFIED: coldseal verify proof does that")
	return s, nil
}
