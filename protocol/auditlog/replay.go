package auditlog

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// OrderBody is the body of an order's leaf: enough to decide it again.
type OrderBody struct {
	Request   []byte   `cbor:"1,keyasint"`
	Approvals [][]byte `cbor:"2,keyasint"`
	Challenge []byte   `cbor:"3,keyasint"` // what the console showed when they were made
	Result    []byte   `cbor:"4,keyasint"` // encoding of a protocol.Result
}

// CA is a CA key, and its certificate once it has one.
type CA struct {
	Label       string
	SPKI        []byte
	Profile     string          // of the certificate
	Certificate []byte          // DER
	Serial      []byte          // of the certificate
	Issuer      protocol.Digest // of the certificate: id of the key that signed it
	Revoked     bool            // the certificate was; nothing more is issued under it, its CRLs go on
	Destroyed   bool            // the key is gone
}

// Signs tells whether the CA may sign: it has a certificate, and its key.
func (c *CA) Signs() bool { return c.Certificate != nil && !c.Destroyed }

// State is what the orders of a log fold to. The appliance decides an order by it, and start-up and auditors decide all
// of them again.
type State struct {
	Appliance protocol.Digest
	Roster    []byte
	Policy    []byte
	Parties   map[string][]byte // name → record
	CAs       map[protocol.Digest]CA
	Crosses   []Cross                  // certificates of other and of forgotten CAs that stand, oldest first
	Foreign   map[string][]byte        // name → record of a foreign CA
	Announced Announcement             // of a recovery, zero if there is none
	Own       *protocol.Keys           // the appliance's own keys
	Gone      map[protocol.Digest]bool // of own keys that were replaced, those that were destroyed
	Restored  int64                    // when the appliance was last restored, 0 if never: earlier approvals are void
	Clock     int64                    // time of the last leaf, or what set-time ordered since

	roster *policy.Roster
	policy *policy.Policy
	last   Kind // of the last leaf that was folded
}

// Skew is how far the clocks of those who make requests and approvals may be ahead of the appliance's, in seconds.
const Skew = 600

// NewState begins with the genesis whose digest somebody typed.
func NewState(genesis []byte, typed protocol.Digest) (*State, error) {
	g, err := protocol.ParseGenesis(genesis, typed)
	if err != nil {
		return nil, err
	}
	s := &State{
		Appliance: typed, Parties: map[string][]byte{}, CAs: map[protocol.Digest]CA{}, Foreign: map[string][]byte{}, Clock: g.Created,
		Gone: map[protocol.Digest]bool{},
	}
	if s.Own, err = g.Keys(typed); err != nil {
		return nil, err
	}
	if err := s.setPolicy(g.Policy); err != nil {
		return nil, err
	}
	return s, s.setRoster(g.Roster)
}

func (s *State) setRoster(data []byte) error {
	r, err := policy.DecodeRoster(data)
	if err != nil {
		return err
	}
	s.Roster, s.roster = data, r
	return nil
}

func (s *State) setPolicy(data []byte) error {
	p, err := policy.Decode(data)
	if err != nil {
		return err
	}
	s.Policy, s.policy = data, p
	return nil
}

// CurrentRoster is Roster decoded.
func (s *State) CurrentRoster() *policy.Roster { return s.roster }

// CurrentPolicy is Policy decoded.
func (s *State) CurrentPolicy() *policy.Policy { return s.policy }

// ByLabel finds a CA by the label of its key.
func (s *State) ByLabel(label string) (protocol.Digest, CA, bool) {
	for id, ca := range s.CAs {
		if ca.Label == label {
			return id, ca, true
		}
	}
	return protocol.Digest{}, CA{}, false
}

// Officer finds an officer by the id of an approval key.
func Officer(r *policy.Roster, key protocol.Digest) (*policy.Officer, cose.Key, bool) {
	for i := range r.Officers {
		for _, spki := range r.Officers[i].Keys {
			if protocol.DigestOf(spki) == key {
				k, err := cose.ParseKey(spki)
				return &r.Officers[i], k, err == nil
			}
		}
	}
	return nil, cose.Key{}, false
}

