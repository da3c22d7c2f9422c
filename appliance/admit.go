package appliance

import (
	"errors"
	"fmt"
	"os"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// sender finds an enrolled agent by its seal key.
func (e *Engine) sender(seal protocol.Digest) (protocol.Party, bool) {
	for _, record := range e.state.Parties {
		party, err := protocol.ParseParty(record)
		if err == nil && party.Role == protocol.RoleAgent && protocol.DigestOf(party.Seal) == seal {
			return party, true
		}
	}
	return protocol.Party{}, false
}

// admit decides whether more than taking away is looked at, and whether the bundle was answered already.
func (r *run) admit(size int64) (refusal *protocol.Refusal, again bool, err error) {
	h, party := r.bundle.Header, r.bundle.Sender
	err = r.ledger.View(func(tx *store.Tx) error {
		known, used, err := tx.Bundle(party.Name, h.Sequence)
		if err != nil {
			return err
		}
		var numbered protocol.ResponseHeader
		if err := numbers(tx, party.Name, &numbered); err != nil {
			return err
		}
		usage, err := tx.Usage(party.Name)
		if err != nil {
			return err
		}
		if usage.Day != day(r.now) {
			usage = store.Usage{}
		}
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		shared, _, err := r.known(tx, m.Size)
		if err != nil {
			return err
		}
		interrupted := used && !known.Acknowledged // it is finished, however late
		switch {
		case used && known.Digest != r.bundle.Digest:
			refusal = protocol.Refuse(protocol.CodeSequenceReused, "sequence", fmt.Sprint(h.Sequence), "last", fmt.Sprint(numbered.Last))
		case used && r.hasResponse(party.Name, h.Sequence):
			again = true
			return nil
		case shared != h.KnownSize:
			refusal = protocol.Refuse(protocol.CodeOlderLog, "known", fmt.Sprint(h.KnownSize))
		case h.Sequence > media.MaxSequence:
			refusal = protocol.Refuse(protocol.CodeTooLarge, "thing", "number of the bundle", "limit", fmt.Sprint(uint64(media.MaxSequence)))
		case party.Retired:
			refusal = protocol.Refuse(protocol.CodeRetiredSender, "name", party.Name)
		case r.shut != nil:
			refusal = r.shut
		case r.now >= h.Expires && !interrupted:
			refusal = protocol.Refuse(protocol.CodeBundleExpired, "expires", protocol.Date(h.Expires))
		case usage.Bundles >= party.BundlesPerDay && !used:
			refusal = protocol.Refuse(protocol.CodeQuota, "thing", "bundles", "limit", fmt.Sprint(party.BundlesPerDay))
		default:
			refusal, err = r.space(tx, size)
		}
		switch {
		case refusal != nil:
		case used:
			r.left = known.Items
		case usage.Items < party.ItemsPerDay:
			r.left = party.ItemsPerDay - usage.Items
		}
		return err
	})
	if err != nil {
		return nil, false, fault("read ledger", err)
	}
	return refusal, again, nil
}

// answerSpace is what the answer to an item may take: 32 bytes of id and a refusal with its parameters, drafted and stored.
const answerSpace = 1 << 10

// space asks for room for what a bundle grows to: the ledger takes about four times its size, and the response two, an
// answer to each item however small it is, and twice the leaves that the agent says it does not know.
func (r *run) space(tx *store.Tx, size int64) (*protocol.Refusal, error) {
	m, err := tx.Meta()
	if err != nil {
		return nil, err
	}
	known, _, err := r.known(tx, m.Size)
	if err != nil {
		return nil, err
	}
	free, err := r.room()
	if err != nil {
		return nil, err
	}
	if need := needs(size) + int64(r.bundle.Header.Items)*answerSpace + int64(m.Size-known)*protocol.MaxLeaf; free < need {
		return noSpace(free, need), nil
	}
	return nil, nil
}

func needs(size int64) int64 { return 6*size + SpoolReserve }

func noSpace(free, need int64) *protocol.Refusal {
	const unit = 1 << 20
	return protocol.Refuse(protocol.CodeNoSpace, "free", fmt.Sprintf("%d MiB", max(0, free)/unit), "need", fmt.Sprintf("%d MiB", (need+unit-1)/unit))
}

// begin uses the bundle's number, once and for all.
func (r *run) begin() error {
	h, party := r.bundle.Header, r.bundle.Sender
	var acknowledged []uint64
	err := r.step(r.now, func(rec *recorder) error {
		_, again, err := rec.tx.Bundle(party.Name, h.Sequence)
		if err != nil {
			return err
		}
		for _, sequence := range h.Acknowledged {
			b, used, err := rec.tx.Bundle(party.Name, sequence)
			if err != nil {
				return err
			}
			if !used || sequence == h.Sequence {
				continue
			}
			acknowledged = append(acknowledged, sequence)
			if b.Acknowledged {
				continue
			}
			b.Acknowledged = true
			if err := rec.tx.PutBundle(party.Name, sequence, b); err != nil {
				return err
			}
		}
		if again {
			return nil // a crash interrupted it: it goes on under the same number
		}
		usage, err := rec.tx.Usage(party.Name)
		if err != nil {
			return err
		}
		if usage.Day != day(rec.now) {
			usage = store.Usage{Day: day(rec.now)}
		}
		usage.Bundles++
		usage.Items += h.Items
		if err := rec.tx.PutUsage(party.Name, usage); err != nil {
			return err
		}
		if err := rec.tx.PutBundle(party.Name, h.Sequence, store.Bundle{Digest: r.bundle.Digest, Items: r.left}); err != nil {
			return err
		}
		body, err := cose.Marshal(auditlog.BundleBody{From: party.Name, Sequence: h.Sequence, Bundle: r.bundle.Digest})
		if err != nil {
			return err
		}
		_, _, err = rec.append(auditlog.Leaf{Kind: auditlog.Bundle, Number: h.Sequence}, body)
		return err
	}, nil)
	if err != nil {
		return err
	}
	// An agent whose bundle is accepted needs the notice about an earlier one no more.
	for _, sequence := range append(acknowledged, noticeSequence) {
		if err := os.Remove(r.responsePath(party.Name, sequence)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fault("remove acknowledged response", err)
		}
	}
	return nil
}
