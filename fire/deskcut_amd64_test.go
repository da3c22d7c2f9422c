package fire

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/agent"
	"coldseal/protocol"
)

// What an agent has to be after a power cut.

const (
	sentPath      = "stick/coldseal/*/to-appliance/desk-0000000004.bundle"
	enrolmentPath = "agent/" + agent.EnrolmentFile
)

func (w *world) desk() agent.Config {
	return agent.Config{Dir: w.path("agent"), Now: time.Now, Rand: rand.Reader}
}

// service opens the agent of a world.
func (w *world) service(t *testing.T) *agent.Service {
	t.Helper()
	s, err := agent.Open(w.desk())
	if err != nil {
		t.Fatalf("open agent: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close agent: %v", err)
		}
	})
	return s
}

// service opens what a cut left of an agent.
func (r *ruin) service(t *testing.T) *agent.Service {
	t.Helper()
	began := time.Now()
	s := r.world.service(t)
	r.took = time.Since(began)
	return s
}

// standings are the requests of an agent, with what is known of each.
func standings(t *testing.T, s *agent.Service) (all []string) {
	t.Helper()
	err := s.List(agent.Filter{}, func(r agent.Row) error {
		st := r.Standing
		all = append(all, fmt.Sprintf("%s %s %v %s %x %d", r.ID, st.State, st.Open, st.Outcome, st.Serial, st.Bundle))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func beforeAgent(t *testing.T) *world {
	return template(t, "before-agent", from(begun, func(t *testing.T, w *world) {
		if err := os.RemoveAll(w.path("agent")); err != nil {
			t.Fatal(err)
		}
	}))
}

func enrol(t *testing.T) []string {
	return []string{"agent", "init", "--appliance", "introduction", "--digest", begun(t).digest, "--name", "desk", "--bodies", "it"}
}

// afterAgent makes the agent again.
func afterAgent(t *testing.T, w *world) {
	t.Helper()
	record := w.must(t, enrol(t)...)
	if again := w.must(t, enrol(t)...); again != record {
		t.Errorf("the agent was %s, made again %s", record, again)
	}
	w.must(t, "agent", "doctor")
}

func expectAgent(t *testing.T, h *history) func(*testing.T, *ruin) {
	digest, err := protocol.ParseDigest(h.base.digest)
	if err != nil {
		t.Fatal(err)
	}
	b := agent.Beginning{
		Introduction: readAll(t, h.base.path("introduction")), Digest: digest, Name: "desk", Bodies: []string{"it"}, BundlesPerDay: 24, ItemsPerDay: 100_000,
	}
	record := readAll(t, h.end.path(enrolmentPath))
	return func(t *testing.T, r *ruin) {
		if r.finished() {
			s := r.service(t)
			if got, err := s.Enrolment(); err != nil || !bytes.Equal(got, record) || !bytes.Equal(r.world.there(t, enrolmentPath), record) {
				t.Errorf("the agent is not the one that was made (%v)", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var last []byte
		for range 2 {
			began := time.Now()
			s, err := agent.Init(r.world.desk(), b)
			if err != nil {
				t.Fatalf("make agent again: %v", err)
			}
			r.took = time.Since(began)
			got, err := s.Enrolment()
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
			if r.finished() && !bytes.Equal(got, record) || last != nil && !bytes.Equal(got, last) || !bytes.Equal(got, r.world.there(t, enrolmentPath)) {
				t.Error("the agent that is made again is another one")
			}
			last = got
		}
	}
}

func expectBundle(t *testing.T, h *history) func(*testing.T, *ruin) {
	bundle := readAll(t, h.end.glob(t, sentPath)[0])
	load := h.base.load
	items := uint64(len(load.issue) + len(load.done) + len(load.open))
	after := standings(t, h.end.service(t))
	return func(t *testing.T, r *ruin) {
		w := r.world
		for _, name := range w.glob(t, sentPath) {
			if !bytes.Equal(readAll(t, name), bundle) {
				t.Error("the bundle on the stick is not the one that was made")
			}
		}
		r.promised(t)
		s := r.service(t)
		ctx := context.Background()
		_, err := s.Export(ctx, w.path("stick"), agent.Choice{Incomplete: true})
		if err != nil && !errors.Is(err, agent.ErrNotFound) {
			t.Fatalf("export: %v", err)
		}
		e, err := s.ExportAgain(ctx, w.path("stick"), 4, false)
		if err != nil || e.Items != items {
			t.Fatalf("export again: %+v, %v", e, err)
		}
		if got := readAll(t, w.glob(t, sentPath)[0]); len(r.seen(sentPath)) != 0 && !bytes.Equal(got, bundle) {
			t.Error("there are two bundles of this number")
		}
		if now := standings(t, s); !slices.Equal(now, after) {
			t.Errorf("the requests are not those that were exported: %v, want %v", now, after)
		}
	}
}

func expectImport(t *testing.T, h *history) func(*testing.T, *ruin) {
	before := standings(t, h.base.copy(t).service(t))
	s := h.end.service(t)
	after := standings(t, s)
	files := published(t, s)
	return func(t *testing.T, r *ruin) {
		s := r.service(t)
		now := standings(t, s)
		if !slices.Equal(now, after) && (r.finished() || !slices.Equal(now, before)) {
			t.Errorf("the response was neither imported nor not: %v", now)
		}
		ctx := context.Background()
		for again := range 2 {
			all, err := s.Import(ctx, r.world.path("stick"), nil)
			if err != nil {
				t.Fatalf("import: %v", err)
			}
			for _, one := range all {
				if again > 0 && !one.Already || one.Gap || one.Refusal != nil {
					t.Errorf("imported %+v", one)
				}
			}
			if now := standings(t, s); !slices.Equal(now, after) {
				t.Errorf("the requests are not those that were answered: %v, want %v", now, after)
			}
		}
		if r.n%8 == 0 {
			if now := published(t, s); now != files {
				t.Errorf("there are other files:\n%s\nwant:\n%s", now, files)
			}
		}
	}
}

// published lists the files that an agent writes for others, and what is in them.
func published(t *testing.T, s *agent.Service) string {
	t.Helper()
	dir := t.TempDir()
	_, err := s.WriteCertificates(dir, agent.BySerial)
	if err == nil {
		_, err = s.WriteCRLs(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintf(&text, "%s %x\n", filepath.Base(name), protocol.DigestOf(readAll(t, name)))
	}
	return text.String()
}
