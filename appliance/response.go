package appliance

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// Responses lie in the state directory, sealed but not encrypted, from before they are released until the agent
// acknowledged them: responses/AGENT/SEQUENCE.response, and number 0 for the notice, the answer to a bundle that was
// refused as a whole.

const (
	responseSuffix = ".response"
	noticeSequence = 0
)

func (e *Engine) responsePath(agent string, sequence uint64) string {
	return filepath.Join(e.Dir, "responses", agent, fmt.Sprintf("%010d%s", sequence, responseSuffix))
}

// pendingResponses lists the stored responses of an agent, by number. They are durable: who stored one may have been
// killed before it was.
func (e *Engine) pendingResponses(agent string) ([]uint64, error) {
	dir := filepath.Join(e.Dir, "responses", agent)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list responses: %w", err)
	}
	if err := media.MakeFolder(dir); err != nil {
		return nil, err
	}
	var sequences []uint64
	for _, entry := range entries {
		var n uint64
		name, isResponse := strings.CutSuffix(entry.Name(), responseSuffix)
		if _, err := fmt.Sscanf(name, "%010d", &n); err == nil && isResponse && len(name) == 10 && n != noticeSequence {
			sequences = append(sequences, n)
		}
	}
	slices.Sort(sequences)
	return sequences, nil
}

// hasResponse tells whether the response to a bundle is still there.
func (e *Engine) hasResponse(agent string, sequence uint64) bool {
	_, err := os.Stat(e.responsePath(agent, sequence))
	return err == nil
}

// draft collects what follows the header of a response, as the steps become durable.
type draft struct {
	file    *os.File
	buffer  *bufio.Writer
	hash    hash.Hash
	results uint64
	leaves  uint64
	crls    uint64
}

func (e *Engine) newDraft() (*draft, error) {
	dir := filepath.Join(e.Dir, "responses")
	if err := media.MakeFolder(dir); err != nil {
		return nil, err
	}
	// The file has no name but for a moment, and then always the same, so that crashes leave nothing behind that adds up.
	file, err := os.OpenFile(filepath.Join(dir, ".draft"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make response: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	d := &draft{file: file, hash: sha256.New()}
	d.buffer = bufio.NewWriterSize(io.MultiWriter(file, d.hash), 1<<16)
	return d, nil
}

func (d *draft) part(data []byte) error { return protocol.WriteString(d.buffer, data) }

// answer appends the answer to an item.
func (d *draft) answer(a protocol.Answer) error {
	encoded, err := cose.Marshal(a)
	if err != nil {
		return err
	}
	d.results++
	return d.part(encoded)
}

// store completes the response and puts it, durably, where releases are made from. Called within the last step.
func (r *run) store(path string, h protocol.ResponseHeader) error {
	d := r.draft
	err := r.ledger.View(func(tx *store.Tx) error {
		if err := r.writeLog(tx, &h); err != nil {
			return err
		}
		return r.writeCRLs(tx, &h)
	})
	if err != nil {
		return err
	}
	if err := d.buffer.Flush(); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	h.Version, h.From, h.To, h.Created = protocol.Version, r.appliance, r.bundle.Sender.Name, r.now
	h.Answers, h.Bundle = r.bundle.Header.Sequence, r.bundle.Digest
	h.Results, h.Leaves, h.CRLs, h.State = d.results, d.leaves, d.crls, r.PublicState()
	h.Rest = protocol.Digest(d.hash.Sum(nil))
	if err := media.MakeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return media.WriteFile(path, media.WriteOptions{Replace: true, Private: true}, func(w io.Writer) error {
		if err := protocol.WriteResponseHeader(w, h, r.state.Own.Handovers(), r.seal); err != nil {
			return err
		}
		if _, err := d.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(w, d.file)
		return err
	})
}

// known is the size of our tree that the agent knows, and its edge. An agent that knows a tree which is none of ours gets
// all of it: it has to see for itself.
func (r *run) known(tx *store.Tx, size uint64) (uint64, auditlog.Range, error) {
	known := r.bundle.Header.KnownSize
	if known > size {
		return 0, auditlog.Range{}, nil
	}
	edge, err := auditlog.ReadRange(int64(known), tx)
	if err != nil || protocol.Digest(edge.Root()) != r.bundle.Header.KnownRoot {
		return 0, auditlog.Range{}, err
	}
	return known, edge, nil
}

// writeLog appends the leaves that the agent does not have yet, and proves that they extend what it has.
func (r *run) writeLog(tx *store.Tx, h *protocol.ResponseHeader) error {
	m, err := tx.Meta()
	if err != nil {
		return err
	}
	known, edge, err := r.known(tx, m.Size)
	if err != nil {
		return err
	}
	h.FirstLeaf, h.Checkpoint, h.Range = known, m.Checkpoint, edge.Hashes()
	if h.Consistency, err = auditlog.ProveConsistency(int64(known), int64(m.Size), tx); err != nil {
		return err
	}
	return tx.EachLeaf(known, func(_ uint64, leaf, _ []byte) error {
		r.draft.leaves++
		return r.draft.part(leaf)
	})
}

// writeCRLs appends the CRLs made since the checkpoint that the agent knew.
func (r *run) writeCRLs(tx *store.Tx, h *protocol.ResponseHeader) error {
	for _, id := range r.caOrder() {
		for shard := range uint16(r.shards(id)) {
			crl, found, err := tx.CRL(id, shard)
			if err != nil {
				return err
			}
			if !found || crl.Index < h.FirstLeaf {
				continue
			}
			r.draft.crls++
			if err := r.draft.part(crl.DER); err != nil {
				return err
			}
		}
	}
	return nil
}

// numbers says which numbers the agent used: the highest, lower ones that are missing, and those unacknowledged.
func numbers(tx *store.Tx, agent string, h *protocol.ResponseHeader) error {
	h.Last, h.Missing, h.Pending = 0, nil, nil
	return tx.EachBundle(agent, func(sequence uint64, b store.Bundle) error {
		for n := h.Last + 1; n < sequence && len(h.Missing) < protocol.MaxMissing; n++ {
			h.Missing = append(h.Missing, n)
		}
		h.Last = sequence
		if !b.Acknowledged && len(h.Pending) < protocol.MaxPending {
			h.Pending = append(h.Pending, sequence)
		}
		return nil
	})
}
