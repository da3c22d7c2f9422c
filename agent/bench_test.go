package agent

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
)

// many stores n requests for workstations with one key, unapproved. The rule that a key is for one subject is the
// appliance's.
func (w *world) many(n int) {
	w.t.Helper()
	csr := w.csr(newECDSA(w.t))
	for first := 0; first < n; first += batch {
		rows := make([]*row, min(batch, n-first))
		for i := range rows {
			wish := w.station(0)
			number := fmt.Sprintf("%04d", (first+i)%10000)
			body := fmt.Sprintf("%06d", (first+i)/10000)
			wish.CSR, wish.Body, wish.Subject, wish.Fields = csr, "it/"+body, body+"-PC-"+number, map[string]string{"number": number}
			rows[i] = &row{wish: wish}
		}
		if _, err := w.s.storeRows(rows, "test"); err != nil {
			w.t.Fatal(err)
		}
	}
}

// anonymous is the process's memory that is backed by no file, in MiB.
func anonymous(t testing.TB) float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, "RssAnon:"); found {
			kib, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// BenchmarkImport imports a response and compares the time with that of parsing and verifying its certificates on all
// cores, which is what cannot be done without.
func BenchmarkImport(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			w.many(n)
			if _, err := w.s.Export(context.Background(), w.stick, Choice{Incomplete: true}); err != nil {
				b.Fatal(err)
			}
			w.box.process(w.stick)
			w.box.pending, w.box.leaves, w.box.edges, w.box.done = nil, nil, nil, nil
			copied := filepath.Join(b.TempDir(), "agent.db")
			data, err := os.ReadFile(filepath.Join(w.config.Dir, "agent.db"))
			if err != nil {
				b.Fatal(err)
			}
			writeFile(b, copied, data)
			data = nil
			for b.Loop() {
				debug.FreeOSMemory()
				peak, stop := sample(b)
				begin, used := time.Now(), processor(b)
				all, err := w.importErr()
				took := time.Since(begin)
				used = processor(b) - used
				stop()
				if err != nil || all[0].Results != uint64(n) || all[0].Refused != 0 {
					b.Fatalf("%+v, %v", all, err)
				}
				limit, least := w.limit()
				b.ReportMetric(used.Seconds()/least.Seconds(), "cpu-ratio")
				b.ReportMetric(float64(used.Microseconds())/float64(n), "cpu-µs/item")
				b.ReportMetric(took.Seconds()/limit.Seconds(), "ratio")
				b.ReportMetric(took.Seconds(), "seconds")
				b.ReportMetric(*peak, "anon-MiB")
				b.StopTimer()
				w.restore(copied)
				b.StartTimer()
			}
		})
	}
}

// restore puts an older copy of the store in the place of the one that is there.
func (w *world) restore(copied string) {
	w.t.Helper()
	if err := w.s.Close(); err != nil {
		w.t.Fatal(err)
	}
	data, err := os.ReadFile(copied)
	if err != nil {
		w.t.Fatal(err)
	}
	writeFile(w.t, filepath.Join(w.config.Dir, "agent.db"), data)
	if w.s, err = Open(w.config); err != nil {
		w.t.Fatal(err)
	}
}

func sample(b *testing.B) (*float64, func()) {
	peak := 0.0
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			peak = max(peak, anonymous(b))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return &peak, func() { close(done); <-stopped }
}

// processor is the processor time that the process took so far.
func processor(t testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// limit is the time that library calls alone take for the certificates that were imported.
func (w *world) limit() (took, used time.Duration) {
	w.t.Helper()
	var certificates [][]byte
	err := w.s.store.View(func(tx *store.Tx) error {
		return eachCertificate(tx, 1, func(_ string, r protocol.Result) error {
			certificates = append(certificates, r.Certificate)
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	runtime.GC()
	begin, used := time.Now(), processor(w.t)
	var wait sync.WaitGroup
	for i := range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for ; i < len(certificates); i += runtime.GOMAXPROCS(0) {
				if err := parseAndVerify(certificates[i], w.box.ca); err != nil {
					w.t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	return time.Since(begin), processor(w.t) - used
}

func parseAndVerify(der []byte, ca *x509.Certificate) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return ca.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}
