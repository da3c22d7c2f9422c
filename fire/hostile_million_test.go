package fire

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
)

// mostKiB is what the appliance may take of memory, whatever comes. The ledger is mapped beside that: its pages are the
// kernel's to drop.
const mostKiB = 128 << 10

// refusedItems is a bundle of so many items, all of which are refused: a third is nothing that can be read, a third lacks
// its approvals, and a third came too late, which the log records.
type refusedItems struct {
	h      *hostile
	n      int
	counts map[protocol.Code]int // what they are refused for, if the quota admits them
}

// write writes the groups, and gives how many items are to be answered how.
func (b *refusedItems) write(w io.Writer) error {
	b.counts = map[protocol.Code]int{}
	csr, _ := newCSR(b.h.t)
	lacks, _ := protocol.ParseRequest(b.h.pc("0001", csr))
	late := lacks
	lacks.Expires += 3 * 86400
	late.Created, late.Expires = late.Created-86400, late.Created
	item := func(r *protocol.Request) []byte {
		rand.Read(r.Nonce[:])
		return encode(b.h.t, protocol.Item{Request: encode(b.h.t, r)})
	}
	for i := 0; i < b.n; {
		g := protocol.Group{Section: protocol.SectionRequests}
		for range min(b.n-i, protocol.MaxGroupItems) {
			switch i++; i % 3 {
			case 0:
				g.Items = append(g.Items, []byte{byte(i), byte(i >> 8), byte(i >> 16)})
				b.counts[protocol.CodeMalformed]++
			case 1:
				g.Items = append(g.Items, item(&lacks))
				b.counts[protocol.CodeApprovalsMissing]++
			case 2:
				g.Items = append(g.Items, item(&late))
				b.counts[protocol.CodeRequestExpired]++
			}
		}
		if err := protocol.WriteGroup(w, g); err != nil {
			return err
		}
	}
	return nil
}

// layMany puts a bundle on the stick that is not held in memory.
func (h *hostile) layMany(n int) *refusedItems {
	h.t.Helper()
	b := &refusedItems{h: h, n: n}
	rest, err := os.Create(h.path("rest"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer rest.Close()
	hash := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(rest, hash))
	if err := errors.Join(b.write(out), out.Flush()); err != nil {
		h.t.Fatal(err)
	}
	if _, err := rest.Seek(0, io.SeekStart); err != nil {
		h.t.Fatal(err)
	}
	h.number++
	now := time.Now().Unix()
	var header bytes.Buffer
	err = protocol.WriteHeader(&header, protocol.BundleHeader{Version: protocol.Version, From: h.name, To: h.id, Sequence: h.number, Created: now, Expires: now + 4*86400,
		Items: uint64(n), Rest: protocol.Digest(hash.Sum(nil))}, h.seal)
	if err != nil {
		h.t.Fatal(err)
	}
	h.empty(h.t)
	h.lay("stick", h.number, io.MultiReader(&header, rest))
	return b
}

// peak is the most memory that a process took.
type peak struct {
	hwm  int // VmHWM in KiB: with the pages of files that are mapped
	anon int // RssAnon in KiB, looked at again and again
}

// watch looks at a process until it ends.
func (p *peak) watch(pid int, ended <-chan struct{}) {
	for {
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			for line := range strings.Lines(string(status)) {
				name, value, _ := strings.Cut(line, ":")
				var kib int
				if _, err := fmt.Sscan(value, &kib); err != nil {
					continue
				}
				switch name {
				case "VmHWM":
					p.hwm = max(p.hwm, kib)
				case "RssAnon":
					p.anon = max(p.anon, kib)
				}
			}
		}
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A bundle of very many items that are all refused: each is answered, memory stays what it is, and time goes with their
// number. What is beyond the day's quota is answered too, and takes no room in the log.
func TestHostileMillionRefused(t *testing.T) {
	n := 50_000
	if everything() {
		n = 1_000_000
	}
	few, left := n/8, 100
	h := takeOver(t)
	h.order(t, "agent", "--party", "agent/enrolment", "--replaces", "agent/enrolment", "--items-per-day", fmt.Sprint(few+n+left))
	noon := time.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour).Format(time.RFC3339) // the day does not end meanwhile

	refused := func(n int) (time.Duration, *refusedItems, map[protocol.Code]int) {
		b := h.layMany(n)
		var p peak
		var cmd *exec.Cmd
		h.run = func(c *exec.Cmd) (outcome, error) {
			cmd = c
			return watched(c, p.watch)
		}
		all := h.process("stick", "--clock", noon)
		h.run = nil
		if len(all) != 1 || all[0].Code != "" || all[0].Items != uint64(n) {
			t.Fatalf("%+v", all)
		}
		if ledger := h.sizeOf("appliance", "ledger.db"); p.anon == 0 || p.anon > mostKiB || p.hwm > mostKiB+ledger>>10 {
			t.Errorf("%d items took %d KiB of memory, %d of its own, at most %d beside a ledger of %d", n, p.hwm, p.anon, mostKiB, ledger>>10)
		}
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		t.Logf("%d items: %d KiB of memory, %d of its own; %v of processor", n, p.hwm, p.anon, cpu)
		return cpu, b, h.codes(h.number)
	}
	tookFew, b, codes := refused(few)
	if !maps.Equal(codes, b.counts) {
		t.Errorf("refused for %v, want %v", codes, b.counts)
	}
	took, b, codes := refused(n)
	if !maps.Equal(codes, b.counts) {
		t.Errorf("refused for %v, want %v", codes, b.counts)
	}
	if ratio := float64(took) / float64(tookFew); ratio > 3*8 {
		t.Errorf("8 times the items take %.1f times as long", ratio)
	}
	size := len(h.entriesNow())
	_, b, codes = refused(few)
	if want := few - left - b.counts[protocol.CodeMalformed]; codes[protocol.CodeQuota] != want || codes[protocol.CodeMalformed] != b.counts[protocol.CodeMalformed] {
		t.Errorf("refused for %v, want %d for the quota", codes, want)
	}
	if grown := len(h.entriesNow()) - size; grown > left+20 {
		t.Errorf("the log grew by %d leaves for what is beyond the quota", grown)
	}
}

func (h *hostile) sizeOf(parts ...string) int {
	h.t.Helper()
	info, err := os.Stat(h.path(parts...))
	if err != nil {
		h.t.Fatal(err)
	}
	return int(info.Size())
}

// codes counts what the items of a bundle were refused for.
func (h *hostile) codes(number uint64) map[protocol.Code]int {
	h.t.Helper()
	counts := map[protocol.Code]int{}
	h.each(number, func(r protocol.Result) {
		if r.Refusal == nil {
			h.t.Errorf("%s is %s", r.ID, r.Outcome)
			return
		}
		counts[r.Refusal.Code]++
	})
	return counts
}
