package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// save copies the store, as a backup would, and returns a function that puts the copy back.
func (w *world) save() (restore func()) {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.config.Dir, "agent.db"))
	if err != nil {
		w.t.Fatal(err)
	}
	copied := writeFile(w.t, filepath.Join(w.t.TempDir(), "agent.db"), data)
	return func() { w.restore(copied) }
}

// TestInterruptedExport stops an export between any two of its steps; the next one finishes it with the same number.
func TestInterruptedExport(t *testing.T) {
	ctx := context.Background()
	gone := filepath.Join(t.TempDir(), "gone")
	for name, interrupt := range map[string]func(w *world){
		"after the number was taken": func(w *world) { w.reserve() },
		"while requests are noted": func(w *world) {
			n := w.reserve()
			if err := w.s.store.Update(func(tx *store.Tx) error { return note(tx, n, 0) }); err != nil {
				w.t.Fatal(err)
			}
		},
		"with a torn file": func(w *world) {
			n := w.reserve()
			writeFile(w.t, w.s.bundleFile(n), []byte("torn"))
		},
		"before the medium": func(w *world) {
			if err := w.s.complete(ctx, w.reserve()); err != nil {
				w.t.Fatal(err)
			}
		},
		"by a medium that cannot be written": func(w *world) {
			blocked := w.t.TempDir()
			writeFile(w.t, filepath.Join(blocked, "coldseal"), []byte("a file where a folder should be"))
			if _, err := w.s.Export(ctx, blocked, Choice{}); !errors.Is(err, media.ErrNotRegular) {
				w.t.Fatalf("export to a blocked medium: %v", err)
			}
		},
		"by a clear wish to stop": func(w *world) {
			stopped, stop := context.WithCancel(ctx)
			stop()
			if _, err := w.s.Export(stopped, w.stick, Choice{}); !errors.Is(err, context.Canceled) {
				w.t.Fatalf("export that was stopped: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.enrol()
			ids := w.ready(2)
			interrupt(w)
			late := w.request(w.station(9))
			w.approve(protocol.KindIssue, late)
			if _, err := w.s.Withdraw(ids[0]); !errors.Is(err, ErrFailed) {
				t.Errorf("withdraw during an interrupted export: %v", err)
			}
			if _, err := w.s.Export(ctx, gone, Choice{}); !errors.Is(err, media.ErrGone) {
				t.Errorf("export to a medium that is gone: %v", err)
			}
			e := w.export()
			if e.Sequence != 2 || e.Items != 2 || !e.Resumed {
				t.Fatalf("exported %+v", e)
			}
			if again, err := w.s.ExportAgain(ctx, t.TempDir(), 2, false); err != nil || again.Digest != e.Digest {
				t.Errorf("again: %+v, %v", again, err)
			}
			if e := w.export(); e.Sequence != 3 || e.Items != 1 || e.Resumed {
				t.Errorf("the next export: %+v", e)
			}
			w.box.process(w.stick)
			w.imported()
			for _, id := range append(ids, late) {
				if st := w.standing(id); st.State != StateImported {
					t.Errorf("%+v", st)
				}
			}
		})
	}
}

// reserve does the first step of an export only.
func (w *world) reserve() (sequence uint64) {
	w.t.Helper()
	err := w.s.store.Update(func(tx *store.Tx) error {
		v, err := w.s.view(tx)
		if err != nil {
			return err
		}
		var e Exported
		if err := v.reserve(&e, Choice{}); err != nil {
			return err
		}
		sequence = e.Sequence
		return tx.PutMeta(v.meta)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return sequence
}

func TestLostStick(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	ids := w.ready(2)
	e := w.export()
	w.stick = t.TempDir()
	again, err := w.s.ExportAgain(context.Background(), w.stick, e.Sequence, false)
	if err != nil || again.Digest != e.Digest || again.Items != 2 {
		t.Fatalf("again: %+v, %v", again, err)
	}
	w.box.process(w.stick)
	w.imported()
	if st := w.standing(ids[1]); st.State != StateImported {
		t.Errorf("%+v", st)
	}
	if _, err := w.s.ExportAgain(context.Background(), w.stick, e.Sequence, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("again after the response: %v", err)
	}
	if _, err := w.s.ExportAgain(context.Background(), w.stick, 99, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("a bundle that never was: %v", err)
	}
}

// TestInterruptedImport stops an import in the middle: nothing counts until the next one.
func TestInterruptedImport(t *testing.T) {
	w := newWorld(t)
	w.many(5000)
	if _, err := w.s.Export(context.Background(), w.stick, Choice{Incomplete: true}); err != nil {
		t.Fatal(err)
	}
	w.box.process(w.stick)
	before := w.dump()
	ctx, stop := context.WithCancel(context.Background())
	_, err := w.s.Import(ctx, w.stick, func(done, all uint64) {
		if done > all/2 {
			stop()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("import that was stopped: %v", err)
	}
	if w.dump() != before {
		t.Error("something changed")
	}
	staged := 0
	err = w.s.store.View(func(tx *store.Tx) error {
		return tx.EachResult(1, func(uint64, store.Result) error { staged++; return nil })
	})
	if err != nil || staged == 0 {
		t.Fatalf("%d results were staged (%v): the test stops too early", staged, err)
	}
	w.box.lie.header = nil
	if all := w.imported(); all[0].Results != 5000 || all[0].Silent != 0 {
		t.Errorf("imported %+v", all)
	}
	st, err := w.s.Status()
	if err != nil || st.States[StateImported] != 5000 {
		t.Errorf("status %+v, %v", st.States, err)
	}
}

// TestRestored lets an agent go on from older copies of its store.
func TestRestored(t *testing.T) {
	t.Run("before an export", func(t *testing.T) {
		w := newWorld(t)
		w.enrol()
		ids := w.ready(2)
		restore := w.save()
		w.export()
		w.box.process(w.stick)
		restore()
		all := w.imported()
		if last := all[len(all)-1]; last.Sequence != 2 || last.Results != 2 || last.Unknown != 0 || last.Gap {
			t.Errorf("imported %+v", last)
		}
		for _, id := range ids {
			if st := w.standing(id); st.State != StateImported {
				t.Errorf("%+v", st)
			}
		}
		w.goOn(3)
	})
	t.Run("before its requests", func(t *testing.T) {
		w := newWorld(t)
		w.enrol()
		restore := w.save()
		w.ready(2)
		w.export()
		w.box.process(w.stick)
		restore()
		all := w.imported()
		if last := all[len(all)-1]; last.Results != 2 || last.Unknown != 2 {
			t.Errorf("imported %+v", last)
		}
		if n, err := w.s.WriteCertificates(t.TempDir(), BySubject); err != nil || n != 3 {
			t.Errorf("wrote %d certificates, %v", n, err)
		}
		w.goOn(3)
	})
	t.Run("before an import, so that leaves are missing", func(t *testing.T) {
		w := newWorld(t)
		w.many(1)
		restore := w.save()
		if _, err := w.s.Export(context.Background(), w.stick, Choice{Incomplete: true}); err != nil {
			t.Fatal(err)
		}
		w.box.process(w.stick)
		w.imported()
		w.approver = newECDSA(t)
		second := w.request(w.station(2))
		w.stick = t.TempDir()
		if _, err := w.s.Export(context.Background(), w.stick, Choice{Incomplete: true}); err != nil {
			t.Fatal(err)
		}
		w.box.process(w.stick)
		restore()
		if all := w.imported(); !all[0].Gap || all[0].Unknown != 1 {
			t.Errorf("imported %+v", all)
		}
		if m := w.meta(); m.Size != 0 || m.Last != 2 {
			t.Errorf("size %d, last %d", m.Size, m.Last)
		}
		if _, err := w.s.Show(second); !errors.Is(err, ErrNotFound) {
			t.Errorf("a request of the later copy: %v", err)
		}
		if _, err := w.s.Export(context.Background(), w.stick, Choice{Empty: true, Incomplete: true}); err != nil {
			t.Fatal(err)
		}
		w.box.process(w.stick)
		w.imported()
		if m := w.meta(); m.Size != uint64(len(w.box.leaves)) {
			t.Errorf("size %d of %d", m.Size, len(w.box.leaves))
		}
	})
	t.Run("and a number used twice", func(t *testing.T) {
		w := newWorld(t)
		w.enrol()
		restore := w.save()
		w.ready(1)
		w.export()
		w.box.process(w.stick)
		restore()
		id := w.request(w.station(50))
		w.approve(protocol.KindIssue, id)
		if e := w.export2(t.TempDir()); e.Sequence != 2 {
			t.Fatalf("exported %+v", e)
		}
		w.box.process(w.stick)
		all := w.imported()
		if last := all[len(all)-1]; last.Refusal == nil || last.Refusal.Code != protocol.CodeSequenceReused {
			t.Errorf("imported %+v", last)
		}
		if st := w.standing(id); st.State != StateApproved || st.Refusal == nil {
			t.Errorf("after the refusal: %+v", st)
		}
		if m := w.meta(); m.Last != 2 {
			t.Errorf("last %d", m.Last)
		}
		if e := w.export(); e.Sequence != 3 {
			t.Errorf("exported %+v", e)
		}
		w.box.process(w.stick)
		w.imported()
		if st := w.standing(id); st.State != StateImported {
			t.Errorf("%+v", st)
		}
	})
}

// export2 exports to another stick, which is the stick from then on.
func (w *world) export2(stick string) Exported {
	w.stick = stick
	return w.export()
}

// goOn makes and crosses one more request, whose bundle has to have the number.
func (w *world) goOn(sequence uint64) {
	w.t.Helper()
	id := w.request(w.station(900))
	w.approve(protocol.KindIssue, id)
	if e := w.export(); e.Sequence != sequence {
		w.t.Errorf("exported %+v, want number %d", e, sequence)
	}
	w.box.process(w.stick)
	w.imported()
	if st := w.standing(id); st.State != StateImported {
		w.t.Errorf("%+v", st)
	}
	if m := w.meta(); m.Size != uint64(len(w.box.leaves)) {
		w.t.Errorf("%d leaves of %d", m.Size, len(w.box.leaves))
	}
}

func TestInit(t *testing.T) {
	w := newWorld(t)
	first := w.s.Party()
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.init() // again: nothing changes
	if again := w.s.Party(); string(again.Seal) != string(first.Seal) || string(again.Receiver) != string(first.Receiver) {
		t.Error("the keys changed")
	}
	if err := os.Remove(filepath.Join(w.config.Dir, EnrolmentFile)); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	w.init()
	if _, err := os.Stat(filepath.Join(w.config.Dir, EnrolmentFile)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{sealFile, receiverFile, "agent.db"} {
		info, err := os.Stat(filepath.Join(w.config.Dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	good := Beginning{Introduction: w.box.introduction(), Digest: w.box.id, Name: "comune", Bodies: []string{"it"}, BundlesPerDay: 9, ItemsPerDay: 9999}
	other := newBox(t, w.config.Now)
	for name, test := range map[string]struct {
		change func(c *Config, b *Beginning)
		kind   error
	}{
		"another digest":          {func(c *Config, b *Beginning) { b.Digest[0] ^= 1; c.Dir += "2" }, ErrVerification},
		"a forged introduction":   {func(c *Config, b *Beginning) { b.Introduction = other.introduction(); c.Dir += "2" }, ErrVerification},
		"no introduction":         {func(c *Config, b *Beginning) { b.Introduction = nil; c.Dir += "2" }, ErrVerification},
		"another appliance":       {func(c *Config, b *Beginning) { b.Introduction, b.Digest = other.introduction(), other.id }, ErrFailed},
		"a bad name":              {func(c *Config, b *Beginning) { b.Name = "Comune di Roma"; c.Dir += "2" }, ErrInput},
		"a bad body":              {func(c *Config, b *Beginning) { b.Bodies = []string{"IT"}; c.Dir += "2" }, ErrInput},
		"no limits":               {func(c *Config, b *Beginning) { b.ItemsPerDay = 0; c.Dir += "2" }, ErrInput},
		"an introduction damaged": {func(c *Config, b *Beginning) { b.Introduction = append(b.Introduction, 0); c.Dir += "2" }, ErrVerification},
	} {
		c, b := w.config, good
		test.change(&c, &b)
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err := Init(c, b); !errors.Is(err, test.kind) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		w.init()
	}
	if _, err := Open(Config{Dir: t.TempDir(), Now: w.config.Now, Rand: w.config.Rand}); !errors.Is(err, ErrNotFound) {
		t.Errorf("open nothing: %v", err)
	}
	w.approver = newECDSA(t)
	w.request(w.station(1))
	if _, err := w.s.Export(context.Background(), w.stick, Choice{Incomplete: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	good.Bodies = []string{"it", "gr"}
	if _, err := Init(w.config, good); !errors.Is(err, ErrFailed) {
		t.Errorf("other bodies after the first bundle: %v", err)
	}
	good.Bodies = []string{"it"}
	w.init()
}
