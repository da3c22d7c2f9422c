package appliance_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// own gives the appliance's keys as it says of itself.
func (w *world) own() *protocol.Keys {
	w.t.Helper()
	in, err := protocol.OpenIntroduction(must[[]byte](w.t)(w.engine.Introduction()), w.engine.Appliance())
	if err != nil {
		w.t.Fatal(err)
	}
	return in.Keys
}

// rotation is the order that replaces the key which stands for a use.
func (w *world) rotation(use protocol.Use) protocol.Request {
	w.t.Helper()
	return w.request(protocol.KindRotateKey, protocol.Rotation{Use: use, Replaces: w.own().Now().ID(use)})
}

// purposes are what the signer calls uses.
var purposes = map[protocol.Use]signer.Purpose{protocol.UseLog: signer.Log, protocol.UseReceiver: signer.Receiver, protocol.UseSeal: signer.Seal}

// labels are those of the signer's keys for a use, in its order.
func (w *world) labels(use protocol.Use) (labels []string) {
	for _, k := range w.config.Signer.Keys() {
		if k.Purpose == purposes[use] {
			labels = append(labels, k.Label)
		}
	}
	return labels
}

// Each of the appliance's own keys is replaced, more than once. What was said before is believed by who knows the new
// keys, what is said after by who knew the old ones, and the log agrees with the ledger at each start.
func TestRotateKeys(t *testing.T) {
	d := newDesk(t)
	first := d.own()
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	before := d.sequence
	for round := range 2 {
		for _, use := range protocol.Uses() {
			old := d.own()
			order := d.rotation(use)
			result := d.mustOrder(order)
			keys := d.own()
			if len(keys.Handovers()) != len(old.Handovers())+1 || !bytes.Equal(keys.Now().SPKI(use), result.Key) || keys.Now().ID(use) == old.Now().ID(use) {
				t.Fatalf("the %s key is not replaced by %x", use, result.Key)
			}
			for _, other := range protocol.Uses() {
				if other != use && keys.Now().ID(other) != old.Now().ID(other) {
					t.Errorf("with the %s key the %s key was replaced", use, other)
				}
			}
			if _, err := old.Walk(keys.Handovers()); err != nil {
				t.Error(err)
			}
			want := []string{use.String(), use.String() + ".2", use.String() + ".3"}[:round+2]
			if got := d.labels(use); !slices.Equal(got, want) {
				t.Errorf("keys %v, want %v", got, want)
			}
			d.refusedOrder(d.request(protocol.KindRotateKey, protocol.Rotation{Use: use, Replaces: old.Now().ID(use)}), protocol.CodeSuperseded)
			if round == 1 {
				d.reopen()
			}
			hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
			d.answer(d.taken(hold, d.alp)) // with a receipt, if it is the first
			d.read(d.responsePath(before))
		}
	}
	d.reopen()
	raw := must[[]byte](t)(os.ReadFile(d.responsePath(d.sequence)))
	r, refusal, err := protocol.OpenResponse(spool{bytes.NewReader(raw)}, first, "desk")
	if err != nil || refusal != nil || len(r.Keys.Handovers()) != 6 {
		t.Fatalf("for who slept: %v, %v", refusal, err)
	}
	if _, err := auditlog.OpenCheckpoint(r.Header.Checkpoint, first); !errors.Is(err, auditlog.ErrCheckpoint) {
		t.Errorf("by the log key of the genesis: %v", err)
	}
	if _, err := auditlog.OpenCheckpoint(r.Header.Checkpoint, r.Keys); err != nil {
		t.Error(err)
	}
	d.refusedOrder(d.request(protocol.KindRotateKey, protocol.Rotation{Use: protocol.UseLog, Replaces: d.own().Now().ID(protocol.UseSeal)}), protocol.CodeSuperseded)
}

// An order in a bundle replaces the seal key between what the bundle takes away, whose receipts the old key signs, and
// the response, which the new one seals.
func TestRotateInABundle(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	first := d.own()
	hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
	orders := protocol.Group{Section: protocol.SectionOrders}
	challenge := must[[]byte](t)(d.engine.Challenge())
	raw := d.encode(d.rotation(protocol.UseSeal))
	orders.Items = group(raw).Items
	orders.Approvals = [][]byte{d.approve(d.officers[0], challenge, nil, raw), d.approve(d.officers[1], challenge, nil, raw)}
	r := d.answer(d.taken(hold, d.alp), orders)
	if a := r.of(t, raw); a.result.Outcome != protocol.OutcomeDone || len(a.result.Handover) == 0 {
		t.Fatalf("%+v", a.result)
	}
	receipt := r.of(t, hold).result.Receipt
	for name, keys := range map[string]*protocol.Keys{"who slept": first, "who did not": d.own()} {
		if _, err := protocol.OpenReceipt(receipt, keys); err != nil {
			t.Errorf("the receipt, for %s: %v", name, err)
		}
	}
	if d.own().Now().ID(protocol.UseSeal) == first.Now().ID(protocol.UseSeal) {
		t.Error("the key stayed")
	}
	d.reopen()
}

