package fire

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// A CSR that is swapped before anybody approves is in what the approver is shown: its fingerprint is not the one on the
// holder's device. Who does not state that they match approves nothing; the agent cannot state it for them.
func TestHostileSwapsCSRBefore(t *testing.T) {
	h := takeOver(t)
	h.must(t, "coldseal", "key", "new", "--no-passphrase", "--out", "holder.key")
	device := h.must(t, "coldseal", "key", "public", "--key", "holder.key") // what the holder reads from it
	own, swapped := newCSR(t)
	raw := h.pc("0001", own)
	var sworn []byte
	for _, statements := range []string{"", "presence"} {
		message, shown := h.approval("local.key", statements, raw)
		if !strings.Contains(shown, swapped.String()) || !strings.Contains(shown, swapped.Groups()) || strings.Contains(shown, strings.Fields(device)[0]) {
			t.Errorf("the approver is not shown that the key is %s:\n%s", swapped, shown)
		}
		if !strings.Contains(shown, "without it the approval will not count") {
			t.Errorf("the approver is not told what has to be compared:\n%s", shown)
		}
		h.send(group([][]byte{message}, raw)).refused(raw, protocol.CodeStatementMissing)
		sworn = message
	}
	// The statement is in what was signed.
	forged := slices.Clone(sworn)
	id := protocol.ID(raw)
	i := bytes.Index(forged, id[:]) + len(id)
	if forged[i] != 0x81 || forged[i+1] != byte(protocol.StatementPresence) {
		t.Fatalf("no statement follows the id: %x", forged[i:i+2])
	}
	forged[i+1] = byte(protocol.StatementFingerprint)
	h.send(group([][]byte{forged}, raw)).refused(raw, protocol.CodeApprovalInvalid)

	// Where the agent may make keys, for machines, it says so: that is not the holder's key.
	made := h.request(protocol.KindIssue, "058091-PC-0001", protocol.Issuance{CSR: own, Fields: map[string]string{"number": "0001"}, Origin: protocol.OriginAgent}, nil)
	if _, shown := h.approval("local.key", "", made); !regexp.MustCompile(`origin +agent\n`).MatchString(shown) {
		t.Errorf("the approver is not shown who made the key:\n%s", shown)
	}

	// Among many, too: the list names each key.
	var many [][]byte
	want := map[string]bool{}
	for i := range 40 {
		csr, fingerprint := newCSR(t)
		many, want[fingerprint.String()] = append(many, h.pc(fmt.Sprintf("%04d", i), csr)), true
	}
	for i, raw := range many {
		h.put(fmt.Sprintf("many/%d.request", i), raw)
	}
	o := h.try(t, "coldseal", "approve", "--key", "local.key", "--introduction", "introduction", "--digest", h.digest, "--dir", "many", "--dry-run")
	for fingerprint := range want {
		if !strings.Contains(o.words, fingerprint) {
			t.Errorf("the list does not name the key %s", fingerprint)
		}
	}
	h.audited(begunWith)
}

// Whatever of a request is swapped after it was approved, nobody approved what it is now: nothing is signed. What was
// approved is issued once.
func TestHostileSwapsAfter(t *testing.T) {
	h := takeOver(t)
	csr, _ := newCSR(t)
	other, fingerprint := newCSR(t)
	raw := h.pc("0001", csr)
	message, shown := h.approval("local.key", "fingerprint", raw)
	if strings.Contains(shown, fingerprint.String()) {
		t.Fatal("the other key is shown")
	}
	content := func(change func(c *protocol.Issuance)) func(*protocol.Request) {
		return func(r *protocol.Request) {
			c, _ := r.Issuance()
			c.Fields = maps.Clone(c.Fields)
			change(&c)
			r.Content = encode(t, c)
		}
	}
	swaps := map[string]func(r *protocol.Request){
		"CSR":     content(func(c *protocol.Issuance) { c.CSR = other }),
		"field":   content(func(c *protocol.Issuance) { c.Fields["number"] = "0002" }),
		"term":    content(func(c *protocol.Issuance) { c.NotAfter = 1 << 40 }),
		"origin":  content(func(c *protocol.Issuance) { c.Origin = protocol.OriginAgent }),
		"subject": func(r *protocol.Request) { r.Subject = "058091-PC-0002" },
		"body":    func(r *protocol.Request) { r.Body = "it/058091/anagrafe" },
		"profile": func(r *protocol.Request) {
			p, _ := h.policy.Profile("it-server")
			r.Profile = "it-server"
			r.ProfileDigest, _ = p.Digest()
		},
		"expiry": func(r *protocol.Request) { r.Expires += 86400 },
		"nonce":  func(r *protocol.Request) { r.Nonce[0] ^= 1 },
		"kind": func(r *protocol.Request) {
			r.Kind, r.Content, r.ProfileDigest = protocol.KindRevoke, encode(t, protocol.Revocation{Serial: h.serialOf("9001")}), protocol.Digest{}
		},
	}
	for _, what := range slices.Sorted(maps.Keys(swaps)) {
		r, refusal := protocol.ParseRequest(raw)
		if refusal != nil {
			t.Fatal(refusal.Words())
		}
		swaps[what](&r)
		swapped := encode(t, r)
		// With the approval of the other, and with that other beside it.
		a := h.send(group([][]byte{message}, swapped))
		if got := a.of(swapped); got.Outcome != protocol.OutcomeRefused {
			t.Errorf("%s swapped: %s", what, got.Outcome)
		}
	}
	h.audited(begunWith)
	twins := encode(t, func() protocol.Request { r, _ := protocol.ParseRequest(raw); swaps["CSR"](&r); return r }())
	a := h.send(group([][]byte{message}, twins, raw, twins))
	a.done(raw, protocol.OutcomeIssued)
	a.refused(twins, protocol.CodeApprovalsMissing)
	again := h.send(group([][]byte{message}, raw))
	if string(again.of(raw).Certificate) != string(a.of(raw).Certificate) {
		t.Error("a request that was done is done again")
	}
	h.audited(begunWith + 1)
}

