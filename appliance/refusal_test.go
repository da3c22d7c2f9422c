package appliance_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"coldseal/protocol"
)

// wrong is a request that is refused: with what groups it is brought, and, if the reason is one that can be mended,
// with what groups it is brought again to be done.
type wrong struct {
	raw    []byte
	groups []protocol.Group
	mended []protocol.Group
}

func one(g ...protocol.Group) []protocol.Group { return g }

// Every reason for which a request to issue or renew is refused: nothing is signed; what is open can be tried again with
// the same bytes, what is final is in the log and stays, however good the approvals are that come later.
func TestRefusals(t *testing.T) {
	d := newDesk(t)
	stranger := &person{id: "it:STRANGER", key: newKey(t)}
	twin := &person{id: d.officers[0].id, key: newKey(t)} // a key that nobody enrolled
	beside := d.approver(d.issuing, "it:VRDGPP60A01F205X", protocol.Scope{Profile: "it-workstation", Body: "it/058092"})
	gone := d.approver(d.issuing, "it:NRIFNC60A01F205X", scope("it-workstation"))
	d.takeApprover(gone, protocol.KindRevoke)
	held := d.approver(d.issuing, "it:GLLMRA60A01F205X", scope("it-workstation"))
	d.takeApprover(held, protocol.KindHold)
	ahead := d.approverFrom(d.issuing, "it:BLUPLA60A01F205X", d.now.Add(20*day), scope("it-workstation"))

	used := newKey(t)
	taken := d.workstation(d.issuing, unit, "9000", used)
	holder := d.issued(taken, d.alp)
	lost := newKey(t)
	compromised := d.workstation(d.issuing, unit, "9001", lost)
	revoke := d.encode(d.about(protocol.KindRevoke, compromised, protocol.Revocation{Serial: d.issued(compromised, d.alp).Serial, Reason: protocol.ReasonKeyCompromise}))
	d.answer(d.taken(revoke, d.alp))

	plain := func(change func(*protocol.Request)) wrong {
		r := d.pc("0001")
		change(&r)
		raw := d.encode(r)
		return wrong{raw, one(d.approved(raw, d.alp)), nil}
	}
	content := func(number string, change func(*protocol.Issuance)) wrong {
		c := protocol.Issuance{CSR: csrFor(t, newKey(t)), Fields: map[string]string{"number": number}, Origin: protocol.OriginHolder}
		change(&c)
		raw := d.encode(d.issue(d.issuing, "it-workstation", unit, "058091-PC-"+number, c))
		return wrong{raw, one(d.approved(raw, d.alp)), nil}
	}
	approvals := func(number string, make func(raw []byte) [][]byte) wrong {
		raw := d.encode(d.pc(number))
		return wrong{raw, one(group(raw, make(raw)...)), one(d.approved(raw, d.alp))}
	}
	by := func(number string, p *person) wrong {
		return approvals(number, func(raw []byte) [][]byte { return [][]byte{d.approve(p, nil, fingerprint, raw)} })
	}
	changed := func(number string, change func(*protocol.Approval)) wrong {
		return approvals(number, func(raw []byte) [][]byte {
			return [][]byte{d.approveChanged(d.alp, change, fingerprint, raw)}
		})
	}
	robot := func(number string, change func(*protocol.Issuance)) wrong {
		raw := d.encode(d.robot(number, newKey(t), change))
		return wrong{raw, one(d.approved(raw, d.alp, d.rao)), nil}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		code protocol.Code
		make func() wrong
	}{
		"the item is no item": {protocol.CodeMalformed, func() wrong {
			data := []byte{0xa1, 1, 0x41}
			return wrong{data, one(protocol.Group{Section: protocol.SectionRequests, Items: [][]byte{data}}), nil}
		}},
		"the request is cut": {protocol.CodeMalformed, func() wrong {
			raw := d.encode(d.pc("0001"))
			raw = raw[:len(raw)-1]
			return wrong{raw, one(d.item(protocol.Item{Request: raw})), nil}
		}},
		"a revocation among requests": {protocol.CodeMalformed, func() wrong {
			raw := d.encode(d.about(protocol.KindRevoke, taken, protocol.Revocation{Serial: holder.Serial}))
			return wrong{raw, one(d.item(protocol.Item{Request: raw}, d.approve(d.alp, nil, nil, raw))), nil}
		}},
		"for another appliance": {protocol.CodeWrongAppliance, func() wrong {
			return plain(func(r *protocol.Request) { r.Appliance[0]++ })
		}},
		"the request expired": {protocol.CodeRequestExpired, func() wrong {
			return plain(func(r *protocol.Request) { r.Created, r.Expires = r.Created-100, d.now.Unix() })
		}},
		"a body that the agent does not serve": {protocol.CodeSenderScope, func() wrong {
			return plain(func(r *protocol.Request) { r.Body = "ua/1" })
		}},
		"another CA": {protocol.CodeIssuerUnknown, func() wrong {
			return plain(func(r *protocol.Request) { r.Issuer[0]++ })
		}},
		"a CA that does not sign the profile": {protocol.CodeProfileUnknown, func() wrong {
			return plain(func(r *protocol.Request) { r.Issuer = d.root })
		}},
		"no such profile": {protocol.CodeProfileUnknown, func() wrong {
			return plain(func(r *protocol.Request) { r.Profile = "it-toaster" })
		}},
		"a CA profile": {protocol.CodeProfileUnknown, func() wrong {
			return plain(func(r *protocol.Request) { r.Profile, r.ProfileDigest = "issuing-ca", d.digestOf("issuing-ca") })
		}},
		"another version of the profile": {protocol.CodeProfileChanged, func() wrong {
			return plain(func(r *protocol.Request) { r.ProfileDigest[0]++ })
		}},
		"a body that the profile is not for": {protocol.CodeBodyNotAllowed, func() wrong {
			r := d.pc("0001")
			r.Body = "gr/ypourgeio"
			raw := d.encode(r)
			return wrong{raw, one(d.approved(raw, d.alp)), nil}
		}},
		"nobody approved": {protocol.CodeApprovalsMissing, func() wrong {
			return approvals("0002", func([]byte) [][]byte { return nil })
		}},
		"one of two approved": {protocol.CodeApprovalsMissing, func() wrong {
			raw := d.encode(d.robot("0001", newKey(t), nil))
			return wrong{raw, one(d.approved(raw, d.alp)), one(d.approved(raw, d.alp, d.rao))}
		}},
		"one person approved twice": {protocol.CodeSamePerson, func() wrong {
			raw := d.encode(d.robot("0002", newKey(t), nil))
			return wrong{raw, one(group(raw, d.approve(d.alp, nil, fingerprint, raw), d.approve(d.alp, nil, fingerprint, raw))), one(d.approved(raw, d.alp, d.rao))}
		}},
		"the approval is no message": {protocol.CodeApprovalInvalid, func() wrong {
			return approvals("0003", func([]byte) [][]byte { return [][]byte{{1, 2, 3}} })
		}},
		"the approval's signature is wrong": {protocol.CodeApprovalInvalid, func() wrong {
			return approvals("0004", func(raw []byte) [][]byte {
				a := d.approve(d.alp, nil, fingerprint, raw)
				a[len(a)-1] ^= 1
				return [][]byte{a}
			})
		}},
		"the approval is not well formed": {protocol.CodeApprovalInvalid, func() wrong {
			return changed("0005", func(a *protocol.Approval) { a.Version = 2 })
		}},
		"the approval is for another appliance": {protocol.CodeApprovalInvalid, func() wrong {
			return changed("0006", func(a *protocol.Approval) { a.Appliance[0]++ })
		}},
		"the approval expired": {protocol.CodeApprovalExpired, func() wrong {
			return changed("0007", func(a *protocol.Approval) { a.Created, a.Expires = a.Created-100, d.now.Unix() })
		}},
		"the approval is of tomorrow": {protocol.CodeApprovalExpired, func() wrong {
			return changed("0008", func(a *protocol.Approval) { a.Created = d.now.Add(day).Unix() })
		}},
		"the approver is nobody":          {protocol.CodeApproverUnknown, func() wrong { return by("0009", stranger) }},
		"the key is not enrolled":         {protocol.CodeApproverUnknown, func() wrong { return by("0010", twin) }},
		"the approver was revoked":        {protocol.CodeApproverRevoked, func() wrong { return by("0011", gone) }},
		"the approver is on hold":         {protocol.CodeApproverRevoked, func() wrong { return by("0012", held) }},
		"the approver begins later":       {protocol.CodeApproverExpired, func() wrong { return by("0013", ahead) }},
		"a suspended officer":             {protocol.CodeApproverSuspended, func() wrong { return by("0014", d.suspended) }},
		"an officer, not an approver":     {protocol.CodeApproverRole, func() wrong { return by("0015", d.officers[0]) }},
		"the approver of another body":    {protocol.CodeOutOfScope, func() wrong { return by("0016", beside) }},
		"the approver of another profile": {protocol.CodeOutOfScope, func() wrong { return by("0017", d.rao) }},
		"who asks may not approve": {protocol.CodeOwnRequest, func() wrong {
			raw := d.encode(d.pc("0018"))
			signed := must[[]byte](t)(protocol.SignID(d.alp.key, protocol.ContextRequester, protocol.ID(raw)))
			return wrong{raw, one(d.item(protocol.Item{Request: raw, Requester: signed}, d.approve(d.alp, nil, fingerprint, raw))), one(d.approved(raw, d.alp))}
		}},
		"who asks signed something else": {protocol.CodeApprovalInvalid, func() wrong {
			raw := d.encode(d.pc("0019"))
			signed := must[[]byte](t)(protocol.SignID(d.rao.key, protocol.ContextRequester, protocol.ID(raw[1:])))
			return wrong{raw, one(d.item(protocol.Item{Request: raw, Requester: signed}, d.approve(d.alp, nil, fingerprint, raw))), one(d.approved(raw, d.alp))}
		}},
		"the officer's own certificate": {protocol.CodeOwnCertificate, func() wrong {
			return d.approverBy(d.officers[0].id, both, scope("it-server"), d.officers[0], d.officers[1])
		}},
		"nobody met the approver": {protocol.CodeStatementMissing, func() wrong {
			return d.approverBy("it:MRRLRT60A01F205X", fingerprint, scope("it-server"), d.officers[0], d.officers[1])
		}},
		"nobody compared the fingerprint": {protocol.CodeStatementMissing, func() wrong {
			return approvals("0020", func(raw []byte) [][]byte { return [][]byte{d.approve(d.alp, nil, nil, raw)} })
		}},
		"an officer grants what they lack": {protocol.CodeEscalation, func() wrong {
			return d.approverBy("it:VLTMRC60A01F205X", both, scope("it-robot"), d.officers[0], d.narrow)
		}},
		"two approvers in one approval": {protocol.CodeOneAtATime, func() wrong {
			w := d.approverBy("it:FRRLCU60A01F205X", both, scope("it-server"), d.officers[0], d.officers[1])
			other := d.approverBy("it:RMNCRL60A01F205X", both, scope("it-server"), d.officers[0], d.officers[1])
			return wrong{w.raw, one(group(w.raw, d.approve(d.officers[0], nil, both, w.raw, other.raw), d.approve(d.officers[1], nil, both, w.raw, other.raw))), w.groups}
		}},
		"the manifest counts others": {protocol.CodeManifestMismatch, func() wrong {
			return changed("0021", func(a *protocol.Approval) { a.Manifest[0].Body = "it/058092" })
		}},
		"the manifest counts fewer": {protocol.CodeManifestMismatch, func() wrong {
			raw, other := d.encode(d.pc("0022")), d.encode(d.pc("0023"))
			both := d.approveChanged(d.alp, func(a *protocol.Approval) {
				a.Manifest[0].N = 1
				a.Manifest = append(a.Manifest, protocol.Count{Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058092", N: 1})
			}, fingerprint, raw, other)
			g := group(raw, both)
			g.Items = append(g.Items, group(other).Items...)
			return wrong{raw, one(g), one(d.approved(raw, d.alp))}
		}},
		"the agent's key for a person": {protocol.CodeOriginNotAllowed, func() wrong {
			c := protocol.Issuance{CSR: csrFor(t, newKey(t)), Fields: d.approverFields(), Origin: protocol.OriginAgent, Scopes: []protocol.Scope{scope("it-server")}}
			raw := d.encode(d.issue(d.issuing, "approver", unit, "it:CNTMRA60A01F205X", c))
			return wrong{raw, one(group(raw, d.approve(d.officers[0], nil, both, raw), d.approve(d.officers[1], nil, both, raw))), nil}
		}},
		"a first key vouched for by itself": {protocol.CodeOriginNotAllowed, func() wrong {
			return content("0024", func(c *protocol.Issuance) { c.Origin = protocol.OriginCurrent })
		}},
		"no station is enrolled": {protocol.CodeKeyNotVouched, func() wrong {
			return robot("0003", func(c *protocol.Issuance) {
				c.Origin, c.Evidence = protocol.OriginStation, must[[]byte](t)(protocol.SignID(newKey(t), protocol.ContextKeyStatement, protocol.Digest{}))
			})
		}},
		"a station that says nothing": {protocol.CodeKeyNotVouched, func() wrong {
			return robot("0004", func(c *protocol.Issuance) { c.Origin = protocol.OriginStation })
		}},
		"no vendor is enrolled": {protocol.CodeKeyNotVouched, func() wrong {
			return robot("0005", func(c *protocol.Issuance) { c.Origin, c.Evidence = protocol.OriginAttested, []byte{1} })
		}},
		"the CSR is none": {protocol.CodeBadCSR, func() wrong {
			return content("0025", func(c *protocol.Issuance) { c.CSR = []byte("-----BEGIN") })
		}},
		"the CSR is not signed by its key": {protocol.CodePossession, func() wrong {
			return content("0026", func(c *protocol.Issuance) {
				mine, other := csrFor(t, newKey(t)), must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(csrFor(t, newKey(t))))
				parsed := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(mine))
				c.CSR = bytes.Replace(mine, parsed.RawSubjectPublicKeyInfo, other.RawSubjectPublicKeyInfo, 1)
			})
		}},
		"a key of 1024 bits": {protocol.CodeWeakKey, func() wrong {
			return content("0027", func(c *protocol.Issuance) { c.CSR = csrFor(t, weak) })
		}},
		"a type of key that the profile does not have": {protocol.CodeKeyType, func() wrong {
			strong, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			raw := d.encode(d.robot("0006", strong, nil))
			return wrong{raw, one(d.approved(raw, d.alp, d.rao)), nil}
		}},
		"the CSR asks for a name": {protocol.CodeCSRExtra, func() wrong {
			return robot("0007", func(c *protocol.Issuance) {
				c.CSR = csrOf(t, newKey(t), x509.CertificateRequest{DNSNames: []string{"evil.example"}})
			})
		}},
		"the key is another machine's": {protocol.CodeKeyKnown, func() wrong {
			return content("0028", func(c *protocol.Issuance) { c.CSR = csrFor(t, used) })
		}},
		"the key is an officer's": {protocol.CodeKeyKnown, func() wrong {
			return content("0029", func(c *protocol.Issuance) { c.CSR = csrFor(t, d.officers[2].key) })
		}},
		"the key was compromised": {protocol.CodeKeyCompromised, func() wrong {
			return content("9001", func(c *protocol.Issuance) { c.CSR = csrFor(t, lost) })
		}},
		"a name of another body": {protocol.CodeSubjectMismatch, func() wrong {
			return plain(func(r *protocol.Request) { r.Subject = "058092-PC-0001" })
		}},
		"a field that does not match": {protocol.CodeSubjectMismatch, func() wrong {
			return content("0030", func(c *protocol.Issuance) { c.Fields["number"] = "30" })
		}},
		"a field that the profile does not have": {protocol.CodeSubjectMismatch, func() wrong {
			return content("0031", func(c *protocol.Issuance) { c.Fields["colour"] = "red" })
		}},
		"scopes for a machine": {protocol.CodeSubjectMismatch, func() wrong {
			return content("0032", func(c *protocol.Issuance) { c.Scopes = []protocol.Scope{scope("it-server")} })
		}},
		"an approver without a scope": {protocol.CodeSubjectMismatch, func() wrong {
			return d.approverBy("it:GRCMRA60A01F205X", both, protocol.Scope{}, d.officers[0], d.officers[1])
		}},
		"the name is active": {protocol.CodeNameActive, func() wrong {
			w := content("9000", func(*protocol.Issuance) {})
			revoke := d.encode(d.about(protocol.KindRevoke, taken, protocol.Revocation{Serial: holder.Serial}))
			w.mended = one(d.taken(revoke, d.alp), w.groups[0])
			return w
		}},
		"too long": {protocol.CodeValidityTooLong, func() wrong {
			return content("0033", func(c *protocol.Issuance) { c.NotAfter = d.now.Add(731 * day).Unix() })
		}},
		"too far ahead": {protocol.CodeValidityOutside, func() wrong {
			return content("0034", func(c *protocol.Issuance) { c.NotBefore = d.now.Add(31 * day).Unix() })
		}},
		"over already": {protocol.CodeValidityOutside, func() wrong {
			return content("0035", func(c *protocol.Issuance) { c.NotAfter = d.now.Add(-day).Unix() })
		}},
		"the linters object": {protocol.CodeLint, func() wrong {
			return robot("0008", func(c *protocol.Issuance) { c.Fields["host"] = "robot" })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			w := test.make()
			first := d.refused(w.raw, test.code, w.groups...)
			switch {
			case w.mended != nil:
				if a := d.answer(w.mended...).of(t, w.raw); a.result.Outcome != protocol.OutcomeIssued {
					t.Errorf("tried again: %s: %s", a.result.Outcome, a.result.Refusal.Words())
				}
			case len(first.Salt) != 0:
				if again := d.answer(w.groups...).of(t, w.raw); again.Index != first.Index || !bytes.Equal(again.Body, first.Body) {
					t.Errorf("tried again: %+v, first %+v", again, first)
				}
			}
		})
	}
	d.t = t
	d.reopen()

	t.Run("a request of tomorrow", func(t *testing.T) {
		d.t = t
		r := d.pc("0099")
		r.Created = d.now.Add(time.Hour).Unix()
		raw := d.encode(r)
		g := d.approved(raw, d.alp)
		d.refused(raw, protocol.CodeRequestEarly, g)
		d.now = d.now.Add(time.Hour)
		if a := d.answer(g).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("an hour later: %+v", a.result)
		}
	})
	d.t = t
}
