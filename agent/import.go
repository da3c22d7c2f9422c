package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// Imported tells what became of one response on the medium.
type Imported struct {
	Path     string            // on the medium
	Number   uint64            // of the import; results are found by it
	Sequence uint64            // of the bundle it answers
	Refusal  *protocol.Refusal // of that bundle as a whole
	Already  bool              // it was imported before
	Gap      bool              // the leaves before it are not known here; the next bundle asks for them
	Results  uint64
	Refused  uint64
	Known    uint64   // results that an earlier import brought; they are not among the results of this one
	Missing  []uint64 // lower numbers than this one's that the appliance has not seen
	Unknown  uint64   // results of requests that are not known here
	Silent   uint64   // requests of the bundle that were not answered
	Leaves   uint64   // that were new
	CRLs     uint64   // that were new
}

// Import verifies and imports all responses to this agent that a medium holds. Each is imported whole or not at all, and
// importing it again changes nothing. What can be imported is; the error is about the others.
func (s *Service) Import(ctx context.Context, medium string, progress func(done, all uint64)) ([]Imported, error) {
	m, err := media.OpenMedium(medium)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	paths, err := s.responses(m)
	if err != nil {
		return nil, err
	}
	var all []Imported
	var errs []error
	for _, p := range paths {
		one, err := s.importFile(ctx, m, p, progress)
		if err != nil {
			errs = append(errs, fmt.Errorf("import %s: %w", p, err))
			continue
		}
		all = append(all, one)
	}
	return all, errors.Join(errs...)
}

