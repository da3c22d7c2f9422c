package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// leafReader proves the leaves of a response while the answers are verified, stages those that are new, and finds leaves
// for those who verify answers. They wait until it has come so far.
type leafReader struct {
	in    *incoming
	first uint64 // index of the first leaf in the response

	mu     sync.Mutex
	more   sync.Cond
	marks  []int64 // offset in the spool of every leafStride-th leaf
	read   uint64  // leaves read
	failed error
}

// leafStride is how many leaves are between two marks: what is looked for is found in one small read.
const leafStride = 8

func newLeafReader(in *incoming) *leafReader {
	l := &leafReader{in: in, first: in.header.FirstLeaf}
	l.more.L = &l.mu
	return l
}

func (l *leafReader) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.fail(ctx.Err()) })
	defer stop()
	err := l.prove()
	if err != nil {
		l.fail(err)
	}
	return err
}

func (l *leafReader) fail(err error) {
	l.mu.Lock()
	if l.failed == nil {
		l.failed = err
	}
	l.mu.Unlock()
	l.more.Broadcast()
}

// start gives the tree that the leaves continue: this agent's own, as far as it reaches.
func (l *leafReader) start(tx *store.Tx) (*auditlog.Extension, auditlog.Checkpoint, error) {
	h := &l.in.header
	from := auditlog.Checkpoint{Origin: l.in.checkpoint.Origin, Size: int64(h.FirstLeaf)}
	if h.FirstLeaf > auditlog.MaxSize {
		return nil, from, lie("leaves from %d on: there are no so large logs", h.FirstLeaf)
	}
	var edge auditlog.Range
	var err error
	if h.FirstLeaf <= l.in.meta.Size {
		edge, err = auditlog.ReadRange(from.Size, tx)
	} else if l.in.own {
		return nil, from, lie("the response begins at leaf %d, this agent knows %d", h.FirstLeaf, l.in.meta.Size)
	} else {
		// A later copy of this agent knew more. That the leaves continue what is known here is proved by the answer to
		// the next bundle; until then the log known here stays as it is.
		l.in.done.Gap = true
		if edge, err = auditlog.NewRange(from.Size, h.Range); err != nil {
			return nil, from, lie("the range proof cannot be used: %v", err)
		}
	}
	if err != nil {
		return nil, from, err
	}
	from.Root = edge.Root()
	extension, err := auditlog.NewExtension(from, h.Range)
	if err != nil {
		return nil, from, lie("the log was forked before leaf %d: %v", h.FirstLeaf, err)
	}
	return extension, from, nil
}

