package appliance_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

// keyFiles are what a softkey signer keeps.
func (w *world) keyFiles() (files []appliance.KeyFile) {
	for _, name := range []string{"keys/keystore", "keys/counter"} {
		files = append(files, appliance.KeyFile{Name: name, Path: filepath.Join(w.dir, name)})
	}
	return files
}

// saved is a backup with what opens it.
type saved struct {
	dir    string // of the medium
	backup appliance.Backup
	shares []appliance.NamedShare
}

func medium(t testing.TB, dir string) *media.Medium {
	t.Helper()
	m := must[*media.Medium](t)(media.OpenMedium(dir))
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// backup makes a backup whose key is split 2 of 3.
func (w *world) backup() saved {
	w.t.Helper()
	s := saved{dir: w.t.TempDir()}
	b, err := w.engine.Backup(medium(w.t, s.dir), appliance.Shares{Needed: 2, All: 3}, w.keyFiles(), s.take)
	if err != nil {
		w.t.Fatal(err)
	}
	s.backup = b
	return s
}

// take takes the shares that are handed out.
func (s *saved) take(_ *appliance.Backup, shares []shamir.Share) error {
	for _, share := range shares {
		s.shares = append(s.shares, named(share))
	}
	return nil
}

func named(s shamir.Share) appliance.NamedShare {
	return appliance.NamedShare{Name: "share-" + string(rune('0'+s.Index)), Share: s}
}

// die ends the appliance as a power cut does not: it closes what it has open. Its folder stays.
func (w *world) die() { w.stop() }

// unpacked is the same world with another box, into which a backup was opened; it waits.
func (d *desk) unpacked(s saved) *desk {
	d.t.Helper()
	n := *d
	inner := *d.world
	n.world = &inner
	n.dir = filepath.Join(d.t.TempDir(), "state")
	n.config = n.configuration()
	key := must[media.Key](d.t)(s.backup.Key(s.shares[1:]))
	if err := appliance.Unpack(context.Background(), medium(d.t, s.dir), &s.backup, key, n.dir); err != nil {
		d.t.Fatal(err)
	}
	n.start()
	n.open()
	d.t.Cleanup(func() { n.stop() })
	return &n
}

// outside is what the agent knows of the log.
type outside struct {
	d      *desk
	bodies map[uint64][]byte // salted, of answers
	items  map[protocol.Digest][]byte
	note   []byte
	size   uint64
}

func (d *desk) outside() *outside {
	return &outside{d: d, bodies: map[uint64][]byte{}, items: map[protocol.Digest][]byte{}}
}

// send sends a bundle and imports the answer: leaves, bodies, requests.
func (o *outside) send(groups ...protocol.Group) response {
	o.d.t.Helper()
	r := o.d.answer(groups...)
	o.learn(r, groups...)
	return r
}

func (o *outside) learn(r response, groups ...protocol.Group) {
	o.d.t.Helper()
	for _, g := range groups {
		for _, data := range g.Items {
			it, refusal := protocol.ParseItem(data)
			if refusal != nil {
				o.d.t.Fatal(refusal.Words())
			}
			o.items[protocol.ID(it.Request)] = data
		}
	}
	for _, a := range r.answers {
		if len(a.Salt) > 0 {
			o.bodies[a.Index] = append(bytes.Clone(a.Salt), a.Body...)
		}
	}
	o.d.learn(r)
	o.note, o.size = r.header.Checkpoint, r.header.FirstLeaf+r.header.Leaves
}

// known says how much of what is known is brought.
type known int

const (
	leavesOnly known = iota // no answers
	withBodies              // answers, without the requests
	withItems               // all that an agent has
)

// file is what the agent brings, as a file in clear.
func (o *outside) file(first uint64, much known) []byte {
	o.d.t.Helper()
	var b bytes.Buffer
	header := auditlog.BroughtHeader{Appliance: o.d.engine.Appliance(), From: "desk", First: first, Checkpoint: o.note}
	if err := auditlog.WriteBroughtHeader(&b, header); err != nil {
		o.d.t.Fatal(err)
	}
	for i := first; i < o.size; i++ {
		one := auditlog.Brought{Leaf: o.d.leaves[i]}
		if much >= withBodies {
			one.Salted = o.bodies[i]
		}
		if much == withItems && one.Salted != nil {
			result, err := protocol.ParseResult(one.Salted[16:])
			if err != nil {
				o.d.t.Fatal(err)
			}
			one.Item = o.items[result.ID]
		}
		if err := auditlog.WriteBrought(&b, one); err != nil {
			o.d.t.Fatal(err)
		}
	}
	return b.Bytes()
}

// bring writes files of leaves to a new medium, as agents do, and has the appliance take them.
func (d *desk) bring(files map[string][]byte) (appliance.Taken, error) {
	d.t.Helper()
	dir := d.t.TempDir()
	m := medium(d.t, dir)
	intro, err := protocol.OpenIntroduction(must[[]byte](d.t)(d.engine.Introduction()), d.engine.Appliance())
	if err != nil {
		d.t.Fatal(err)
	}
	receiver := intro.Keys.Now().Receiver
	for agent, data := range files {
		path := must[string](d.t)(media.Name{Kind: media.Leaves, Appliance: media.Tag(d.engine.Appliance()), Agent: agent}.Path())
		if err := m.Write(path, media.WriteOptions{}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, receiver)
			if err != nil {
				return err
			}
			if _, err := sealed.Write(data); err != nil {
				return err
			}
			return sealed.Close()
		}); err != nil {
			d.t.Fatal(err)
		}
	}
	sources, notes, err := d.engine.LeavesOn(m)
	defer func() {
		for i := range sources {
			if err := sources[i].Close(); err != nil {
				d.t.Error(err)
			}
		}
	}()
	if err != nil {
		return appliance.Taken{}, err
	}
	return d.engine.TakeLeaves(sources, notes)
}

