package agent

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// Beginning is what an agent is made of.
type Beginning struct {
	Introduction  []byte          // file of the appliance
	Digest        protocol.Digest // as a person typed it; the file alone is never believed
	Name          string
	Bodies        []string
	BundlesPerDay uint64
	ItemsPerDay   uint64
}

// Init makes an agent, and the enrolment record that the officers put into an order at the console. Run again with the
// same values it finishes what was begun, and otherwise takes from the introduction which keys the appliance has now.
func Init(c Config, b Beginning) (*Service, error) {
	in, err := protocol.OpenIntroduction(b.Introduction, b.Digest)
	if err != nil {
		return nil, &Error{
			Kind: ErrVerification, What: "the introduction is not of the appliance whose digest was typed", Err: err,
			Hint: "compare the digest with the one that the appliance shows, and have the introduction exported again",
		}
	}
	if _, err := decodeState(in.State); err != nil {
		return nil, err
	}
	if err := media.MakeFolder(filepath.Join(c.Dir, bundlesDir)); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("protect state directory: %w", err)
	}
	party, err := b.party(c)
	if err != nil {
		return nil, err
	}
	st, err := store.Create(c.Dir)
	if err != nil {
		return nil, err
	}
	err = st.Update(func(tx *store.Tx) error { return b.write(tx, in, party, c.Now().Unix()) })
	if err == nil {
		err = media.WriteFile(filepath.Join(c.Dir, EnrolmentFile), media.WriteOptions{Replace: true}, media.Contents(party))
	}
	if err := errors.Join(err, st.Close()); err != nil {
		return nil, err
	}
	return Open(c)
}

// party makes the keys and the record.
func (b *Beginning) party(c Config) ([]byte, error) {
	seal, err := ensureKey(filepath.Join(c.Dir, sealFile), c.Rand)
	if err != nil {
		return nil, err
	}
	receiver, err := ensureKey(filepath.Join(c.Dir, receiverFile), c.Rand)
	if err != nil {
		return nil, err
	}
	p := protocol.Party{
		Version: protocol.Version, Name: b.Name, Role: protocol.RoleAgent,
		Bodies: slices.Compact(slices.Sorted(slices.Values(b.Bodies))), BundlesPerDay: b.BundlesPerDay, ItemsPerDay: b.ItemsPerDay,
	}
	for key, spki := range map[*ecdsa.PrivateKey]*[]byte{seal: &p.Seal, receiver: &p.Receiver} {
		if *spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
			return nil, fmt.Errorf("encode public key: %w", err)
		}
	}
	record, err := cose.Marshal(p)
	if err != nil {
		return nil, err
	}
	if _, err := protocol.ParseParty(record); err != nil {
		return nil, &Error{Kind: ErrInput, What: "this cannot be an agent", Err: err, Hint: "a name is like prefettura-rm, bodies are like it/058091, limits are at least 1"}
	}
	return record, nil
}

func (b *Beginning) write(tx *store.Tx, in protocol.Introduced, party []byte, now int64) error {
	if tx.HasMeta() {
		m, err := tx.Meta()
		switch {
		case err != nil:
			return err
		case m.Appliance != b.Digest:
			return &Error{Kind: ErrFailed, What: fmt.Sprintf("there is an agent of the appliance %s already", m.Appliance), Hint: "choose another state directory"}
		case string(m.Party) != string(party) && m.Last != 0:
			return &Error{Kind: ErrFailed, What: "this agent has another name, other bodies or limits, and has sent bundles", Hint: "choose another state directory for another agent"}
		}
		keys, err := knownKeys(m)
		if err != nil {
			return err
		}
		if keys, err = keys.Walk(in.Keys.Handovers()); err != nil {
			return &Error{Kind: ErrVerification, What: "the introduction tells of other keys than this agent knows", Err: err, Hint: "call the officers: somebody has a seal key of the appliance that was replaced"}
		}
		m.Party, m.Handovers = party, keys.Handovers()
		return tx.PutMeta(m)
	}
	m := store.Meta{
		Schema: store.Schema, Appliance: b.Digest, Genesis: in.Bytes, Party: party, Handovers: in.Keys.Handovers(),
		Root: protocol.Digest(auditlog.EmptyCheckpoint(auditlog.Origin(b.Digest)).Root),
	}
	if _, err := tx.AddLine(&m, store.Line{Time: now, Code: "initialised", Text: "agent " + b.Name}); err != nil {
		return err
	}
	if err := tx.PutState(in.State); err != nil {
		return err
	}
	return tx.PutMeta(m)
}

// Enrolment returns the record that the officers enrol.
func (s *Service) Enrolment() (record []byte, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		record = m.Party
		return err
	})
	return record, err
}
