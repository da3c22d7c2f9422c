package agent

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// TestForgedResponses: 5,000 of them, in a soak 250,000; the other forgeries are the appliance's. What a failed run drew
// is drawn again with its FIRE_SEED.
func TestForgedResponses(t *testing.T) {
	seed := uint64(time.Now().UnixNano() & 0xffffff)
	if text := os.Getenv("FIRE_SEED"); text != "" {
		seed = must[uint64](t)(strconv.ParseUint(text, 10, 64))
	}
	forgers, each := 1, 5_000
	switch {
	case os.Getenv("FIRE_ALL") == "1":
		forgers, each = 10, 25_000
	case raced:
		each = 300
	}
	for i := range forgers {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if forgers > 1 {
				t.Parallel()
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("drawn with FIRE_SEED=%d", seed)
				}
			})
			forged(t, rand.New(rand.NewPCG(seed, uint64(i))), each)
		})
	}
}

func forged(t *testing.T, random *rand.Rand, n int) {
	f := newForger(t, random)
	started, peak := time.Now(), 0.0
	for i := range n {
		if i%8 != 0 { // a liar takes twenty times as long
			f.courier()
		} else {
			f.liar()
		}
		if i%1000 == 0 {
			peak = max(peak, anonymous(t))
		}
	}
	t.Logf("%d forgeries, %.0f a second, %d lies imported that say less, %d refused; at most %.0f MiB", n, float64(n)/time.Since(started).Seconds(), f.imported, f.found, peak)
	if peak > 256 && !raced {
		t.Errorf("%.0f MiB of memory", peak)
	}
	if f.imported == 0 || f.found < f.imported {
		t.Errorf("the lies are not of many kinds: %d imported, %d refused", f.imported, f.found)
	}
}

// courier brings what somebody without the appliance's keys can make. Nothing changes, unless it is the true response.
func (f *forger) courier() {
	f.t.Helper()
	seal, rest := split(f.t, f.true)
	other := f.others[f.IntN(len(f.others))]
	otherSeal, otherRest := split(f.t, other)
	var forged []byte
	switch f.IntN(10) {
	case 0, 1, 2:
		forged = f.Change("response", f.true)
	case 3:
		forged = f.Raw(f.true)
	case 4:
		forged = joined(f.t, seal, otherRest)
	case 5:
		forged = joined(f.t, otherSeal, rest)
	case 6: // signed by others, in their own name or the appliance's
		key := []*ecdsa.PrivateKey{f.approver, f.box.officers[0], f.box.caKey, must[*ecdsa.PrivateKey](f.t)(f.s.sealKey())}[f.IntN(4)]
		rest = f.Change("rest", rest)
		forged = joined(f.t, f.signed(key, protocol.ContextResponse, seal, f.IntN(2) == 0, f.fits(rest)), rest)
	case 7: // by the appliance, for another purpose
		context := []string{protocol.ContextReceipt, protocol.ContextIntroduction, protocol.ContextBundle, ""}[f.IntN(4)]
		forged = joined(f.t, f.signed(f.box.seal, context, seal, false, nil), rest)
	case 8: // to another agent, or from another appliance with the same key
		forged = joined(f.t, f.signed(f.box.seal, protocol.ContextResponse, seal, false, func(h *protocol.ResponseHeader) {
			if f.IntN(2) == 0 {
				h.To = "another"
			} else {
				h.From[f.IntN(32)] ^= 1
			}
		}), rest)
	case 9:
		forged = append(other, f.true...)
	}
	switch done, err := f.take(forged); {
	case bytes.Equal(forged, f.true):
		if err != nil {
			f.t.Fatalf("the true response: %v", err)
		}
		f.again()
	case err == nil && !done.Already:
		f.t.Fatalf("%x was imported: %+v", forged, done)
	case f.newest() != f.state:
		f.t.Fatalf("%x was not imported (%v), and something was written", forged, err)
	}
}

// liar seals again what it changed. What is then imported is true, or a refusal, or silence.
func (f *forger) liar() {
	f.t.Helper()
	seal, rest := split(f.t, f.true)
	var parts [][]byte
	for r := bufio.NewReader(bytes.NewReader(rest)); ; {
		part, err := protocol.ReadString(r, protocol.MaxCRL)
		if errors.Is(err, io.EOF) {
			break
		}
		parts = append(parts, must[[]byte](f.t)(part, err))
	}
	header := func(*protocol.ResponseHeader) {}
	i, j := f.IntN(len(parts)), f.IntN(len(parts))
	if f.IntN(2) == 0 {
		i = f.IntN(f.answers)
	}
	switch f.IntN(10) {
	case 0, 1, 2:
		parts[i] = f.Change("part", parts[i])
	case 3:
		parts[i], parts[j] = parts[j], parts[i]
	case 4:
		parts[i] = parts[j]
	case 5: // one is missing, and the header says so
		parts = slices.Delete(parts, i, i+1)
		header = func(h *protocol.ResponseHeader) {
			switch at := uint64(i); {
			case at < h.Results:
				h.Results--
			case at < h.Results+h.Leaves:
				h.Leaves--
			default:
				h.CRLs--
			}
		}
	case 6, 9: // an answer that is changed within, with all that it says of itself
		parts[i] = f.answer(parts[i])
	case 7:
		parts = append(parts, f.Change("part", parts[i]))
		header = func(h *protocol.ResponseHeader) { h.CRLs++ }
	case 8: // the header itself
		header = func(h *protocol.ResponseHeader) {
			changed := *h
			if cose.Unmarshal(f.Change("header", must[[]byte](f.t)(cose.Marshal(*h))), &changed) == nil {
				*h = changed
			}
		}
	}
	var all bytes.Buffer
	for _, part := range parts {
		if err := protocol.WriteString(&all, part); err != nil {
			f.t.Fatal(err)
		}
	}
	fits := f.fits(all.Bytes())
	forged := joined(f.t, f.signed(f.box.seal, protocol.ContextResponse, seal, false, func(h *protocol.ResponseHeader) { header(h); fits(h) }), all.Bytes())
	done, err := f.take(forged)
	if err == nil && !done.Already {
		f.imported++
		f.less(f.picture(), done)
		f.again()
		return
	}
	if f.found++; !reflect.DeepEqual(f.meta(), f.before.meta) {
		f.t.Fatalf("%x was refused, and something changed: %v", forged, err)
	}
	f.state = f.newest() // an import that failed leaves something there that does not count
}

// less asks that nothing is known that is neither true nor was known before.
func (f *forger) less(now picture, done Imported) {
	f.t.Helper()
	for id, standing := range now.standings {
		if standing != f.before.standings[id] && standing != f.after.standings[id] && standing != protocol.OutcomeRefused.String() {
			f.t.Fatalf("%s is %.60q, was %.60q, is %.60q in truth: %+v", id, standing, f.before.standings[id], f.after.standings[id], done)
		}
	}
	if len(now.standings) != len(f.before.standings) {
		f.t.Fatalf("%d requests, there were %d", len(now.standings), len(f.before.standings))
	}
	was, is, truly := f.before.meta, now.meta, f.after.meta
	if (is.Size != was.Size || is.Root != was.Root) && (is.Size != truly.Size || is.Root != truly.Root) {
		f.t.Fatalf("a log of %d leaves with the root %s is known", is.Size, is.Root)
	}
	if now.leaves != f.before.leaves && now.leaves != f.after.leaves {
		f.t.Fatal("other leaves are known")
	}
	if now.crls != f.before.crls && now.crls != f.after.crls {
		f.t.Fatal("another CRL is known")
	}
}
