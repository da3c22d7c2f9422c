package fire

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

const (
	bundlesPerDay = 5
	flood         = 60
)

// An agent brings many tiny bundles. So many as its enrolment says are processed in a day; of the others only what takes
// away is done, and the log does not grow for the rest.
func TestHostileFloods(t *testing.T) {
	h := takeOver(t)
	h.order(t, "agent", "--party", "agent/enrolment", "--replaces", "agent/enrolment", "--bundles-per-day", fmt.Sprint(bundlesPerDay))
	// All of it happens at noon of tomorrow, so that the day does not end meanwhile.
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour)
	clock := []string{"--clock", noon.Format(time.RFC3339)}
	tomorrow := func(r *protocol.Request) { r.Expires += 3 * 86400 }
	before := h.entriesNow()

	h.empty(t)
	revoke := h.request(protocol.KindRevoke, "058091-PC-9000", protocol.Revocation{Serial: h.serialOf("9000")}, tomorrow)
	message, _ := h.approval("local.key", "", revoke)
	for i := range flood {
		csr, _ := newCSR(t)
		number := fmt.Sprintf("%04d", i)
		raw := h.request(protocol.KindIssue, "058091-PC-"+number, protocol.Issuance{CSR: csr, Fields: map[string]string{"number": number}, Origin: protocol.OriginHolder}, tomorrow)
		groups := []protocol.Group{group(nil, raw)}
		if i == flood-1 {
			groups = append([]protocol.Group{group([][]byte{message}, revoke)}, groups...)
		}
		h.number++
		h.lay("stick", h.number, bytes.NewReader(h.bundle(func(b *protocol.BundleHeader) { b.Expires += 3 * 86400 }, groups...)))
	}
	all := h.process("stick", clock...)
	processed, quota := 0, 0
	for _, v := range all {
		switch v.Code {
		case "":
			processed++
		case protocol.CodeQuota:
			quota++
		}
	}
	if processed != bundlesPerDay || quota != flood-bundlesPerDay {
		t.Errorf("%d bundles were processed and %d refused, want %d and %d", processed, quota, bundlesPerDay, flood-bundlesPerDay)
	}
	notice := h.answer(0, visit{})
	notice.done(revoke, protocol.OutcomeRevoked)
	if len(notice.results) != 1 || h.receipt(revoke) == "" {
		t.Errorf("the notice has %d answers, the receipt is %q", len(notice.results), h.receipt(revoke))
	}
	grown := map[auditlog.Kind]int{}
	for _, e := range h.entriesNow()[len(before):] {
		grown[e.leaf.Kind]++
	}
	if grown[auditlog.Bundle] != bundlesPerDay || grown[auditlog.Changed] != 1 || grown[auditlog.Refused] != 0 || grown[auditlog.Step] > 2*bundlesPerDay+4 {
		t.Errorf("the log grew by %v", grown)
	}
	if files := h.glob(t, "appliance/responses/desk/*"); len(files) != bundlesPerDay+2 { // one of before, and the notice
		t.Errorf("%d responses are kept: %v", len(files), files)
	}
	// Brought again, what was refused is refused again, and nothing grows.
	size := len(h.entriesNow())
	h.process("stick", clock...)
	if n := len(h.entriesNow()); n != size {
		t.Errorf("the log grew by %d", n-size)
	}
	h.audited(begunWith)
}

// entriesNow exports the log and reads it.
func (h *hostile) entriesNow() []entry {
	h.t.Helper()
	h.must(h.t, "appliance", "log", "export", "--out", "log")
	return h.entries()
}
