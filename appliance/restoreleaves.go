package appliance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// What is known of the log outside is brought by agents, each with its own results and requests, and by auditors. It is
// merged into one file, which later ones are merged into, and believed as far as signed checkpoints and the leaves
// themselves prove it.

// Source is a file that was brought: spooled, so that it answers the same each time.
type Source struct {
	Name     string // for people
	file     *media.File
	exported bool // by log export, not by an agent
}

// Close gives the room back.
func (s *Source) Close() error { return s.file.Close() }

// Note is a checkpoint that somebody has.
type Note struct {
	Name string // where it came from
	Text []byte
}

// Taken says what is known of the log after leaves were brought.
type Taken struct {
	From   uint64   // leaves that the backup has
	Size   uint64   // leaves with those that were brought
	Bodies uint64   // of those brought, with their bodies
	Known  uint64   // size of the largest checkpoint that somebody has
	By     string   // who has it
	Heard  []string // agents who brought leaves; ascending
}

// staged begins the file of merged leaves; a file as agents bring it follows.
type staged struct {
	Known Note     `cbor:"1,keyasint"`
	Heard []string `cbor:"2,keyasint,omitempty"`
}

const maxStaged = 64 << 10

// maxSources bounds how many files are taken at once: they are read side by side. More are brought in turns.
const maxSources = 64

// ErrMany is returned for more files than are taken at once.
var ErrMany = fmt.Errorf("more than %d files of leaves at once", maxSources)

// ErrForked is returned for leaves or checkpoints of which neither begins the other.
var ErrForked = errors.New("the log was forked")

func (e *Engine) stagedPath() string { return filepath.Join(e.Dir, restoreDir, "leaves") }

