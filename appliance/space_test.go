package appliance_test

import (
	"bytes"
	"crypto/rand"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// onDisk is how many bytes the files below a folder take.
func onDisk(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func (d *desk) ledgerSize() int64 {
	d.t.Helper()
	return must[fs.FileInfo](d.t)(os.Stat(filepath.Join(d.dir, "ledger.db"))).Size()
}

// crowd makes groups of so many items.
func crowd(n int, section protocol.Section, item func(i int) []byte) (groups []protocol.Group) {
	for i := 0; i < n; {
		g := protocol.Group{Section: section}
		for range min(n-i, protocol.MaxGroupItems) {
			g.Items = append(g.Items, item(i))
			i++
		}
		groups = append(groups, g)
	}
	return groups
}

// What a bundle is asked to find free is what it takes, however small its items are: nothing that an agent sends fills
// the room that is kept for taking away.
func TestSpaceForSmallItems(t *testing.T) {
	const n = 20_000
	const chunk = 16 << 20 // the ledger's file grows by so much
	d := newDesk(t)
	d.limit(100, 1e9)
	free := int64(1 << 40)
	d.config.Free = func(string) (int64, error) { return free, nil }
	d.reopen()
	late, lacks := d.pc("0001"), d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.Digest{1}})
	late.Subject, late.Profile, late.Created, late.Expires = "x", "a", 1, 2
	late.Content = nil
	lacks.Body = "it"
	foreign := d.pc("0002")
	foreign.Body = "xx"
	small := func(r protocol.Request) func(int) []byte {
		return func(int) []byte {
			rand.Read(r.Nonce[:])
			return must[[]byte](t)(cose.Marshal(protocol.Item{Request: must[[]byte](t)(cose.Marshal(r))}))
		}
	}
	for name, item := range map[string]func(int) []byte{
		"unreadable": func(i int) []byte { return []byte{byte(i), byte(i >> 8)} },
		"too late":   small(late),
		"withdrawn":  small(lacks),
		"foreign":    small(foreign),
	} {
		t.Run(name, func(t *testing.T) {
			d.world.t = t
			d.learn(d.answer()) // so that nothing else is in the response
			bundle := d.seal(crowd(n, protocol.SectionRequests, item)...)
			free = 0
			out := d.process(bundle)
			wants(t, out.Refusal, protocol.CodeNoSpace)
			mib, found := strings.CutSuffix(out.Refusal.Params["need"], " MiB")
			need, err := strconv.ParseInt(mib, 10, 64)
			if err != nil || !found {
				t.Fatalf("%+v", out.Refusal)
			}
			need = need<<20 - appliance.SpoolReserve
			free = 1 << 40
			before, ledger := onDisk(t, d.dir), d.ledgerSize()
			if out := d.process(bundle); out.Refusal != nil || out.Items != n {
				t.Fatalf("%+v", out)
			}
			response := must[fs.FileInfo](t)(os.Stat(d.responsePath(d.sequence)))
			if d.ledgerSize() > ledger {
				need += chunk
			}
			if took := onDisk(t, d.dir) - before + response.Size(); took > need { // it is drafted before it is stored
				t.Errorf("%d items in %d KiB took %d KiB, and asked for %d", n, len(bundle)>>10, took>>10, need>>10)
			}
		})
	}
	d.world.t = t
	d.reopen()
}

// Of a bundle that is refused as a whole no answer grows without end: what was taken away is in it, and of what was not
// the first.
func TestRefusedBundleIsAnsweredBriefly(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	d.limit(1, 1e9)
	groups := crowd(20_000, protocol.SectionTakeAway, func(i int) []byte { return []byte{byte(i), byte(i >> 8)} })
	before := onDisk(t, d.dir)
	bundle := d.seal(append(groups, d.taken(revoke, d.alp))...)
	out, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, out.Refusal, protocol.CodeQuota)
	notice := d.read(d.responsePath(0))
	if len(notice.answers) != protocol.MaxGroupItems+1 || notice.of(t, revoke).result.Outcome != protocol.OutcomeRevoked {
		t.Errorf("the notice has %d answers", len(notice.answers))
	}
	if grown := onDisk(t, d.dir) - before; grown > 1<<20 {
		t.Errorf("%d bytes more on the disk", grown)
	}
}
