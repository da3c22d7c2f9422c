package fire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// crl gives the serials on the issuing CA's CRL that lies on the stick in clear.
func (h *hostile) crl() map[string]bool {
	h.t.Helper()
	data := h.read("stick", "coldseal", media.Tag(h.id), "clear", "issuing.crl")
	crl, err := x509.ParseRevocationList(data)
	if err != nil {
		h.t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, e := range crl.RevokedCertificateEntries {
		listed[hex.EncodeToString(e.SerialNumber.Bytes())] = true
	}
	return listed
}

// A release ends the hold that was there when it was approved. Kept back and sent when the certificate is on hold again,
// it ends nothing.
func TestHostileKeepsRelease(t *testing.T) {
	h := takeOver(t)
	serial := h.serialOf("9004")
	name := hex.EncodeToString(serial)
	h.audited(begunWith)
	var first uint64
	for i, e := range h.entries() {
		if e.leaf.Kind == auditlog.Changed && bytes.Equal(e.leaf.Serial, serial) {
			first = uint64(i)
		}
	}
	release := func() (raw, message []byte) {
		raw = h.about(protocol.KindRelease, "9004", protocol.Release{Serial: serial, Hold: first})
		message, shown := h.approval("local.key", "fingerprint", raw)
		if !strings.Contains(shown, fmt.Sprintf("log entry %d", first)) {
			t.Errorf("the approver is not shown which hold ends:\n%s", shown)
		}
		return raw, message
	}
	kept, keptApproval := release()
	sent, sentApproval := release()
	h.send(group([][]byte{sentApproval}, sent)).done(sent, protocol.OutcomeReleased)
	if h.crl()[name] {
		t.Error("the CRL lists a certificate that was released")
	}
	hold := h.about(protocol.KindHold, "9004", protocol.Revocation{Serial: serial})
	holdApproval, _ := h.approval("local.key", "", hold)
	h.send(group([][]byte{holdApproval}, hold)).done(hold, protocol.OutcomeHeld)

	h.send(group([][]byte{keptApproval}, kept)).refused(kept, protocol.CodeSuperseded)
	h.send(group([][]byte{keptApproval}, kept)).refused(kept, protocol.CodeSuperseded)
	h.send(group([][]byte{sentApproval}, sent)).done(sent, protocol.OutcomeReleased) // its answer is what it was; it does nothing
	if !h.crl()[name] || h.audited(begunWith).status[name] != auditlog.Held {
		t.Error("the second hold ended")
	}
	// In one bundle with the hold, a release of the one before is too late as well: what takes away goes first.
	second := h.lastChange(serial)
	now := h.about(protocol.KindRelease, "9004", protocol.Release{Serial: serial, Hold: second})
	if message, _ := h.approval("local.key", "fingerprint", now); true {
		h.send(group([][]byte{message}, now)).done(now, protocol.OutcomeReleased)
	}
	third := h.about(protocol.KindHold, "9004", protocol.Revocation{Serial: serial})
	early := h.about(protocol.KindRelease, "9004", protocol.Release{Serial: serial, Hold: second})
	message, _ := h.approval("local.key", "fingerprint", third, early)
	a := h.send(group([][]byte{message}, third), group([][]byte{message}, early))
	a.done(third, protocol.OutcomeHeld)
	a.refused(early, protocol.CodeSuperseded)
	if h.audited(begunWith).status[name] != auditlog.Held {
		t.Error("the third hold ended")
	}
}

// lastChange finds where the log last changed a certificate.
func (h *hostile) lastChange(serial []byte) (index uint64) {
	h.t.Helper()
	h.must(h.t, "appliance", "log", "export", "--out", "log")
	for i, e := range h.entries() {
		if e.leaf.Kind == auditlog.Changed && bytes.Equal(e.leaf.Serial, serial) {
			index = uint64(i)
		}
	}
	return index
}

// roster writes a roster of three officers as YAML.
func (h *hostile) roster(name string, officers ...string) {
	h.t.Helper()
	text := "officers:\n"
	for _, pair := range officers {
		key, person, _ := strings.Cut(pair, "=")
		block, _ := pem.Decode(h.read(key + ".pub"))
		text += fmt.Sprintf("  it:%s:\n    name: Officer\n    keys: [%s]\n    roles: [security-officer]\n    scopes: [{profile: '*', body: '*'}]\n",
			person, base64.StdEncoding.EncodeToString(block.Bytes))
	}
	text += "orders:\n"
	for _, kind := range protocol.RuledOrders() {
		text += fmt.Sprintf("  %s: {persons: 2, role: security-officer}\n", kind)
	}
	h.put(name, []byte(text))
}

// Last year's roster order, by which somebody who was since removed became an officer, is brought again with its true
// approvals, when the roster is again as it was before that order; or one like it, from a ceremony that was broken off.
// Neither changes the roster.
func TestHostileReplaysRosterOrder(t *testing.T) {
	h := takeOver(t)
	first, third := []string{"1.key=SMPBRN79S03F205N", "2.key=PRVLCU91M67L736T"}, "3.key=CMPGUO66A30A326C"
	h.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", "4.key")
	h.roster("before.yaml", append(first, third)...)
	h.roster("after.yaml", append(first, "4.key=FRNGLI80A01H501Z")...)
	order := func(file, key string) []string {
		digest := strings.Fields(h.must(t, "coldseal", "roster", "compile", file, "--out", file+".roster"))[0]
		h.must(t, "coldseal", "key", "possess", "--key", key, "--digest", digest, "--out", file+".proof")
		return []string{"roster", "--roster", file, "--possession", file + ".proof"}
	}
	h.order(t, "roster", "--roster", "before.yaml")
	began := h.audited(begunWith).roster

	// A ceremony is broken off: two officers approved, nobody went on. The agent finds the files.
	h.write(t, order("after.yaml", "4.key")...)
	broken := h.read("order")
	brokenApprovals := h.overChallenge("order")

	h.order(t, order("after.yaml", "4.key")...)
	if h.audited(begunWith).roster == began {
		t.Fatal("the roster did not change")
	}
	carried, approvals := h.carriedOut()
	h.order(t, order("before.yaml", "3.key")...) // the new officer is gone again
	if h.audited(begunWith).roster != began {
		t.Fatal("the roster is not what it was: the replay would not be put to the test")
	}

	h.send(group(approvals, carried)).done(carried, protocol.OutcomeDone) // that is its answer of last year
	h.send(group(brokenApprovals, broken)).refused(broken, protocol.CodeConsoleRequired)
	// The orders' own approvals do not count for one another, nor for an order that is worded anew.
	h.send(group(approvals, broken)).refused(broken, protocol.CodeApprovalsMissing)
	h.must(t, "appliance", "console", "challenge") // asked for; no officer approves over it
	h.send(group(brokenApprovals, broken)).refused(broken, protocol.CodeConsoleRequired)
	h.send(group(append(approvals, brokenApprovals...), carried, broken)).refused(broken, protocol.CodeConsoleRequired)
	if h.audited(begunWith).roster != began {
		t.Error("the roster changed")
	}
	h.learn()
	if o := h.try(t, "coldseal", "approve", "--key", "4.key", "--introduction", "introduction", "--digest", h.digest, "--request", "order", "--dry-run"); strings.Contains(o.words, "FRNGLI80A01H501Z (") {
		t.Error("the removed officer is shown as one")
	}
}

// overChallenge has two officers approve an order over a challenge of the console, by files.
func (h *hostile) overChallenge(order string) (approvals [][]byte) {
	h.t.Helper()
	challenge := h.must(h.t, "appliance", "console", "challenge")
	for _, key := range []string{"1.key", "2.key"} {
		out := order + "." + key + ".approval"
		h.must(h.t, "coldseal", "approve", "--key", key, "--introduction", "introduction", "--digest", h.digest, "--request", order,
			"--challenge", challenge, "--yes", "--out", out)
		approvals = append(approvals, h.read(out))
	}
	return approvals
}

// carriedOut finds the order that was carried out last, with its approvals, in the log.
func (h *hostile) carriedOut() (request []byte, approvals [][]byte) {
	h.t.Helper()
	for _, e := range h.entries() {
		if e.leaf.Kind != auditlog.Order {
			continue
		}
		var body auditlog.OrderBody
		if err := cose.Unmarshal(e.body, &body); err != nil {
			h.t.Fatal(err)
		}
		request, approvals = body.Request, body.Approvals
	}
	return request, approvals
}

// A card is revoked. What it approved before counts no more from then on, in whatever order the agent brings things: what
// takes away goes first in its bundle, and a bundle in another order does not get the revocation acknowledged.
func TestHostileOrdersRevocationLater(t *testing.T) {
	h := takeOver(t)
	var raws, approvals [][]byte
	for i := range 4 {
		csr, _ := newCSR(t)
		raws = append(raws, h.pc(fmt.Sprintf("%04d", i), csr))
		message, _ := h.approval("local.key", "fingerprint", raws[i])
		approvals = append(approvals, message)
	}
	revoke, card := h.revocationOfCard()
	message, _ := h.approval("1.key", "", revoke)
	taken := group([][]byte{message}, revoke)

	// Behind the requests it is out of place: the bundle ends there. That is no more than leaving it out.
	a := h.send(group(approvals[:1], raws[0]), taken)
	a.done(raws[0], protocol.OutcomeIssued)
	if a.Code != protocol.CodeMalformed || len(a.results) != 1 || h.receipt(revoke) != "" {
		t.Errorf("%s, %d answers, receipt %q", a.Code, len(a.results), h.receipt(revoke))
	}
	// Called a request like the others, it is not done either.
	taken.Section = protocol.SectionRequests
	h.send(taken).refused(revoke, protocol.CodeMalformed)
	// In the place where it belongs it goes first, though it was asked for last.
	taken.Section = protocol.SectionTakeAway
	a = h.send(taken, group(approvals[1:2], raws[1]))
	a.done(revoke, protocol.OutcomeRevoked)
	a.refused(raws[1], protocol.CodeApproverRevoked)
	if !h.crl()[card] || h.receipt(revoke) == "" {
		t.Error("the card is not on the CRL, or there is no receipt")
	}
	// Later bundles, and those with earlier numbers, bring nothing of it.
	h.send(group(approvals[2:3], raws[2])).refused(raws[2], protocol.CodeApproverRevoked)
	h.send(group(approvals, raws...)).refused(raws[3], protocol.CodeApproverRevoked)
	h.audited(begunWith + 1)
}

// revocationOfCard asks for the approver's own certificate to be revoked.
func (h *hostile) revocationOfCard() (raw []byte, card string) {
	h.t.Helper()
	for _, r := range h.rows(h.t) {
		if r.Subject != "it:FTTCRL84C52H501V" {
			continue
		}
		certs := "certs-" + r.ID[:8]
		h.must(h.t, "agent", "certificates", "--out", certs, "--by", "serial")
		for serial, result := range h.audited(begunWith).issued {
			c, err := x509.ParseCertificate(result)
			if err != nil {
				h.t.Fatal(err)
			}
			if strings.Contains(c.Subject.CommonName, "Fittizia") {
				card = serial
			}
		}
	}
	serial, err := hex.DecodeString(card)
	if err != nil || card == "" {
		h.t.Fatalf("the approver's certificate is not found: %v", err)
	}
	return h.request(protocol.KindRevoke, "it:FTTCRL84C52H501V", protocol.Revocation{Serial: serial, Reason: protocol.ReasonPrivilegeWithdrawn},
		func(r *protocol.Request) { r.Profile = "approver" }), card
}

// receipt names the file of a receipt on the stick; empty if there is none.
func (h *hostile) receipt(raw []byte) string {
	name := filepath.Join("stick", "coldseal", media.Tag(h.id), "clear", protocol.ID(raw).String()+".receipt")
	if _, err := os.Stat(h.path(name)); err != nil {
		return ""
	}
	return name
}

// The agent drops a revocation and sends what came with it. Whoever asked for it notices: no receipt comes that their
// station accepts, whatever else is put in its place; and they need no agent to have it done.
func TestHostileDropsRevocation(t *testing.T) {
	h := takeOver(t)
	ask := func(kind protocol.Kind, number string) (raw []byte, g protocol.Group) {
		raw = h.about(kind, number, protocol.Revocation{Serial: h.serialOf(number)})
		message, _ := h.approval("local.key", "", raw)
		return raw, group([][]byte{message}, raw)
	}
	dropped, carried := ask(protocol.KindRevoke, "9000")
	done, other := ask(protocol.KindRevoke, "9001")
	held, hold := ask(protocol.KindHold, "9000")
	h.put("dropped.request", dropped)
	accepts := func(file string) bool {
		o := h.try(t, "coldseal", "verify", "receipt", "--introduction", "introduction", "--digest", h.digest, "--request", "dropped.request", file)
		if o.code != 0 && o.code != 1 {
			t.Fatalf("verify receipt: exit %d\n%s", o.code, o.words)
		}
		return o.code == 0
	}
	missing := filepath.Join("stick", "coldseal", media.Tag(h.id), "clear", protocol.ID(dropped).String()+".receipt")

	a := h.send(other, hold) // the hold is of the same certificate, and does not end anything
	if accepts(missing) {
		t.Error("there is a receipt for what was not done")
	}
	// What the agent has instead.
	seal, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := cose.Sign(seal, protocol.ContextReceipt, encode(t, protocol.Receipt{Appliance: h.id, Request: protocol.ID(dropped), Outcome: protocol.OutcomeRevoked,
		Issuer: h.issuing, Serial: h.serialOf("9000"), Time: a.header.Created}))
	if err != nil {
		t.Fatal(err)
	}
	own, err := cose.Sign(h.seal, protocol.ContextReceipt, encode(t, a.of(done)))
	if err != nil {
		t.Fatal(err)
	}
	for name, message := range map[string][]byte{
		"of another revocation": a.of(done).Receipt, "of a hold of the same": a.of(held).Receipt, "by a key of its own": forged, "by the agent": own,
		"the answer": encode(t, a.of(done)), "nothing": nil, "the response": a.plain[:min(len(a.plain), protocol.MaxAnswer)],
	} {
		h.put("instead", message)
		if accepts("instead") {
			t.Errorf("the station accepts a receipt that is %s", name)
		}
	}
	// The receipt of an earlier hold of the same certificate, which ended meanwhile.
	release := h.about(protocol.KindRelease, "9000", protocol.Release{Serial: h.serialOf("9000"), Hold: h.lastChange(h.serialOf("9000"))})
	message, _ := h.approval("local.key", "fingerprint", release)
	h.send(group([][]byte{message}, release)).done(release, protocol.OutcomeReleased)
	second, _ := ask(protocol.KindHold, "9000")
	h.put("second.request", second)
	h.put("instead", a.of(held).Receipt)
	if o := h.try(t, "coldseal", "verify", "receipt", "--introduction", "introduction", "--digest", h.digest, "--request", "second.request", "instead"); o.code != 1 {
		t.Errorf("the station accepts the receipt of an earlier hold: exit %d", o.code)
	}

	h.must(t, "coldseal", "verify", "crl", "--issuer", "stick/coldseal/"+media.Tag(h.id)+"/clear/issuing.pem", "stick/coldseal/"+media.Tag(h.id)+"/clear/issuing.crl")

	// They carry it themselves, on any stick, sealed by a key that nobody knows.
	stranger := *h
	stranger.name, stranger.seal, stranger.number = "nobody", seal, 1
	h.empty(t)
	stranger.lay("stick", 1, bytes.NewReader(stranger.bundle(nil, carried)))
	if all := h.process("stick"); len(all) != 1 || all[0].Code != protocol.CodeUnknownSender {
		t.Errorf("%+v", all)
	}
	if !accepts(missing) {
		t.Error("the station does not accept the receipt")
	}
	serial := hex.EncodeToString(h.serialOf("9000"))
	if !h.crl()[serial] || h.audited(begunWith).status[serial] != auditlog.Revoked {
		t.Error("the certificate was not revoked")
	}
}
