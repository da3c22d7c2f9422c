package agent

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// dump is all that counts of the agent's state, for telling whether anything changed.
func (w *world) dump() string {
	w.t.Helper()
	var b strings.Builder
	err := w.s.store.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		state, err := tx.State()
		if err != nil {
			return err
		}
		for _, v := range []any{m, state, tx.Checkpoint()} {
			data, err := cose.Marshal(v)
			if err != nil {
				return err
			}
			b.Write(data)
		}
		return tx.EachCRL(func(_ protocol.Digest, c store.CRL) error {
			b.Write(c.DER)
			return nil
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.s.List(Filter{}, func(r Row) error {
		b.WriteString(r.ID.String() + string(r.Standing.State) + r.Standing.Outcome.String())
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return b.String()
}

// TestLies has the box tell one lie of each kind, sealed with its own key: all are found, and nothing is imported.
func TestLies(t *testing.T) {
	second := func(f func(r *protocol.Result)) func(r *protocol.Result) { // the lie is about one answer among true ones
		n := 0
		return func(r *protocol.Result) {
			if n++; n == 2 {
				f(r)
			}
		}
	}
	other := newECDSA(t)
	var first []byte
	for name, tell := range map[string]struct {
		lie  func(b *box)
		want string
	}{
		"another key": {func(b *box) {
			b.lie.certificate = func(_ *x509.Certificate, public *crypto.PublicKey) { *public = other.Public() }
		}, "another key"},
		"another subject": {func(b *box) {
			b.lie.certificate = func(c *x509.Certificate, _ *crypto.PublicKey) {
				c.RawSubject = bytes.Replace(c.RawSubject, []byte("PC-0002"), []byte("PC-0009"), 1)
			}
		}, "not what was asked"},
		"one more name": {func(b *box) {
			b.lie.certificate = func(c *x509.Certificate, _ *crypto.PublicKey) { c.DNSNames = []string{"example.org"} }
		}, "not what was asked"},
		"a CA": {func(b *box) {
			b.lie.certificate = func(c *x509.Certificate, _ *crypto.PublicKey) { c.IsCA, c.BasicConstraintsValid = true, true }
		}, "one of a CA"},
		"too long": {func(b *box) {
			b.lie.certificate = func(c *x509.Certificate, _ *crypto.PublicKey) { c.NotAfter = c.NotAfter.Add(24 * time.Hour) }
		}, "not within what was asked"},
		"another serial": {func(b *box) {
			b.lie.result = second(func(r *protocol.Result) { r.Serial = []byte{0x41} })
		}, "has the serial"},
		"signed by another key": {func(b *box) { b.impostor(other) }, "not signed by"},
		"an unknown CA": {func(b *box) {
			b.lie.result = second(func(r *protocol.Result) { r.Issuer[0] ^= 1 })
		}, "another CA"},
		"the certificate of another request": {func(b *box) {
			b.lie.result = func(r *protocol.Result) {
				if first != nil {
					r.Certificate = first
				}
				first = r.Certificate
			}
		}, ""},
		"an answer twice in place of another": {func(b *box) {
			b.lie.answers = func(all [][]byte) [][]byte { all[1] = all[0]; return all }
		}, "silent"},
		"an answer to what was not asked": {func(b *box) {
			b.lie.result = second(func(r *protocol.Result) { r.ID[0] ^= 1 })
		}, "was not asked"},
		"an outcome of another kind": {func(b *box) {
			b.lie.result = second(func(r *protocol.Result) {
				*r = protocol.Result{ID: r.ID, Outcome: protocol.OutcomeReleased, Issuer: r.Issuer, Serial: r.Serial}
			})
		}, "was asked to issue"},
		"an answer without a leaf": {func(b *box) {
			b.lie.answers = func(all [][]byte) [][]byte {
				return rewrite(t, all, func(a *protocol.Answer) { a.Index, a.Salt = 0, nil })
			}
		}, "does not record"},
		"another leaf": {func(b *box) {
			b.lie.answers = func(all [][]byte) [][]byte { return rewrite(t, all, func(a *protocol.Answer) { a.Index-- }) }
		}, "does not record"},
		"a leaf that is not there": {func(b *box) {
			b.lie.answers = func(all [][]byte) [][]byte { return rewrite(t, all, func(a *protocol.Answer) { a.Index += 1000 }) }
		}, "not in the response"},
		"another salt": {func(b *box) {
			b.lie.answers = func(all [][]byte) [][]byte { return rewrite(t, all, func(a *protocol.Answer) { a.Salt[3] ^= 1 }) }
		}, "does not record"},
		"a leaf with another profile": {func(b *box) {
			b.lie.leaf = func(l *auditlog.Leaf) {
				if l.Kind == auditlog.Issued {
					l.Profile = "it-server"
				}
			}
		}, "does not record"},
		"a missing leaf": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.Leaves--; h.CRLs++ }
		}, ""},
		"a checkpoint of another size": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) {
				origin := auditlog.Origin(b.id)
				h.Checkpoint = must[[]byte](t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, int64(len(b.leaves))+1, b.tree.Root()), origin, b.log))
			}
		}, ""},
		"a checkpoint by another key": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) {
				h.Checkpoint = bytes.Replace(h.Checkpoint, []byte("\n\n"), []byte("\n\n— x AAAAAAAA\n"), 1)[:60]
			}
		}, "not signed by the log key"},
		"no consistency proof": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.Consistency = nil }
		}, "does not continue"},
		"a range proof of another tree": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.Range[0][0] ^= 1 }
		}, "forked"},
		"a fork": {func(b *box) { b.fork(3) }, "forked"},
		"a log that shrank": {func(b *box) {
			b.leaves, b.edges, b.tree = b.leaves[:3], b.edges[:3], b.edges[3]
		}, ""},
		"a CRL with a lower number": {func(b *box) { b.lie.crlNumber = 3 }, "newer"},
		"two CRLs with a number":    {func(b *box) { b.lie.crlNumber = firstCRL }, "two CRLs"},
		"a CRL by another key": {func(b *box) {
			b.lie.crlNumber = 77
			b.lie.answers = func(all [][]byte) [][]byte { b.impostor(other); return all }
		}, "not signed by any"},
		"a state that is none": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.State.Policy = []byte{1} }
		}, "state"},
		"a CA from nowhere": {func(b *box) {
			stranger := newBox(t, b.now)
			b.lie.header = func(h *protocol.ResponseHeader) {
				h.State.CAs, h.State.Labels = append(h.State.CAs, stranger.ca.Raw), append(h.State.Labels, "stranger")
			}
		}, "none before it signed it"},
		"another agent": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.To = "another" }
		}, "for the agent another"},
		"another appliance": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.From[0] ^= 1 }
		}, "appliance"},
		"other contents": {func(b *box) {
			b.lie.header = func(h *protocol.ResponseHeader) { h.Rest[0] ^= 1 }
		}, "not those that were sealed"},
		"another seal": {func(b *box) { b.seal = other }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			first = nil
			w := newWorld(t)
			w.enrol()
			ids := w.ready(3)
			w.export()
			tell.lie(w.box)
			before := w.dump()
			w.box.process(w.stick)
			all, err := w.importErr()
			if tell.want == "silent" { // no lie about what was done: a request stays without an answer, and is asked again
				if last := all[len(all)-1]; err != nil || last.Silent == 0 {
					t.Fatalf("imported %+v, %v", all, err)
				}
				if st := w.standing(ids[0]); st.State != StateApproved && st.State != StateImported {
					t.Errorf("%+v", st)
				}
				return
			}
			if err == nil {
				t.Fatal("the lie was imported")
			}
			if !strings.Contains(err.Error(), tell.want) {
				t.Errorf("error %q does not say %q", err, tell.want)
			}
			switch name {
			case "another agent", "another appliance":
			default:
				if !errors.Is(err, ErrVerification) {
					t.Errorf("error %v is not one of verification", err)
				}
			}
			if w.dump() != before {
				t.Error("something changed")
			}
		})
	}
}

