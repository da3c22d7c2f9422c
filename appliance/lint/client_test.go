package lint

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coldseal/appliance/wire"
	"coldseal/protocol/cose"
)

// worker is the path of the real program.
var worker string

// TestMain builds the worker. The test binary itself is a lying worker when started under the name of a lie.
func TestMain(m *testing.M) {
	if lie, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "lie-"); ok {
		if err := wire.Serve(wire.Descriptor, 1, func(_ uint64, body []byte) (any, error) { return tell(lie, body) }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(withWorker(m))
}

func withWorker(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coldseal-lint")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	worker = filepath.Join(dir, "coldseal-lint")
	build := exec.Command("go", "build", "-o", worker, "coldseal/cmd/coldseal-lint")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the worker: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func tell(lie string, body []byte) (any, error) {
	var batch Batch
	if err := cose.Unmarshal(body, &batch); err != nil {
		return nil, err
	}
	r := Report{Findings: make([][]Finding, len(batch.Items))}
	switch lie {
	case "one-too-few":
		r.Findings = r.Findings[1:]
	case "one-too-many":
		r.Findings = append(r.Findings, nil)
	case "below-threshold":
		r.Findings[0] = []Finding{{Lint: "w_x", Status: Warn}}
	case "no-such-status":
		r.Findings[0] = []Finding{{Lint: "e_x", Status: 4}}
	case "nameless":
		r.Findings[0] = []Finding{{Status: Error}}
	case "other-type":
		return []uint64{1}, nil
	}
	return r, nil
}

func start(tb testing.TB) *Client {
	tb.Helper()
	c, err := Start(tb.Context(), worker)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, wire.ErrFault) {
			tb.Errorf("close: %v", err)
		}
	})
	return c
}

func both(threshold Status) Config {
	return Config{Sets: []string{"community", "rfc5280"}, Threshold: threshold}
}

func names(findings []Finding) []string {
	var names []string
	for _, f := range findings {
		names = append(names, f.Lint)
	}
	return names
}

func TestCertificates(t *testing.T) {
	issuer := newCA(t)
	basicConstraints := asn1.ObjectIdentifier{2, 5, 29, 19}
	netscape := asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 13}
	tests := []struct {
		name   string
		config Config
		der    []byte
		want   []string
	}{
		{"good", both(Warn), issuer.certificate(nil), nil},
		{"signed by nobody", both(Warn), dummyOf(t, issuer.certificate(nil)), nil},
		{"CA by an uncritical extension", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, extension(basicConstraints, 0x30, 3, 1, 1, 0xff))
		}), []string{"e_basic_constraints_not_critical"}},
		{"signs certificates without being a CA", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.KeyUsage |= x509.KeyUsageCertSign
		}), []string{"e_ext_key_usage_cert_sign_without_ca", "e_key_usage_and_extended_key_usage_inconsistent"}},
		{"nobody's", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.Subject.Country, c.Subject.Organization, c.Subject.CommonName, c.DNSNames = nil, nil, "", nil
		}), []string{"e_subject_empty_without_san"}},
		{"serial number of 21 octets", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 162)
		}), []string{"e_serial_number_longer_than_20_octets"}},
		{"extension twice", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, extension(netscape, 0x16, 1, 'x'), extension(netscape, 0x16, 1, 'x'))
		}), []string{"e_ext_duplicate_extension"}},
		{"ends before it begins", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.NotAfter = epoch.AddDate(0, 0, -1)
		}), []string{"e_validity_time_not_positive"}},
		{"country in lower case", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.Subject.Country = []string{"it"}
		}), []string{"e_subj_country_not_uppercase"}},
		{"common name too long", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.Subject.CommonName = strings.Repeat("x", 65)
		}), []string{"e_subject_common_name_max_length"}},
		{"two things wrong", both(Error), issuer.certificate(func(c *x509.Certificate) {
			c.Subject.Country = []string{"it"}
			c.NotAfter = epoch.AddDate(0, 0, -1)
		}), []string{"e_subj_country_not_uppercase", "e_validity_time_not_positive"}},
		{"only what RFC 5280 says", Config{Sets: []string{"rfc5280"}}, issuer.certificate(func(c *x509.Certificate) {
			c.Subject.Country = []string{"it"}
		}), nil},
		{"ignored", Config{Sets: []string{"community"}, Ignore: []string{"e_subj_country_not_uppercase"}},
			issuer.certificate(func(c *x509.Certificate) { c.Subject.Country = []string{"it"} }), nil},
		{"a warning, asked for", both(Warn), issuer.certificate(func(c *x509.Certificate) {
			c.Subject.CommonName = " 058091-PC-0001"
		}), []string{"w_subject_dn_leading_whitespace"}},
		{"a warning, not asked for", Config{Sets: []string{"community"}}, issuer.certificate(func(c *x509.Certificate) {
			c.Subject.CommonName = " 058091-PC-0001"
		}), nil},
		{"empty", both(Fatal), nil, []string{Unparseable}},
		{"garbage", both(Fatal), []byte("-----BEGIN CERTIFICATE-----"), []string{Unparseable}},
		{"truncated", both(Fatal), issuer.certificate(nil)[:200], []string{Unparseable}},
		{"trailing byte", both(Fatal), append(issuer.certificate(nil), 0), []string{Unparseable}},
		{"a CRL", both(Fatal), issuer.crl(nil), []string{Unparseable}},
		{"too large", both(Fatal), make([]byte, MaxCertificate+1), []string{TooLarge}},
	}
	c := start(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := c.Certificates(t.Context(), test.config, [][]byte{test.der})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !slices.Equal(names(got[0]), test.want) {
				t.Errorf("found %+v, want %v", got, test.want)
			}
		})
	}
	t.Run("all at once, the bad ones spoil nothing", func(t *testing.T) {
		var ders [][]byte
		for _, test := range tests {
			ders = append(ders, test.der)
		}
		got, err := c.Certificates(t.Context(), both(Fatal), ders)
		if err != nil {
			t.Fatal(err)
		}
		for i, test := range tests {
			want := []string(nil)
			if slices.Contains([]string{Unparseable, TooLarge}, strings.Join(test.want, " ")) {
				want = test.want
			}
			if !slices.Equal(names(got[i]), want) {
				t.Errorf("%s: found %v, want %v", test.name, names(got[i]), want)
			}
		}
	})
}

