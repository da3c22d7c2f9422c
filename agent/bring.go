package agent

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// What an agent brings to an appliance that is restored from a backup: all leaves of the log that it has, and of its own
// requests what became of them, with the requests themselves. It is encrypted to the appliance and believed nothing: the
// checkpoint proves the leaves, these the results, and these the requests.

// Log is a log that was written to a medium.
type Log struct {
	Path   string // on the medium
	First  uint64 // index of the first leaf
	Size   uint64 // leaves, with those before the first
	Bodies uint64 // of those written, with their results
}

// ExportLog writes the log as it is known here, from an index on, to a medium.
func (s *Service) ExportLog(ctx context.Context, medium string, from uint64) (Log, error) {
	m, err := media.OpenMedium(medium)
	if err != nil {
		return Log{}, err
	}
	defer m.Close()
	l := Log{First: from}
	if l.Path, err = (media.Name{Kind: media.Leaves, Appliance: media.Tag(s.id), Agent: s.party.Name}).Path(); err != nil {
		return l, err
	}
	err = s.store.View(func(tx *store.Tx) error {
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		if meta.Size == 0 {
			return &Error{Kind: ErrNotFound, What: "this agent knows nothing of the log: no response was imported yet"}
		}
		if l.Size = meta.Size; from > meta.Size {
			return &Error{Kind: ErrInput, What: fmt.Sprintf("this agent knows %d entries of the log, none from %d on", meta.Size, from), Hint: "begin earlier, or leave --from out"}
		}
		answers, err := answersFrom(tx, meta, from)
		if err != nil {
			return err
		}
		l.Bodies = uint64(len(answers))
		return m.Write(l.Path, media.WriteOptions{Replace: true}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, s.keys.Now().Receiver)
			if err != nil {
				return err
			}
			buffer := bufio.NewWriterSize(sealed, 1<<16)
			if err := s.writeLog(ctx, tx, buffer, meta, from, answers); err != nil {
				return err
			}
			if err := buffer.Flush(); err != nil {
				return err
			}
			return sealed.Close()
		})
	})
	if err != nil {
		return l, err
	}
	return l, s.store.Update(func(tx *store.Tx) error {
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		if _, err := tx.AddLine(&meta, store.Line{Time: s.unix(), Code: "log-exported", Text: fmt.Sprintf("%d entries of the log to %s", l.Size-from, medium)}); err != nil {
			return err
		}
		return tx.PutMeta(meta)
	})
}

// answerAt is where the answer lies whose result a leaf records: by the number of its request, or if that is not known here
// by its place in the response.
type answerAt struct {
	leaf, imported, number, place uint64
}

// answersFrom finds the answers that the log records from an index on, by leaf. It keeps 32 bytes of each.
func answersFrom(tx *store.Tx, meta store.Meta, from uint64) (all []answerAt, err error) {
	for i := range meta.Imports {
		err := tx.EachResult(i+1, func(n uint64, r store.Result) error {
			answer, _, err := protocol.ParseAnswer(r.Answer)
			if err != nil {
				return fmt.Errorf("stored answer to request %d: %w", n, err)
			}
			if len(answer.Salt) == 0 || answer.Index < from || answer.Index >= meta.Size {
				return nil
			}
			all = append(all, answerAt{answer.Index, i + 1, n, r.Place})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b answerAt) int { return cmp.Compare(a.leaf, b.leaf) })
	return slices.CompactFunc(all, func(a, b answerAt) bool { return a.leaf == b.leaf }), nil
}

func (s *Service) writeLog(ctx context.Context, tx *store.Tx, w io.Writer, meta store.Meta, from uint64, answers []answerAt) error {
	err := auditlog.WriteBroughtHeader(w, auditlog.BroughtHeader{Appliance: s.id, From: s.party.Name, First: from, Checkpoint: tx.Checkpoint(), Handovers: meta.Handovers})
	if err != nil || from == meta.Size {
		return err
	}
	return tx.EachLeaf(from, func(index uint64, leaf []byte) error {
		if index >= meta.Size {
			return nil // staged by an import that was interrupted
		}
		one := auditlog.Brought{Leaf: leaf}
		if len(answers) > 0 && answers[0].leaf == index {
			if err := answers[0].fill(tx, &one); err != nil {
				return err
			}
			answers = answers[1:]
		}
		if index%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return auditlog.WriteBrought(w, one)
	})
}

// fill adds what became of a request, and the request.
func (a *answerAt) fill(tx *store.Tx, one *auditlog.Brought) error {
	r, found := tx.Unasked(a.imported, a.place)
	if a.number != 0 {
		item, err := tx.Item(a.number)
		if err != nil {
			return err
		}
		one.Item = item
		r, found = tx.Result(a.imported, a.number)
	}
	if !found {
		return fmt.Errorf("the answer that leaf %d records is missing", a.leaf)
	}
	answer, _, err := protocol.ParseAnswer(r.Answer)
	if err != nil {
		return err
	}
	one.Salted = append(answer.Salt, answer.Body...)
	return nil
}
