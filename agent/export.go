package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// An export is done in steps, each of which can be done again: fix what is in the bundle and take its number; note it
// with the requests; make the file in the state directory; write it to the medium. Whatever interrupts it, the next
// export begins where this one stopped, with the same number and the same bytes.

// Choice says what goes into a bundle.
type Choice struct {
	IDs        []protocol.Digest // only these, whatever their approvals; none is all that are ready
	Incomplete bool              // those whose approvals do not seem to be enough as well
	Empty      bool              // an empty bundle if nothing is ready: it acknowledges, and asks what is new
	Replace    bool              // of a different file of the same name on the medium
}

// Exported is a bundle that a medium holds.
type Exported struct {
	Sequence uint64
	Items    uint64
	Digest   protocol.Digest // SHA-256 of the plaintext
	Path     string          // on the medium
	Resumed  bool            // begun by an earlier command
	Waiting  uint64          // requests that stay behind for want of approvals
}

// bundleLifetime is how long a bundle may travel, in seconds.
const bundleLifetime = 30 * day

// batch is how many requests are changed in one transaction.
const batch = 1024

// Export makes the next bundle, or finishes one that was interrupted, and writes it to a medium.
func (s *Service) Export(ctx context.Context, medium string, c Choice) (Exported, error) {
	m, err := media.OpenMedium(medium)
	if err != nil {
		return Exported{}, err
	}
	defer m.Close()
	var e Exported
	err = s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		if e.Sequence = v.unfinished(); e.Sequence != 0 {
			e.Resumed = true
			return nil
		}
		if err := v.reserve(&e, c); err != nil {
			return err
		}
		return tx.PutMeta(v.meta)
	})
	if err != nil {
		return e, err
	}
	if err := s.complete(ctx, e.Sequence); err != nil {
		return e, err
	}
	return e, s.deliver(m, medium, &e, c.Replace)
}

// ExportAgain writes a bundle that was made before, byte for byte, to a medium: the other one was lost.
func (s *Service) ExportAgain(ctx context.Context, medium string, sequence uint64, replace bool) (Exported, error) {
	m, err := media.OpenMedium(medium)
	if err != nil {
		return Exported{}, err
	}
	defer m.Close()
	e := Exported{Sequence: sequence}
	if err := s.complete(ctx, sequence); err != nil {
		return e, err
	}
	return e, s.deliver(m, medium, &e, replace)
}

// unfinished finds the bundle whose export was interrupted; there is at most one.
func (v *view) unfinished() uint64 {
	for sequence, b := range v.bundles {
		if len(b.Media) == 0 && !b.Answered {
			return sequence
		}
	}
	return 0
}

// reserve fixes what is in the next bundle.
func (v *view) reserve(e *Exported, c Choice) error {
	candidates, err := v.choose(e, c)
	if err != nil {
		return err
	}
	if len(candidates) == 0 && !c.Empty {
		return v.nothing(e)
	}
	if v.meta.Last >= media.MaxSequence {
		return fmt.Errorf("number %d was the last one a file name has room for", v.meta.Last)
	}
	sequence := v.meta.Last + 1
	groups, err := v.group(sequence, candidates)
	if err != nil {
		return err
	}
	b := store.Bundle{
		Created: v.now, Expires: v.now + bundleLifetime, Items: uint64(len(candidates)), Groups: groups,
		Acks: slices.Clone(v.meta.Acks[:min(len(v.meta.Acks), protocol.MaxAcknowledged)]), KnownSize: v.meta.Size,
	}
	if b.KnownSize != 0 {
		b.KnownRoot = v.meta.Root
	}
	v.meta.Last = sequence
	e.Sequence = sequence
	return v.tx.PutBundle(sequence, b)
}

func (v *view) nothing(e *Exported) error {
	if e.Waiting > 0 {
		return &Error{
			Kind: ErrApprovals, What: fmt.Sprintf("nothing is ready: %d requests wait for approvals", e.Waiting),
			Hint: "coldseal-agent status says whose; --incomplete sends them as they are",
		}
	}
	hint := "make requests first"
	for sequence, b := range v.bundles {
		if !b.Answered {
			hint = fmt.Sprintf("bundle %d waits for its response; export --again %d writes it once more", sequence, sequence)
		}
	}
	return &Error{Kind: ErrNotFound, What: "there is nothing to export", Hint: hint}
}

