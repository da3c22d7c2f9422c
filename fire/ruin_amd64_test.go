package fire

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coldseal/protocol"
)

// ruin is what is left after a power cut.
type ruin struct {
	cut
	*history
	world *world
	live  image         // what programs saw just before
	took  time.Duration // until it had started again
}

// finished tells whether the command had said that it was done.
func (r *ruin) finished() bool { return r.n == len(r.done) }

// signed are the digests that the signer had been asked to sign.
func (r *ruin) signed() (digests []protocol.Digest) {
	for _, q := range r.asked {
		if q.at < r.n {
			digests = append(digests, q.digest)
		}
	}
	return digests
}

// seen gives the paths of that form that programs saw before the cut.
func (r *ruin) seen(pattern string) (paths []string) {
	err := r.live.walk(r.top, "", func(path string, n *node) error {
		if matches, err := filepath.Match(pattern, path); err != nil || !matches {
			return err
		}
		paths = append(paths, path)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return paths
}

// ruin makes the files that a cut left, beside links to those that no cut concerns; whole copies them.
func (h *history) ruin(t *testing.T, c cut, whole bool) *ruin {
	t.Helper()
	dir, err := os.MkdirTemp(spare(), "fire-cut-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	entries, err := os.ReadDir(h.base.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch {
		case slices.Contains(h.on, e.Name()):
		case whole:
			if o, err := execute(exec.Command("cp", "-a", h.base.path(e.Name()), dir)); err != nil || o.code != 0 {
				t.Fatalf("copy %s: %v: %s", e.Name(), err, o.words)
			}
		default:
			if err := os.Symlink(h.base.path(e.Name()), filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.left.put(h.top, dir); err != nil {
		t.Fatal(err)
	}
	w := *h.base
	w.dir = dir
	if own := w.path("appliance", "reserve"); !whole && slices.Contains(h.on, "appliance") && c.left.find(h.top, "appliance/reserve") != nil {
		if err := errors.Join(os.Remove(own), os.Link(h.reserve, own)); err != nil {
			t.Fatal(err)
		}
	}
	return &ruin{cut: c, history: h, world: &w, live: h.after(c.n)}
}

// spare is where ruins lie: in memory if there is room, for what is asked there is what a disk keeps, and not how fast.
func spare() string {
	const shm, room = "/dev/shm", 1 << 30
	var s unix.Statfs_t
	if err := unix.Statfs(shm, &s); err == nil && int64(s.Bavail)*s.Bsize >= room {
		return shm
	}
	return ""
}
