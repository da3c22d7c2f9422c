package appliance

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// Visit is what became of one bundle on a medium.
type Visit struct {
	File    string
	Outcome Outcome
	Problem error // the file could not be read or written; the same medium brought again finishes
}

// Medium processes the bundles on a medium that fresh says yes to (nil is all of them), and releases answers to it. An
// error is a fault; trouble with the medium is in the visits.
func (e *Engine) Medium(m *media.Medium, fresh func(name string) bool) ([]Visit, error) {
	if err := e.ready(); err != nil {
		return nil, err
	}
	name := media.Name{Kind: media.Bundle, Appliance: media.Tag(e.appliance)}
	dir, err := name.Dir()
	if err != nil {
		return nil, err
	}
	files, err := m.List(dir)
	if err != nil {
		return []Visit{{File: dir, Problem: err}}, nil
	}
	var visits []Visit
	for _, file := range files {
		path := dir + "/" + file
		if parsed, err := media.ParseName(path); err != nil || parsed.Kind != media.Bundle || fresh != nil && !fresh(path) {
			continue
		}
		v := Visit{File: path}
		v.Outcome, v.Problem = e.visit(m, path)
		visits = append(visits, v)
		if errors.Is(v.Problem, ErrFault) {
			return visits, v.Problem
		}
	}
	return visits, e.stop(e.keepReserve())
}

func (e *Engine) visit(m *media.Medium, path string) (Outcome, error) {
	spooled, size, refusal, err := e.take(m, path)
	if err != nil || refusal != nil {
		return Outcome{Refusal: refusal}, err
	}
	defer spooled.Close() // a private copy without a name
	var wrote error
	out, err := e.processSpooled(spooled, size, func(id protocol.Digest, receipt []byte) error {
		if wrote == nil {
			wrote = e.clear(m, id.String()+".receipt", receipt)
		}
		return nil // what was done is done; the same bundle brought again gives the same receipts
	})
	if err != nil || out.Sender == "" && out.Items == 0 {
		return out, err // nothing is written for whoever can't be answered (law 11)
	}
	if out.Sender != "" {
		if err := e.Release(m, out.Sender); err != nil {
			return out, err
		}
	}
	return out, errors.Join(wrote, e.Clear(m))
}

// headBytes is how much of a bundle is spooled when there is too little room: more than the largest group, and so little
// that the ledger has room in the reserve for what it takes away.
const headBytes = SpoolReserve / 8

// take spools a bundle and opens its encryption, or refuses a file that is not for this appliance, damaged or too large.
// With too little room for all of it, only its beginning is taken, in which is what takes away; size is that of all.
func (e *Engine) take(m *media.Medium, path string) (plain *media.File, size int64, refusal *protocol.Refusal, err error) {
	plain, size, receiver, err := e.takeAll(m, path)
	if errors.Is(err, media.ErrSpace) {
		plain, size, receiver, err = e.takeHead(m, path)
	}
	switch {
	case errors.Is(err, media.ErrTooLarge):
		refusal = protocol.Refuse(protocol.CodeTooLarge, "thing", "bundle", "limit", fmt.Sprintf("%d MiB", media.MaxBundleBytes>>20))
	case errors.Is(err, media.ErrSealed), errors.Is(err, media.ErrReceiver):
		refusal = protocol.Refuse(protocol.CodeBadSeal, "reason", err.Error())
	case errors.Is(err, errReceiverGone):
		refusal = protocol.Refuse(protocol.CodeReceiverGone, "key", receiver.String())
	case errors.Is(err, media.ErrKey):
		return nil, 0, nil, e.stop(fault("open bundle", err))
	default:
		return plain, size, nil, err
	}
	return nil, 0, refusal, nil
}

func (e *Engine) takeAll(m *media.Medium, path string) (*media.File, int64, protocol.Digest, error) {
	sealed, err := e.spool.Take(m, path, media.MaxBundleBytes)
	if err != nil {
		return nil, 0, protocol.Digest{}, err
	}
	defer sealed.Close()
	plain, receiver, err := e.toReceivers(func(key media.Key) (*media.File, error) {
		return e.spool.Decrypt(context.Background(), sealed, key)
	})
	if err != nil {
		return nil, 0, receiver, err
	}
	return plain, plain.Size(), receiver, nil
}