// Authorize decides whether an order may be carried out at the time now: form, approvals made at the console for this
// very challenge, quorum under the roster, and for a roster under the new one too. Nothing changes.
func (s *State) Authorize(request []byte, approvals [][]byte, challenge []byte, now int64) (protocol.Request, *protocol.Refusal) {
	req, refusal := protocol.ParseRequest(request)
	switch {
	case refusal != nil:
		return req, refusal
	case !req.Kind.IsOrder():
		return req, protocol.Malformed("order", fmt.Errorf("it is a request to %s", req.Kind))
	case req.Appliance != s.Appliance:
		return req, protocol.Refuse(protocol.CodeWrongAppliance, "appliance", req.Appliance.String())
	case now >= req.Expires:
		return req, protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(req.Expires))
	case req.Created > now+Skew:
		return req, protocol.Refuse(protocol.CodeRequestEarly, "created", protocol.Date(req.Created))
	}
	// The quorum comes first: proving a policy takes a while, and only officers may ask for it.
	if refusal := s.decide(&req, request, approvals, challenge, now); refusal != nil {
		return req, refusal
	}
	next, refusal := s.check(&req)
	if refusal != nil {
		return req, refusal
	}
	if next != nil {
		return req, s.quorum(next, &req, request, approvals, challenge, now)
	}
	return req, nil
}

// quorum counts the officers of one roster who approved.
func (s *State) quorum(r *policy.Roster, req *protocol.Request, request []byte, approvals [][]byte, challenge []byte, now int64) *protocol.Refusal {
	id := protocol.ID(request)
	var approved []policy.Approved
	for _, message := range approvals {
		keyID, err := cose.KeyID(message)
		if err != nil {
			approved = append(approved, policy.Approved{Discount: protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error())})
			continue
		}
		officer, key, found := Officer(r, keyID)
		if !found {
			continue // of the other roster, or of nobody: it counts for nothing here
		}
		a, refusal := protocol.OpenApproval(message, key)
		if refusal != nil {
			approved = append(approved, policy.Approved{Discount: protocol.Refuse(protocol.CodeApprovalInvalid, "reason", refusal.Words())})
			continue
		}
		entry, covers := a.Entry(id)
		if !covers {
			continue
		}
		p := policy.Approved{Entry: entry, Covers: len(a.Entries)}
		p.Person, p.Roles, p.Scopes, p.Officer = officer.Person, officer.Roles, officer.Scopes, true
		p.Discount = CheckApproval(&a, s.Appliance, officer.Person, now, 0) // those of before a restore lack its challenge
		switch {
		case p.Discount != nil:
		case officer.Suspended:
			p.Discount = protocol.Refuse(protocol.CodeApproverSuspended, "person", officer.Person)
		case len(a.Challenge) == 0 || !bytes.Equal(a.Challenge, challenge):
			p.Discount = protocol.Refuse(protocol.CodeConsoleRequired, "person", officer.Person)
		case len(a.Entries) != 1:
			p.Discount = protocol.Refuse(protocol.CodeOneAtATime, "person", officer.Person, "count", fmt.Sprint(len(a.Entries)))
		case a.Manifest[0] != (protocol.Count{Kind: req.Kind, Profile: req.Profile, Body: req.Body, N: 1}):
			p.Discount = protocol.Refuse(protocol.CodeManifestMismatch, "person", officer.Person)
		}
		approved = append(approved, p)
	}
	return r.DecideOrder(req.Kind, approved)
}

