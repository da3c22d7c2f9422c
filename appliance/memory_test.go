package appliance_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

const (
	manyItems  = 200000
	issuedLast = 1024
	dataLimit  = 176 << 20 // of each process; the Go runtime takes heap 64 MiB at a time, so that 128 MiB of it fit
	residentKB = 96 << 10
)

// TestMemoryStaysWhateverComes has the real program process a bundle that it could not hold: 200,000 requests, all of
// which waited too long but the last thousand, which are issued.
func TestMemoryStaysWhateverComes(t *testing.T) {
	program := filepath.Join(bin, "coldseal-appliance")
	build := exec.Command("go", "build", "-o", program, "coldseal/cmd/coldseal-appliance")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	w := newWorld(t)
	_, issuing := w.cas()
	w.enrol()
	ra := w.approver(issuing, "it:RSSCRL70A41H501X", protocol.Scope{Profile: "it-workstation", Body: unit})
	stick := t.TempDir()
	if size := w.writeMany(issuing, ra, stick); size < dataLimit+16<<20 {
		t.Fatalf("the bundle has %d bytes, which fit", size)
	}
	w.stop()

	peak, said, err := limited(program, "process", "--state", w.dir, "--secret-file", w.secret, "--media", stick, "--clock", w.now.Format(time.RFC3339))
	w.start()
	w.open() // Cleanup closes it
	if err != nil {
		t.Fatalf("process: %v\n%s", err, said)
	}
	t.Logf("peak %d KiB", peak)
	if peak > residentKB || peak == 0 {
		t.Errorf("peak of RssAnon is %d KiB, at most %d", peak, residentKB)
	}
	_, results, _ := w.response(w.sequence)
	issued, expired := 0, 0
	for id, r := range results {
		switch {
		case r.Outcome == protocol.OutcomeIssued:
			issued++
		case r.Refusal.Code == protocol.CodeRequestExpired:
			expired++
		default:
			t.Fatalf("request %s: %s", id, r.Refusal.Words())
		}
	}
	if issued != issuedLast || expired != manyItems-issuedLast {
		t.Errorf("%d issued and %d expired, want %d and %d", issued, expired, issuedLast, manyItems-issuedLast)
	}
	released, err := filepath.Glob(filepath.Join(stick, "coldseal", "*", "to-agent", "desk", "*.response"))
	if err != nil || len(released) != 2 { // the approver's is not acknowledged
		t.Errorf("%d responses on the medium (%v), want 2", len(released), err)
	}
}

// writeMany writes the bundle to the medium without ever holding it, and gives its size.
func (w *world) writeMany(issuing protocol.Digest, ra *person, stick string) int64 {
	w.t.Helper()
	rest := must[*os.File](w.t)(os.CreateTemp(w.t.TempDir(), "rest"))
	defer rest.Close()
	hash := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(rest, hash))
	check := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	key := must[*rsa.PrivateKey](w.t)(rsa.GenerateKey(rand.Reader, 3072))
	csr := must[[]byte](w.t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "late"}}, key))
	late := w.issue(issuing, "it-workstation", unit, "058091-PC-9999", protocol.Issuance{
		CSR: csr, Fields: map[string]string{"number": "9999"}, Origin: protocol.OriginHolder,
	})
	late.Created, late.Expires = w.now.Add(-2*day).Unix(), w.now.Add(-day).Unix()
	for left := manyItems - issuedLast; left > 0; left -= protocol.MaxGroupItems {
		g := protocol.Group{Section: protocol.SectionRequests}
		for range min(left, protocol.MaxGroupItems) {
			rand.Read(late.Nonce[:])
			g.Items = append(g.Items, must[[]byte](w.t)(cose.Marshal(protocol.Item{Request: w.encode(late)})))
		}
		check(protocol.WriteGroup(out, g))
	}
	g := protocol.Group{Section: protocol.SectionRequests}
	var raws [][]byte
	for i := range issuedLast {
		raw := w.encode(w.workstation(issuing, unit, fmt.Sprintf("%04d", i), newKey(w.t)))
		raws = append(raws, raw)
		g.Items = append(g.Items, must[[]byte](w.t)(cose.Marshal(protocol.Item{Request: raw})))
	}
	g.Approvals = [][]byte{w.approve(ra, nil, fingerprint, raws...)}
	check(protocol.WriteGroup(out, g))
	check(out.Flush())

	w.sequence++
	introduction := must[[]byte](w.t)(w.engine.Introduction())
	genesis, _, _, err := protocol.OpenIntroduction(introduction, w.engine.Appliance())
	check(err)
	receiver, err := protocol.ReceiverKey(genesis.Receiver)
	check(err)
	path, err := media.Name{Kind: media.Bundle, Appliance: media.Tag(w.engine.Appliance()), Agent: "desk", Sequence: w.sequence}.Path()
	check(err)
	h := protocol.BundleHeader{
		Version: 1, From: "desk", To: w.engine.Appliance(), Sequence: w.sequence, Created: w.now.Unix(), Expires: w.now.Add(30 * day).Unix(),
		Items: manyItems, Rest: protocol.Digest(hash.Sum(nil)), KnownSize: w.known.size, KnownRoot: w.known.root,
	}
	m := must[*media.Medium](w.t)(media.OpenMedium(stick))
	defer m.Close()
	check(m.Write(path, media.WriteOptions{}, func(to io.Writer) error {
		sealed, err := media.Encrypt(to, receiver)
		if err != nil {
			return err
		}
		if err := protocol.WriteHeader(sealed, h, w.agent); err != nil {
			return err
		}
		if _, err := rest.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(sealed, rest); err != nil {
			return err
		}
		return sealed.Close()
	}))
	return must[os.FileInfo](w.t)(os.Stat(filepath.Join(stick, path))).Size()
}

// limited runs a program, and all that it starts, with RLIMIT_DATA at dataLimit: a process that wants more memory dies.
// Peak is that of RssAnon, in KiB.
func limited(program string, args ...string) (peak int, said string, err error) {
	script := fmt.Sprintf(`ulimit -d %d; exec "$0" "$@"`, dataLimit>>10)
	cmd := exec.Command("sh", append([]string{"-c", script, program}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return peak, out.String(), err
		case <-tick.C:
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if err != nil {
				continue // it has just ended
			}
			var kib int
			if _, after, found := strings.Cut(string(status), "RssAnon:"); found {
				if _, err := fmt.Sscan(after, &kib); err == nil {
					peak = max(peak, kib)
				}
			}
		}
	}
}