// restoreOrder applies what was brought and gives the order.
func (d *desk) restoreOrder() []byte {
	d.t.Helper()
	if _, err := d.engine.ApplyLeaves(); err != nil {
		d.t.Fatal(err)
	}
	return must[[]byte](d.t)(d.engine.RestoreOrder(0))
}

// revive has two officers order the restore.
func (d *desk) revive() protocol.Result {
	d.t.Helper()
	return d.consoled(d.restoreOrder(), d.officers[0], d.officers[1])
}

// consoled has people approve an order's bytes over the console's challenge.
func (d *desk) consoled(raw []byte, people ...*person) protocol.Result {
	d.t.Helper()
	challenge := must[[]byte](d.t)(d.engine.Challenge())
	var approvals [][]byte
	for _, p := range people {
		approvals = append(approvals, d.approve(p, challenge, nil, raw))
	}
	result, err := d.engine.Order(raw, approvals)
	if err != nil {
		d.t.Fatal(err)
	}
	return result
}

// later lets time pass.
func (d *desk) later(by time.Duration) { d.now = d.now.Add(by) }

// exported is the log as an auditor has it.
func (d *desk) exported() []byte {
	d.t.Helper()
	var b bytes.Buffer
	if err := d.engine.ExportLog(&b); err != nil {
		d.t.Fatal(err)
	}
	return b.Bytes()
}

// without removes a file of a medium.
func without(t testing.TB, parts ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(parts...)); err != nil {
		t.Fatal(err)
	}
}

// content decodes what an order of a restore says.
func restoration(t testing.TB, raw []byte) protocol.Restoration {
	t.Helper()
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	c, refusal := req.Restoration()
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	return c
}

// changedOrder is an order with something else in it.
func changedOrder(t testing.TB, raw []byte, change func(*protocol.Restoration)) []byte {
	t.Helper()
	req, _ := protocol.ParseRequest(raw)
	c := restoration(t, raw)
	change(&c)
	req.Content = must[[]byte](t)(cose.Marshal(c))
	return must[[]byte](t)(cose.Marshal(req))
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	return must[[]byte](t)(cose.Marshal(v))
}
