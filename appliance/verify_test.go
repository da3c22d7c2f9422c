package appliance_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// answered is an answer of a response with the result in it.
type answered struct {
	protocol.Answer
	result protocol.Result
}

// response is a response that was verified as an agent does.
type response struct {
	header  protocol.ResponseHeader
	answers []answered
	crls    [][]byte
}

// of finds the answer to a request; the first, if there are several.
func (r response) of(t testing.TB, raw []byte) answered {
	t.Helper()
	for _, a := range r.answers {
		if a.result.ID == protocol.ID(raw) {
			return a
		}
	}
	t.Fatalf("request %s was not answered", protocol.ID(raw))
	return answered{}
}

func (w *world) responsePath(sequence uint64) string {
	return filepath.Join(w.dir, "responses", "desk", fmt.Sprintf("%010d.response", sequence))
}

// read opens a stored response and verifies all of it: seal, checkpoint, that the leaves extend a tree that was seen
// before, every answer against its leaf, every certificate, receipt and CRL.
func (w *world) read(path string) response {
	w.t.Helper()
	in, err := protocol.OpenIntroduction(must[[]byte](w.t)(w.engine.Introduction()), w.engine.Appliance())
	if err != nil {
		w.t.Fatal(err)
	}
	raw := must[[]byte](w.t)(os.ReadFile(path))
	opened, refusal, err := protocol.OpenResponse(spool{bytes.NewReader(raw)}, in.Keys, "desk")
	if err != nil || refusal != nil {
		w.t.Fatal(refusal, err)
	}
	r := response{header: opened.Header}
	h := &r.header
	checkpoint := must[auditlog.Checkpoint](w.t)(auditlog.OpenCheckpoint(h.Checkpoint, in.Keys))
	root, seen := w.roots[int64(h.FirstLeaf)]
	if !seen {
		w.t.Fatalf("the response begins at leaf %d, where no tree known here ends", h.FirstLeaf)
	}
	from := auditlog.Checkpoint{Origin: checkpoint.Origin, Size: int64(h.FirstLeaf), Root: root}
	extension := must[*auditlog.Extension](w.t)(auditlog.NewExtension(from, h.Range))
	if err := auditlog.CheckConsistency(h.Consistency, from, checkpoint); err != nil {
		w.t.Fatal(err)
	}
	index := h.FirstLeaf
	for {
		part, data, err := opened.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		switch part {
		case protocol.PartAnswer:
			a, result, err := protocol.ParseAnswer(data)
			if err != nil {
				w.t.Fatal(err)
			}
			r.answers = append(r.answers, answered{a, result})
		case protocol.PartLeaf:
			if _, err := extension.Append(data); err != nil {
				w.t.Fatal(err)
			}
			w.leaves[index] = bytes.Clone(data)
			index++
		case protocol.PartCRL:
			r.crls = append(r.crls, bytes.Clone(data))
		}
	}
	if err := extension.Done(checkpoint); err != nil {
		w.t.Fatal(err)
	}
	w.roots[checkpoint.Size] = checkpoint.Root
	for i := range r.answers {
		w.checkAnswer(&r.answers[i], in.Keys, h.State.CAs)
	}
	for _, der := range r.crls {
		crl := must[*x509.RevocationList](w.t)(x509.ParseRevocationList(der))
		if err := crl.CheckSignatureFrom(w.ca(h.State.CAs, crl.AuthorityKeyId)); err != nil {
			w.t.Error(err)
		}
	}
	return r
}

// learn has the next bundles say that the agent knows the log of this response.
func (w *world) learn(r response) {
	w.known.size = r.header.FirstLeaf + r.header.Leaves
	w.known.root = protocol.Digest(w.roots[int64(w.known.size)])
}

func (w *world) ca(cas [][]byte, keyID []byte) *x509.Certificate {
	w.t.Helper()
	for _, der := range cas {
		if c := must[*x509.Certificate](w.t)(x509.ParseCertificate(der)); bytes.Equal(c.SubjectKeyId, keyID) {
			return c
		}
	}
	w.t.Fatalf("no CA of the state has the key %x", keyID)
	return nil
}

// checkAnswer holds an answer against its leaf, and what it brings against the CAs.
func (w *world) checkAnswer(a *answered, keys *protocol.Keys, cas [][]byte) {
	w.t.Helper()
	r := &a.result
	want := auditlog.Leaf{Kind: auditlog.Refused}
	switch r.Outcome {
	case protocol.OutcomeIssued:
		want = auditlog.Leaf{Kind: auditlog.Issued, Issuer: r.Issuer[:], Serial: r.Serial, Status: auditlog.Active}
		c := must[*x509.Certificate](w.t)(x509.ParseCertificate(r.Certificate))
		if err := c.CheckSignatureFrom(w.ca(cas, c.AuthorityKeyId)); err != nil || !bytes.Equal(c.SerialNumber.Bytes(), r.Serial) {
			w.t.Errorf("certificate %x in the result %x: %v", c.SerialNumber, r.Serial, err)
		}
	case protocol.OutcomeRevoked, protocol.OutcomeHeld:
		want = auditlog.Leaf{Kind: auditlog.Changed, Issuer: r.Issuer[:], Serial: r.Serial, Status: auditlog.Revoked}
		if r.Outcome == protocol.OutcomeHeld {
			want.Status = auditlog.Held
		}
		receipt := must[protocol.Receipt](w.t)(protocol.OpenReceipt(r.Receipt, keys))
		if receipt.Request != r.ID || receipt.Outcome != r.Outcome || receipt.Issuer != r.Issuer || !bytes.Equal(receipt.Serial, r.Serial) {
			w.t.Errorf("receipt %+v for the result %+v", receipt, r)
		}
	case protocol.OutcomeReleased:
		want = auditlog.Leaf{Kind: auditlog.Changed, Issuer: r.Issuer[:], Serial: r.Serial, Status: auditlog.Active}
	case protocol.OutcomeWithdrawn:
		want = auditlog.Leaf{Kind: auditlog.Withdrawn}
	case protocol.OutcomeDone:
		return // the log records an order with its approvals
	case protocol.OutcomeRefused:
		if len(a.Salt) == 0 {
			return
		}
		if r.Refusal.Open() {
			w.t.Errorf("%s was logged, and may be tried again", r.Refusal.Code)
		}
	}
	data, found := w.leaves[a.Index]
	if !found || len(a.Salt) == 0 {
		w.t.Fatalf("%s: the answer has no leaf", r.Outcome)
	}
	leaf := must[auditlog.Leaf](w.t)(auditlog.ParseLeaf(data))
	if leaf.Kind != want.Kind || !bytes.Equal(leaf.Issuer, want.Issuer) || !bytes.Equal(leaf.Serial, want.Serial) || leaf.Status != want.Status {
		w.t.Errorf("%s: leaf %d is %+v", r.Outcome, a.Index, leaf)
	}
	if auditlog.BodyDigest([16]byte(a.Salt), a.Body) != leaf.Body {
		w.t.Errorf("%s: leaf %d is over another body", r.Outcome, a.Index)
	}
}

// logged counts the leaves of a kind.
func (w *world) logged(kind auditlog.Kind) (n int) {
	w.t.Helper()
	if err := w.engine.EachLeaf(0, func(_ uint64, data, _ []byte) error {
		leaf, err := auditlog.ParseLeaf(data)
		if leaf.Kind == kind {
			n++
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}