func (e *Engine) takeHead(m *media.Medium, path string) (plain *media.File, size int64, receiver protocol.Digest, err error) {
	if err := e.spendReserve(); err != nil {
		return nil, 0, receiver, e.stop(err)
	}
	spool, err := newSpool(e.Dir, 0)
	if err != nil {
		return nil, 0, receiver, err
	}
	plain, receiver, err = e.toReceivers(func(key media.Key) (head *media.File, err error) {
		head, size, err = spool.TakeHead(context.Background(), m, path, media.MaxBundleBytes, headBytes, key)
		return head, err
	})
	return plain, size, receiver, err
}

// Release writes all stored responses of an agent to the medium, encrypted to it.
func (e *Engine) Release(m *media.Medium, agent string) error {
	sequences, err := e.pendingResponses(agent)
	if err != nil {
		return fault("list responses", err)
	}
	party, err := protocol.ParseParty(e.state.Parties[agent])
	if err != nil {
		return fault("agent "+agent, err)
	}
	receiver, err := protocol.ReceiverKey(party.Receiver)
	if err != nil {
		return fault("agent "+agent, err)
	}
	for _, sequence := range append(sequences, noticeSequence) {
		path, err := media.Name{Kind: media.Response, Appliance: media.Tag(e.appliance), Agent: agent, Sequence: sequence}.Path()
		if err != nil {
			return err
		}
		stored, err := os.Open(e.responsePath(agent, sequence))
		if sequence == noticeSequence && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fault("read stored response", err)
		}
		err = m.Write(path, media.WriteOptions{Replace: true}, func(w io.Writer) error {
			if _, err := stored.Seek(0, io.SeekStart); err != nil {
				return err
			}
			sealed, err := media.Encrypt(w, receiver)
			if err != nil {
				return err
			}
			if _, err := io.Copy(sealed, stored); err != nil {
				return err
			}
			return sealed.Close()
		})
		if err := errors.Join(err, stored.Close()); err != nil {
			return fmt.Errorf("release response %d of %s: %w", sequence, agent, err)
		}
	}
	return nil
}

// Clear writes what anybody may read: CA certificates, CRLs, the checkpoint.
func (e *Engine) Clear(m *media.Medium) error {
	if err := e.ready(); err != nil {
		return err
	}
	for _, id := range e.caOrder() {
		ca := e.state.CAs[id]
		if ca.Certificate == nil {
			continue
		}
		if err := e.clear(m, ca.Label+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate})); err != nil {
			return err
		}
	}
	for _, cross := range e.state.Crosses {
		if cross.Certificate == nil {
			continue // nobody knows any more what it says
		}
		if err := e.clear(m, fmt.Sprintf("cross-%x.pem", cross.Serial), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cross.Certificate})); err != nil {
			return err
		}
	}
	err := e.CRLs(func(label string, shard uint16, crl store.CRL) error {
		name := label + ".crl"
		if shard > 0 {
			name = fmt.Sprintf("%s-%d.crl", label, shard)
		}
		return e.clear(m, name, crl.DER)
	})
	if err != nil {
		return err
	}
	checkpoint, err := e.Checkpoint()
	if err != nil {
		return err
	}
	return e.clear(m, "checkpoint", checkpoint)
}

func (e *Engine) clear(m *media.Medium, file string, data []byte) error {
	path, err := media.Name{Kind: media.Clear, Appliance: media.Tag(e.appliance), File: file}.Path()
	if err != nil {
		return err
	}
	return m.Write(path, media.WriteOptions{Replace: true}, media.Contents(data))
}

// Checkpoint is the newest signed checkpoint.
func (e *Engine) Checkpoint() ([]byte, error) {
	var checkpoint []byte
	err := e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		checkpoint = m.Checkpoint
		return err
	})
	return checkpoint, err
}
