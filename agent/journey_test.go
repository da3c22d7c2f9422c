package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
)

// world is an agent, a box, a stick and an approver with a certificate.
type world struct {
	t        testing.TB
	box      *box
	s        *Service
	config   Config
	stick    string
	clock    time.Time
	approver *ecdsa.PrivateKey
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, stick: t.TempDir(), clock: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	now := func() time.Time { return w.clock }
	w.box = newBox(t, now)
	w.config = Config{Dir: filepath.Join(t.TempDir(), "agent"), Now: now, Rand: rand.Reader}
	w.init()
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) init() {
	w.t.Helper()
	s, err := Init(w.config, Beginning{Introduction: w.box.introduction(), Digest: w.box.id, Name: "comune", Bodies: []string{"it"}, BundlesPerDay: 9, ItemsPerDay: 9999})
	if err != nil {
		w.t.Fatal(err)
	}
	w.s, w.box.agent = s, s.Party()
}

// enrol gets the approver's certificate over the gap.
func (w *world) enrol() {
	w.t.Helper()
	w.approver = newECDSA(w.t)
	id := w.request(Wish{
		Kind: protocol.KindIssue, Profile: "approver", Body: "it/058091", Subject: "it:CMPGUO66A30A326C", CSR: w.csr(w.approver), Origin: protocol.OriginHolder,
		Fields: map[string]string{"name": "Ugo Campo"}, Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}, {Profile: "it-server", Body: "it/058091"}},
	})
	for i := range 2 {
		message := w.box.approve(w.box.officers[i], []protocol.Digest{id}, []protocol.Count{{Kind: protocol.KindIssue, Profile: "approver", Body: "it/058091", N: 1}},
			protocol.StatementPresence, protocol.StatementFingerprint)
		w.attach(message)
	}
	w.export()
	w.box.process(w.stick)
	w.imported()
	if st := w.standing(id); st.State != StateImported || st.Outcome != protocol.OutcomeIssued {
		w.t.Fatalf("approver certificate: %+v", st)
	}
}

func (w *world) csr(key *ecdsa.PrivateKey) []byte {
	return must[[]byte](w.t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key))
}

// station is a wish for a workstation's certificate with a new key.
func (w *world) station(number int) Wish {
	return Wish{
		Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058091", Subject: fmt.Sprintf("058091-PC-%04d", number), Origin: protocol.OriginAgent,
		CSR: w.csr(newECDSA(w.t)), Fields: map[string]string{"number": fmt.Sprintf("%04d", number)},
	}
}

func (w *world) request(wish Wish) protocol.Digest {
	w.t.Helper()
	made, err := w.s.Request(wish)
	if err != nil {
		w.t.Fatal(err)
	}
	if !made.New {
		w.t.Fatal("the request was there already")
	}
	return made.ID
}

