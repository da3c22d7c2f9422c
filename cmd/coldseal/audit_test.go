package main

import (
	"crypto"
	"crypto/x509"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// What the story of log_test.go goes on with: certificates are held, released, revoked and renewed, requests withdrawn.

// The serials of the story.
func serialOf(n byte) []byte { return []byte{0x4f, n} }

// alp is the story's approver, for workstations of it/058091.
func alp(t testing.TB) crypto.Signer { return ecKey(t, 30) }

// ask signs that the holder of a key asks for the request.
func (l *logger) ask(key crypto.Signer, raw []byte) []byte {
	l.t.Helper()
	signed := must[[]byte](l.t)(protocol.SignID(key, protocol.ContextRequester, protocol.ID(raw)))
	return marshal(l.t, protocol.Item{Request: raw, Requester: signed})
}

// take holds or revokes the story's nth certificate, which the key approves, and gives the entry of the change.
func (l *logger) take(kind protocol.Kind, n byte, key crypto.Signer) uint64 {
	l.t.Helper()
	raw := l.about(kind, l.made[n-1], protocol.Revocation{Serial: serialOf(n)})
	l.announceChange(l.item(raw), serialOf(n), l.approve(key, nil, nil, raw))
	l.change(raw, serialOf(n), auditlog.StatusAfter(kind))
	return uint64(len(l.leaves) - 2)
}

// announceRelease announces the end of the hold that the entry began.
func (l *logger) announceRelease(n byte, hold uint64, key crypto.Signer) []byte {
	l.t.Helper()
	raw := l.about(protocol.KindRelease, l.made[n-1], protocol.Release{Serial: serialOf(n), Hold: hold})
	l.announceChange(l.item(raw), serialOf(n), l.approve(key, nil, nil, raw))
	l.step()
	return raw
}

// withdraw announces a withdrawal.
func (l *logger) withdraw() []byte {
	l.t.Helper()
	raw := marshal(l.t, protocol.Request{Version: 1, Appliance: l.digest, Kind: protocol.KindWithdraw, Body: "it/058091", Nonce: [16]byte{byte(len(l.leaves))},
		Created: l.now, Expires: l.now + 3600, Content: marshal(l.t, protocol.Withdrawal{Request: protocol.Digest{1}})})
	l.announceChange(l.item(raw), nil)
	l.step()
	return raw
}

func (l *logger) withdrawn(raw []byte) {
	l.leaf(auditlog.Leaf{Kind: auditlog.Withdrawn}, marshal(l.t, protocol.Result{ID: protocol.ID(raw), Outcome: protocol.OutcomeWithdrawn}))
	l.step()
}

func (l *logger) refused(raw []byte) {
	l.leaf(auditlog.Leaf{Kind: auditlog.Refused}, marshal(l.t, protocol.Result{ID: protocol.ID(raw), Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeNotHeld, "serial", "01")}))
	l.step()
}

// renewal is a request to renew the certificate of a serial, made for the request that the story made nth.
func (l *logger) renewal(n byte, serial []byte, origin protocol.Origin) []byte {
	l.t.Helper()
	m, _ := protocol.ParseRequest(l.made[n-1])
	old, _ := m.Issuance()
	return l.issue(m.Profile, m.Body, m.Subject, ecKey(l.t, 70), func(r *protocol.Request, c *protocol.Issuance) {
		r.Kind, r.Created, r.Expires = protocol.KindRenew, l.now, l.now+3600
		r.Nonce[15] = byte(len(l.leaves))
		c.Origin, c.Renews, c.Scopes = origin, &protocol.CertificateID{Issuer: l.caID(), Serial: serial}, old.Scopes
	})
}

// renew issues what the key of the certificate asks for; nil is that no key signed.
func (l *logger) renew(raw []byte, current crypto.Signer, approvals ...[]byte) {
	l.t.Helper()
	item := protocol.Item{Request: raw}
	if current != nil {
		item.Current = must[[]byte](l.t)(protocol.SignID(current, protocol.ContextCurrentKey, protocol.ID(raw)))
	}
	l.sign(marshal(l.t, item), raw, approvals...)
}

// sign announces a certificate for an item and issues it.
func (l *logger) sign(item, raw []byte, approvals ...[]byte) {
	l.t.Helper()
	c := l.certificate(raw, ecKey(l.t, 70), nil)
	l.announce(approvals, auditlog.Intent{Item: item, Issuer: l.caID(), Serial: c.SerialNumber.Bytes(), TBS: protocol.DigestOf(c.RawTBSCertificate)})
	l.step()
	m, _ := protocol.ParseRequest(raw)
	l.issued(m.Profile, raw, c)
	l.step()
}

