package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/show"
)

// TestLast has the certificates that requests are about, and the last ones of subjects, lie beside the requests, proved.
func TestLast(t *testing.T) {
	w := newWorld(t)
	first := w.request(w.station(1))
	if _, err := w.s.Last(first); !errors.Is(err, ErrNotFound) {
		t.Errorf("before any import: %v", err)
	}
	w.enrol()
	if _, err := w.s.Last(first); !errors.Is(err, ErrNotFound) {
		t.Errorf("a subject's first: %v", err)
	}
	if _, err := w.s.Last(protocol.Digest{1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown request: %v", err)
	}
	w.approve(protocol.KindIssue, first)
	w.cross()
	serial := w.show(first).Result.Serial
	// Leaves that come later change the proof, not what is proved.
	other := w.request(w.station(2))
	w.approve(protocol.KindIssue, other)
	w.cross()

	want := map[protocol.Digest][]byte{
		w.request(w.station(1)):                                  serial,
		w.request(Wish{Kind: protocol.KindHold, Serial: serial}): serial,
		w.request(Wish{Kind: protocol.KindRevoke, Serial: w.show(other).Result.Serial, Reason: protocol.ReasonSuperseded}):                     w.show(other).Result.Serial,
		w.request(Wish{Kind: protocol.KindRenew, Serial: w.show(other).Result.Serial, CSR: w.csr(newECDSA(t)), Origin: protocol.OriginHolder}): w.show(other).Result.Serial,
		w.request(w.station(3)): nil,
	}
	dir := filepath.Join(t.TempDir(), "pending")
	if n, err := w.s.WritePending(dir, Filter{}); err != nil || n != len(want) {
		t.Fatalf("%d requests written, want %d, %v", n, len(want), err)
	}
	for id, serial := range want {
		proof, err := os.ReadFile(filepath.Join(dir, id.String()+".proof"))
		if serial == nil {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a subject's first has a proof beside it: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.s.Last(id)
		if err != nil || !bytes.Equal(again, proof) {
			t.Errorf("asked for alone, the proof is another: %v", err)
		}
		last, err := show.OpenLast(proof, w.box.id)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := protocol.ParseRequest(w.show(id).Raw)
		if err := last.Of(&req); err != nil || fmt.Sprintf("%x", last.Certificate.SerialNumber) != fmt.Sprintf("%x", serial) || last.Profile != "it-workstation" {
			t.Errorf("%s: proved is %x, want %x, %v", req.Kind, last.Certificate.SerialNumber, serial, err)
		}
	}
}
