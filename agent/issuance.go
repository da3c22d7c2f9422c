package agent

import (
	"bytes"
	"crypto/x509"
	"maps"
	"slices"
	"strconv"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

const day = 24 * 3600

// issuance checks a wish to issue or renew as the appliance will, so that errors are found before anything is sent, and
// notes what the answer is to be compared with.
func (v *view) issuance(p *prepared, w *Wish) (protocol.Issuance, error) {
	content := protocol.Issuance{
		CSR: w.CSR, Fields: w.Fields, NotBefore: w.NotBefore, NotAfter: w.NotAfter, Origin: w.Origin, Evidence: w.Evidence,
		Scopes: slices.Clone(w.Scopes),
	}
	slices.SortFunc(content.Scopes, func(a, b protocol.Scope) int {
		return strings.Compare(a.Profile+"\x00"+a.Body, b.Profile+"\x00"+b.Body)
	})
	content.Scopes = slices.Compact(content.Scopes)
	if err := v.origin(&content, w); err != nil {
		return content, err
	}
	if err := v.takeCSR(p, &content, w); err != nil {
		return content, err
	}
	for _, name := range slices.Sorted(maps.Keys(w.Fields)) {
		p.text += " " + w.Fields[name]
	}
	refusal := v.checkIssuance(p, &content)
	if refusal != nil && !w.Unchecked {
		return content, refused("request", refusal)
	}
	p.asked.NotBefore, p.asked.NotAfter = w.NotBefore, w.NotAfter
	if len(content.Scopes) != 0 {
		extension, err := protocol.ApproverScope{Person: w.Subject, Scopes: content.Scopes}.Encode()
		if err != nil && !w.Unchecked {
			return content, &Error{Kind: ErrInput, What: "scopes", Err: err, Hint: "a scope is a profile and a body, such as it-workstation=it/058091"}
		}
		p.asked.Scope = protocol.DigestOf(extension) // of nothing, if it cannot be made: then no certificate agrees
	}
	if p.req.ProfileDigest.IsZero() { // unchecked, and no such profile is known
		p.req.ProfileDigest = protocol.DigestOf([]byte(w.Profile))
	}
	if w.Kind == protocol.KindRenew {
		content.Renews = &protocol.CertificateID{Issuer: p.req.Issuer, Serial: w.Serial}
	}
	return content, nil
}

// origin completes who vouches for the key: what was not said follows from how the key came.
func (v *view) origin(content *protocol.Issuance, w *Wish) error {
	if content.Origin != 0 {
		return nil
	}
	switch {
	case w.NewKey != "":
		content.Origin = protocol.OriginAgent
	case len(w.Evidence) != 0:
		content.Origin = protocol.OriginStation
	case w.Kind == protocol.KindRenew:
		content.Origin = protocol.OriginCurrent
	default:
		if p, found := v.known.policy.Profile(w.Profile); found && len(p.Origins) == 1 {
			content.Origin = p.Origins[0]
			return nil
		}
		return &Error{Kind: ErrInput, What: "who vouches for the key?", Hint: "say --origin holder, agent, station, attested or current"}
	}
	return nil
}

// takeCSR reads the CSR, or makes a key and one.
func (v *view) takeCSR(p *prepared, content *protocol.Issuance, w *Wish) error {
	if w.NewKey != "" {
		if len(w.CSR) != 0 {
			return &Error{Kind: ErrInput, What: "a CSR and a new key exclude each other"}
		}
		var err error
		if p.pkcs8, content.CSR, err = newKey(w.NewKey, w.Subject, v.s.Rand); err != nil {
			return err
		}
	} else if bytes.Contains(w.CSR, []byte("-----BEGIN ")) {
		der, err := csr.DecodePEM(w.CSR)
		if err != nil {
			return refused("request", policy.RefuseCSR(err))
		}
		content.CSR = der
	}
	if len(content.CSR) == 0 {
		return &Error{Kind: ErrInput, What: "there is no CSR", Hint: "give --csr FILE, or --new-key P-256 where the profile allows it"}
	}
	return nil
}

// checkIssuance returns why the appliance would refuse. What it finds out before that goes into p.
func (v *view) checkIssuance(p *prepared, content *protocol.Issuance) *protocol.Refusal {
	req := &p.req
	checked, csrErr := csr.Check(content.CSR)
	if csrErr == nil {
		p.asked.Key = protocol.DigestOf(checked.SPKI)
	} else if lax, err := x509.ParseCertificateRequest(content.CSR); err == nil {
		p.asked.Key = protocol.DigestOf(lax.RawSubjectPublicKeyInfo) // unchecked: what the answer is compared with
	}
	if p.pkcs8 != nil {
		p.key = p.asked.Key
	}
	profile, found := v.known.policy.Profile(req.Profile)
	if !found || profile.Use.IsCA() || !slices.Contains(profile.Issuers, v.known.label(req.Issuer)) {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", req.Profile)
	}
	req.ProfileDigest = profile.Digest
	p.asked.Term = profile.MaxDays * day
	if content.NotAfter == 0 {
		p.asked.Term = profile.Days * day
	}
	names, namesRefusal := profile.Names(req, content.Fields)
	if namesRefusal == nil {
		p.asked.Names = namesDigest(names)
	}
	if _, refusal := profile.CheckCSR(content.CSR); refusal != nil {
		return refusal
	}
	if namesRefusal != nil {
		return namesRefusal
	}
	if refusal := profile.AllowsOrigin(content.Origin, req.Kind); refusal != nil {
		return refusal
	}
	if (profile.Use == policy.UseApprover) != (len(content.Scopes) != 0) {
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "scopes", "profile", profile.Name, "reason", "scopes are for approver certificates, which have some")
	}
	if refusal := profile.Extras(checked, names); refusal != nil {
		return refusal
	}
	if term := content.NotAfter - max(content.NotBefore, req.Created) + 1; content.NotAfter != 0 && term > profile.MaxDays*day {
		return protocol.Refuse(protocol.CodeValidityTooLong, "profile", profile.Name,
			"days", strconv.FormatInt((term+day-1)/day, 10), "limit", strconv.FormatInt(profile.MaxDays, 10))
	}
	return nil
}