func (w *world) attach(message []byte) Attached {
	w.t.Helper()
	a, err := w.s.Attach(message)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// approve has the approver approve requests for workstations.
func (w *world) approve(kind protocol.Kind, ids ...protocol.Digest) {
	w.t.Helper()
	count := protocol.Count{Kind: kind, Profile: "it-workstation", Body: "it/058091", N: uint64(len(ids))}
	if kind == protocol.KindWithdraw {
		count.Profile = ""
	}
	if a := w.attach(w.box.approve(w.approver, ids, []protocol.Count{count})); a.Person != "it:CMPGUO66A30A326C" {
		w.t.Fatalf("the approval is by %q", a.Person)
	}
}

func (w *world) export() Exported {
	w.t.Helper()
	e, err := w.s.Export(context.Background(), w.stick, Choice{})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) importErr() ([]Imported, error) {
	return w.s.Import(context.Background(), w.stick, nil)
}

func (w *world) imported() []Imported {
	w.t.Helper()
	all, err := w.importErr()
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) standing(id protocol.Digest) Standing {
	w.t.Helper()
	return w.show(id).Standing
}

func (w *world) show(id protocol.Digest) Detail {
	w.t.Helper()
	d, err := w.s.Show(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) meta() (m store.Meta) {
	w.t.Helper()
	err := w.s.store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Meta()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// ready makes n approved requests for workstations.
func (w *world) ready(n int) []protocol.Digest {
	w.t.Helper()
	var ids []protocol.Digest
	for i := range n {
		ids = append(ids, w.request(w.station(i+1)))
	}
	w.approve(protocol.KindIssue, append([]protocol.Digest(nil), ids...)...)
	return ids
}

func TestJourney(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	ids := w.ready(3)
	waiting := w.request(w.station(77))
	if st := w.standing(waiting); st.State != StateRequested || st.Missing == nil || st.Missing.Code != protocol.CodeApprovalsMissing || st.Need != 1 {
		t.Errorf("without approvals: %+v", st)
	}
	e := w.export()
	if e.Sequence != 2 || e.Items != 3 || e.Waiting != 1 {
		t.Errorf("exported %+v", e)
	}
	if st := w.standing(ids[0]); st.State != StateOnMedium || st.Bundle != 2 {
		t.Errorf("after export: %+v", st)
	}
	if _, err := w.s.Export(context.Background(), w.stick, Choice{}); !errors.Is(err, ErrApprovals) {
		t.Errorf("a second export: %v", err)
	}
	w.box.process(w.stick)
	all := w.imported()
	if len(all) != 2 && len(all) != 1 {
		t.Fatalf("imported %+v", all)
	}
	if last := all[len(all)-1]; last.Sequence != 2 || last.Results != 3 || last.Refused != 0 || last.Silent != 0 || last.Already {
		t.Errorf("imported %+v", last)
	}
	again := w.imported()
	if !again[len(again)-1].Already {
		t.Errorf("importing twice: %+v", again)
	}
	if m := w.meta(); m.Size != uint64(len(w.box.leaves)) || m.Root != protocol.Digest(w.box.tree.Root()) || fmt.Sprint(m.Acks) != "[2]" {
		t.Errorf("size %d of %d, acknowledgements %v", m.Size, len(w.box.leaves), m.Acks)
	}
	for i, leaf := range w.box.leaves {
		err := w.s.store.View(func(tx *store.Tx) error {
			kept, err := tx.Leaf(uint64(i))
			if !bytes.Equal(kept, leaf) {
				t.Errorf("leaf %d is %x, want %x", i, kept, leaf)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	d := w.show(ids[0])
	var codes []string
	for _, e := range d.History {
		codes = append(codes, e.Code)
	}
	if fmt.Sprint(codes) != "[requested attached exported imported]" {
		t.Errorf("history %v", codes)
	}
	certs := t.TempDir()
	if n, err := w.s.WriteCertificates(certs, BySubject); err != nil || n != 4 {
		t.Fatalf("wrote %d certificates, %v", n, err)
	}
	if _, err := os.Stat(filepath.Join(certs, "058091-PC-0001.pem")); err != nil {
		t.Error(err)
	}
	if st := w.standing(ids[0]); st.State != StatePublished {
		t.Errorf("after the certificates were written: %+v", st)
	}
	crls, chain := t.TempDir(), t.TempDir()
	if n, err := w.s.WriteCRLs(crls); err != nil || n != 1 || names(t, crls) != "issuing.crl" {
		t.Errorf("wrote %d CRLs, %s, %v", n, names(t, crls), err)
	}
	if n, err := w.s.WriteChain(chain); err != nil || n != 3 || names(t, chain) != "chain.pem issuing.pem root.pem" {
		t.Errorf("wrote %d files of the chain, %s, %v", n, names(t, chain), err)
	}
	if st := w.standing(ids[0]); !bytes.Equal(st.Serial, d.Result.Serial) || len(st.Serial) == 0 {
		t.Errorf("serial %x, the certificate's is %x", st.Serial, d.Result.Serial)
	}
	st, err := w.s.Status()
	if err != nil || st.States[StatePublished] != 4 || st.States[StateRequested] != 1 || len(st.Waiting) != 1 || st.Waiting[0].Count != 1 ||
		len(st.CRLs) != 2 || st.CRLs[0].Label != "root" || st.CRLs[1].Label != "issuing" || st.CRLs[1].CA != "Test Issuing" {
		t.Errorf("status %+v, %v", st, err)
	}
}

// names lists the files of a folder.
func names(t *testing.T, path string) string {
	var all []string
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(path)) {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestRevokeHoldReleaseRenew(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	key := newECDSA(t)
	wish := w.station(5)
	wish.CSR = w.csr(key)
	id := w.request(wish)
	w.approve(protocol.KindIssue, id)
	w.cross()
	serial := w.show(id).Result.Serial
	if _, err := w.s.Request(Wish{Kind: protocol.KindRelease, Serial: serial}); !errors.Is(err, ErrNotFound) {
		t.Errorf("release without a hold: %v", err)
	}
	hold := w.request(Wish{Kind: protocol.KindHold, Serial: serial})
	w.approve(protocol.KindHold, hold)
	w.cross()
	held := w.show(hold)
	if held.Result.Outcome != protocol.OutcomeHeld {
		t.Fatalf("hold: %+v", held.Result)
	}
	release := w.request(Wish{Kind: protocol.KindRelease, Serial: serial})
	req, _ := protocol.ParseRequest(w.show(release).Raw)
	if content, _ := req.Release(); content.Hold != held.Index || req.Profile != "it-workstation" || req.Body != "it/058091" || req.Subject != "058091-PC-0005" {
		t.Errorf("release of hold %d, want %d: %+v", content.Hold, held.Index, req)
	}
	w.approve(protocol.KindRelease, release)
	renew := w.request(Wish{Kind: protocol.KindRenew, Serial: serial, CSR: w.csr(newECDSA(t)), Current: key})
	if st := w.standing(renew); st.State != StateApproved {
		t.Errorf("a renewal signed by the current key: %+v", st)
	}
	w.cross()
	if d := w.show(release); d.Result.Outcome != protocol.OutcomeReleased {
		t.Errorf("release: %+v", d.Result)
	}
	if d := w.show(renew); d.Result.Outcome != protocol.OutcomeIssued {
		t.Errorf("renew: %+v", d.Result)
	}
	revoke := w.request(Wish{Kind: protocol.KindRevoke, Serial: serial, Reason: protocol.ReasonSuperseded})
	if made, err := w.s.Request(Wish{Kind: protocol.KindRevoke, Serial: serial, Reason: protocol.ReasonSuperseded}); err != nil || made.New || made.ID != revoke {
		t.Errorf("the same wish again: %+v, %v", made, err)
	}
	w.approve(protocol.KindRevoke, revoke)
	w.cross()
	if d := w.show(revoke); d.Result.Outcome != protocol.OutcomeRevoked {
		t.Errorf("revoke: %+v", d.Result)
	}
	if _, err := w.s.Request(Wish{Kind: protocol.KindRevoke, Serial: []byte{1, 2, 3}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("revocation of a foreign certificate without its profile: %v", err)
	}
}

// cross exports, has the box answer, and imports.
func (w *world) cross() {
	w.t.Helper()
	w.export()
	w.box.process(w.stick)
	w.imported()
}

func TestWithdraw(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	ids := w.ready(2)
	if made, err := w.s.Withdraw(ids[0]); err != nil || made.New {
		t.Fatalf("withdraw what never left: %+v, %v", made, err)
	}
	if st := w.standing(ids[0]); st.State != StateWithdrawn {
		t.Errorf("withdrawn: %+v", st)
	}
	w.export()
	made, err := w.s.Withdraw(ids[1])
	if err != nil || !made.New {
		t.Fatalf("withdraw what left: %+v, %v", made, err)
	}
	w.box.lie.refuse = map[string]*protocol.Refusal{"058091-PC-0002": protocol.Refuse(protocol.CodeQuota, "limit", "1", "thing", "requests")}
	w.box.process(w.stick)
	w.imported()
	if st := w.standing(ids[1]); st.State != StateApproved || !st.Leaving {
		t.Errorf("while its withdrawal waits: %+v", st)
	}
	w.approve(protocol.KindWithdraw, made.ID)
	if e := w.export(); e.Items != 1 {
		t.Errorf("exported %+v, want the withdrawal alone", e)
	}
	w.box.process(w.stick)
	w.imported()
	if st := w.standing(ids[1]); st.State != StateWithdrawn {
		t.Errorf("after its withdrawal: %+v", st)
	}
}

func TestOpenAndFinalRefusals(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	ids := w.ready(3)
	w.box.lie.refuse = map[string]*protocol.Refusal{
		"058091-PC-0001": protocol.Refuse(protocol.CodeWeakKey, "reason", "small"),
		"058091-PC-0002": protocol.Refuse(protocol.CodeApprovalsMissing, "have", "1", "need", "2", "missing", "1", "who", "anybody"),
		"058091-PC-0003": protocol.Refuse(protocol.CodeQuota, "limit", "1", "thing", "requests"),
	}
	w.cross()
	want := []struct {
		state State
		open  bool
	}{{StateRefused, false}, {StateRefused, true}, {StateApproved, false}}
	for i, id := range ids {
		if st := w.standing(id); st.State != want[i].state || st.Open != want[i].open || st.Refusal == nil {
			t.Errorf("request %d: %+v, want %+v", i, st, want[i])
		}
	}
	w.approve(protocol.KindIssue, ids[1]) // another approval: it may be tried again
	w.box.lie.refuse = nil
	if e := w.export(); e.Items != 2 {
		t.Errorf("exported %+v, want the two that may be tried again", e)
	}
	w.box.process(w.stick)
	w.imported()
	for _, id := range ids[1:] {
		if st := w.standing(id); st.State != StateImported {
			t.Errorf("tried again: %+v", st)
		}
	}
}
