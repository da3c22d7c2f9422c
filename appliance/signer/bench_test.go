package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"coldseal/protocol/cose"
)

// BenchmarkSignBatch is a full batch with P-256 through a real process, verified, two batches under way at a time as the
// engine has them. MiB is the signer's resident anonymous memory after it.
func BenchmarkSignBatch(b *testing.B) {
	_, args := home(b)
	c := start(b, args, Options{})
	key := create(b, c, "ca", CA, P256)
	inputs := digests(MaxBatch)
	work := make(chan struct{})
	var users sync.WaitGroup
	for range 2 {
		users.Go(func() {
			for range work {
				if _, err := c.SignBatch(key.ID(), CA, ECDSASHA256, inputs); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	users.Wait()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*MaxBatch), "ns/item")
	b.ReportMetric(anonymous(b, c.Pid()), "MiB")
}

// BenchmarkSignAlone is the floor of BenchmarkSignBatch: the library calls alone on all processors.
func BenchmarkSignAlone(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	inputs := digests(MaxBatch)
	for b.Loop() {
		err := parallel(len(inputs), runtime.GOMAXPROCS(0), func(i int) error {
			signature, err := key.Sign(nil, inputs[i], ECDSASHA256.Options())
			if err == nil && !ECDSASHA256.verify(key.Public(), inputs[i], signature) {
				return fmt.Errorf("signature %d does not verify", i)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*MaxBatch), "ns/item")
}

// BenchmarkWire is what the messages of a batch cost: encoded and decoded, both ways.
func BenchmarkWire(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	request := signRequest{KeyInfo{SPKI: spki}.ID(), CA, ECDSASHA256, digests(MaxBatch)}
	reply := signReply{make([][]byte, MaxBatch)}
	for i := range reply.Signatures {
		reply.Signatures[i] = make([]byte, 71)
	}
	for b.Loop() {
		for _, message := range []struct{ sent, got any }{{request, new(signRequest)}, {reply, new(signReply)}} {
			body, err := cose.Marshal(message.sent)
			if err != nil {
				b.Fatal(err)
			}
			if err := cose.Unmarshal(body, message.got); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*MaxBatch), "ns/item")
}

// anonymous is RssAnon of a process in MiB.
func anonymous(tb testing.TB, pid int) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	tb.Fatal("no RssAnon")
	return 0
}
