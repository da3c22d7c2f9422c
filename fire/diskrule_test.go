package fire

import (
	"bytes"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// looks is how a disk looks: what is in which file.
func looks(m image, top *node) map[string]string {
	found := map[string]string{}
	err := m.walk(top, "", func(path string, n *node) error {
		found[path] = string(m.read(n))
		return nil
	})
	if err != nil {
		panic(err)
	}
	return found
}

func newFolder() *node {
	return &node{mode: fs.ModeDir | 0o700, first: content{names: map[string]*node{}}}
}

// TestDisk asks of small disks what a cut may leave, of any kind and drawn often: all of that and nothing else.
func TestDisk(t *testing.T) {
	old := func() (*node, *node) {
		top, file := newFolder(), &node{mode: 0o600, first: content{size: 3, pages: map[int64][]byte{}}}
		file.first.pages[0] = append([]byte("old"), make([]byte, pageSize-3)...)
		top.first.names["a"] = file
		return top, file
	}
	write := func(n *node, text string) operation { return operation{written: n, bytes: []byte(text)} }
	sync := func(n *node, covers int) operation { return operation{synced: n, covers: covers} }
	const gone = "-" // of no file
	for _, test := range []struct {
		name string
		disk func() *disk
		file string
		want []string // all that may be in it
	}{
		{"written", func() *disk { top, a := old(); return &disk{top, []operation{write(a, "new")}} }, "a", []string{"old", "new"}},
		{"written and synced", func() *disk { top, a := old(); return &disk{top, []operation{write(a, "new"), sync(a, 1)}} }, "a", []string{"new"}},
		{"written while it was synced", func() *disk { top, a := old(); return &disk{top, []operation{write(a, "new"), sync(a, 0)}} }, "a", []string{"old", "new"}},
		{"another was synced", func() *disk { top, a := old(); return &disk{top, []operation{write(a, "new"), sync(top, 1)}} }, "a", []string{"old", "new"}},
		{"cut short", func() *disk {
			top, a := old()
			return &disk{top, []operation{{sized: a, size: 1}}}
		}, "a", []string{"old", "o"}},
		{"made and synced, its folder not", func() *disk {
			top, _ := old()
			b := &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "b"}, node: b}, write(b, "new"), sync(b, 2)}}
		}, "b", []string{gone, "new"}},
		{"made, its folder synced, it not", func() *disk {
			top, _ := old()
			b := &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "b"}, node: b}, write(b, "new"), sync(top, 2)}}
		}, "b", []string{"", "\x00\x00\x00", "new"}},
		{"renamed without a sync", func() *disk {
			top, _ := old()
			b := &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "b"}, node: b}, write(b, "new"), {gone: place{top, "b"}, made: place{top, "a"}, node: b}}}
		}, "a", []string{"old", "", "\x00\x00\x00", "new"}},
		{"renamed as it should be, and cut before the last sync", func() *disk {
			top, _ := old()
			b := &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "b"}, node: b}, write(b, "new"), sync(b, 2), {gone: place{top, "b"}, made: place{top, "a"}, node: b}}}
		}, "a", []string{"old", "new"}},
		{"renamed as it should be", func() *disk {
			top, _ := old()
			b := &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "b"}, node: b}, write(b, "new"), sync(b, 2), {gone: place{top, "b"}, made: place{top, "a"}, node: b}, sync(top, 4)}}
		}, "a", []string{"new"}},
		{"in a folder that was made and not kept", func() *disk {
			top, _ := old()
			folder, b := newFolder(), &node{mode: 0o600}
			return &disk{top, []operation{{made: place{top, "f"}, node: folder}, {made: place{folder, "b"}, node: b}, write(b, "new"), sync(b, 3), sync(folder, 3)}}
		}, "f/b", []string{gone, "new"}},
		{"removed", func() *disk { top, _ := old(); return &disk{top, []operation{{gone: place{top, "a"}}}} }, "a", []string{gone, "old"}},
		{"removed and synced", func() *disk { top, _ := old(); return &disk{top, []operation{{gone: place{top, "a"}}, sync(top, 1)}} }, "a", []string{gone}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := test.disk()
			random := rand.New(rand.NewPCG(1, 0))
			seen := map[string]bool{}
			for range 300 {
				for _, kind := range append([]string{kept, dropped}, drawn...) {
					text, found := looks(d.cut(len(d.done), kind, random).left, d.top)[test.file]
					if !found {
						text = gone
					}
					seen[text] = true
				}
			}
			slices.Sort(test.want)
			if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, test.want) {
				t.Errorf("cuts leave %q, want %q", got, test.want)
			}
		})
	}
}

// TestTornWrite tears one write: what is left is made of whole sectors, old or new, and in the end of all mixtures.
func TestTornWrite(t *testing.T) {
	top, file := newFolder(), &node{mode: 0o600, first: content{size: 2 * pageSize, pages: map[int64][]byte{}}}
	top.first.names["a"] = file
	for p := range int64(2) {
		file.first.pages[p] = bytes.Repeat([]byte{'o'}, pageSize)
	}
	d := &disk{top, []operation{{written: file, at: 100, bytes: bytes.Repeat([]byte{'n'}, pageSize)}}}
	random := rand.New(rand.NewPCG(1, 0))
	for kind, unit := range map[string]int{torn512: sectorSize, torn4096: pageSize} {
		mixtures := map[string]bool{}
		for range 1000 {
			left := d.cut(1, kind, random).left
			text := left.read(file)
			mixtures[string(text)] = true
			if len(text) != 2*pageSize {
				t.Fatalf("%d bytes", len(text))
			}
			for i, b := range text {
				written := i >= 100 && i < 100+pageSize
				if !written && b != 'o' || written && i%unit != 0 && i > 100 && b != text[i-1] {
					t.Fatalf("%s: byte %d is %c", kind, i, b)
				}
			}
		}
		if want := map[int]int{sectorSize: 100, pageSize: 4}[unit]; len(mixtures) < want {
			t.Errorf("%s: %d mixtures, want %d", kind, len(mixtures), want)
		}
	}
}
