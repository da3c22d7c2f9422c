package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/bits"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// incoming is a response on its way in. Its seal was verified, so that the appliance's seal key said all of it; whether
// it is true is asked here. Answers are verified by all cores and staged in their order; nothing counts before commit.
type incoming struct {
	s        *Service
	plain    *media.File
	response *protocol.Response
	header   protocol.ResponseHeader
	progress func(done, all uint64)

	digest     protocol.Digest // of the header
	meta       store.Meta      // before
	now        int64
	known      *known // what the response says the appliance is
	bundle     store.Bundle
	own        bool // it answers a bundle that is known here, byte for byte
	checkpoint auditlog.Checkpoint
	extends    bool  // the checkpoint is newer than the one known, and proved to be
	restored   int64 // when the appliance was last restored, as these leaves say
	leaves     *leafReader

	mu        sync.Mutex
	waits     []uint64 // bit set of requests of the bundle that were not answered yet
	approvers map[protocol.Digest]store.Approver
	crls      map[protocol.Digest]store.CRL
	done      Imported
}

// prepare looks at the header; already is true if the response was imported before.
func (in *incoming) prepare() (already bool, err error) {
	h := &in.header
	in.now = in.s.unix()
	in.approvers, in.crls = map[protocol.Digest]store.Approver{}, map[protocol.Digest]store.CRL{}
	in.done = Imported{Sequence: h.Answers, Refusal: h.Refusal, Results: h.Results, Missing: h.Missing}
	if in.digest, err = headerDigest(*h); err != nil {
		return false, err
	}
	err = in.s.store.View(func(tx *store.Tx) error {
		if in.meta, err = tx.Meta(); err != nil {
			return err
		}
		err := tx.EachImport(func(n uint64, i store.Import) error {
			if n <= in.meta.Imports && i.Response == in.digest {
				already, in.done.Number = true, n
			}
			return nil
		})
		if err != nil || already {
			return err
		}
		if in.bundle, in.own, err = tx.Bundle(h.Answers); err != nil {
			return err
		}
		in.own = in.own && in.bundle.Digest == h.Bundle && !in.bundle.Digest.IsZero()
		return in.expect(tx)
	})
	if err != nil || already {
		in.done.Already = already
		return already, err
	}
	in.done.Number = in.meta.Imports + 1
	if in.known, err = decodeState(h.State); err != nil {
		return false, err
	}
	if in.checkpoint, err = auditlog.OpenCheckpoint(h.Checkpoint, in.response.Keys); err != nil {
		return false, lie("the checkpoint is not signed by the log key: %v", err)
	}
	return false, in.clear()
}

// expect notes which requests the bundle holds.
func (in *incoming) expect(tx *store.Tx) error {
	in.waits = make([]uint64, in.meta.Requests/64+1)
	if !in.own {
		return nil
	}
	for i := range in.bundle.Groups {
		g, err := tx.Group(in.header.Answers, i)
		if err != nil {
			return err
		}
		for _, n := range g.Requests {
			in.waits[n/64] |= 1 << (n % 64)
		}
	}
	return nil
}

// answered tells whether the request was waited for, and stops waiting.
func (in *incoming) answered(n uint64) bool {
	bit := uint64(1) << (n % 64)
	waited := in.waits[n/64]&bit != 0
	in.waits[n/64] &^= bit
	return waited
}