// toReceiver writes a bundle, encrypted to a receiver key, as number n of the desk.
func (s *stick) toReceiver(keys *protocol.Keys, n uint64, bundle []byte) {
	s.t.Helper()
	path := must[string](s.t)(media.Name{Kind: media.Bundle, Appliance: media.Tag(s.engine.Appliance()), Agent: "desk", Sequence: n}.Path())
	s.on(func(m *media.Medium) error {
		return m.Write(path, media.WriteOptions{Replace: true}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, keys.Now().Receiver)
			if err != nil {
				return err
			}
			if _, err := sealed.Write(bundle); err != nil {
				return err
			}
			return sealed.Close()
		})
	})
}

// A bundle that is encrypted to a receiver key which was replaced is opened until that key is destroyed. The key that
// stands is not destroyed.
func TestDestroyOwnKeys(t *testing.T) {
	d := newDesk(t)
	first := d.own()
	destroy := func(id protocol.Digest) protocol.Request {
		return d.request(protocol.KindDestroyKey, protocol.DestroyKey{Key: id})
	}
	for _, use := range protocol.Uses() {
		d.refusedOrder(destroy(first.Now().ID(use)), protocol.CodeKeyCurrent)
		d.mustOrder(d.rotation(use))
		d.refusedOrder(destroy(d.own().Now().ID(use)), protocol.CodeKeyCurrent)
	}
	late := func() appliance.Outcome {
		t.Helper()
		s := newStick(d)
		raw := d.encode(d.pc("0001"))
		bundle := d.seal(d.approved(raw, d.alp))
		s.toReceiver(first, d.sequence, bundle)
		v := s.visit()
		if v.Problem != nil {
			t.Fatal(v.Problem)
		}
		return v.Outcome
	}
	if out := late(); out.Refusal != nil || out.Items != 1 {
		t.Errorf("to the receiver key that was: %+v", out)
	}
	for _, k := range must[[]appliance.KnownKey](t)(d.engine.KnownKeys()) {
		if _, current, own := d.own().Find(k.ID); own && k.Replaced == current {
			t.Errorf("%s is replaced: %t", k.Label, k.Replaced)
		}
	}
	for _, use := range protocol.Uses() {
		d.mustOrder(destroy(first.Now().ID(use)))
		d.refusedOrder(destroy(first.Now().ID(use)), protocol.CodeKeyUnknown)
		if got := d.labels(use); !slices.Equal(got, []string{use.String() + ".2"}) {
			t.Errorf("keys %v", got)
		}
	}
	out := late()
	if wants(t, out.Refusal, protocol.CodeReceiverGone); out.Sender != "" || out.Refusal.Params["key"] != first.Now().ID(protocol.UseReceiver).String() {
		t.Errorf("to the receiver key that is gone: %+v", out)
	}
	d.reopen()
	for _, k := range must[[]appliance.KnownKey](t)(appliance.KnownKeys(closed(d))) {
		if _, current, own := first.Find(k.ID); own && (!current || !k.Replaced || !k.Destroyed) {
			t.Errorf("%+v", k)
		}
	}
	d.open()
	d.issued(d.pc("0002"), d.alp)
}

// closed closes the engine of a desk, whose ledger somebody else wants to read.
func closed(d *desk) string {
	d.t.Helper()
	if err := d.engine.Close(); err != nil {
		d.t.Fatal(err)
	}
	return d.dir
}

