package appliance

import (
	"errors"
	"fmt"
	"io"

	"coldseal/appliance/store"
	"coldseal/protocol/auditlog"
)

// A step is one durable move of law 7: leaves into ledger and log, the last of them naming the counter's next value; a
// checkpoint over them; then the counter. What was intended may be signed after the step, what was recorded released.

// recorder appends leaves within a step.
type recorder struct {
	tx       *store.Tx
	appender *auditlog.Appender
	size     uint64
	now      int64
	rand     io.Reader
}

// append logs a leaf with its body and returns where, and the salt.
func (r *recorder) append(leaf auditlog.Leaf, body []byte) (index uint64, salt []byte, err error) {
	leaf.Time = r.now
	var salted []byte
	if leaf.Kind != auditlog.Step {
		salted = make([]byte, store.SaltSize, store.SaltSize+len(body))
		if _, err := io.ReadFull(r.rand, salted); err != nil {
			return 0, nil, fmt.Errorf("draw salt: %w", err)
		}
		salt = salted[:store.SaltSize:store.SaltSize]
		leaf.Body = auditlog.BodyDigest([16]byte(salt), body)
		salted = append(salted, body...)
	}
	encoded, err := leaf.Encode()
	if err != nil {
		return 0, nil, err
	}
	first, hashes := r.appender.Append(encoded)
	index = r.size
	r.size++
	return index, salt, r.tx.PutLeaf(index, encoded, salted, first, hashes)
}

// step carries out f and makes it durable. Before the counter moves, stored is called (nil if there is nothing to
// store): a response has to be safe before the step that released it is past. If f logs nothing and nothing is to be
// stored, there is no step.
func (e *Engine) step(now int64, f func(*recorder) error, stored func() error) error {
	return e.stepTo(now, func(m *store.Meta) uint64 { return m.Counter + 1 }, f, stored)
}

// stepFrom is the step that ends a restore: the counter goes on from where the device's stands.
func (e *Engine) stepFrom(device uint64, now int64, f func(*recorder) error) error {
	return e.stepTo(now, func(*store.Meta) uint64 { return device + 1 }, f, nil)
}

func (e *Engine) stepTo(now int64, next func(*store.Meta) uint64, f func(*recorder) error, stored func() error) error {
	if err := e.ready(); err != nil {
		return err
	}
	var counter uint64
	nothing := errors.New("nothing happened")
	err := e.ledger.Update(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		edge, err := auditlog.NewRange(int64(m.Size), m.Edge)
		if err != nil {
			return fmt.Errorf("ledger: edge of the log: %w", err)
		}
		r := &recorder{tx: tx, appender: auditlog.NewAppender(edge), size: m.Size, now: now, rand: e.Rand}
		if err := f(r); err != nil {
			return err
		}
		if r.size == m.Size && stored == nil {
			return nothing // what has no leaf changed nothing
		}
		if m, err = tx.Meta(); err != nil { // f may have changed roster, policy or challenge
			return err
		}
		counter = next(&m)
		if _, _, err := r.append(auditlog.Leaf{Kind: auditlog.Step, Number: counter}, nil); err != nil {
			return err
		}
		edge = r.appender.Edge()
		m.Counter, m.Size, m.Edge, m.Clock = counter, r.size, edge.Hashes(), max(now, e.state.Clock)
		origin := auditlog.Origin(e.appliance)
		if m.Checkpoint, err = auditlog.SignCheckpoint(auditlog.CheckpointText(origin, edge.Size(), edge.Root()), origin, e.log); err != nil {
			return err
		}
		return tx.PutMeta(m)
	})
	if errors.Is(err, nothing) {
		return nil
	}
	if err != nil {
		return fault("write ledger", err)
	}
	e.state.Clock = max(now, e.state.Clock)
	if stored != nil {
		if err := stored(); err != nil {
			return fault("store response", err)
		}
	}
	if err := e.Signer.Advance(counter); err != nil {
		return fault("advance counter", err)
	}
	return nil
}

// serial draws the next serial: 16 bytes, positive; eight that ascend, so that the ledger stays in order, and eight
// random ones (more than the 64 bits of entropy that are asked for anywhere). It need not be free of gaps.
func (e *Engine) serial() ([]byte, error) {
	n := e.serials
	e.serials++
	serial := make([]byte, 16)
	for i := range 7 {
		serial[7-i] = byte(n >> (8 * i))
	}
	serial[0] = 0x40
	if _, err := io.ReadFull(e.Rand, serial[8:]); err != nil {
		return nil, fault("draw serial", err)
	}
	return serial, nil
}
