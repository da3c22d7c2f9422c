package fire

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What people do, one step each.

// order has an order carried out at the console by two officers, and gives what the console prints.
func (w *world) order(t *testing.T, line ...string) string {
	t.Helper()
	w.write(t, line...)
	return w.must(t, console...)
}

var console = []string{"appliance", "console", "order", "--request", "order", "--officer", "1.key", "--officer", "2.key", "--yes"}

// write writes an order, to be carried out at the console.
func (w *world) write(t *testing.T, line ...string) {
	t.Helper()
	w.introduce(t)
	if err := os.RemoveAll(w.path("order")); err != nil {
		t.Fatal(err)
	}
	w.must(t, slices.Concat([]string{"coldseal", "order"}, line, []string{"--introduction", "introduction", "--digest", w.digest, "--out", "order"})...)
}

func (w *world) introduce(t *testing.T) {
	t.Helper()
	w.must(t, "appliance", "export", "introduction", "--out", "introduction")
}

// approve has one person approve all requests that wait, but for those kept back.
func (w *world) approve(t *testing.T, key, statements string, back ...string) {
	t.Helper()
	pending, approvals := w.path("pending"), w.path("approvals")
	w.must(t, "agent", "pending", "--out", "pending")
	for _, id := range back {
		if err := os.Remove(filepath.Join(pending, id+".request")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	w.must(t, "coldseal", "approve", "--key", key, "--introduction", "introduction", "--digest", w.digest, "--dir", "pending",
		"--statement", statements, "--yes", "--out", "approvals/")
	files, err := filepath.Glob(filepath.Join(approvals, "*"))
	if err != nil {
		t.Fatal(err)
	}
	w.must(t, append([]string{"agent", "attach"}, files...)...)
	for _, dir := range []string{pending, approvals} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// carry carries the stick to the appliance and back.
func (w *world) carry(t *testing.T) {
	t.Helper()
	w.must(t, "agent", "export", "--media", "stick")
	w.must(t, "appliance", "process", "--media", "stick")
	w.must(t, "agent", "import", "--media", "stick")
	if err := errors.Join(os.RemoveAll(w.path("stick")), os.Mkdir(w.path("stick"), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// row is a line of coldseal-agent list.
type row struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	State   string `json:"state"`
	Outcome string `json:"outcome"`
	Open    bool   `json:"open"`
}

// rows lists the agent's requests.
func (w *world) rows(t *testing.T) (rows []row) {
	t.Helper()
	for line := range strings.Lines(w.must(t, "agent", "list", "--json")) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("list: %v: %s", err, line)
		}
		rows = append(rows, r)
	}
	return rows
}

// serial finds the serial of a workstation's certificate.
func (w *world) serial(t *testing.T, number string) string {
	t.Helper()
	for _, r := range w.rows(t) {
		if r.Subject == "058091-PC-"+number && r.Kind == "issue" {
			var shown struct{ Serial string }
			if err := json.Unmarshal([]byte(w.must(t, "agent", "show", r.ID, "--json")), &shown); err != nil || shown.Serial == "" {
				t.Fatalf("serial of %s: %v", number, err)
			}
			return shown.Serial
		}
	}
	t.Fatalf("there is no workstation %s", number)
	return ""
}
