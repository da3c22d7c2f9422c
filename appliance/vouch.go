package appliance

import (
	"errors"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// vouched asks whether somebody vouches that the key belongs to the subject (law 2).
func (e *Engine) vouched(it *item) *protocol.Refusal {
	origin := it.content.Origin
	if refusal := it.profile.AllowsOrigin(origin, it.req.Kind); refusal != nil {
		return refusal
	}
	var err error
	switch origin {
	case protocol.OriginStation:
		err = e.stationVouches(it)
	case protocol.OriginAttested:
		err = errors.New("no device vendor is enrolled")
	}
	if err != nil {
		return protocol.Refuse(protocol.CodeKeyNotVouched, "origin", origin.String(), "reason", err.Error())
	}
	return nil
}

func (e *Engine) stationVouches(it *item) error {
	id, err := cose.KeyID(it.content.Evidence)
	if err != nil {
		return err
	}
	for name, record := range e.state.Parties {
		party, err := protocol.ParseParty(record)
		if err != nil || party.Role != protocol.RoleStation || protocol.DigestOf(party.Seal) != protocol.Digest(id) {
			continue
		}
		if party.Retired || !party.Serves(it.req.Body) {
			return fmt.Errorf("the station %s was retired or is not for this body", name)
		}
		key, err := party.SealKey()
		if err != nil {
			return err
		}
		payload, err := cose.Verify(it.content.Evidence, protocol.ContextKeyStatement, key)
		if err != nil {
			return err
		}
		var s protocol.KeyStatement
		if err := cose.Unmarshal(payload, &s); err != nil {
			return err
		}
		if s.Appliance != e.appliance || s.Key != it.key || s.Subject != it.req.Subject {
			return errors.New("the station's statement is about another key, subject or appliance")
		}
		return nil
	}
	return errors.New("no station with this key is enrolled")
}
