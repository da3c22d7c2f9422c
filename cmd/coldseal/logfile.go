package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// An exported log (coldseal-appliance log export; log.md) is a CBOR sequence of byte strings: the newest checkpoint, then
// for each leaf from 0 on the leaf and its salted body, salt ‖ body, which is empty where there is none or it was erased.

const saltSize = 16

var errOtherGenesis = errors.New("it does not begin with the genesis of the digest that was typed")

// entry is one leaf of an exported log with what lies beside it.
type entry struct {
	index uint64
	raw   []byte
	leaf  auditlog.Leaf
	salt  [saltSize]byte
	body  []byte // nil where it was erased or there is none
}

// replay goes through an exported log. Nothing that it says is to be believed before run returned nil: that the leaves
// are those under the signed checkpoint shows at the end.
type replay struct {
	typed   protocol.Digest // genesis digest
	genesis []byte          // of leaf 0; given beforehand where its body was erased
	tell    *cli.Progress   // may be nil
	notes   [][]byte        // older checkpoints that the log has to continue; those that it was not seen to yet

	note       []byte
	checkpoint auditlog.Checkpoint // once the whole log was read
	state      *auditlog.State
	edge       auditlog.Range
	counts     map[auditlog.Kind]uint64
	erased     uint64
	lost       []uint64 // orders without a body, until a restore says that they were lost
	forgot     bool     // there was such an order
	counter    uint64
	last       auditlog.Kind
}