func TestCRLs(t *testing.T) {
	issuer := newCA(t)
	good := issuer.crl(nil)
	tests := []struct {
		name string
		der  []byte
		want []string
	}{
		{"good", good, nil},
		{"nobody revoked", issuer.crl(func(l *x509.RevocationList) { l.RevokedCertificateEntries = nil }), nil},
		{"signed by nobody", dummyOf(t, good), nil},
		{"revoked in the future", issuer.crl(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[0].RevocationTime = epoch.Add(time.Hour)
		}), []string{"e_crl_revocation_time_after_this_update"}},
		{"revoked twice", issuer.crl(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries[1].SerialNumber = l.RevokedCertificateEntries[0].SerialNumber
		}), []string{"e_crl_unique_revoked_certificate"}},
		{"garbage", []byte{0x30, 0x80, 0, 0}, []string{Unparseable}},
		{"a certificate", issuer.certificate(nil), []string{Unparseable}},
	}
	c := start(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := c.CRLs(t.Context(), both(Warn), [][]byte{test.der, good})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || !slices.Equal(names(got[0]), test.want) || got[1] != nil {
				t.Errorf("found %+v, want %v and nothing", got, test.want)
			}
		})
	}
	t.Run("of a hundred thousand", func(t *testing.T) {
		big := issuer.crl(func(l *x509.RevocationList) { l.RevokedCertificateEntries = manyEntries(100_000) })
		got, err := c.CRLs(t.Context(), both(Warn), [][]byte{big, make([]byte, MaxCRL+1)})
		if err != nil {
			t.Fatal(err)
		}
		if got[0] != nil || !slices.Equal(names(got[1]), []string{TooLarge}) {
			t.Errorf("found %v and %v in %d bytes", got[0], names(got[1]), len(big))
		}
		t.Logf("%d bytes, RssAnon %.1f MiB", len(big), anonMiB(t, c.Pid()))
	})
}

func manyEntries(n int) []x509.RevocationListEntry {
	entries := make([]x509.RevocationListEntry, n)
	for i := range entries {
		entries[i] = x509.RevocationListEntry{SerialNumber: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 126), big.NewInt(int64(i))),
			RevocationTime: epoch.Add(-time.Hour), ReasonCode: 1}
	}
	return entries
}

func TestManyItemsGoInManyFrames(t *testing.T) {
	issuer := newCA(t)
	good, bad := issuer.certificate(nil), []byte("bad")
	ders := make([][]byte, 5*MaxItems/2)
	for i := range ders {
		ders[i] = good
		if i%97 == 0 {
			ders[i] = bad
		}
	}
	c := start(t)
	got, err := c.Certificates(t.Context(), both(Error), ders)
	if err != nil {
		t.Fatal(err)
	}
	for i, found := range got {
		if (len(found) == 1) != (i%97 == 0) {
			t.Errorf("item %d: %v", i, found)
		}
	}
	if got, err := c.Certificates(t.Context(), both(Error), nil); err != nil || len(got) != 0 {
		t.Errorf("no items: %v, %v", got, err)
	}
}

