package appliance

import (
	"io"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Status is how the appliance stands.
type Status struct {
	Digest  string            `json:"digest"`
	Entries uint64            `json:"entries"`
	Clock   int64             `json:"clock"` // time of the last log entry, unix seconds
	Gate    *protocol.Refusal `json:"gate,omitempty"`
	CAs     []CAStatus        `json:"cas"`
	Parties []PartyStatus     `json:"parties"`
}

// CAStatus is how one CA stands.
type CAStatus struct {
	Label        string `json:"label"`
	State        string `json:"state"` // key only, root, issuing
	Certificates uint64 `json:"certificates"`
	CRL          uint64 `json:"crl,omitempty"`
	NextUpdate   int64  `json:"next_update,omitempty"`
	Days         int64  `json:"days,omitempty"` // until nextUpdate; negative after it
}

// PartyStatus is how one agent or station stands.
type PartyStatus struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	State   string `json:"state"` // enrolled, retired
	Last    uint64 `json:"last_bundle"`
	Pending int    `json:"pending_responses"`
}

// Status reads how the appliance stands.
func (e *Engine) Status() (Status, error) {
	now := e.Now().Unix()
	s := Status{Digest: e.appliance.String(), Clock: e.state.Clock, Gate: e.gate(now)}
	err := e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		s.Entries = m.Size
		for _, id := range e.caOrder() {
			ca := e.state.CAs[id]
			c := CAStatus{Label: ca.Label, State: "key only"}
			if p, found := e.state.CurrentPolicy().Profile(ca.Profile); found {
				c.State = map[bool]string{true: "root", false: "issuing"}[p.Use == policy.UseRoot]
			}
			if err := tx.EachCertificate(id, func([]byte, store.Certificate) error {
				c.Certificates++
				return nil
			}); err != nil {
				return err
			}
			crl, found, err := tx.CRL(id, 0)
			if err != nil {
				return err
			}
			if found {
				c.CRL, c.NextUpdate, c.Days = crl.Number, crl.NextUpdate, (crl.NextUpdate-now)/secondsOfDay
			}
			s.CAs = append(s.CAs, c)
		}
		return tx.EachParty(func(name string, record []byte) error {
			party, err := protocol.ParseParty(record)
			if err != nil {
				return err
			}
			p := PartyStatus{Name: name, Role: party.Role.String(), State: "enrolled"}
			if party.Retired {
				p.State = "retired"
			}
			var h protocol.ResponseHeader
			if err := numbers(tx, name, &h); err != nil {
				return err
			}
			p.Last, p.Pending = h.Last, len(h.Pending)
			s.Parties = append(s.Parties, p)
			return nil
		})
	})
	return s, err
}

// EachLeaf reads the log from an entry on; the slices are valid during the call only.
func (e *Engine) EachLeaf(first uint64, f func(index uint64, leaf, saltedBody []byte) error) error {
	return e.ledger.View(func(tx *store.Tx) error { return tx.EachLeaf(first, f) })
}

// ExportLog writes the log for an auditor: a sequence of byte strings, first the checkpoint, then each leaf and behind
// it its salt and body, empty where they were erased (log.md).
func (e *Engine) ExportLog(w io.Writer) error {
	return e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		if err := protocol.WriteString(w, m.Checkpoint); err != nil {
			return err
		}
		return tx.EachLeaf(0, func(_ uint64, leaf, saltedBody []byte) error {
			if err := protocol.WriteString(w, leaf); err != nil {
				return err
			}
			return protocol.WriteString(w, saltedBody)
		})
	})
}