// candidate is a request that goes into the bundle. Approvals are shared between those that have the same.
type candidate struct {
	number    uint64
	section   protocol.Section
	approvals []uint64
	size      int
}

func (v *view) choose(e *Exported, c Choice) ([]candidate, error) {
	var chosen []candidate
	shared := map[string][]uint64{}
	add := func(n uint64, r store.Request) error {
		approvals, err := v.travelling(r.Covers)
		if err != nil {
			return err
		}
		key := fmt.Sprint(approvals)
		if _, found := shared[key]; !found {
			shared[key] = approvals
		}
		chosen = append(chosen, candidate{n, protocol.SectionOf(r.Kind), shared[key], int(r.Size)})
		return nil
	}
	if len(c.IDs) > 0 {
		for _, id := range c.IDs {
			n, r, err := requestOf(v.tx, id)
			if err != nil {
				return nil, err
			}
			st, err := v.standing(n, r)
			if err != nil {
				return nil, err
			}
			if st.State.Final() && !st.Open || st.State == StateOnMedium {
				return nil, &Error{Kind: ErrFailed, What: fmt.Sprintf("the request %s cannot be exported: %s", id, st.State.Words())}
			}
			if err := add(n, r); err != nil {
				return nil, err
			}
		}
	} else {
		err := v.tx.EachRequest(1, func(n uint64, r store.Request) error {
			st, err := v.standing(n, r)
			if err != nil || st.Leaving {
				return err
			}
			switch {
			case len(chosen) == protocol.MaxItems:
			case st.State == StateApproved, st.State == StateRequested && c.Incomplete:
				return add(n, r)
			case st.State == StateRequested:
				e.Waiting++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(chosen, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.section, b.section), slices.Compare(a.approvals, b.approvals), cmp.Compare(a.number, b.number))
	})
	return slices.CompactFunc(chosen, func(a, b candidate) bool { return a.number == b.number }), nil
}

// travelling chooses the approvals that go with a request: as many as a group has room for, those first that seem to
// count, for anybody can make one that does not.
func (v *view) travelling(covers []store.Cover) ([]uint64, error) {
	var counting, others []uint64
	for _, c := range covers {
		a, err := v.approval(c.Approval)
		if err != nil {
			return nil, err
		}
		if a.unproved || a.discount != nil {
			others = append(others, c.Approval)
		} else {
			counting = append(counting, c.Approval)
		}
	}
	all := append(counting, others...)
	all = all[:min(len(all), protocol.MaxGroupApprovals)]
	slices.Sort(all)
	return all, nil
}

// group divides the requests of a bundle, sorted, into groups within the limits. Requests with the same approvals stay
// together where one group can hold them, so that no approval travels twice without need.
func (v *view) group(sequence uint64, all []candidate) (uint64, error) {
	sizes := map[uint64]int{}
	var groups uint64
	var g store.Group
	var bytes, approvalBytes int
	flush := func() error {
		if len(g.Requests) == 0 {
			return nil
		}
		err := v.tx.PutGroup(sequence, groups, g)
		groups++
		g, bytes, approvalBytes = store.Group{}, 0, 0
		return err
	}
	for len(all) > 0 {
		run := 1
		total := all[0].size
		for run < len(all) && all[run].section == all[0].section && slices.Equal(all[run].approvals, all[0].approvals) {
			total += all[run].size
			run++
		}
		var more []uint64
		added := 0
		for _, a := range all[0].approvals {
			if slices.Contains(g.Approvals, a) {
				continue
			}
			if _, known := sizes[a]; !known {
				stored, err := v.tx.Approval(a)
				if err != nil {
					return 0, err
				}
				sizes[a] = len(stored.Message)
			}
			if len(g.Requests) == 0 && added+sizes[a] > maxApprovalBytes {
				break // no group holds more, whatever they are
			}
			more = append(more, a)
			added += sizes[a]
		}
		fits := len(g.Requests)+run <= protocol.MaxGroupItems && bytes+total <= protocol.MaxGroupBytes &&
			len(g.Approvals)+len(more) <= protocol.MaxGroupApprovals && approvalBytes+added <= maxApprovalBytes
		if len(g.Requests) > 0 && (!fits || g.Section != all[0].section) {
			if err := flush(); err != nil {
				return 0, err
			}
			continue // with an empty group, where all approvals count
		}
		g.Section, g.Approvals = all[0].section, append(g.Approvals, more...)
		approvalBytes += added
		for _, c := range all[:run] {
			if len(g.Requests) == protocol.MaxGroupItems || bytes+c.size > protocol.MaxGroupBytes {
				approvals, section := g.Approvals, g.Section
				if err := flush(); err != nil {
					return 0, err
				}
				g.Section, g.Approvals = section, approvals
			}
			g.Requests = append(g.Requests, c.number)
			bytes += c.size
		}
		all = all[run:]
	}
	return groups, flush()
}

// maxApprovalBytes leaves room in a group's header for what stands around the approvals.
const maxApprovalBytes = protocol.MaxGroupHeader - 4<<10

// complete does what is left to do of a bundle until its file is made.
func (s *Service) complete(ctx context.Context, sequence uint64) error {
	var b store.Bundle
	err := s.store.View(func(tx *store.Tx) (err error) {
		b, err = bundle(tx, sequence)
		return err
	})
	if err != nil {
		return err
	}
	if !b.Digest.IsZero() {
		return s.toReceiver(sequence, b)
	}
	for g := range b.Groups {
		if err := s.store.Update(func(tx *store.Tx) error { return note(tx, sequence, g) }); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if b.Digest, err = s.make(sequence, b); err != nil {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error { return tx.PutBundle(sequence, b) })
}

// toReceiver asks that a bundle's file is encrypted to the appliance's receiver key. If that was replaced since, the file is
// made anew; what is inside has the same bytes, since this agent's signatures are deterministic.
func (s *Service) toReceiver(sequence uint64, b store.Bundle) error {
	file, err := os.Open(s.bundleFile(sequence))
	if errors.Is(err, os.ErrNotExist) {
		return &Error{Kind: ErrNotFound, What: fmt.Sprintf("bundle %d is not kept any more: its response was imported", sequence)}
	}
	if err != nil {
		return fmt.Errorf("open bundle %d: %w", sequence, err)
	}
	id, err := media.Receiver(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read bundle %d: %w", sequence, err)
	}
	if protocol.Digest(id) == s.keys.Now().ID(protocol.UseReceiver) {
		return nil
	}
	again, err := s.make(sequence, b)
	if err == nil && again != b.Digest {
		err = fmt.Errorf("bundle %d was made anew with other contents", sequence)
	}
	return err
}

func bundle(tx *store.Tx, sequence uint64) (store.Bundle, error) {
	b, found, err := tx.Bundle(sequence)
	if err == nil && !found {
		err = &Error{Kind: ErrNotFound, What: fmt.Sprintf("there is no bundle %d here", sequence), Hint: "coldseal-agent status shows those that are"}
	}
	return b, err
}

// note writes down with the requests of a group which bundle they are in.
func note(tx *store.Tx, sequence, group uint64) error {
	g, err := tx.Group(sequence, group)
	if err != nil {
		return err
	}
	for _, n := range g.Requests {
		r, err := tx.Request(n)
		if err != nil {
			return err
		}
		if slices.Contains(r.Bundles, sequence) {
			continue
		}
		r.Bundles = append(r.Bundles, sequence)
		if err := tx.PutRequest(n, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) bundleFile(sequence uint64) string {
	return filepath.Join(s.Dir, bundlesDir, fmt.Sprintf("%010d.bundle", sequence))
}

// make writes the bundle's file, encrypted, and returns the digest of its plaintext.
func (s *Service) make(sequence uint64, b store.Bundle) (whole protocol.Digest, err error) {
	spool, err := s.spool()
	if err != nil {
		return whole, err
	}
	hash := sha256.New()
	rest, err := spool.Write(media.MaxBundleBytes, func(w io.Writer) error {
		buffer := bufio.NewWriterSize(io.MultiWriter(w, hash), 1<<16)
		if err := s.writeGroups(buffer, sequence, b.Groups); err != nil {
			return err
		}
		return buffer.Flush()
	})
	if err != nil {
		return whole, err
	}
	defer rest.Close()
	seal, err := s.sealKey()
	if err != nil {
		return whole, err
	}
	var header bytes.Buffer
	err = protocol.WriteHeader(&header, protocol.BundleHeader{
		Version: protocol.Version, From: s.party.Name, To: s.id, Sequence: sequence, Created: b.Created, Expires: b.Expires, Items: b.Items,
		Rest: protocol.Digest(hash.Sum(nil)), Acknowledged: b.Acks, KnownSize: b.KnownSize, KnownRoot: b.KnownRoot,
	}, seal)
	if err != nil {
		return whole, err
	}
	hash.Reset()
	err = media.WriteFile(s.bundleFile(sequence), media.WriteOptions{Replace: true, Private: true}, func(w io.Writer) error {
		sealed, err := media.Encrypt(w, s.keys.Now().Receiver)
		if err != nil {
			return err
		}
		hash.Reset() // it may be called again
		if _, err := io.Copy(io.MultiWriter(sealed, hash), io.MultiReader(bytes.NewReader(header.Bytes()), rest.Reader())); err != nil {
			return err
		}
		return sealed.Close()
	})
	return protocol.Digest(hash.Sum(nil)), err
}

func (s *Service) writeGroups(w io.Writer, sequence, groups uint64) error {
	for i := range groups {
		err := s.store.View(func(tx *store.Tx) error {
			g, err := tx.Group(sequence, i)
			if err != nil {
				return err
			}
			out := protocol.Group{Section: g.Section}
			for _, a := range g.Approvals {
				stored, err := tx.Approval(a)
				if err != nil {
					return err
				}
				out.Approvals = append(out.Approvals, stored.Message)
			}
			for _, n := range g.Requests {
				item, err := tx.Item(n)
				if err != nil {
					return err
				}
				out.Items = append(out.Items, item)
			}
			return protocol.WriteGroup(w, out)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweep removes from the medium what is done: bundles of this agent whose responses were imported, and these responses.
// The appliance would process them again, and what they say of persons would stay on sticks.
func (s *Service) sweep(m *media.Medium) error {
	bundles, responses := map[uint64]bool{}, map[uint64]bool{}
	err := s.store.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		return tx.EachImport(func(n uint64, i store.Import) error {
			switch {
			case n > m.Imports:
			case i.Refusal == nil:
				bundles[i.Answers], responses[i.Answers] = true, true
			case !i.Refusal.Open(): // by a notice; there may be a response to another bundle of this number
				bundles[i.Answers] = true
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for kind, done := range map[media.Kind]map[uint64]bool{media.Bundle: bundles, media.Response: responses} {
		dir, err := media.Name{Kind: kind, Appliance: media.Tag(s.id), Agent: s.party.Name}.Dir()
		if err != nil {
			return err
		}
		files, err := m.List(dir)
		if err != nil {
			return err
		}
		for _, file := range files {
			n, err := media.ParseName(path.Join(dir, file))
			if err != nil || n.Kind != kind || n.Agent != s.party.Name || !done[n.Sequence] {
				continue
			}
			if err := m.Remove(path.Join(dir, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// deliver writes a bundle's file to the medium and notes where it is.
func (s *Service) deliver(m *media.Medium, medium string, e *Exported, replace bool) error {
	if err := s.sweep(m); err != nil {
		return err
	}
	name := media.Name{Kind: media.Bundle, Appliance: media.Tag(s.id), Agent: s.party.Name, Sequence: e.Sequence}
	place, err := name.Path()
	if err != nil {
		return err
	}
	e.Path = place
	file, err := os.Open(s.bundleFile(e.Sequence))
	if err != nil {
		return fmt.Errorf("open bundle %d: %w", e.Sequence, err)
	}
	defer file.Close()
	err = m.Write(place, media.WriteOptions{Replace: replace}, func(w io.Writer) error {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(w, file)
		return err
	})
	if err != nil {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error {
		b, err := bundle(tx, e.Sequence)
		if err != nil {
			return err
		}
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		line, err := tx.AddLine(&meta, store.Line{Time: s.unix(), Code: "exported", Text: fmt.Sprintf("bundle %d with %d requests to %s", e.Sequence, b.Items, medium)})
		if err != nil {
			return err
		}
		b.Writes = append(b.Writes, line)
		if !slices.Contains(b.Media, medium) {
			b.Media = append(b.Media, medium)
		}
		e.Items, e.Digest = b.Items, b.Digest
		if err := tx.PutBundle(e.Sequence, b); err != nil {
			return err
		}
		return tx.PutMeta(meta)
	})
}