// report is what an audit prints as JSON.
type report struct {
	Found    int `json:"found"`
	Requests []struct {
		Kind      string `json:"kind"`
		Announced uint64 `json:"announced"`
		Stand     uint64 `json:"stand"`
		Found     uint64 `json:"found"`
		Undecided uint64 `json:"undecided"`
		Done      uint64 `json:"done"`
		Refused   uint64 `json:"refused"`
	} `json:"requests"`
	Profiles []struct {
		Profile string `json:"profile"`
		ByKey   uint64 `json:"by_key_alone"`
	} `json:"profiles"`
	Unfinished []string `json:"unfinished"`
}

func (l *logger) audit() (r report) {
	l.t.Helper()
	l.export("log")
	asJSON, _ := l.ok("log audit --json --log @log --digest $DIGEST")
	l.json(asJSON, &r)
	return r
}

func TestAuditDecidesEveryKindAgain(t *testing.T) {
	l := story(t)
	hold := l.take(protocol.KindHold, 2, alp(t))
	release := l.announceRelease(2, hold, alp(t))
	l.change(release, serialOf(2), auditlog.Active)
	again := l.announceRelease(2, hold, alp(t)) // decided when the hold was over
	l.refused(again)
	l.withdrawn(l.withdraw())
	l.take(protocol.KindHold, 3, alp(t))
	l.take(protocol.KindRevoke, 3, l.officers[0]) // what is held can be revoked
	asked := l.issue("it-workstation", "it/058091", "058091-PC-0500", ecKey(t, 71), func(r *protocol.Request, _ *protocol.Issuance) {
		r.Created, r.Expires = l.now, l.now+3600
	})
	l.sign(l.ask(l.officers[2], asked), asked, l.approve(alp(t), []protocol.Statement{protocol.StatementFingerprint}, nil, asked))
	l.now += yearOfLog - 30*86400
	l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))

	without := *l.policy // the profile leaves the policy: the last resort
	without.Profiles = nil
	for _, p := range l.policy.Profiles {
		if p.Name != "it-workstation" {
			without.Profiles = append(without.Profiles, p)
		}
	}
	l.order(protocol.KindPolicy, protocol.Replacement{Replaces: protocol.DigestOf(l.state.Policy), New: must[[]byte](t)(policy.Encode(&without))}, nil, protocol.Result{})
	l.take(protocol.KindRevoke, 4, l.officers[1])
	l.withdraw() // was interrupted

	r := l.audit()
	want := map[string][6]uint64{"issue": {6, 6, 0, 0, 5, 0}, "renew": {1, 1, 0, 0, 1, 0}, "revoke": {2, 2, 0, 0, 2, 0}, "hold": {2, 2, 0, 0, 2, 0}, "release": {2, 2, 0, 0, 1, 1}, "withdraw": {2, 2, 0, 0, 1, 0}}
	if r.Found != 0 || len(r.Requests) != len(want) || len(r.Unfinished) != 1 || !strings.HasSuffix(r.Unfinished[0], "to withdraw") || r.Profiles[1].ByKey != 1 {
		t.Errorf("audit found %+v", r)
	}
	for _, k := range r.Requests {
		if got := [6]uint64{k.Announced, k.Stand, k.Found, k.Undecided, k.Done, k.Refused}; got != want[k.Kind] {
			t.Errorf("%s: %v, want %v", k.Kind, got, want[k.Kind])
		}
	}
}