// CheckApproval tells why an approval whose signature is good does not count, if it does not: another appliance, or
// the wrong time. It is void if it was made before the appliance was restored, which was at the time restored: what was
// done with it may be forgotten, and would be done twice. For what takes away, which may be done twice, give 0.
func CheckApproval(a *protocol.Approval, appliance protocol.Digest, person string, now, restored int64) *protocol.Refusal {
	switch {

	case a.Appliance != appliance:
		return protocol.Refuse(protocol.CodeApprovalInvalid, "reason", "it is for the appliance "+a.Appliance.String())
	case restored != 0 && a.Created <= restored:
		return protocol.Refuse(protocol.CodeApprovalVoid, "person", person, "date", protocol.Date(restored))
	case now >= a.Expires || a.Created > now+Skew:
		return protocol.Refuse(protocol.CodeApprovalExpired, "person", person, "expires", protocol.Date(a.Expires))
	}
	return nil
}

// check asks whether the order fits what stands. For a roster it returns the new one, under whose rule the order has to
// have its quorum too.
func (s *State) check(req *protocol.Request) (*policy.Roster, *protocol.Refusal) {
	switch req.Kind {
	case protocol.KindRoster:
		return s.checkRoster(req)
	case protocol.KindPolicy:
		c, refusal := req.Replacement()
		if refusal != nil {
			return nil, refusal
		}
		if c.Replaces != protocol.DigestOf(s.Policy) {
			return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the policy is not the one that was to be replaced")
		}
		p, err := policy.Decode(c.New)
		if err != nil {
			return nil, protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error())
		}
		return nil, problem(protocol.CodePolicyInvalid, policy.Check(p, s.roster))
	case protocol.KindAgent, protocol.KindStation:
		c, party, refusal := req.Enrolment()
		if refusal != nil {
			return nil, refusal
		}
		current, exists := s.Parties[party.Name]
		if exists != !c.Replaces.IsZero() || exists && protocol.DigestOf(current) != c.Replaces {
			return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the record of "+party.Name+" is not the one that was to be replaced")
		}
		for name, record := range s.Parties {
			other, err := protocol.ParseParty(record)
			if err == nil && name != party.Name && bytes.Equal(other.Seal, party.Seal) {
				return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the key belongs to "+name)
			}
		}
	case protocol.KindCreateKey:
		c, refusal := req.CreateKey()
		if refusal != nil {
			return nil, refusal
		}
		if _, _, exists := s.ByLabel(c.Label); exists { // of a destroyed key, too: addresses have it
			return nil, protocol.Refuse(protocol.CodeKeyExists, "label", c.Label)
		}
		if len(s.CAs) >= protocol.MaxCAs { // a response would have no room for their certificates
			return nil, protocol.Refuse(protocol.CodeTooLarge, "thing", "list of CAs", "limit", fmt.Sprint(protocol.MaxCAs))
		}
	case protocol.KindSignCA:
		return nil, s.checkSignCA(req)
	case protocol.KindCRL:
		if _, refusal := req.CRLOrder(); refusal != nil {
			return nil, refusal
		}
		if ca := s.CAs[req.Issuer]; !ca.Signs() {
			return nil, protocol.Refuse(protocol.CodeIssuerUnknown, "issuer", req.Issuer.String())
		}
	case protocol.KindSetTime:
		_, refusal := req.SetTime()
		return nil, refusal
	case protocol.KindRestore:
		_, refusal := req.Restoration()
		return nil, refusal
	case protocol.KindDestroyKey:
		return nil, s.checkDestroyKey(req)
	case protocol.KindRotateKey:
		return nil, s.checkRotation(req)
	case protocol.KindCrossCertify:
		_, refusal := s.checkCross(req)
		return nil, refusal
	case protocol.KindRevokeCA:
		return nil, s.checkRevokeCA(req)
	case protocol.KindForeignCA:
		return nil, s.checkForeignCA(req)
	case protocol.KindRecovery:
		return nil, s.checkRecovery(req)
	case protocol.KindSuspend:
		_, refusal := s.suspended(req)
		return nil, refusal
	}
	return nil, nil
}