// rewrite changes the last answer.
func rewrite(t *testing.T, all [][]byte, change func(a *protocol.Answer)) [][]byte {
	a, _, err := protocol.ParseAnswer(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	change(&a)
	all[len(all)-1] = must[[]byte](t)(cose.Marshal(a))
	return all
}

// fork changes history: a leaf that the agent knows becomes another one.
func (b *box) fork(at int) {
	old := b.leaves
	b.leaves, b.edges, b.tree = b.leaves[:at:at], b.edges[:at:at], b.edges[at]
	for i, data := range old[at:] {
		l, err := auditlog.ParseLeaf(data)
		if err != nil {
			b.t.Fatal(err)
		}
		if i == 0 {
			l.Time++
		}
		data = must[[]byte](b.t)(l.Encode())
		b.edges = append(b.edges, b.tree)
		b.tree.Append(auditlog.LeafHash(data))
		b.leaves = append(b.leaves, data)
	}
}

// impostor has another key sign in the CA's name.
func (b *box) impostor(key *ecdsa.PrivateKey) {
	ca := *b.ca
	ca.PublicKey = key.Public()
	b.ca, b.caKey = &ca, key
}

// TestTakenAwayLies are lies about what takes away.
func TestTakenAwayLies(t *testing.T) {
	for name, tell := range map[string]struct {
		lie  func(r *protocol.Result)
		want string
	}{
		"a receipt for another request": {func(r *protocol.Result) { r.Receipt[len(r.Receipt)-1] ^= 1 }, "receipt"},
		"another certificate":           {func(r *protocol.Result) { r.Serial = []byte{0x42} }, "asked about the certificate"},
		"held instead of revoked":       {func(r *protocol.Result) { r.Outcome = protocol.OutcomeHeld }, "asked to revoke"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.enrol()
			id := w.ready(1)[0]
			w.cross()
			revoke := w.request(Wish{Kind: protocol.KindRevoke, Serial: w.show(id).Result.Serial})
			w.approve(protocol.KindRevoke, revoke)
			w.export()
			w.box.lie.result = tell.lie
			before := w.dump()
			w.box.process(w.stick)
			if _, err := w.importErr(); !errors.Is(err, ErrVerification) || !strings.Contains(err.Error(), tell.want) {
				t.Errorf("error %v, want one that says %q", err, tell.want)
			}
			if w.dump() != before {
				t.Error("something changed")
			}
		})
	}
}

// TestDamagedFile flips and cuts the file on the stick.
func TestDamagedFile(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	w.ready(2)
	w.export()
	w.box.process(w.stick)
	name := filepath.Join(w.stick, must[string](t)(media.Name{Kind: media.Response, Appliance: media.Tag(w.box.id), Agent: "comune", Sequence: 2}.Path()))
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before := w.dump()
	for _, n := range []int{0, 10, 300, len(whole) / 2, len(whole) - 1} {
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		for _, data := range [][]byte{whole[:n], flipped} {
			writeFile(t, name, data)
			if _, err := w.importErr(); err == nil {
				t.Errorf("%d of %d bytes, byte %d: imported", len(data), len(whole), n)
			}
			if w.dump() != before {
				t.Fatal("something changed")
			}
		}
	}
	writeFile(t, name, whole)
	w.imported()
}

// TestForAnotherAgent brings the response of another agent.
func TestForAnotherAgent(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	w.ready(1)
	w.export()
	w.box.process(w.stick)
	stranger := newWorld(t)
	m := must[*media.Medium](t)(media.OpenMedium(w.stick))
	defer m.Close()
	w.box.release(m, stranger.s.Party(), "comune")
	if _, err := w.importErr(); !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("error %v", err)
	}
}