// run verifies the whole log and calls each for every leaf in its order, before an order takes effect. Memory is bounded
// by one leaf and what orders fold to.
func (r *replay) run(in io.Reader, each func(*replay, *entry) error) error {
	b := bufio.NewReaderSize(in, 1<<16)
	r.counts = map[auditlog.Kind]uint64{}
	var err error
	if r.note, err = protocol.ReadString(b, auditlog.MaxCheckpoint); err != nil {
		return fmt.Errorf("read checkpoint: %w", cutShort(err))
	}
	for index := uint64(0); ; index++ {
		e, err := r.next(b, index)
		if err == io.EOF {
			break
		}
		if err == nil {
			err = r.take(e, each)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
	}
	return r.finish()
}

func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next reads a leaf, and holds its body against the digest in it.
func (r *replay) next(b *bufio.Reader, index uint64) (*entry, error) {
	e := &entry{index: index}
	var err error
	if e.raw, err = protocol.ReadString(b, protocol.MaxLeaf); err != nil {
		return nil, err
	}
	if e.leaf, err = auditlog.ParseLeaf(e.raw); err != nil {
		return nil, err
	}
	if (e.leaf.Kind == auditlog.Genesis) != (index == 0) {
		return nil, fmt.Errorf("a %s leaf has no place here", e.leaf.Kind)
	}
	salted, err := protocol.ReadString(b, auditlog.MaxBody)
	if err != nil {
		return nil, fmt.Errorf("read body: %w", cutShort(err))
	}
	switch {
	case e.leaf.Kind == auditlog.Step && len(salted) > 0:
		return nil, errors.New("a step has no body")
	case len(salted) == 0:
		return e, nil
	case len(salted) < saltSize:
		return nil, fmt.Errorf("salted body of %d bytes, at least %d", len(salted), saltSize)
	}
	e.salt, e.body = [saltSize]byte(salted), salted[saltSize:]
	if auditlog.BodyDigest(e.salt, e.body) != e.leaf.Body {
		return nil, errors.New("the body is not the one that was logged")
	}
	return e, nil
}

func (r *replay) take(e *entry, each func(*replay, *entry) error) error {
	if e.index == 0 {
		if err := r.begin(e); err != nil {
			return err
		}
	}
	switch {
	case e.leaf.Kind == auditlog.Step:
		if e.leaf.Number <= r.counter {
			return fmt.Errorf("the counter goes from %d to %d", r.counter, e.leaf.Number)
		}
		r.counter = e.leaf.Number
	case e.body == nil:
		r.erased++
	}
	if each != nil {
		if err := each(r, e); err != nil {
			return err
		}
	}
	if err := r.apply(e); err != nil {
		return err
	}
	r.edge.Append(auditlog.LeafHash(e.raw))
	if err := r.meet(); err != nil {
		return err
	}
	r.counts[e.leaf.Kind]++
	r.last = e.leaf.Kind
	if r.tell != nil {
		r.tell.At(e.index + 1)
	}
	return nil
}

// apply folds a leaf. An order whose body is gone can't be decided again; that is no fault if a restore says that it was
// lost, and officers agreed to that.
func (r *replay) apply(e *entry) error {
	if e.body == nil {
		if e.leaf.Kind == auditlog.Order {
			r.lost, r.forgot = append(r.lost, e.index), true
		}
		if e.leaf.Kind == auditlog.Restored {
			r.counter = e.leaf.Number
		}
		r.state.Bare(e.leaf)
		return nil
	}
	if err := r.state.Apply(e.index, e.leaf, e.body); err != nil || e.leaf.Kind != auditlog.Restored {
		return err
	}
	var o auditlog.OrderBody
	if err := cose.Unmarshal(e.body, &o); err != nil {
		return err
	}
	req, refusal := protocol.ParseRequest(o.Request)
	if refusal != nil {
		return errors.New(refusal.Words())
	}
	c, refusal := req.Restoration()
	if refusal != nil {
		return errors.New(refusal.Words())
	}
	if c.Size != e.index || c.Root != protocol.Digest(r.edge.Root()) {
		return errors.New("the restore is not about the entries before it")
	}
	lost := uint64(len(r.lost))
	r.lost = slices.DeleteFunc(r.lost, func(index uint64) bool { return index >= c.From })
	if lost-uint64(len(r.lost)) > c.Lost {
		return fmt.Errorf("the restore says that %d orders were lost, %d are", c.Lost, lost-uint64(len(r.lost)))
	}
	r.counter = e.leaf.Number
	return nil
}

// meet holds the tree as far as it was read against the older checkpoints over so many entries. The orders among these tell
// which log key signed them.
func (r *replay) meet() error {
	var failed error
	r.notes = slices.DeleteFunc(r.notes, func(note []byte) bool {
		if auditlog.ClaimedSize(note) != uint64(r.edge.Size()) || failed != nil {
			return false
		}
		var c auditlog.Checkpoint
		if c, failed = auditlog.OpenCheckpoint(note, r.state.Own); failed == nil && c.Root != r.edge.Root() {
			failed = fmt.Errorf("the first %d entries are not those of the older checkpoint: the log was written anew", c.Size)
		}
		return true
	})
	if failed != nil {
		return fmt.Errorf("older checkpoint: %w", failed)
	}
	return nil
}

// begin opens the genesis.
func (r *replay) begin(e *entry) (err error) {
	if e.body != nil {
		r.genesis = e.body
	}
	if r.genesis == nil {
		return errors.New("the genesis was erased from the log: give it with --genesis or --introduction")
	}
	if digest := protocol.DigestOf(r.genesis); digest != r.typed {
		return fmt.Errorf("%w: genesis digest is %s, typed was %s", errOtherGenesis, digest, r.typed)
	}
	if r.state, err = auditlog.NewState(r.genesis, r.typed); err != nil {
		return err
	}
	return r.meet()
}

// finish verifies the checkpoint, with the log key to which the orders in the log lead.
func (r *replay) finish() (err error) {
	if r.state == nil {
		return errors.New("the log is empty")
	}
	if r.checkpoint, err = auditlog.OpenCheckpoint(r.note, r.state.Own); err != nil {
		if len(r.lost) > 0 {
			return r.erasedOrder() // which may have replaced the log key
		}
		return err
	}
	var longer uint64
	for _, note := range r.notes {
		c, err := auditlog.OpenCheckpoint(note, r.state.Own)
		if err != nil {
			return fmt.Errorf("older checkpoint: %w", err)
		}
		longer = max(longer, uint64(c.Size))
	}
	switch {
	case r.edge.Size() != r.checkpoint.Size:
		return fmt.Errorf("the log has %d entries, its checkpoint is over %d", r.edge.Size(), r.checkpoint.Size)
	case r.edge.Root() != r.checkpoint.Root:
		return errors.New("the entries are not those that the checkpoint is over: an entry was altered, taken out or put in")
	case longer > 0:
		return fmt.Errorf("an older checkpoint is over %d entries, the log has %d: it was cut short, or a copy was put back", longer, r.edge.Size())
	case len(r.lost) > 0:
		return r.erasedOrder()
	case r.last != auditlog.Step:
		return fmt.Errorf("the last entry is a %s, not a step", r.last)
	}
	if r.tell != nil {
		r.tell.Done(uint64(r.edge.Size()))
	}
	return nil
}

func (r *replay) erasedOrder() error {
	return fmt.Errorf("entry %d: the body of an order was erased: it can't be decided again", r.lost[0])
}
