package fire

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// A disk is a folder and all that programs did to it, one operation after the other. What a power cut leaves of it is
// derived here from what POSIX promises, and that is little. fsync of a file keeps what is in the file, not its name;
// fsync of a folder keeps the names in it, not what is in the files, and not the folder's own name in the one above. What
// was not synced may have come to the disk or not, in any order and in parts. File systems with a journal promise more:
// there names survive in the order in which they were made.

// node is a file or a folder, whatever it is called.
type node struct {
	mode  fs.FileMode
	first content
}

// content is what is in a node.
type content struct {
	size  int64
	pages map[int64][]byte // of a file: pageSize bytes each, none for a hole; never changed once they are in a map
	names map[string]*node // of a folder
}

const (
	pageSize   = 4096
	sectorSize = 512
)

// place is a name in a folder.
type place struct {
	folder *node
	name   string
}

// operation is what a program did. Data change by written and sized, names by gone and made, which are one for a rename.
type operation struct {
	what string // for people

	written, sized *node
	at             int64 // of the bytes that were written
	bytes          []byte
	size           int64

	gone, made place
	node       *node // that is called made

	synced *node
	covers int // operations before this one are durable once it is done, if they are of that node

	said   string // a stream to another program
	spoken []byte
}

func (o *operation) data() bool  { return o.written != nil || o.sized != nil }
func (o *operation) names() bool { return o.gone.folder != nil || o.made.folder != nil }

// disk is the folder as it was, and what was done to it.
type disk struct {
	top  *node
	done []operation
}

// durable tells which of the first n operations no power cut undoes.
func (d *disk) durable(n int) []bool {
	kept := make([]bool, n)
	covered := map[*node]int{}
	for i := range d.done[:n] {
		if o := &d.done[i]; o.synced != nil {
			covered[o.synced] = max(covered[o.synced], o.covers)
		}
	}
	for i := range kept {
		switch o := &d.done[i]; {
		case o.written != nil:
			kept[i] = i < covered[o.written]
		case o.sized != nil:
			kept[i] = i < covered[o.sized]
		case o.names():
			kept[i] = (o.gone.folder == nil || i < covered[o.gone.folder]) && (o.made.folder == nil || i < covered[o.made.folder])
		}
	}
	return kept
}

// image is how a disk looks at one moment: the nodes that are not as they were at first.
type image map[*node]*content

func (m image) look(n *node) *content {
	if c := m[n]; c != nil {
		return c
	}
	return &n.first
}

func (m image) change(n *node) *content {
	c := m[n]
	if c == nil {
		c = &content{size: n.first.size, pages: maps.Clone(n.first.pages), names: maps.Clone(n.first.names)}
		if c.pages == nil {
			c.pages = map[int64][]byte{}
		}
		m[n] = c
	}
	return c
}

// find follows a path from a folder; nil is nothing.
func (m image) find(n *node, path string) *node {
	for step := range strings.SplitSeq(path, "/") {
		if n == nil {
			return nil
		}
		if step != "." {
			n = m.look(n).names[step]
		}
	}
	return n
}

// all is an operation that survives whole.
func all(int64) bool { return true }

// do lets an operation come to the disk. Of what is written only those units of that many bytes come for which whole says
// yes; grown tells whether the file gets its length all the same.
func (m image) do(o *operation, unit int64, whole func(unit int64) bool, grown bool) {
	switch {
	case o.written != nil:
		m.write(o, unit, whole, grown)
	case o.sized != nil:
		m.resize(o.sized, o.size)
	default:
		m.rename(o)
	}
}

func (m image) write(o *operation, unit int64, whole func(int64) bool, grown bool) {
	c := m.change(o.written)
	end := o.at + int64(len(o.bytes))
	for at := o.at; at < end; {
		next := min(end, (at/unit+1)*unit, (at/pageSize+1)*pageSize)
		if whole(at / unit) {
			page := make([]byte, pageSize)
			copy(page, c.pages[at/pageSize])
			copy(page[at%pageSize:], o.bytes[at-o.at:next-o.at])
			c.pages[at/pageSize] = page
			c.size = max(c.size, next)
		}
		at = next
	}
	if grown {
		c.size = max(c.size, end)
	}
}

func (m image) resize(n *node, size int64) {
	c := m.change(n)
	for p, old := range c.pages {
		switch rest := size - p*pageSize; {
		case rest <= 0:
			delete(c.pages, p)
		case rest < pageSize:
			c.pages[p] = append(slices.Clone(old[:rest]), make([]byte, pageSize-rest)...)
		}
	}
	c.size = size
}

func (m image) rename(o *operation) {
	if o.gone.folder != nil {
		delete(m.change(o.gone.folder).names, o.gone.name)
	}
	if o.made.folder != nil {
		m.change(o.made.folder).names[o.made.name] = o.node
	}
}

// after is how the disk looks to programs after n operations.
func (d *disk) after(n int) image {
	m := image{}
	for i := range d.done[:n] {
		m.do(&d.done[i], pageSize, all, true)
	}
	return m
}

// read gives what is in a file.
func (m image) read(n *node) []byte {
	c := m.look(n)
	data := make([]byte, c.size)
	for p, page := range c.pages {
		copy(data[min(c.size, p*pageSize):], page)
	}
	return data
}

// walk calls f for all that is in a folder and below it, in order.
func (m image) walk(n *node, path string, f func(path string, n *node) error) error {
	names := m.look(n).names
	for _, name := range slices.Sorted(maps.Keys(names)) {
		below := names[name]
		err := f(filepath.Join(path, name), below)
		if err == nil && below.mode.IsDir() {
			err = m.walk(below, filepath.Join(path, name), f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// digest is the same for images that look the same.
func (m image) digest(top *node) [32]byte {
	sum := sha256.New()
	err := m.walk(top, "", func(path string, n *node) error {
		c := m.look(n)
		fmt.Fprintf(sum, "%q %v %d\n", path, n.mode, c.size)
		for _, p := range slices.Sorted(maps.Keys(c.pages)) {
			if page := c.pages[p]; page != nil && !blank(page) {
				sum.Write(binary.BigEndian.AppendUint64(nil, uint64(p)))
				sum.Write(page)
			}
		}
		return nil
	})
	if err != nil {
		panic(err) // f gives none
	}
	return [32]byte(sum.Sum(nil))
}

func blank(page []byte) bool { return !slices.ContainsFunc(page, func(b byte) bool { return b != 0 }) }