// responses lists the names of responses to this agent, by number of the bundle.
func (s *Service) responses(m *media.Medium) ([]string, error) {
	name := media.Name{Kind: media.Response, Appliance: media.Tag(s.id), Agent: s.party.Name}
	dir, err := name.Dir()
	if err != nil {
		return nil, err
	}
	files, err := m.List(dir)
	if err != nil {
		return nil, err
	}
	var found []media.Name
	for _, f := range files {
		if n, err := media.ParseName(path.Join(dir, f)); err == nil && n.Kind == media.Response {
			found = append(found, n)
		}
	}
	if len(found) == 0 {
		return nil, &Error{
			Kind: ErrNotFound, What: fmt.Sprintf("there is no response to %s on this medium", s.party.Name),
			Hint: "bring the medium to the appliance first, or look whether it is the right one",
		}
	}
	slices.SortFunc(found, func(a, b media.Name) int { return cmp.Compare(a.Sequence, b.Sequence) })
	paths := make([]string, len(found))
	for i, n := range found {
		if paths[i], err = n.Path(); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// importFile spools, decrypts and imports one response.
func (s *Service) importFile(ctx context.Context, m *media.Medium, path string, progress func(done, all uint64)) (Imported, error) {
	spool, err := s.spool()
	if err != nil {
		return Imported{}, err
	}
	sealed, err := spool.Take(m, path, media.MaxBundleBytes)
	if err != nil {
		return Imported{}, err
	}
	defer sealed.Close()
	private, err := s.receiverKey()
	if err != nil {
		return Imported{}, err
	}
	key, err := media.NewSoftwareKey(private)
	if err != nil {
		return Imported{}, err
	}
	plain, err := spool.Decrypt(ctx, sealed, key)
	switch {
	case errors.Is(err, media.ErrReceiver):
		return Imported{}, &Error{Kind: ErrFailed, What: "the response is for another agent", Hint: "carry it to that agent", Err: err}
	case errors.Is(err, media.ErrSealed):
		return Imported{}, &Error{Kind: ErrVerification, What: "the response is damaged", Hint: "have the appliance write it again: export --again and process once more", Err: err}
	case err != nil:
		return Imported{}, err
	}
	defer plain.Close()
	one, err := s.importResponse(ctx, plain, progress)
	one.Path = path
	return one, err
}

func (s *Service) importResponse(ctx context.Context, plain *media.File, progress func(done, all uint64)) (Imported, error) {
	response, refusal, err := protocol.OpenResponse(plain, s.keys, s.party.Name)
	if err != nil {
		return Imported{}, err
	}
	if refusal != nil {
		e := &Error{Kind: ErrVerification, What: refusal.Words(), Hint: refusal.Hint(), Err: &RefusalError{refusal}}
		if refusal.Code == protocol.CodeNotForAgent || refusal.Code == protocol.CodeWrongAppliance {
			e.Kind = ErrFailed // not forged, only misled
		}
		return Imported{}, e
	}
	in := &incoming{s: s, plain: plain, response: response, header: response.Header, progress: progress}
	already, err := in.prepare()
	if err != nil || already {
		return in.done, err
	}
	if err := in.verify(ctx); err != nil {
		return in.done, err
	}
	if err := in.commit(); err != nil {
		return in.done, err
	}
	s.keys = response.Keys
	return in.done, nil
}

// commit makes what was staged count, in one transaction.
func (in *incoming) commit() error {
	h := &in.header
	var spent bool // the bundle's file is not needed any more
	err := in.s.store.Update(func(tx *store.Tx) error {
		m := in.meta
		text := fmt.Sprintf("response to bundle %d: %d answers, %d refused", h.Answers, in.done.Results, in.done.Refused)
		if h.Refusal != nil {
			text = fmt.Sprintf("response to bundle %d, which was refused: %s", h.Answers, h.Refusal.Words())
		}
		line, err := tx.AddLine(&m, store.Line{Time: in.now, Code: "imported", Text: text})
		if err != nil {
			return err
		}
		m.Imports++
		m.Last, m.Handovers = max(m.Last, h.Last), in.response.Keys.Handovers()
		size := uint64(in.checkpoint.Size)
		if size >= m.StateSize {
			if err := tx.PutState(h.State); err != nil {
				return err
			}
			m.StateSize = size
		}
		if in.extends {
			m.Size, m.Root, m.Time = size, protocol.Digest(in.checkpoint.Root), h.Created
			m.Restored = max(m.Restored, in.restored)
			if err := tx.PutCheckpoint(h.Checkpoint); err != nil {
				return err
			}
		}
		for issuer, crl := range in.crls {
			if err := tx.PutCRL(issuer, crl); err != nil {
				return err
			}
		}
		for key, approver := range in.approvers {
			if err := tx.PutApprover(key, approver); err != nil {
				return err
			}
		}
		if spent, err = in.settle(tx, &m); err != nil {
			return err
		}
		err = tx.PutImport(m.Imports, store.Import{
			Response: in.digest, Answers: h.Answers, Bundle: h.Bundle, Created: h.Created, Results: in.done.Results, Unknown: in.done.Unknown,
			Size: size, Last: h.Last, Pending: h.Pending, Refusal: h.Refusal, Line: line,
		})
		if err != nil {
			return err
		}
		return tx.PutMeta(m)
	})
	if err != nil || !spent {
		return err
	}
	if err := os.Remove(in.s.bundleFile(h.Answers)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove bundle %d, which was answered: %w", h.Answers, err)
	}
	return nil
}

// settle closes the bundle that was answered, and what it acknowledged.
func (in *incoming) settle(tx *store.Tx, m *store.Meta) (spent bool, err error) {
	h := &in.header
	if in.own {
		b := in.bundle
		b.Imports = append(b.Imports, m.Imports)
		b.Answered, b.Refusal = true, h.Refusal
		if err := tx.PutBundle(h.Answers, b); err != nil {
			return false, err
		}
		m.Acks = slices.DeleteFunc(m.Acks, func(n uint64) bool { return slices.Contains(b.Acks, n) })
	}
	if h.Refusal != nil { // the appliance keeps no response under this number, or the one to another bundle
		return in.own && !h.Refusal.Open(), nil
	}
	if !slices.Contains(m.Acks, h.Answers) {
		m.Acks = append(m.Acks, h.Answers)
		slices.Sort(m.Acks)
	}
	return in.own, nil
}

// headerDigest names a response: a header binds all that follows it.
func headerDigest(h protocol.ResponseHeader) (protocol.Digest, error) {
	data, err := cose.Marshal(h)
	return protocol.DigestOf(data), err
}