// LeavesOn takes the files of leaves that agents wrote to a medium, and the checkpoint that is in clear on it.
func (e *Engine) LeavesOn(m *media.Medium) (sources []Source, notes []Note, err error) {
	dir, err := media.Name{Kind: media.Leaves, Appliance: media.Tag(e.appliance)}.Dir()
	if err != nil {
		return nil, nil, err
	}
	files, err := m.List(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, file := range files {
		name := dir + "/" + file
		if n, err := media.ParseName(name); err != nil || n.Kind != media.Leaves {
			continue
		}
		if len(sources) == maxSources {
			return sources, nil, fmt.Errorf("take %s: %w", name, ErrMany)
		}
		sealed, err := e.spool.Take(m, name, media.MaxBundleBytes)
		if err == nil {
			var plain *media.File
			plain, _, err = e.toReceivers(func(key media.Key) (*media.File, error) {
				return e.spool.Decrypt(context.Background(), sealed, key)
			})
			err = errors.Join(err, sealed.Close())
			if plain != nil {
				sources = append(sources, Source{Name: name, file: plain})
			}
		}
		if errors.Is(err, media.ErrReceiver) {
			err = fmt.Errorf("it is encrypted to a receiver key that this backup does not know: %w: %w", ErrRotated, err)
		}
		if err != nil {
			return sources, nil, fmt.Errorf("take %s: %w", name, err)
		}
	}
	clear, err := media.Name{Kind: media.Clear, Appliance: media.Tag(e.appliance), File: "checkpoint"}.Path()
	if err != nil {
		return sources, nil, err
	}
	note, err := m.ReadFile(clear, auditlog.MaxCheckpoint)
	if errors.Is(err, media.ErrGone) {
		return sources, nil, nil
	}
	return sources, []Note{{clear, note}}, err
}

// ExportedLog takes a log that was exported for an auditor, with its bodies.
func (e *Engine) ExportedLog(name string, r io.Reader) (Source, error) {
	file, err := e.spool.Write(1<<62, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
	return Source{name, file, true}, err
}

// opened is a source that is being read.
type opened struct {
	name       string
	r          *auditlog.BroughtReader
	checkpoint auditlog.Checkpoint
	note       []byte
	index      uint64 // of one
	leaf       auditlog.Leaf
	one        auditlog.Brought
	ended      bool
}

func (o *opened) next() (err error) {
	o.index, o.leaf, o.one, err = o.r.Next()
	if err == io.EOF {
		o.ended, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	return nil
}

// open begins to read a source whose checkpoint the log key signed.
func (e *Engine) openSource(s *Source) (*opened, error) {
	r, err := auditlog.ReadBrought(s.file.Reader())
	if s.exported {
		r, err = auditlog.ReadExported(s.file.Reader())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if !s.exported && r.Header.Appliance != e.appliance {
		return nil, fmt.Errorf("%s: leaves of the appliance %s: %w", s.Name, r.Header.Appliance, ErrOtherAppliance)
	}
	if err := e.sameKeys(r.Header.Handovers); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	o := &opened{name: s.Name, r: r, note: r.Header.Checkpoint}
	if o.checkpoint, err = e.openNote(Note{s.Name, o.note}); err != nil && s.exported && e.rotatesKey(r) {
		err = fmt.Errorf("%s: %w", s.Name, ErrRotated)
	}
	return o, err
}

// ErrRotated is returned for leaves among which one of the appliance's own keys was replaced. Agents go by the new key,
// which this ledger knows nothing of.
var ErrRotated = errors.New("one of the appliance's own keys was replaced after this backup")

// sameKeys refuses handovers beyond those that the backup knows.
func (e *Engine) sameKeys(handovers [][]byte) error {
	keys, err := e.state.Own.Walk(handovers)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForked, err)
	}
	if keys != e.state.Own {
		return ErrRotated
	}
	return nil
}

// rotatesKey looks through what is left of a log for an order that the backup does not know to replace a key. Whether the
// leaves are those of the log is not asked: it is about what to say of a log that can't be taken.
func (e *Engine) rotatesKey(r *auditlog.BroughtReader) bool {
	for {
		index, leaf, one, err := r.Next()
		if err != nil {
			return false
		}
		if index >= e.restoring.From && rotates(leaf, one) {
			return true
		}
	}
}

// rotates tells whether a leaf that was brought is an order to replace one of the appliance's own keys.
func rotates(leaf auditlog.Leaf, one auditlog.Brought) bool {
	var o auditlog.OrderBody
	if leaf.Kind != auditlog.Order || len(one.Salted) < store.SaltSize || cose.Unmarshal(one.Salted[store.SaltSize:], &o) != nil {
		return false
	}
	req, refusal := protocol.ParseRequest(o.Request)
	return refusal == nil && req.Kind == protocol.KindRotateKey
}

func (e *Engine) openNote(n Note) (auditlog.Checkpoint, error) {
	c, err := auditlog.OpenCheckpoint(n.Text, e.state.Own)
	if err != nil {
		return c, fmt.Errorf("%s: no log key of this appliance that the backup knows signed its checkpoint: %w", n.Name, err)
	}
	return c, nil
}

// prove asks that a source's leaves are those under its checkpoint, and continue the backup's.
func (e *Engine) prove(tx *store.Tx, s *Source, from uint64) error {
	o, err := e.openSource(s)
	if err != nil {
		return err
	}
	first := o.r.Header.First
	if first > from {
		return fmt.Errorf("%s: it begins at entry %d, the backup ends before %d: %w", s.Name, first, from, ErrGap)
	}
	edge, err := auditlog.ReadRange(int64(first), tx)
	if err != nil {
		return err
	}
	ours := func(size int64, root auditlog.Hash) error {
		edge, err := auditlog.ReadRange(size, tx)
		if err == nil && edge.Root() != root {
			err = fmt.Errorf("%s: its first %d entries are not the backup's: %w", s.Name, size, ErrForked)
		}
		return err
	}
	extension, err := auditlog.NewExtension(auditlog.Checkpoint{Origin: o.checkpoint.Origin, Size: int64(first), Root: edge.Root()}, edge.Hashes())
	for err == nil {
		if at := extension.Edge(); uint64(at.Size()) == from {
			err = ours(at.Size(), at.Root())
		}
		if err == nil {
			err = o.next()
		}
		if err != nil || o.ended {
			break
		}
		if o.index >= from && rotates(o.leaf, o.one) {
			return fmt.Errorf("%s: entry %d: %w", s.Name, o.index, ErrRotated)
		}
		_, err = extension.Append(o.one.Leaf)
	}
	if err != nil {
		return err
	}
	if o.checkpoint.Size <= int64(from) {
		if err := ours(o.checkpoint.Size, o.checkpoint.Root); err != nil {
			return err
		}
	}
	if err := extension.Done(o.checkpoint); err != nil {
		return fmt.Errorf("%s: the leaves are not those of its checkpoint: %w", s.Name, err)
	}
	return nil
}

// ErrGap is returned for leaves that begin after the end of the backup.
var ErrGap = errors.New("entries are missing in between")

// ErrApplied is returned for leaves that come after those before them were written into the ledger.
var ErrApplied = errors.New("the leaves that were brought are in the ledger already; to bring more, open the backup again")

// TakeLeaves merges what was brought with what was brought before. Nothing is taken unless all of it agrees.
func (e *Engine) TakeLeaves(sources []Source, notes []Note) (Taken, error) {
	if e.broken != nil {
		return Taken{}, e.broken
	}
	if e.restoring == nil {
		return Taken{}, fmt.Errorf("take leaves: %w", errLiving)
	}
	if len(sources) > maxSources {
		return Taken{}, fmt.Errorf("take leaves: %w", ErrMany)
	}
	from := e.restoring.From
	if e.restoring.Applying || e.folded.next != from {
		return Taken{}, ErrApplied
	}
	var taken Taken
	err := e.ledger.View(func(tx *store.Tx) error {
		for i := range sources {
			if err := e.prove(tx, &sources[i], from); err != nil {
				return err
			}
		}
		before, err := e.openStaged()
		if err != nil {
			return err
		}
		defer before.close()
		merge := &merger{e: e, tx: tx, from: from, staged: before.staged}
		taken, err = merge.run(before, sources, notes)
		return err
	})
	return taken, err
}

var errLiving = errors.New("the appliance is live and is not being restored")

// stagedFile is what was merged before; reader is nil if nothing was.
type stagedFile struct {
	staged
	file *os.File
	r    *auditlog.BroughtReader
}

func (s *stagedFile) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
}

func (e *Engine) openStaged() (*stagedFile, error) {
	s := &stagedFile{}
	var err error
	if s.file, err = os.Open(e.stagedPath()); errors.Is(err, os.ErrNotExist) {
		s.file = nil
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	b := bufio.NewReaderSize(s.file, 1<<16)
	head, err := protocol.ReadString(b, maxStaged)
	if err == nil {
		err = cose.Unmarshal(head, &s.staged)
	}
	if err == nil {
		s.r, err = auditlog.ReadBrought(b)
	}
	if err != nil {
		s.close()
		return nil, fault("read leaves that were brought", err)
	}
	return s, nil
}

// merger writes several sources as one.
type merger struct {
	e      *Engine
	tx     *store.Tx
	from   uint64
	staged staged
	taken  Taken
}

func (m *merger) run(before *stagedFile, sources []Source, notes []Note) (Taken, error) {
	longest, err := m.own()
	if err != nil {
		return Taken{}, err
	}
	var all []*opened
	for i := range sources {
		o, err := m.e.openSource(&sources[i])
		if err != nil {
			return Taken{}, err
		}
		all = append(all, o)
		notes = append(notes, Note{o.name, o.note})
		if o.r.Header.From != "" && !slices.Contains(m.staged.Heard, o.r.Header.From) {
			m.staged.Heard = append(m.staged.Heard, o.r.Header.From)
		}
	}
	if before.r != nil {
		o := &opened{name: "what was brought before", r: before.r, note: before.r.Header.Checkpoint}
		var err error
		if o.checkpoint, err = m.e.openNote(Note{o.name, o.note}); err != nil {
			return Taken{}, err
		}
		all = append(all, o)
		notes = append(notes, m.staged.Known, Note{o.name, o.note})
	}
	slices.Sort(m.staged.Heard)
	for _, o := range all {
		if o.checkpoint.Size > longest.checkpoint.Size {
			longest = o
		}
		for err := o.next(); err != nil || !o.ended && o.index < m.from; err = o.next() { // up to where the backup ends
			if err != nil {
				return Taken{}, err
			}
		}
	}
	checkpoints, err := m.notes(notes)
	if err != nil {
		return Taken{}, err
	}
	m.taken = Taken{From: m.from, Size: max(m.from, uint64(longest.checkpoint.Size)), Heard: m.staged.Heard}
	if n := len(checkpoints); n > 0 {
		m.staged.Known, m.taken.Known, m.taken.By = checkpoints[n-1].Note, uint64(checkpoints[n-1].Size), checkpoints[n-1].Name
	}
	head, err := cose.Marshal(m.staged)
	if err != nil {
		return Taken{}, err
	}
	if len(head) > maxStaged {
		return Taken{}, fmt.Errorf("take leaves: they were brought in the names of %d agents, which are too many", len(m.staged.Heard))
	}
	if err := os.Remove(m.e.stagedPath() + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Taken{}, fmt.Errorf("take leaves: %w", err)
	}
	once := false
	err = media.WriteFile(m.e.stagedPath()+".new", media.WriteOptions{Replace: true, Private: true}, func(w io.Writer) error {
		if once {
			return errors.New("the sources can be read once")
		}
		once = true
		if err := protocol.WriteString(w, head); err != nil {
			return err
		}
		err := auditlog.WriteBroughtHeader(w, auditlog.BroughtHeader{Appliance: m.e.appliance, First: m.from, Checkpoint: longest.note})
		if err != nil {
			return err
		}
		return m.pour(w, all, checkpoints)
	})
	if err == nil {
		if err = os.Rename(m.e.stagedPath()+".new", m.e.stagedPath()); err == nil {
			err = media.MakeFolder(filepath.Dir(m.e.stagedPath()))
		}
	}
	return m.taken, err
}

// own is the backup: what is known of the log if nobody brings more.
func (m *merger) own() (*opened, error) {
	meta, err := m.tx.Meta()
	if err != nil {
		return nil, err
	}
	o := &opened{name: "the backup", note: meta.Checkpoint}
	o.checkpoint, err = m.e.openNote(Note{o.name, o.note})
	return o, err
}

// known is a checkpoint that somebody has.
type known struct {
	Note
	auditlog.Checkpoint
}

// notes opens the checkpoints that somebody has, the smallest first.
func (m *merger) notes(notes []Note) (all []known, err error) {
	for _, n := range notes {
		if len(n.Text) == 0 {
			continue
		}
		c, err := m.e.openNote(n)
		if err != nil {
			return nil, err
		}
		if c.Size <= int64(m.from) {
			edge, err := auditlog.ReadRange(c.Size, m.tx)
			if err != nil {
				return nil, err
			}
			if edge.Root() != c.Root {
				return nil, fmt.Errorf("%s: the checkpoint of %d entries is not the backup's: %w", n.Name, c.Size, ErrForked)
			}
		}
		all = append(all, known{n, c})
	}
	slices.SortStableFunc(all, func(a, b known) int { return int(min(max(a.Size-b.Size, -1), 1)) })
	return all, nil
}

// pour writes the merged leaves, and holds the checkpoints on the way against them.
func (m *merger) pour(w io.Writer, all []*opened, checkpoints []known) error {
	edge, err := auditlog.ReadRange(int64(m.from), m.tx)
	if err != nil {
		return err
	}
	for index := m.from; index < m.taken.Size; index++ {
		var merged auditlog.Brought
		var by string
		for _, o := range all {
			if o.ended || o.index != index {
				continue
			}
			if merged.Leaf != nil && !bytes.Equal(merged.Leaf, o.one.Leaf) {
				return fmt.Errorf("entry %d of %s is not that of %s: %w", index, o.name, by, ErrForked)
			}
			merged.Leaf, by = o.one.Leaf, o.name
			if len(merged.Salted) == 0 {
				merged.Salted = o.one.Salted
			}
			if len(merged.Item) == 0 {
				merged.Item = o.one.Item
			}
			if err := o.next(); err != nil {
				return err
			}
		}
		if len(merged.Salted) > 0 {
			m.taken.Bodies++
		}
		if err := auditlog.WriteBrought(w, merged); err != nil {
			return err
		}
		edge.Append(auditlog.LeafHash(merged.Leaf))
		for _, c := range checkpoints {
			if c.Size == edge.Size() && c.Root != edge.Root() {
				return fmt.Errorf("%s: its checkpoint of %d entries is not that of the leaves that were brought: %w", c.Name, c.Size, ErrForked)
			}
		}
	}
	return nil
}
