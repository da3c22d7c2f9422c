package appliance_test

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"coldseal/protocol"
)

func TestMainJob(t *testing.T) {
	w := newWorld(t)
	root, issuing := w.cas()
	w.enrol()
	ra := w.approver(issuing, "it:RSSCRL70A41H501X", protocol.Scope{Profile: "it-workstation", Body: unit})

	key := newKey(t)
	raw := w.encode(w.workstation(issuing, unit, "0020", key))
	results := w.send(group(raw, w.approve(ra, nil, fingerprint, raw)))
	issued := results[protocol.ID(raw)]
	if issued.Outcome != protocol.OutcomeIssued {
		t.Fatalf("outcome %s: %s", issued.Outcome, issued.Refusal.Words())
	}
	cert := must[*x509.Certificate](t)(x509.ParseCertificate(issued.Certificate))
	if cert.Subject.CommonName != "058091-PC-0020" {
		t.Errorf("common name %q", cert.Subject.CommonName)
	}
	roots, cas := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range w.engine.PublicState().CAs {
		c := must[*x509.Certificate](t)(x509.ParseCertificate(der))
		if protocol.DigestOf(c.RawSubjectPublicKeyInfo) == root {
			roots.AddCert(c)
		} else {
			cas.AddCert(c)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: cas, CurrentTime: w.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}

	hold := w.request(protocol.KindHold, protocol.Revocation{Serial: issued.Serial})
	hold.Issuer, hold.Profile, hold.Body, hold.Subject = issuing, "it-workstation", unit, "058091-PC-0020"
	rawHold := w.encode(hold)
	results = w.send(group(rawHold, w.approve(ra, nil, nil, rawHold)))
	if r := results[protocol.ID(rawHold)]; r.Outcome != protocol.OutcomeHeld || len(r.Receipt) == 0 {
		t.Fatalf("hold: %+v", r)
	}
	_, _, crls := w.response(w.sequence)
	if len(crls) == 0 {
		t.Fatal("no CRL came with the hold")
	}
	crl := must[*x509.RevocationList](t)(x509.ParseRevocationList(crls[len(crls)-1]))
	if len(crl.RevokedCertificateEntries) != 1 || crl.RevokedCertificateEntries[0].ReasonCode != 6 {
		t.Errorf("CRL entries %+v", crl.RevokedCertificateEntries)
	}

	t.Run("the engine starts again on its ledger", func(t *testing.T) {
		if err := w.engine.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	})
	t.Run("the same bundle gives the same bytes", func(t *testing.T) {
		path := filepath.Join(w.dir, "responses", "desk", "0000000002.response")
		before := must[[]byte](t)(os.ReadFile(path))
		w.sequence = 1
		bundle := w.seal(group(raw, w.approve(ra, nil, fingerprint, raw)))
		if out := w.process(bundle); out.Refusal != nil || !out.Again {
			t.Errorf("the same bundle again: %+v", out)
		}
		other := w.encode(w.workstation(issuing, unit, "0021", newKey(t)))
		if out := w.process(w.sealAs(2, group(other))); out.Refusal == nil || out.Refusal.Code != protocol.CodeSequenceReused {
			t.Errorf("other bytes under a used number: %+v", out)
		}
		if after := must[[]byte](t)(os.ReadFile(path)); !bytes.Equal(before, after) {
			t.Error("the stored response changed")
		}
	})
}