// What the agent shows and what it sends are held together by the id: an approval counts for the bytes that were shown,
// as the approver's own program renders them, and for nothing beside them.
func TestHostileShowsOneSendsAnother(t *testing.T) {
	h := takeOver(t)
	var csrs [3][]byte
	for i := range csrs {
		csrs[i], _ = newCSR(t)
	}
	shown, sent := h.pc("0001", csrs[0]), h.pc("0002", csrs[1])
	message, _ := h.approval("local.key", "fingerprint", shown)
	h.send(group([][]byte{message}, sent)).refused(sent, protocol.CodeApprovalsMissing)
	h.send(group([][]byte{message}, shown, sent)).refused(sent, protocol.CodeApprovalsMissing) // in a crowd

	// The file bears the name of one request and holds another: what it holds is shown, and approved.
	third := h.pc("0003", csrs[2])
	name := "named/" + protocol.ID(sent).String() + ".request"
	h.put(name, third)
	o := h.try(t, "coldseal", "approve", "--key", "local.key", "--introduction", "introduction", "--digest", h.digest, "--request", name,
		"--statement", "fingerprint", "--yes", "--out", "named/approval")
	if o.code != 0 || !strings.Contains(o.words, protocol.ID(third).String()) || strings.Contains(o.words, protocol.ID(sent).String()+"\n") {
		t.Errorf("what is shown goes by the file's name: exit %d\n%s", o.code, o.words)
	}
	a := h.send(group([][]byte{h.read("named", "approval")}, sent, third))
	a.refused(sent, protocol.CodeApprovalsMissing)
	a.done(third, protocol.OutcomeIssued)

	// Texts cannot draw another request on the screen, nor hide themselves.
	const drawn = "058091-PC-0004\x1b[2K\r\nsubject        058091-PC-0001\u202e\u2066\x00"
	_, words := h.approval("local.key", "fingerprint", h.request(protocol.KindIssue, drawn,
		protocol.Issuance{CSR: csrs[0], Fields: map[string]string{"number": "0004\u200b\n"}, Origin: protocol.OriginHolder}, nil))
	for _, hidden := range []string{"\x1b", "\r", "\u202e", "\u2066", "\u200b", "\x00", "\nsubject        058091-PC-0001"} {
		if strings.Contains(words, hidden) {
			t.Errorf("%q gets to the screen", hidden)
		}
	}
	subjects := 0
	for line := range strings.Lines(words) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "subject" {
			subjects++
		}
	}
	if subjects != 1 {
		t.Errorf("%d subjects are shown:\n%s", subjects, words)
	}

	// An introduction of its own making, in which nothing has to be stated, is not the one whose digest is typed.
	lie := h.read("introduction")
	for i := len(lie) / 4; i < len(lie); i += len(lie) / 4 {
		lie[i] ^= 1
	}
	h.put("lie", lie)
	o = h.try(t, "coldseal", "approve", "--key", "local.key", "--introduction", "lie", "--digest", h.digest, "--request", name, "--yes", "--out", "named/lie")
	if _, err := os.Stat(h.path("named", "lie")); o.code != 7 || err == nil {
		t.Errorf("with a forged introduction: exit %d, %v", o.code, err)
	}
	h.audited(begunWith + 2) // 0001 went along with one that was refused
}

// A requester who signed a request may not approve it. The signature is beside the request, not in it: an agent can leave
// it out, and then nobody is known to have asked (law 4). What holds all the same: the approval is over those bytes, by
// one who may give it; the agent cannot put a signature of somebody else in its place.
func TestHostileStripsRequester(t *testing.T) {
	h := takeOver(t)
	csr, _ := newCSR(t)
	raw := h.pc("0001", csr)
	message, _ := h.approval("local.key", "fingerprint", raw)
	local, officer := h.key("local.key"), h.key("1.key")
	item := func(requester []byte) protocol.Group {
		g := group([][]byte{message}, raw)
		g.Items[0] = encode(t, protocol.Item{Request: raw, Requester: requester})
		return g
	}
	own, err := protocol.SignID(local, protocol.ContextRequester, protocol.ID(raw))
	if err != nil {
		t.Fatal(err)
	}
	h.send(item(own)).refused(raw, protocol.CodeOwnRequest)
	another, err := protocol.SignID(officer, protocol.ContextRequester, protocol.ID(raw[1:]))
	if err != nil {
		t.Fatal(err)
	}
	h.send(item(another)).refused(raw, protocol.CodeApprovalInvalid)
	stranger, err := protocol.SignID(h.seal, protocol.ContextRequester, protocol.ID(raw))
	if err != nil {
		t.Fatal(err)
	}
	h.send(item(stranger)).refused(raw, protocol.CodeApproverUnknown)
	purpose, err := cose.Sign(officer, protocol.ContextApproval, raw[:32])
	if err != nil {
		t.Fatal(err)
	}
	h.send(item(purpose)).refused(raw, protocol.CodeApprovalInvalid)
	h.audited(begunWith)
	h.send(item(nil)).done(raw, protocol.OutcomeIssued)
	h.audited(begunWith + 1)
}