// clear removes what an interrupted import staged.
func (in *incoming) clear() error {
	for done := false; !done; {
		err := in.s.store.Update(func(tx *store.Tx) (err error) {
			done, err = tx.ClearStaged(4 * stageItems)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Answers are verified in jobs and staged in larger portions, because each transaction waits for the disk.
const (
	jobItems   = 256
	stageItems = 2048
)

// job is some answers in a row.
type job struct {
	place    uint64 // of the first
	data     [][]byte
	verified []verified
	err      error
	ready    chan struct{}
}

// verify asks whether all of the response is true, and stages it.
func (in *incoming) verify(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	jobs, order := make(chan *job, workers), make(chan *job, 4*workers)
	in.leaves = newLeafReader(in)
	g.Go(func() error { return in.leaves.run(ctx) })
	g.Go(func() error {
		defer close(order)
		defer close(jobs)
		return in.read(ctx, jobs, order)
	})
	for range workers {
		g.Go(func() error {
			for j := range jobs {
				j.err = in.s.store.View(func(tx *store.Tx) error { return in.checkAll(tx, j) })
				close(j.ready)
			}
			return nil
		})
	}
	g.Go(func() error { return in.stage(ctx, order) })
	if err := g.Wait(); err != nil {
		return err
	}
	if in.header.Refusal == nil {
		for _, word := range in.waits {
			in.done.Silent += uint64(bits.OnesCount64(word))
		}
	}
	return nil
}

// read hands out the answers, then takes the CRLs.
func (in *incoming) read(ctx context.Context, jobs, order chan<- *job) error {
	var j *job
	var place uint64
	send := func() error {
		if j == nil {
			return nil
		}
		for _, queue := range []chan<- *job{order, jobs} {
			select {
			case queue <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		j = nil
		return nil
	}
	for {
		part, data, err := in.response.Next()
		if err == io.EOF {
			return send()
		}
		if err != nil {
			return lie("the response cannot be read: %v", err)
		}
		switch part {
		case protocol.PartAnswer:
			if j == nil {
				j = &job{place: place, ready: make(chan struct{}), data: make([][]byte, 0, jobItems)}
			}
			j.data = append(j.data, data)
			place++
			if len(j.data) == jobItems {
				if err := send(); err != nil {
					return err
				}
			}
		case protocol.PartCRL:
			if err := send(); err != nil {
				return err
			}
			if err := in.takeCRL(data); err != nil {
				return err
			}
		}
	}
}

func (in *incoming) checkAll(tx *store.Tx, j *job) error {
	j.verified = make([]verified, len(j.data))
	var last uint64
	for i, data := range j.data {
		var err error
		j.verified[i], err = in.check(tx, data, last+1) // answers come in the order in which requests were made, mostly
		if last = j.verified[i].number; err != nil {
			return fmt.Errorf("answer %d: %w", j.place+uint64(i), err)
		}
		j.verified[i].place = j.place + uint64(i)
	}
	return nil
}

// stage writes verified answers in their order.
func (in *incoming) stage(ctx context.Context, order <-chan *job) error {
	var portion []verified
	write := func() error {
		slices.SortStableFunc(portion, byNumber)
		err := in.s.store.Update(func(tx *store.Tx) error { return in.put(tx, portion) })
		portion = portion[:0]
		return err
	}
	var done uint64
	for j := range order {
		select {
		case <-j.ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		if j.err != nil {
			return j.err
		}
		portion = append(portion, j.verified...)
		if done += uint64(len(j.data)); in.progress != nil {
			in.progress(done, in.header.Results)
		}
		if len(portion) >= stageItems {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

func (in *incoming) put(tx *store.Tx, portion []verified) error {
	for i := range portion {
		a := &portion[i]
		if a.result.Outcome == protocol.OutcomeRefused {
			in.done.Refused++
		}
		waited := a.number != 0 && in.answered(a.number)
		known, err := in.answeredBefore(tx, a)
		if err != nil {
			return err
		}
		if known {
			in.done.Known++
			continue
		}
		if a.number == 0 {
			in.done.Unknown++
		} else if !waited {
			if err := in.link(tx, a.number); err != nil {
				return err
			}
		}
		if err := tx.PutResult(in.done.Number, a.number, a.place, a.result); err != nil {
			return err
		}
		if a.number != 0 && a.result.Outcome == protocol.OutcomeIssued {
			if err := tx.PutAbout(a.issuer, a.result.Serial, a.number); err != nil {
				return err
			}
		}
	}
	return nil
}

// answeredBefore tells whether an earlier import holds this very answer: the bundle was processed once more after its
// response had been acknowledged, or the request was in two bundles. It is rare for a certificate, and asked only if
// some import wrote of it.
func (in *incoming) answeredBefore(tx *store.Tx, a *verified) (bool, error) {
	if a.number == 0 || a.result.Outcome == protocol.OutcomeIssued && !tx.IsAbout(a.issuer, a.result.Serial, a.number) {
		return false, nil
	}
	r, err := tx.Request(a.number)
	if err != nil {
		return false, err
	}
	imports := r.Imports
	for _, sequence := range r.Bundles {
		b, _, err := tx.Bundle(sequence)
		if err != nil {
			return false, err
		}
		imports = append(imports[:len(imports):len(imports)], b.Imports...)
	}
	return slices.ContainsFunc(imports, func(i uint64) bool {
		stored, found := tx.Result(i, a.number)
		return found && i <= in.meta.Imports && bytes.Equal(stored.Answer, a.result.Answer)
	}), nil
}

// link notes with a request that an import answers it although no bundle known here says so: this agent was restored
// from an older copy.
func (in *incoming) link(tx *store.Tx, n uint64) error {
	r, err := tx.Request(n)
	if err != nil || slices.Contains(r.Imports, in.done.Number) {
		return err
	}
	r.Imports = append(r.Imports, in.done.Number)
	return tx.PutRequest(n, r)
}