// TestAuditFindsChanges writes logs whose appliance carried out what it should have refused.
func TestAuditFindsChanges(t *testing.T) {
	revocation := func(l *logger, n byte, change func(*protocol.Request)) []byte {
		raw := l.about(protocol.KindRevoke, l.made[n-1], protocol.Revocation{Serial: serialOf(n)})
		r, _ := protocol.ParseRequest(raw)
		change(&r)
		return marshal(t, r)
	}
	fingerprint := []protocol.Statement{protocol.StatementFingerprint}
	workstation := func(l *logger) []byte {
		return l.issue("it-workstation", "it/058091", "058091-PC-0500", ecKey(t, 71), func(r *protocol.Request, _ *protocol.Issuance) {
			r.Created, r.Expires = l.now, l.now+3600
		})
	}
	const lateInTerm = yearOfLog - 30*86400
	for name, test := range map[string]struct {
		happens func(l *logger)
		words   string
	}{
		"nobody approved": {func(l *logger) {
			raw := revocation(l, 2, func(*protocol.Request) {})
			l.announceChange(l.item(raw), serialOf(2))
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "to revoke (it-workstation × it/058091) should have been refused: 0 of 1 persons approved"},
		"by a stranger": {func(l *logger) { l.take(protocol.KindHold, 2, ecKey(t, 66)) }, "0 of 1 persons approved"},
		"beyond the scope": {func(l *logger) {
			l.take(protocol.KindRevoke, 1, alp(t))
		}, "may not approve approver for it/058091"},
		"expired": {func(l *logger) {
			raw := revocation(l, 2, func(r *protocol.Request) { r.Expires = l.now + 1 })
			approval := l.approve(alp(t), nil, nil, raw)
			l.now += 2
			l.announceChange(l.item(raw), serialOf(2), approval)
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "could be used until"},
		"for another appliance": {func(l *logger) {
			raw := revocation(l, 2, func(r *protocol.Request) { r.Appliance[0] ^= 1 })
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "is addressed to the appliance"},
		"of another subject": {func(l *logger) {
			raw := revocation(l, 2, func(r *protocol.Request) { r.Subject = "058091-PC-0002" })
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "are not those of the certificate"},
		"of no certificate": {func(l *logger) {
			raw := l.about(protocol.KindRevoke, l.made[1], protocol.Revocation{Serial: serialOf(99)})
			l.announceChange(l.item(raw), serialOf(99), l.approve(alp(t), nil, nil, raw))
			l.step()
		}, "no certificate with serial 4f63"},
		"of a burned serial": {func(l *logger) {
			raw := l.about(protocol.KindRevoke, l.made[4], protocol.Revocation{Serial: serialOf(5)})
			l.announceChange(l.item(raw), serialOf(5), l.approve(alp(t), nil, nil, raw))
			l.step()
		}, "no certificate with serial 4f05"},
		"another serial than approved": {func(l *logger) {
			raw := l.about(protocol.KindRevoke, l.made[1], protocol.Revocation{Serial: serialOf(3)})
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "not that of the certificate announced"},
		"not announced": {func(l *logger) {
			l.change(revocation(l, 2, func(*protocol.Request) {}), serialOf(2), auditlog.Revoked)
		}, "what is changed was not announced"},
		"announced after it": {func(l *logger) {
			raw := revocation(l, 2, func(*protocol.Request) {})
			l.change(raw, serialOf(2), auditlog.Revoked)
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.step()
		}, "what is changed was not announced"},
		"another status": {func(l *logger) {
			raw := l.about(protocol.KindHold, l.made[1], protocol.Revocation{Serial: serialOf(2)})
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.change(raw, serialOf(2), auditlog.Revoked)
		}, "which is not what entry"},
		"another certificate": {func(l *logger) {
			raw := revocation(l, 2, func(*protocol.Request) {})
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.change(raw, serialOf(3), auditlog.Revoked)
		}, "which is not what entry"},
		"another result": {func(l *logger) {
			raw := revocation(l, 2, func(*protocol.Request) {})
			l.announceChange(l.item(raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			id := l.caID()
			l.leaf(auditlog.Leaf{Kind: auditlog.Changed, Issuer: id[:], Serial: serialOf(2), Status: auditlog.Revoked},
				marshal(t, protocol.Result{ID: protocol.ID(raw), Outcome: protocol.OutcomeReleased, Issuer: id, Serial: serialOf(3)}))
			l.step()
		}, "the result is not that of the entry"},
		"announced as a signature": {func(l *logger) {
			raw := revocation(l, 2, func(*protocol.Request) {})
			l.announce([][]byte{l.approve(alp(t), nil, nil, raw)}, auditlog.Intent{Item: l.item(raw), Issuer: l.caID(), Serial: serialOf(77), TBS: protocol.Digest{1}})
			l.step()
		}, "is announced as something else"},
		"unreadable": {func(l *logger) { l.announceChange([]byte("item"), serialOf(2)); l.step() }, "announces what can't be read"},
		"more than counted": {func(l *logger) {
			l.leaf(auditlog.Leaf{Kind: auditlog.Intents, Number: 2}, marshal(t, auditlog.IntentsBody{Intents: []auditlog.Intent{{Issuer: l.caID(), TBS: protocol.Digest{1}}}}))
			l.step()
		}, "announces 2 things, its body has 1"},
		"revoked twice": {func(l *logger) {
			l.take(protocol.KindRevoke, 2, alp(t))
			l.take(protocol.KindRevoke, 2, alp(t))
		}, "is revoked and was revoked before"},
		"held after it was revoked": {func(l *logger) {
			l.take(protocol.KindRevoke, 2, alp(t))
			l.take(protocol.KindHold, 2, alp(t))
		}, "is held and was revoked before"},
		"released by a stranger": {func(l *logger) {
			hold := l.take(protocol.KindHold, 2, alp(t))
			l.change(l.announceRelease(2, hold, ecKey(t, 66)), serialOf(2), auditlog.Active)
		}, "0 of 1 persons approved"},
		"released from an earlier hold": {func(l *logger) {
			hold := l.take(protocol.KindHold, 2, alp(t))
			l.change(l.announceRelease(2, hold, alp(t)), serialOf(2), auditlog.Active)
			l.take(protocol.KindHold, 2, alp(t))
			l.change(l.announceRelease(2, hold, alp(t)), serialOf(2), auditlog.Active)
		}, "is released from a hold"},
		"released by who asked": {func(l *logger) {
			hold := l.take(protocol.KindHold, 2, alp(t))
			raw := l.about(protocol.KindRelease, l.made[1], protocol.Release{Serial: serialOf(2), Hold: hold})
			l.announceChange(l.ask(alp(t), raw), serialOf(2), l.approve(alp(t), nil, nil, raw))
			l.step()
			l.change(raw, serialOf(2), auditlog.Active)
		}, "asked for it and may not approve it"},
		"issued by who asked": {func(l *logger) {
			raw := workstation(l)
			l.sign(l.ask(alp(t), raw), raw, l.approve(alp(t), fingerprint, nil, raw))
		}, "asked for it and may not approve it"},
		"asked by nobody known": {func(l *logger) {
			raw := workstation(l)
			l.sign(l.ask(ecKey(t, 66), raw), raw, l.approve(alp(t), fingerprint, nil, raw))
		}, "with a key that may not approve here"},
		"asked for something else": {func(l *logger) {
			raw := workstation(l)
			other := must[[]byte](t)(protocol.SignID(l.officers[0], protocol.ContextRequester, protocol.Digest{1}))
			l.sign(marshal(t, protocol.Item{Request: raw, Requester: other}), raw, l.approve(alp(t), fingerprint, nil, raw))
		}, "it is over another request"},
		"a serial again": {func(l *logger) {
			raw := workstation(l)
			l.serial = 1
			l.sign(l.item(raw), raw, l.approve(alp(t), fingerprint, nil, raw))
		}, "serial 4f02 was used before"},
		"a withdrawal not announced": {func(l *logger) {
			raw := l.withdraw()
			l.withdrawn(raw)
			l.withdrawn(raw)
		}, "what is withdrawn was not announced"},
		"recorded as a withdrawal": {func(l *logger) {
			l.withdrawn(l.announceRelease(2, 9, alp(t)))
		}, "is recorded as a withdrawal"},
		"renewed too early": {func(l *logger) {
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
		}, "can be renewed from"},
		"renewed too late": {func(l *logger) {
			l.now += yearOfLog + 10
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
		}, "is expired"},
		"renewed too long by the key alone": {func(l *logger) {
			serial, key := serialOf(2), ecKey(t, 40)
			for range 5 {
				l.now += lateInTerm
				l.renew(l.renewal(2, serial, protocol.OriginCurrent), key)
				serial, key = serialOf(l.serial), ecKey(t, 70)
			}
		}, "persons last approved this name on"},
		"renewed without its key": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), nil)
		}, "nobody vouches for the key"},
		"renewed by another key": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 41))
		}, "nobody vouches for the key"},
		"renewed by persons and another key": {func(l *logger) {
			raw := l.renewal(2, serialOf(2), protocol.OriginHolder)
			l.renew(raw, ecKey(t, 41), l.approve(alp(t), fingerprint, nil, raw))
		}, "nobody vouches for the key"},
		"renewed with a key of another origin": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(2, serialOf(2), protocol.OriginHolder), ecKey(t, 40))
		}, "0 of 1 persons approved"},
		"renewed while held": {func(l *logger) {
			l.take(protocol.KindHold, 2, alp(t))
			l.now += lateInTerm
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
		}, "is held"},
		"renewed under another name": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(3, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
		}, "it is not that of the certificate to be renewed"},
		"renewed twice": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
			l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40))
		}, "was renewed already"},
		"renewed twice at once": {func(l *logger) {
			l.now += lateInTerm
			var intents []auditlog.Intent
			var raws [][]byte
			var certs []*x509.Certificate
			for _, nonce := range []byte{1, 2} {
				r, _ := protocol.ParseRequest(l.renewal(2, serialOf(2), protocol.OriginCurrent))
				r.Nonce[14] = nonce
				raw := marshal(t, r)
				signed := must[[]byte](t)(protocol.SignID(ecKey(t, 40), protocol.ContextCurrentKey, protocol.ID(raw)))
				c := l.certificate(raw, ecKey(t, 70), nil)
				intents = append(intents, auditlog.Intent{Item: marshal(t, protocol.Item{Request: raw, Current: signed}), Issuer: l.caID(), Serial: c.SerialNumber.Bytes(), TBS: protocol.DigestOf(c.RawTBSCertificate)})
				raws, certs = append(raws, raw), append(certs, c)
			}
			l.announce(nil, intents...)
			l.step()
			for i := range raws {
				l.issued("it-workstation", raws[i], certs[i])
			}
			l.step()
		}, "renews one that was renewed before"},
		"an approver renewed by the key": {func(l *logger) {
			l.now += lateInTerm
			l.renew(l.renewal(1, serialOf(1), protocol.OriginCurrent), alp(t))
		}, "0 of 2 persons approved"},
		"renewed and never issued": {func(l *logger) {
			l.renew(l.renewal(2, serialOf(99), protocol.OriginCurrent), ecKey(t, 40))
		}, "no certificate with serial 4f63"},
	} {
		t.Run(name, func(t *testing.T) {
			l := story(t)
			test.happens(l)
			l.export("log")
			code, stdout, stderr := l.run("log audit --log @log --digest $DIGEST")
			if code != 7 || !strings.Contains(stdout, test.words) || !strings.Contains(stderr, "1 findings") {
				t.Errorf("exit %d, %q is missing in\n%s%s", code, test.words, stdout, stderr)
			}
			l.ok("log verify --log @log --digest $DIGEST") // the log itself is in order
		})
	}
}

