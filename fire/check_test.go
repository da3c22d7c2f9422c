package fire

import (
	"bufio"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// told is what an exported log tells, read without any of the programs that wrote it.
type told struct {
	announced map[protocol.Digest]bool   // digests of what was going to be signed
	intended  map[string]protocol.Digest // serial → digest
	changing  map[string]bool            // serials whose status was going to be changed
	issued    map[string][]byte          // serial → certificate, DER
	burned    map[string]bool            // serials
	burnings  int                        // how often some were, one after another
	last      auditlog.Kind
	results   map[string]int // request → how many results it has
	outcomes  map[string]protocol.Outcome
}

// read reads a log. What is there twice is an error at once.
func read(t *testing.T, name string) *told {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	next := func(limit int) []byte {
		data, err := protocol.ReadString(r, limit)
		if err != nil && err != io.EOF {
			t.Fatalf("%s: %v", name, err)
		}
		return data
	}
	log := newTold()
	next(auditlog.MaxCheckpoint)
	for {
		leaf := next(protocol.MaxLeaf)
		if leaf == nil {
			return log
		}
		var body []byte
		if salted := next(auditlog.MaxBody); len(salted) > 16 {
			body = salted[16:]
		}
		parsed, err := auditlog.ParseLeaf(leaf)
		if err == nil {
			err = log.take(t, parsed, body)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func newTold() *told {
	return &told{announced: map[protocol.Digest]bool{}, intended: map[string]protocol.Digest{}, changing: map[string]bool{},
		issued: map[string][]byte{}, burned: map[string]bool{}, results: map[string]int{}, outcomes: map[string]protocol.Outcome{}}
}

func (l *told) take(t *testing.T, leaf auditlog.Leaf, body []byte) error {
	t.Helper()
	serial := hex.EncodeToString(leaf.Serial)
	defer func() { l.last = leaf.Kind }()
	switch leaf.Kind {
	case auditlog.Intents:
		var b auditlog.IntentsBody
		if err := cose.Unmarshal(body, &b); err != nil {
			return err
		}
		for _, in := range b.Intents {
			serial := hex.EncodeToString(in.Serial)
			if in.TBS.IsZero() {
				l.changing[serial] = true
				continue
			}
			l.announced[in.TBS] = true
			if serial == "" {
				continue // a CRL
			}
			if _, twice := l.intended[serial]; twice {
				t.Errorf("serial %s was announced twice", serial)
			}
			l.intended[serial] = in.TBS
		}
		return nil
	case auditlog.Burned:
		if l.burned[serial] || l.issued[serial] != nil {
			t.Errorf("serial %s was burned, and used before", serial)
		}
		if l.burned[serial] = true; l.last != auditlog.Burned {
			l.burnings++
		}
		return nil
	case auditlog.Issued, auditlog.Changed, auditlog.Refused, auditlog.Withdrawn:
	default:
		return nil
	}
	if leaf.Kind == auditlog.Issued && body == nil {
		return errors.New("an issuance has no body")
	}
	result, err := protocol.ParseResult(body)
	if err != nil {
		return err
	}
	id := result.ID.String()
	if l.results[id]++; l.results[id] > 1 {
		t.Errorf("request %s has two results", id)
	}
	l.outcomes[id] = result.Outcome
	if leaf.Kind == auditlog.Changed && !l.changing[serial] {
		t.Errorf("serial %s was changed, and that was not announced", serial)
	}
	if leaf.Kind == auditlog.Issued {
		if l.burned[serial] || l.issued[serial] != nil {
			t.Errorf("serial %s was issued, and used before", serial)
		}
		c, err := x509.ParseCertificate(result.Certificate)
		if err != nil {
			return err
		}
		if protocol.DigestOf(c.RawTBSCertificate) != l.intended[serial] {
			t.Errorf("the certificate %s is not the one that was announced", serial)
		}
		l.issued[serial] = result.Certificate
	}
	return nil
}

// check asks what was lost. The bundle of the world has been processed and imported.
func (w *world) check(t *testing.T) *told {
	t.Helper()
	log := w.audit(t)
	w.checkRequests(t, log)
	w.checkImported(t, log)
	return log
}

// audit has the log replayed, verified and audited, and asks that it tells of all that the signer was asked to sign.
func (w *world) audit(t *testing.T) *told {
	t.Helper()
	w.must(t, "appliance", "log", "export", "--out", "log") // which replays log and ledger first
	w.must(t, "coldseal", "log", "verify", "--log", "log", "--digest", w.digest)
	var audit struct {
		Found      int      `json:"found"`
		Unfinished []string `json:"unfinished"`
	}
	if err := json.Unmarshal([]byte(w.must(t, "coldseal", "log", "audit", "--log", "log", "--digest", w.digest, "--json")), &audit); err != nil {
		t.Fatal(err)
	}
	if audit.Found != 0 || len(audit.Unfinished) != 0 {
		t.Errorf("the audit found %d things, unfinished %v", audit.Found, audit.Unfinished)
	}
	log := read(t, w.path("log"))
	for serial := range log.intended {
		if log.issued[serial] == nil && !log.burned[serial] {
			t.Errorf("serial %s was announced, and neither issued nor burned", serial)
		}
	}
	for _, digest := range w.asked(t) {
		if !log.announced[digest] {
			t.Errorf("the signer was asked to sign %s, which the log does not announce", digest)
		}
	}
	return log
}

// checkRequests compares what was asked for with what the log says became of it, and with what the agent says.
func (w *world) checkRequests(t *testing.T, log *told) {
	t.Helper()
	states := map[string]row{}
	for _, r := range w.rows(t) {
		states[r.ID] = r
	}
	for _, id := range w.load.issue {
		if log.outcomes[id] != protocol.OutcomeIssued || states[id].Outcome != "issued" {
			t.Errorf("request %s: the log says %s, the agent %+v", id, log.outcomes[id], states[id])
		}
	}
	for _, id := range w.load.done {
		if log.results[id] != 1 || states[id].State == "on medium" {
			t.Errorf("request %s: %d results in the log, the agent says %+v", id, log.results[id], states[id])
		}
	}
	for _, id := range w.load.open {
		if log.results[id] != 0 || !states[id].Open {
			t.Errorf("request %s: %d results in the log, the agent says %+v", id, log.results[id], states[id])
		}
	}
}

// checkImported compares the certificates and the CRL that the agent has with the log.
func (w *world) checkImported(t *testing.T, log *told) {
	t.Helper()
	w.must(t, "agent", "certificates", "--out", "certs", "--by", "serial")
	w.must(t, "agent", "crls", "--out", "crls")
	files, err := filepath.Glob(w.path("certs", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		serial := filepath.Base(name[:len(name)-len(".pem")])
		if block == nil || string(block.Bytes) != string(log.issued[serial]) {
			t.Errorf("the agent has a certificate %s, which is not the log's", serial)
		}
	}
	if want := len(w.load.issue) + 6; len(files) != want { // an approver and five workstations of before
		t.Errorf("the agent has %d certificates, want %d", len(files), want)
	}
	if want := len(w.load.issue) + 8; len(log.issued) != want { // and two CAs, which no agent asked for
		t.Errorf("the log has %d certificates, want %d", len(log.issued), want)
	}
	data, err := os.ReadFile(w.path("crls", "issuing.crl"))
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(data)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, e := range crl.RevokedCertificateEntries {
		listed[hex.EncodeToString(e.SerialNumber.Bytes())] = true
	}
	for serial := range log.burned {
		if !listed[serial] {
			t.Errorf("serial %s was burned and is not on the CRL", serial)
		}
	}
	for _, serial := range w.load.listed {
		if !listed[serial] {
			t.Errorf("certificate %s was taken away and is not on the CRL", serial)
		}
	}
	if len(listed) != len(log.burned)+len(w.load.listed) {
		t.Errorf("the CRL has %d entries, want %d burned and %d taken away", len(listed), len(log.burned), len(w.load.listed))
	}
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