func TestSplit(t *testing.T) {
	sized := func(sizes ...int) [][]byte {
		var items [][]byte
		for _, n := range sizes {
			items = append(items, make([]byte, n))
		}
		return items
	}
	tests := []struct {
		name  string
		items [][]byte
		want  [][]int
	}{
		{"none", nil, nil},
		{"together", sized(1, 0, 3), [][]int{{0, 1, 2}}},
		{"by size", sized(MaxBytes-1, 1, 1), [][]int{{0, 1}, {2}}},
		{"one over the size of a frame", sized(1, MaxBytes+1, 1), [][]int{{0}, {1}, {2}}},
		{"too large left out", sized(1, 2*MaxBytes+1, 1), [][]int{{0, 2}}},
		{"only too large", sized(2*MaxBytes + 1), nil},
	}
	for _, test := range tests {
		if got := split(test.items, 2*MaxBytes); !slices.EqualFunc(got, test.want, slices.Equal[[]int]) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if got := split(make([][]byte, MaxItems+1), 1); len(got) != 2 || len(got[0]) != MaxItems || len(got[1]) != 1 {
		t.Errorf("by number: %d frames", len(got))
	}
}

func TestRefusalsLeaveTheWorkerAlive(t *testing.T) {
	c := start(t)
	good := [][]byte{newCA(t).certificate(nil)}
	tests := []struct {
		name   string
		op     uint64
		body   any
		code   string
		config Config
	}{
		{name: "no set", config: Config{}, code: CodeUnknownSet},
		{name: "unknown set", config: Config{Sets: []string{"rfc5280", "mozilla"}}, code: CodeUnknownSet},
		{name: "unknown lint", config: Config{Sets: []string{"rfc5280"}, Ignore: []string{"e_nothing"}}, code: CodeUnknownLint},
		{name: "threshold", config: Config{Sets: []string{"rfc5280"}, Threshold: 4}, code: CodeMalformed},
		{name: "operation", op: 99, body: Batch{}, code: CodeMalformed},
		{name: "not a batch", op: OpCRLs, body: []uint64{1, 2}, code: CodeMalformed},
		{name: "oversized batch", op: OpCertificates, body: Batch{Sets: []string{"rfc5280"}, Threshold: Error, Items: make([][]byte, MaxItems+1)}, code: CodeMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var err error
			if test.op != 0 {
				err = c.conn.Call(t.Context(), time.Minute, test.op, test.body, new(Report))
			} else {
				_, err = c.Certificates(t.Context(), test.config, good)
			}
			refused, ok := errors.AsType[*wire.Refused](err)
			if !ok || refused.Code != test.code {
				t.Fatalf("got %v, want refusal %s", err, test.code)
			}
			if got, err := c.Certificates(t.Context(), both(Warn), good); err != nil || got[0] != nil {
				t.Fatalf("afterwards: %v, %v", got, err)
			}
		})
	}
}

func wantFault(t *testing.T, c *Client, err error, word string) {
	t.Helper()
	if !errors.Is(err, wire.ErrFault) || !strings.Contains(err.Error(), word) {
		t.Fatalf("got %v, want a fault that says %q", err, word)
	}
	if _, err := c.CRLs(t.Context(), both(Error), [][]byte{{0}}); !errors.Is(err, wire.ErrFault) {
		t.Errorf("call after a fault: %v", err)
	}
	if !errors.Is(c.Err(), wire.ErrFault) {
		t.Errorf("Err after a fault: %v", c.Err())
	}
}

func TestFaults(t *testing.T) {
	certificate := newCA(t).certificate(nil)
	many := make([][]byte, 200*MaxItems) // more than 5 s of work
	for i := range many {
		many[i] = certificate
	}
	t.Run("killed in mid-call", func(t *testing.T) {
		c := start(t)
		time.AfterFunc(100*time.Millisecond, func() { syscall.Kill(c.Pid(), syscall.SIGKILL) })
		_, err := c.Certificates(t.Context(), both(Error), many)
		wantFault(t, c, err, "signal: killed")
	})
	t.Run("stopped in mid-call", func(t *testing.T) {
		c := start(t)
		c.Deadline = time.Second
		time.AfterFunc(100*time.Millisecond, func() { syscall.Kill(c.Pid(), syscall.SIGSTOP) })
		_, err := c.Certificates(t.Context(), both(Error), many)
		wantFault(t, c, err, "within 1s")
	})
	for _, lie := range []string{"one-too-few", "one-too-many", "below-threshold", "no-such-status", "nameless", "other-type"} {
		t.Run(lie, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "lie-"+lie)
			if err := os.Symlink(self, path); err != nil {
				t.Fatal(err)
			}
			c, err := Start(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Certificates(t.Context(), both(Error), [][]byte{certificate, certificate})
			wantFault(t, c, err, "")
		})
	}
}

