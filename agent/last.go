package agent

import (
	"fmt"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// lasts finds the certificates that approvers compare requests with, and proves them out of the log that was imported.
type lasts struct {
	v          *view
	note       []byte
	checkpoint auditlog.Checkpoint
	bySubject  map[string]uint64 // number of the request that was answered last with a certificate
}

func (v *view) lasts() (*lasts, error) {
	l := &lasts{v: v, note: v.tx.Checkpoint()}
	if l.note == nil {
		return l, nil // nothing was imported yet
	}
	var err error
	l.checkpoint, err = auditlog.OpenCheckpoint(l.note, v.s.keys)
	return l, err
}

func subjectKey(r store.Request) string { return r.Profile + "\x00" + r.Body + "\x00" + r.Subject }

// find gathers the newest certificate of each profile, body and subject.
func (l *lasts) find() error {
	if l.bySubject != nil {
		return nil
	}
	l.bySubject = map[string]uint64{}
	newest := map[string]uint64{} // log index
	return l.v.tx.EachRequest(1, func(n uint64, r store.Request) error {
		if r.Kind != protocol.KindIssue && r.Kind != protocol.KindRenew {
			return nil
		}
		o, answer, found, err := l.v.answer(n)
		if err != nil || !found || o.result.Outcome != protocol.OutcomeIssued {
			return err
		}
		if key := subjectKey(r); answer.Index >= newest[key] {
			newest[key], l.bySubject[key] = answer.Index, n
		}
		return nil
	})
}

// of gives the proof of the certificate that the request names, or of the last one for its profile, body and subject;
// nil if there is none here.
func (l *lasts) of(n uint64, r store.Request) ([]byte, error) {
	if l.note == nil || r.Kind.IsOrder() || r.Kind == protocol.KindWithdraw {
		return nil, nil
	}
	if r.Kind == protocol.KindIssue {
		if err := l.find(); err != nil {
			return nil, err
		}
		issued, found := l.bySubject[subjectKey(r)]
		if !found || issued == n {
			return nil, nil
		}
		return l.prove(issued)
	}
	req, err := l.v.request(n)
	if err != nil {
		return nil, err
	}
	issuer, serial := req.About()
	o, found, err := l.v.certificate(issuer, serial)
	if err != nil || !found {
		return nil, err
	}
	return l.prove(o.number)
}

// prove makes the inclusion proof of the certificate that answers a request; nil if the log here does not reach so far.
func (l *lasts) prove(n uint64) ([]byte, error) {
	_, answer, found, err := l.v.answer(n)
	if err != nil || !found || int64(answer.Index) >= l.checkpoint.Size || l.checkpoint.Size > int64(l.v.meta.Size) {
		return nil, err
	}
	p := auditlog.InclusionProof{
		Index: answer.Index, Checkpoint: l.note, Genesis: l.v.meta.Genesis, Handovers: l.v.meta.Handovers,
		Salted: append(append([]byte(nil), answer.Salt...), answer.Body...),
	}
	if p.Leaf, err = l.v.tx.Leaf(answer.Index); err != nil {
		return nil, err
	}
	if p.Proof, err = auditlog.ProveInclusion(l.checkpoint.Size, int64(answer.Index), l.v.tx); err != nil {
		return nil, fmt.Errorf("prove certificate of request %d: %w", n, err)
	}
	return p.Encode()
}

// Last gives the inclusion proof of the certificate that a request renews or takes away, or else of the last one for its
// profile, body and subject: a file for those who approve (log.md).
func (s *Service) Last(id protocol.Digest) (proof []byte, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		n, r, err := requestOf(tx, id)
		if err != nil {
			return err
		}
		l, err := v.lasts()
		if err != nil {
			return err
		}
		if proof, err = l.of(n, r); err == nil && proof == nil {
			err = &Error{Kind: ErrNotFound, What: "no certificate for this subject was imported before"}
		}
		return err
	})
	return proof, err
}
