package appliance

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"

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
	Waits   bool              `json:"waits,omitempty"` // for the order to restore it
	CAs     []CAStatus        `json:"cas"`
	Crosses []CrossStatus     `json:"cross_certificates,omitempty"`
	Foreign []ForeignStatus   `json:"foreign_cas,omitempty"`
	Parties []PartyStatus     `json:"parties"`
	Waiting *Waiting          `json:"recovery,omitempty"`
}

// CAStatus is how one CA stands.
type CAStatus struct {
	Label        string `json:"label"`
	State        string `json:"state"` // key only, root, issuing, revoked, key destroyed
	Certificates uint64 `json:"certificates"`
	CRL          uint64 `json:"crl,omitempty"`
	NextUpdate   int64  `json:"next_update,omitempty"`
	Days         int64  `json:"days,omitempty"` // until nextUpdate; negative after it
}

// CrossStatus is one certificate over another CA.
type CrossStatus struct {
	Subject  string `json:"subject"` // empty if only the serial is known since a restore
	Issuer   string `json:"issuer"`  // label
	Serial   string `json:"serial"`
	NotAfter int64  `json:"not_after"`
}

// ForeignStatus is how one CA that is not ours stands.
type ForeignStatus struct {
	Name   string `json:"name"`
	State  string `json:"state"`  // enrolled, retired
	Record string `json:"record"` // SHA-256, which an order that changes it names
}

// Waiting is a recovery that was announced.
type Waiting struct {
	New  string `json:"new"` // SHA-256 of the roster
	From int64  `json:"from"`
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
	s := Status{Digest: e.appliance.String(), Clock: e.state.Clock, Gate: e.gate(now), Waits: e.restoring != nil}
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
			switch {
			case ca.Destroyed:
				c.State = "key destroyed"
			case ca.Revoked:
				c.State = "revoked"
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
		if err := e.standing(&s); err != nil {
			return err
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

// standing adds what only orders changed.
func (e *Engine) standing(s *Status) error {
	for _, cross := range e.state.Crosses {
		one := CrossStatus{Issuer: e.state.CAs[cross.Issuer].Label, Serial: fmt.Sprintf("%x", cross.Serial)}
		if cross.Certificate != nil {
			c, err := x509.ParseCertificate(cross.Certificate)
			if err != nil {
				return fmt.Errorf("cross-certificate: %w", err)
			}
			one.Subject, one.NotAfter = c.Subject.String(), c.NotAfter.Unix()
		}
		s.Crosses = append(s.Crosses, one)
	}
	for _, name := range slices.Sorted(maps.Keys(e.state.Foreign)) {
		ca, err := protocol.ParseForeignCA(e.state.Foreign[name])
		if err != nil {
			return err
		}
		s.Foreign = append(s.Foreign, ForeignStatus{name, map[bool]string{true: "retired", false: "enrolled"}[ca.Retired], protocol.DigestOf(e.state.Foreign[name]).String()})
	}
	if due, waits := e.state.Due(); waits {
		s.Waiting = &Waiting{e.state.Announced.New.String(), due}
	}
	return nil
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