// prove reads all leaves. When it returns nil, they and the tree known here make the tree of the checkpoint.
func (l *leafReader) prove() error {
	in, h := l.in, &l.in.header
	var extension *auditlog.Extension
	var from auditlog.Checkpoint
	var atEnd auditlog.Range // this agent's own tree at the size of an older checkpoint
	err := in.s.store.View(func(tx *store.Tx) (err error) {
		if extension, from, err = l.start(tx); err == nil && in.checkpoint.Size <= int64(in.meta.Size) {
			atEnd, err = auditlog.ReadRange(in.checkpoint.Size, tx)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := auditlog.CheckConsistency(h.Consistency, from, in.checkpoint); err != nil {
		return lie("the checkpoint does not continue the log known here: %v", err)
	}
	r := bufio.NewReaderSize(in.plain.Reader(), 1<<16)
	offset, err := skip(r, 2+h.Results) // the handovers, the header and the answers
	if err != nil {
		return lie("the response cannot be read: %v", err)
	}
	st := newStager(in)
	for i := range h.Leaves {
		data, err := protocol.ReadString(r, protocol.MaxLeaf)
		if err != nil {
			return lie("leaf %d cannot be read: %v", h.FirstLeaf+i, err)
		}
		if h.FirstLeaf+i == in.meta.Size && protocol.Digest(extension.Edge().Root()) != in.meta.Root {
			return lie("the log was forked: the first %d leaves are not those known here", in.meta.Size)
		}
		leaf, err := extension.Append(data)
		if err != nil {
			return lie("%v", err)
		}
		if leaf.Kind == auditlog.Restored {
			in.restored = leaf.Time
		}
		if err := st.add(h.FirstLeaf+i, data); err != nil {
			return err
		}
		l.advance(offset)
		offset += stringSize(len(data))
	}
	if err := extension.Done(in.checkpoint); err != nil {
		return lie("the leaves are not those of the checkpoint: %v", err)
	}
	switch {
	case in.done.Gap:
	case in.checkpoint.Size <= int64(in.meta.Size):
		if atEnd.Root() != in.checkpoint.Root {
			return lie("the log was forked: at size %d it is not the one known here", in.checkpoint.Size)
		}
	default:
		in.extends = true
		in.done.Leaves = uint64(in.checkpoint.Size) - in.meta.Size
	}
	return st.flush()
}

// skip reads over n byte strings and returns how many bytes they take. It doesn't judge them: whoever hands them out does.
func skip(r *bufio.Reader, n uint64) (bytes int64, err error) {
	for range n {
		head, err := r.Peek(5)
		if len(head) == 0 {
			return bytes, err
		}
		whole, err := r.Discard(headed(head))
		bytes += int64(whole)
		if err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// stringSize is what a CBOR byte string takes in its shortest form.
func stringSize(n int) int64 {
	switch {
	case n < 24:
		return int64(n) + 1
	case n < 1<<8:
		return int64(n) + 2
	case n < 1<<16:
		return int64(n) + 3
	}
	return int64(n) + 5
}

func (l *leafReader) advance(offset int64) {
	l.mu.Lock()
	if l.read%leafStride == 0 {
		l.marks = append(l.marks, offset)
	}
	l.read++
	wake := l.read%1024 == 0 || l.read == l.in.header.Leaves
	l.mu.Unlock()
	if wake {
		l.more.Broadcast()
	}
}

// leaf finds the leaf with an index, in the response or among those known before; nil is one before a gap, of which
// nothing can be said.
func (l *leafReader) leaf(tx *store.Tx, index uint64) ([]byte, error) {
	h := &l.in.header
	switch {
	case index < l.in.meta.Size:
		return tx.Leaf(index)
	case index < h.FirstLeaf && l.in.own:
		return nil, lie("leaf %d is neither known here nor in the response", index)
	case index < h.FirstLeaf:
		return nil, nil
	case index-h.FirstLeaf >= h.Leaves:
		return nil, lie("leaf %d is not in the response, which ends before %d", index, h.FirstLeaf+h.Leaves)
	}
	i := index - h.FirstLeaf
	l.mu.Lock()
	for l.read <= i && l.failed == nil {
		l.more.Wait()
	}
	err := l.failed
	var at int64
	if err == nil {
		at = l.marks[i/leafStride]
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var buffer [leafStride * (protocol.MaxLeaf + 3)]byte
	n, err := l.in.plain.ReadAt(buffer[:], at)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read spooled leaf: %w", err)
	}
	rest := buffer[:n]
	for range i % leafStride {
		rest = rest[min(headed(rest), len(rest)):]
	}
	size := headed(rest)
	if size > len(rest) {
		return nil, fmt.Errorf("read spooled leaf %d: it is cut", index)
	}
	head := 1
	if rest[0]&31 >= 24 {
		head += 1 << (rest[0]&31 - 24)
	}
	return bytes.Clone(rest[head:size]), nil
}

// headed is the size of the byte string at the beginning of data.
func headed(data []byte) int {
	if len(data) == 0 {
		return 1 // cut
	}
	if data[0]&31 < 24 {
		return 1 + int(data[0]&31)
	}
	width := 1 << (data[0]&31 - 24)
	if len(data) <= width || width > 4 {
		return len(data) + 1 // cut
	}
	size := 0
	for _, b := range data[1 : 1+width] {
		size = size<<8 | int(b)
	}
	return 1 + width + size
}

// stager writes leaves that are new here, and the hashes of their tree.
type stager struct {
	in       *incoming
	appender *auditlog.Appender
	chunks   []chunk
	next     uint64 // index that is to be staged next
}

type chunk struct {
	first, firstHash uint64
	count            int
	leaves           bytes.Buffer
	hashes           bytes.Buffer
}

// stageChunks is how many chunks of leaves one transaction writes.
const stageChunks = 8

func newStager(in *incoming) *stager { return &stager{in: in, next: in.meta.Size} }

// add stages the leaf unless it is known here, or there is a gap before it.
func (s *stager) add(index uint64, leaf []byte) error {
	if index != s.next || s.in.done.Gap {
		return nil
	}
	s.next++
	if s.appender == nil {
		err := s.in.s.store.View(func(tx *store.Tx) error {
			edge, err := auditlog.ReadRange(int64(index), tx)
			s.appender = auditlog.NewAppender(edge)
			return err
		})
		if err != nil {
			return err
		}
	}
	first, hashes := s.appender.Append(leaf)
	if len(s.chunks) == 0 || s.chunks[len(s.chunks)-1].count == store.ChunkLeaves {
		if len(s.chunks) == stageChunks {
			if err := s.flush(); err != nil {
				return err
			}
		}
		s.chunks = append(s.chunks, chunk{first: index, firstHash: uint64(first)})
	}
	c := &s.chunks[len(s.chunks)-1]
	c.count++
	for _, h := range hashes {
		c.hashes.Write(h[:])
	}
	return protocol.WriteString(&c.leaves, leaf)
}

func (s *stager) flush() error {
	if len(s.chunks) == 0 {
		return nil
	}
	err := s.in.s.store.Update(func(tx *store.Tx) error {
		for i := range s.chunks {
			c := &s.chunks[i]
			if err := tx.StageLeaves(c.first, c.leaves.Bytes()); err != nil {
				return err
			}
			if err := tx.StageHashes(c.firstHash, c.hashes.Bytes()); err != nil {
				return err
			}
		}
		return nil
	})
	s.chunks = s.chunks[:0]
	return err
}
