package auditlog

import (
	"reflect"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Who decides an order, and orders about the officers themselves.

// Announcement is a recovery that waits: everybody reads of it in the log, and officers who are still there answer it by
// any order that changes the roster.
type Announcement struct {
	Replaces protocol.Digest // SHA-256 of the roster that stands
	New      protocol.Digest // SHA-256 of the one that is announced
	Since    int64           // unix seconds
}

const secondsOfDay = 86400

// decide counts the approvals of those who decide the order under what stands: officers as the roster says, the holders
// of a recovery, or the officer who is to be suspended.
func (s *State) decide(req *protocol.Request, request []byte, approvals [][]byte, challenge []byte, now int64) *protocol.Refusal {
	by := func(r *policy.Roster) *protocol.Refusal { return s.quorum(r, req, request, approvals, challenge, now) }
	switch req.Kind {
	case protocol.KindSuspend:
		c, refusal := req.Suspension()
		if refusal != nil {
			return refusal
		}
		return by(s.roster.Alone(c.Person))
	case protocol.KindRecovery:
		if s.roster.Recovery == nil {
			return protocol.Refuse(protocol.CodeRosterInvalid, "reason", "it names nobody for recovery")
		}
		return by(s.roster.Recovery.Roster())
	case protocol.KindRoster:
		refusal := by(s.roster)
		if refusal == nil {
			return nil
		}
		if c, bad := req.Replacement(); bad == nil && s.announced(c) && by(s.roster.Recovery.Roster()) == nil {
			return s.due(c, now)
		}
		return refusal
	}
	return by(s.roster)
}

// announced tells whether a recovery has announced just this.
func (s *State) announced(c protocol.Replacement) bool {
	return s.Announced.Since != 0 && s.roster.Recovery != nil && s.Announced.Replaces == c.Replaces && s.Announced.New == protocol.DigestOf(c.New)
}

// due tells why a recovery that was announced may not be carried out yet, or not so: it replaces the officers, not
// those who may recover.
func (s *State) due(c protocol.Replacement, now int64) *protocol.Refusal {
	next, err := policy.DecodeRoster(c.New)
	if err != nil {
		return protocol.Refuse(protocol.CodeRosterInvalid, "reason", err.Error())
	}
	if !reflect.DeepEqual(next.Recovery, s.roster.Recovery) {
		return protocol.Refuse(protocol.CodeRosterInvalid, "reason", "a recovery may not change who recovers")
	}
	if due, _ := s.Due(); now < due {
		return protocol.Refuse(protocol.CodeRecoveryWaits, "date", protocol.Date(due))
	}
	return nil
}

// Due is from when a recovery may be carried out, in unix seconds; false if none was announced.
func (s *State) Due() (int64, bool) {
	if s.Announced.Since == 0 || s.roster.Recovery == nil {
		return 0, false
	}
	return s.Announced.Since + s.roster.Recovery.Days*secondsOfDay, true
}

func (s *State) checkRecovery(req *protocol.Request) *protocol.Refusal {
	c, refusal := req.Recovery()
	switch {
	case refusal != nil:
		return refusal
	case c.Replaces != protocol.DigestOf(s.Roster):
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the roster is not the one that was to be replaced")
	case s.Announced.New == c.New && s.Announced.Replaces == c.Replaces:
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "this roster was announced on "+protocol.Date(s.Announced.Since))
	}
	return nil
}

// suspended gives the roster with the officer suspended.
func (s *State) suspended(req *protocol.Request) (*policy.Roster, *protocol.Refusal) {
	c, refusal := req.Suspension()
	if refusal != nil {
		return nil, refusal
	}
	if c.Replaces != protocol.DigestOf(s.Roster) {
		return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the roster is not the one that was to be changed")
	}
	next, err := s.roster.Suspend(c.Person)
	if err != nil {
		return nil, protocol.Refuse(protocol.CodeRosterInvalid, "reason", err.Error())
	}
	return next, nil
}