func TestImpatientCallerLeavesTheWorkerAlive(t *testing.T) {
	c := start(t)
	good := newCA(t).certificate(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	many := make([][]byte, 100*MaxItems)
	for i := range many {
		many[i] = good
	}
	if _, err := c.Certificates(ctx, both(Error), many); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, wire.ErrFault) {
		t.Fatalf("got %v, want the end of the context", err)
	}
	if got, err := c.Certificates(t.Context(), both(Warn), [][]byte{good}); err != nil || got[0] != nil {
		t.Fatalf("afterwards: %v, %v", got, err)
	}
}

func TestManyCallersShareOneWorker(t *testing.T) {
	c := start(t)
	issuer := newCA(t)
	good, bad := issuer.certificate(nil), issuer.certificate(func(c *x509.Certificate) { c.Subject.Country = []string{"it"} })
	crl := issuer.crl(nil)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for range 20 {
				batch := slices.Repeat([][]byte{good, bad}, i+1)
				got, err := c.Certificates(t.Context(), both(Error), batch)
				if err != nil {
					t.Error(err)
					return
				}
				for j, found := range got {
					if len(found) != j%2 {
						t.Errorf("item %d of %d: %v", j, len(batch), found)
					}
				}
				if got, err := c.CRLs(t.Context(), both(Warn), [][]byte{crl}); err != nil || got[0] != nil {
					t.Error(got, err)
				}
			}
		})
	}
	callers.Wait()
}

func TestWorkerOpensNothing(t *testing.T) {
	c := start(t)
	if _, err := c.Certificates(t.Context(), both(Error), [][]byte{newCA(t).certificate(nil)}); err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(string(limits[bytes.Index(limits, []byte("Max open files")):])); fields[3] != "4" || fields[4] != "4" {
		t.Errorf("may have %s (%s) files open, want 4", fields[3], fields[4])
	}
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors {
		what, err := os.Readlink(d)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.HasPrefix(what, "/") && what != os.DevNull && !strings.HasPrefix(what, "/sys/fs/cgroup/") {
			t.Errorf("holds %s open", what)
		}
	}
}

// The budget of all processes together is 128 MiB; this one's part is what its memory limit says.
func TestMemory(t *testing.T) {
	c := start(t)
	batch := slices.Repeat([][]byte{newCA(t).certificate(nil)}, 1000)
	for range 10 {
		if _, err := c.Certificates(t.Context(), both(Error), batch); err != nil {
			t.Fatal(err)
		}
	}
	if got := anonMiB(t, c.Pid()); got > 32 {
		t.Errorf("RssAnon is %.1f MiB after 10,000 certificates, want at most 32", got)
	} else {
		t.Logf("RssAnon is %.1f MiB after 10,000 certificates", got)
	}
}

func BenchmarkCertificates(b *testing.B) {
	issuer := newCA(b)
	batch := make([][]byte, MaxItems)
	for i := range batch {
		serial := make([]byte, 16)
		if _, err := rand.Read(serial); err != nil {
			b.Fatal(err)
		}
		batch[i] = issuer.certificate(func(c *x509.Certificate) { c.SerialNumber = new(big.Int).SetBytes(append([]byte{1}, serial...)) })
	}
	c := start(b)
	n := 0
	ours, theirs := cpu(b, os.Getpid()), cpu(b, c.Pid())
	for b.Loop() {
		if _, err := c.Certificates(b.Context(), both(Error), batch); err != nil {
			b.Fatal(err)
		}
		n += len(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/certificate")
	b.ReportMetric(float64((cpu(b, os.Getpid())-ours).Microseconds())/float64(n), "client-cpu-µs/certificate")
	b.ReportMetric(float64((cpu(b, c.Pid())-theirs).Microseconds())/float64(n), "worker-cpu-µs/certificate")
	b.ReportMetric(anonMiB(b, c.Pid()), "RssAnon-MiB")
}

// cpu is the processor time a process has used, in the ticks of 10 ms that Linux counts in.
func cpu(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var user, system int64
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	if _, err := fmt.Sscan(fields[12]+" "+fields[13], &user, &system); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// anonMiB is the anonymous resident memory of a process.
func anonMiB(tb testing.TB, pid int) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	var kib float64
	if _, err := fmt.Sscanf(string(status[bytes.Index(status, []byte("RssAnon:")):]), "RssAnon: %g kB", &kib); err != nil {
		tb.Fatal(err)
	}
	return kib / 1024
}