// What was ordered to be destroyed and is still there at start, is destroyed then.
func TestDestroyOwnKeyAtStart(t *testing.T) {
	d := newDesk(t)
	first := d.own()
	d.mustOrder(d.rotation(protocol.UseSeal))
	keystore := contents(t, filepath.Join(d.dir, "keys", "keystore"))
	d.mustOrder(d.request(protocol.KindDestroyKey, protocol.DestroyKey{Key: first.Now().ID(protocol.UseSeal)}))
	for name, data := range keystore {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.restart()
	if got := d.labels(protocol.UseSeal); !slices.Equal(got, []string{"seal.2"}) {
		t.Errorf("keys %v", got)
	}
}

// A signer that dies at any of its acts leaves an appliance that starts again, and the same order then finishes: one key
// takes the place of the one before, and none is left that nobody knows.
func TestRotationInterrupted(t *testing.T) {
	d := newDesk(t)
	for _, use := range protocol.Uses() {
		t.Run(use.String(), func(t *testing.T) {
			d.world.t = t
			acts := 0
			for life := 0; ; life++ {
				raw := d.encode(d.rotation(use))
				challenge := must[[]byte](t)(d.engine.Challenge())
				approvals := [][]byte{d.approve(d.officers[0], challenge, nil, raw), d.approve(d.officers[1], challenge, nil, raw)}
				old := d.own()
				d.mortal, d.life = true, life
				d.restart()
				result, err := d.engine.Order(raw, approvals)
				survived := err == nil
				if !survived && !errors.Is(err, appliance.ErrFault) {
					t.Fatalf("life %d: %v", life, err)
				}
				d.mortal = false
				d.restart()
				if !survived {
					if result, err = d.engine.Order(raw, approvals); err != nil {
						t.Fatalf("life %d: the same order again: %v", life, err)
					}
				}
				if result.Outcome != protocol.OutcomeDone {
					t.Fatalf("life %d: %+v", life, result.Refusal)
				}
				keys := d.own()
				if len(keys.Handovers()) != len(old.Handovers())+1 || !bytes.Equal(keys.Now().SPKI(use), result.Key) {
					t.Errorf("life %d: %d handovers, there were %d", life, len(keys.Handovers()), len(old.Handovers()))
				}
				n := 0
				keys.Each(use, func([]byte) { n++ })
				if labels := d.labels(use); len(labels) != n {
					t.Errorf("life %d: keys %v, the log knows %d", life, labels, n)
				}
				d.answer()
				if survived {
					break
				}
				acts++
			}
			if acts < 8 {
				t.Errorf("it died at %d acts: there are more", acts)
			}
			t.Logf("it died at %d acts", acts)
		})
	}
	d.world.t = t
	d.reopen()
}

// A key that is in the device under the new one's label, and that no order of ours had made, is not taken for new.
func TestRotationOverAPlantedKey(t *testing.T) {
	d := newDesk(t)
	for _, planted := range []signer.KeyInfo{
		{Label: "seal.2", Purpose: signer.CA, Algorithm: signer.P256}, {Label: "log.2", Purpose: signer.Log, Algorithm: signer.Ed25519},
	} {
		if _, err := d.config.Signer.CreateKey(planted.Label, planted.Purpose, planted.Algorithm); err != nil {
			t.Fatal(err)
		}
	}
	d.refusedOrder(d.rotation(protocol.UseSeal), protocol.CodeKeyExists)
	d.refusedOrder(d.rotation(protocol.UseLog), protocol.CodeKeyExists)
	d.mustOrder(d.rotation(protocol.UseReceiver))
	d.refusedOrder(d.rotation(protocol.UseLog), protocol.CodeKeyExists)
}

// A ledger whose handovers are not those of its log is refused at start.
func TestStartComparesHandovers(t *testing.T) {
	d := newDesk(t)
	d.mustOrder(d.rotation(protocol.UseLog))
	d.mustOrder(d.rotation(protocol.UseReceiver))
	closed(d)
	var good [][]byte
	for name, change := range map[string]func(m *store.Meta){
		"one is missing": func(m *store.Meta) { m.Handovers = good[:1] },
		"none is there":  func(m *store.Meta) { m.Handovers = nil },
		"one twice":      func(m *store.Meta) { m.Handovers = append(good, good[1]) },
		"another order":  func(m *store.Meta) { m.Handovers = [][]byte{good[1], good[0]} },
	} {
		d.closed(func(tx *store.Tx) error {
			m, err := tx.Meta()
			if good == nil {
				good = m.Handovers
			}
			change(&m)
			return errors.Join(err, tx.PutMeta(m))
		})
		if _, err := appliance.Open(d.config); !errors.Is(err, appliance.ErrFault) || !strings.Contains(err.Error(), "handovers") {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.closed(func(tx *store.Tx) error {
		m, err := tx.Meta()
		m.Handovers = good
		return errors.Join(err, tx.PutMeta(m))
	})
	d.open()
}

// A backup of before a rotation is not restored where somebody has heard of the new key.
func TestRestoreRefusesARotation(t *testing.T) {
	for _, use := range protocol.Uses() {
		t.Run(use.String(), func(t *testing.T) {
			d := newDesk(t)
			o := d.outside()
			o.send()
			s := d.backup()
			from := s.backup.Size
			d.mustOrder(d.rotation(use))
			handovers, receiver := d.own().Handovers(), d.own()
			o.send()
			file, export := o.file(from, withItems), d.exported()
			header := auditlog.BroughtHeader{Appliance: d.engine.Appliance(), From: "desk", First: from, Checkpoint: o.note, Handovers: handovers}
			d.die()
			n := d.unpacked(s)
			refused := func(what string, err error, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v", what, err)
				}
			}
			_, err := n.bring(map[string][]byte{"desk": o.withHeader(header, file)})
			refused("with handovers", err, appliance.ErrRotated)
			src := must[appliance.Source](t)(n.engine.ExportedLog("export", bytes.NewReader(export)))
			_, err = n.engine.TakeLeaves([]appliance.Source{src}, nil)
			refused("an exported log", errors.Join(err, src.Close()), appliance.ErrRotated)
			header.Handovers = [][]byte{{0x82, 0x40, 0x40}}
			_, err = n.bring(map[string][]byte{"desk": o.withHeader(header, file)})
			refused("with handovers of nobody", err, appliance.ErrForked)
			if use == protocol.UseReceiver {
				dir := t.TempDir()
				st := &stick{n, dir}
				st.leavesTo(receiver, file)
				_, _, err = n.engine.LeavesOn(medium(t, dir))
				refused("encrypted to the new key", err, appliance.ErrRotated)
			}
			if use == protocol.UseLog {
				_, err = n.engine.TakeLeaves(nil, []appliance.Note{{Name: "a witness", Text: o.note}})
				refused("a checkpoint by the new key", err, auditlog.ErrCheckpoint)
			}
		})
	}
}

// withHeader gives a file as the agent brings it another header.
func (o *outside) withHeader(h auditlog.BroughtHeader, file []byte) []byte {
	o.d.t.Helper()
	var out bytes.Buffer
	if err := auditlog.WriteBroughtHeader(&out, h); err != nil {
		o.d.t.Fatal(err)
	}
	var old bytes.Buffer
	if err := auditlog.WriteBroughtHeader(&old, auditlog.BroughtHeader{Appliance: h.Appliance, From: h.From, First: h.First, Checkpoint: h.Checkpoint}); err != nil {
		o.d.t.Fatal(err)
	}
	rest, found := bytes.CutPrefix(file, old.Bytes())
	if !found {
		o.d.t.Fatal("the file begins otherwise")
	}
	return append(out.Bytes(), rest...)
}

// leavesTo writes leaves encrypted to a receiver key.
func (s *stick) leavesTo(keys *protocol.Keys, data []byte) {
	s.t.Helper()
	path := must[string](s.t)(media.Name{Kind: media.Leaves, Appliance: media.Tag(s.engine.Appliance()), Agent: "desk"}.Path())
	s.on(func(m *media.Medium) error {
		return m.Write(path, media.WriteOptions{}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, keys.Now().Receiver)
			if err == nil {
				_, err = sealed.Write(data)
			}
			if err != nil {
				return err
			}
			return sealed.Close()
		})
	})
}

// After a rotation a backup made since restores as any.
func TestRestoreAfterARotation(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	for _, use := range protocol.Uses() {
		d.mustOrder(d.rotation(use))
	}
	o.send()
	s := d.backup()
	from := s.backup.Size
	pc := d.encode(d.pc("0001"))
	o.send(d.approved(pc, d.alp))
	keys := d.own()
	header := auditlog.BroughtHeader{Appliance: d.engine.Appliance(), From: "desk", First: from, Checkpoint: o.note, Handovers: keys.Handovers()}
	file := o.withHeader(header, o.file(from, withItems))
	d.die()
	n := d.unpacked(s)
	if _, err := n.bring(map[string][]byte{"desk": file}); err != nil {
		t.Fatal(err)
	}
	if result := n.revive(); result.Outcome != protocol.OutcomeDone {
		t.Fatalf("%+v", result.Refusal)
	}
	if got := n.own(); len(got.Handovers()) != 3 || got.Now().ID(protocol.UseSeal) != keys.Now().ID(protocol.UseSeal) {
		t.Error("other keys stand")
	}
	n.mustOrder(n.rotation(protocol.UseSeal))
	n.reopen()
}
