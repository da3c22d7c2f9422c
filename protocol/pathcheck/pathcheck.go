// Package pathcheck decides whether a certificate, a CRL or an OCSP response is to be believed: RFC 5280 sections 4 to 6
// and RFC 6960 section 4.2, taken strictly, and every answer says why.
//
// It exists because crypto/x509.Certificate.Verify answers other questions: it knows no CRL, accepts what RFC 5280
// forbids, and explains little. Agent, appliance and auditors decide by this one package. It reads DER itself, so that
// what is checked is what was signed, byte by byte; names are compared as bytes.
//
// It is meant for hierarchies like ours. What it does not understand it refuses, never ignores: name constraints, policy
// constraints, indirect, delta and partial-reason CRLs, trust anchors that are not self-signed. It fetches nothing, has
// no clock and no list of trusted roots.
package pathcheck

import "fmt"

// Limits, each with its reason.
const (
	MaxDepth        = 8         // certificates of a path, leaf and anchor counted: ours have three
	MaxCandidates   = 64        // anchors and intermediates together: what a response carries of CAs
	MaxCertificate  = 64 << 10  // octets; ours are below 16 KiB
	MaxCRL          = 128 << 20 // octets; a million entries take some 40 MiB
	MaxCRLs         = 256       // a few CAs with shards
	MaxOCSP         = 1 << 20   // octets; pre-signed responses are below 2 KiB
	maxSignatures   = 256       // certificate signatures verified in one search: what hostile candidates of one name can cost
	maxAlternatives = 8         // further paths tried after one was stopped by a CRL
)

// Input is what to decide from. Nothing in it is changed or kept.
type Input struct {
	Leaf          []byte   // DER; may be that of a CA
	Intermediates [][]byte // DER, in any order, not trusted
	Anchors       [][]byte // DER of self-signed certificates, trusted by whoever brought them
	CRLs          [][]byte // DER; where there is one, each certificate but the anchor needs one that covers it
	Time          int64    // unix seconds
	Purpose       string   // dotted OID of the extended key usage that is needed; empty: any
}

// Result is the decision.
type Result struct {
	Accept  bool
	Chain   [][]byte // DER, leaf first, anchor last; only if accepted
	Reasons []Reason // why not; empty if accepted
}

// Chain decides about a leaf. Of several paths it accepts the shortest one that has no fault; if all have one, the
// reasons are those of the path with the fewest.
func Chain(in Input) Result {
	s, reasons := newSearch(in)
	if len(reasons) > 0 {
		return Result{Reasons: reasons}
	}
	crls, unreadable := parseCRLs(in.CRLs)
	var first []Reason
	for range maxAlternatives {
		path, faults := s.best()
		structural := len(faults) > 0
		if structural {
			faults = append(faults, s.unreadable...)
		} else if len(in.CRLs) > 0 {
			faults = s.revocation(path, crls, unreadable)
		}
		if len(faults) == 0 {
			return Result{Accept: true, Chain: s.chain(path)}
		}
		if first == nil {
			first = faults
		}
		if structural {
			break
		}
	}
	return Result{Reasons: first}
}

// newSearch reads all certificates. A candidate that cannot be read is left out, and named if there is no path.
func newSearch(in Input) (*search, []Reason) {
	if len(in.Anchors) == 0 {
		return nil, []Reason{refuse(NoPath, "no trust anchor was given")}
	}
	if n := len(in.Anchors) + len(in.Intermediates); n > MaxCandidates {
		return nil, []Reason{refuse(Limit, "%d trust anchors and intermediates, at most %d", n, MaxCandidates)}
	}
	if len(in.CRLs) > MaxCRLs {
		return nil, []Reason{refuse(Limit, "%d CRLs, at most %d", len(in.CRLs), MaxCRLs)}
	}
	purpose, err := parsePurpose(in.Purpose)
	if err != nil {
		return nil, []Reason{refuse(Purpose, "%v", err)}
	}
	leaf, reason := parseCertificate("the leaf", in.Leaf)
	if reason != nil {
		return nil, []Reason{*reason}
	}
	s := &search{now: in.Time, purpose: purpose, edges: map[[2]int][]Reason{}, stopped: map[[2]int]bool{}, nodes: []*certificate{leaf}}
	for i, der := range in.Anchors {
		c, reason := parseCertificate(fmt.Sprintf("trust anchor %d", i+1), der)
		if reason != nil {
			return nil, []Reason{*reason}
		}
		c.anchor = true
		s.add(c)
	}
	for i, der := range in.Intermediates {
		c, reason := parseCertificate(fmt.Sprintf("intermediate %d", i+1), der)
		if reason != nil {
			s.unreadable = append(s.unreadable, *reason)
			continue
		}
		s.add(c)
	}
	return s, nil
}