// TestAuditUndecided erases what has to decide: nobody is accused for it.
func TestAuditUndecided(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(l *logger)
		erase   func(index int, leaf auditlog.Leaf) bool
		kind    string
	}{
		"the request of what is revoked": {func(l *logger) { l.take(protocol.KindRevoke, 2, alp(t)) },
			func(index int, leaf auditlog.Leaf) bool { return leaf.Kind == auditlog.Intents && leaf.Number == 3 }, "revoke"},
		"the certificate that is renewed": {func(l *logger) { l.renew(l.renewal(2, serialOf(2), protocol.OriginCurrent), ecKey(t, 40)) },
			func(_ int, leaf auditlog.Leaf) bool { return string(leaf.Serial) == string(serialOf(2)) }, "renew"},
		"the approver's certificate": {func(l *logger) { l.take(protocol.KindHold, 2, alp(t)) },
			func(_ int, leaf auditlog.Leaf) bool { return string(leaf.Serial) == string(serialOf(1)) }, "hold"},
		"the requester's certificate": {func(l *logger) {
			raw := l.about(protocol.KindRelease, l.made[1], protocol.Release{Serial: serialOf(2), Hold: l.take(protocol.KindHold, 2, l.officers[0])})
			l.announceChange(l.ask(alp(t), raw), serialOf(2))
			l.change(raw, serialOf(2), auditlog.Active)
		}, func(_ int, leaf auditlog.Leaf) bool { return string(leaf.Serial) == string(serialOf(1)) }, "release"},
	} {
		t.Run(name, func(t *testing.T) {
			l := story(t)
			test.happens(l)
			for i, raw := range l.leaves {
				if test.erase(i, must[auditlog.Leaf](t)(auditlog.ParseLeaf(raw))) {
					l.bodies[i] = nil
				}
			}
			r := l.audit()
			for _, k := range r.Requests {
				if k.Kind == test.kind && k.Undecided == 1 && k.Stand == 0 {
					return
				}
			}
			t.Errorf("audit found %+v", r)
		})
	}
	t.Run("results", func(t *testing.T) { // what was erased is told by its entry
		l := story(t)
		l.take(protocol.KindHold, 2, alp(t))
		l.withdrawn(l.withdraw())
		for _, i := range []int{len(l.bodies) - 2, len(l.bodies) - 6} {
			l.bodies[i] = nil
		}
		if r := l.audit(); r.Found != 0 || len(r.Unfinished) != 0 {
			t.Errorf("audit found %+v", r)
		}
	})
}