func (s *State) checkRoster(req *protocol.Request) (*policy.Roster, *protocol.Refusal) {
	c, refusal := req.Replacement()
	if refusal != nil {
		return nil, refusal
	}
	if c.Replaces != protocol.DigestOf(s.Roster) {
		return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the roster is not the one that was to be replaced")
	}
	next, err := policy.DecodeRoster(c.New)
	if err != nil {
		return nil, protocol.Refuse(protocol.CodeRosterInvalid, "reason", err.Error())
	}
	if refusal := problem(protocol.CodeRosterInvalid, policy.Check(s.policy, next)); refusal != nil {
		return nil, refusal
	}
	digest := protocol.DigestOf(c.New)
	for _, change := range [][2]*policy.Roster{{s.roster, next}, {s.roster.Recovery.Roster(), next.Recovery.Roster()}} {
		for _, officer := range change[1].Officers {
			for _, spki := range officer.Keys {
				if _, _, known := Officer(change[0], protocol.DigestOf(spki)); !known && !possessed(c.Possession, spki, digest) {
					return nil, protocol.Refuse(protocol.CodeRosterInvalid, "reason", "nobody proved to hold the new key of "+officer.Person)
				}
			}
		}
	}
	return next, nil
}

func possessed(proofs [][]byte, spki []byte, digest protocol.Digest) bool {
	key, err := cose.ParseKey(spki)
	if err != nil {
		return false
	}
	for _, proof := range proofs {
		if protocol.VerifyID(proof, protocol.ContextPossession, key, digest) == nil {
			return true
		}
	}
	return false
}

func (s *State) checkSignCA(req *protocol.Request) *protocol.Refusal {
	c, refusal := req.SignCA()
	if refusal != nil {
		return refusal
	}
	key, found := s.CAs[c.Key]
	if !found || key.Destroyed {
		return protocol.Refuse(protocol.CodeKeyUnknown, "key", c.Key.String())
	}
	if key.Certificate != nil {
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the key "+key.Label+" has a certificate")
	}
	issuer, self := s.CAs[req.Issuer], req.Issuer == c.Key
	if !self && (!issuer.Signs() || issuer.Revoked) {
		return protocol.Refuse(protocol.CodeIssuerUnknown, "issuer", req.Issuer.String())
	}
	if self {
		return s.checkProfile(req, policy.UseRoot)
	}
	return s.checkProfile(req, policy.UseIssuing)
}

// checkProfile asks that an order names a profile of that use as it stands.
func (s *State) checkProfile(req *protocol.Request, use policy.Use) *protocol.Refusal {
	p, found := s.policy.Profile(req.Profile)
	if !found || p.Use != use {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", req.Profile)
	}
	digest, err := p.Digest()
	if err != nil || digest != req.ProfileDigest {
		return protocol.Refuse(protocol.CodeProfileChanged, "profile", req.Profile)
	}
	return nil
}

func problem(code protocol.Code, problems []policy.Problem) *protocol.Refusal {
	if len(problems) == 0 {
		return nil
	}
	return protocol.Refuse(code, "reason", problems[0].Where+": "+problems[0].Words)
}

// Carry changes the state as an authorized order and its result say, at the index and time of its leaf.
func (s *State) Carry(req *protocol.Request, result protocol.Result, index uint64, now int64) error {
	if result.Outcome == protocol.OutcomeRefused {
		return errors.New("carry out order: it was refused")
	}
	switch req.Kind {
	case protocol.KindRoster:
		c, refusal := req.Replacement()
		if refusal != nil {
			return refused(refusal)
		}
		s.Announced = Announcement{}
		return s.setRoster(c.New)
	case protocol.KindPolicy:
		c, refusal := req.Replacement()
		if refusal != nil {
			return refused(refusal)
		}
		return s.setPolicy(c.New)
	case protocol.KindAgent, protocol.KindStation:
		c, party, refusal := req.Enrolment()
		if refusal != nil {
			return refused(refusal)
		}
		s.Parties[party.Name] = c.Party
	case protocol.KindCreateKey:
		c, refusal := req.CreateKey()
		if refusal != nil {
			return refused(refusal)
		}
		s.CAs[protocol.DigestOf(result.Key)] = CA{Label: c.Label, SPKI: result.Key}
	case protocol.KindSignCA:
		c, refusal := req.SignCA()
		if refusal != nil {
			return refused(refusal)
		}
		ca, issuer := s.CAs[c.Key], s.CAs[req.Issuer]
		serial, err := verifyCA(result.Certificate, ca.SPKI, issuer.SPKI)
		if err != nil {
			return fmt.Errorf("carry out order: certificate of %s: %w", ca.Label, err)
		}
		ca.Certificate, ca.Serial, ca.Profile, ca.Issuer = result.Certificate, serial, req.Profile, req.Issuer
		s.CAs[c.Key] = ca
	case protocol.KindSetTime:
		c, refusal := req.SetTime()
		if refusal != nil {
			return refused(refusal)
		}
		s.Clock = c.Time
	case protocol.KindRestore:
		s.Restored = now
	case protocol.KindRotateKey:
		return s.carryRotation(req, result, index, now)
	default:
		return s.carryStanding(req, result, now)
	}
	return nil
}

func refused(r *protocol.Refusal) error { return fmt.Errorf("carry out order: %s", r.Words()) }

func verifyCA(der, spki, issuerSPKI []byte) (serial []byte, err error) {
	cert, err := SignedBy(der, issuerSPKI)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, spki) {
		return nil, errors.New("it is for another key")
	}
	return cert.SerialNumber.Bytes(), nil
}

// SignedBy reads a certificate that a key signed.
func SignedBy(der, issuerSPKI []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(issuerSPKI)
	if err != nil {
		return nil, err
	}
	issuer := x509.Certificate{PublicKey: public, PublicKeyAlgorithm: algorithmOf(cert.SignatureAlgorithm)}
	return cert, issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}

func algorithmOf(a x509.SignatureAlgorithm) x509.PublicKeyAlgorithm {
	switch a {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384:
		return x509.ECDSA
	case x509.PureEd25519:
		return x509.Ed25519
	}
	return x509.RSA
}

// Bare folds a leaf of which nothing but itself is known: it was brought to a restore, or its body was erased. What it says
// of the certificate of a CA holds without the order before it.
func (s *State) Bare(leaf Leaf) {
	s.Clock = max(s.Clock, leaf.Time)
	switch {
	case leaf.Kind == Restored:
		s.Restored = leaf.Time
	case leaf.Kind == Issued && s.last == Order:
		s.made(protocol.Digest(leaf.Issuer), leaf.Serial)
	case leaf.Kind == Changed && leaf.Status == Revoked:
		s.Revoke(protocol.Digest(leaf.Issuer), leaf.Serial)
	}
	s.last = leaf.Kind
}

// Apply folds the next leaf, which is the one with that index. Orders are decided again from their bodies; other leaves say
// the same without theirs.
func (s *State) Apply(index uint64, leaf Leaf, body []byte) error {
	if leaf.Kind != Order && leaf.Kind != Restored {
		s.Bare(leaf)
		return nil
	}
	var o OrderBody
	if err := cose.Unmarshal(body, &o); err != nil {
		return err
	}
	req, refusal := s.Authorize(o.Request, o.Approvals, o.Challenge, leaf.Time)
	if refusal != nil {
		return fmt.Errorf("order %s does not stand: %s", protocol.ID(o.Request), refusal.Words())
	}
	if (req.Kind == protocol.KindRestore) != (leaf.Kind == Restored) {
		return fmt.Errorf("order %s to %s is recorded as %s", protocol.ID(o.Request), req.Kind, leaf.Kind)
	}
	result, err := protocol.ParseResult(o.Result)
	if err != nil {
		return err
	}
	if result.ID != protocol.ID(o.Request) {
		return fmt.Errorf("order %s: the result is of another request", protocol.ID(o.Request))
	}
	s.Clock, s.last = max(s.Clock, leaf.Time), leaf.Kind
	return s.Carry(&req, result, index, leaf.Time)
}
