package appliance

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// vouched asks whether somebody vouches that the key belongs to the subject (law 2).
func (e *Engine) vouched(it *item) *protocol.Refusal {
	p, origin := it.profile, it.content.Origin
	if !slices.Contains(p.Origins, origin) || origin == protocol.OriginCurrent && it.req.Kind != protocol.KindRenew ||
		origin == protocol.OriginAgent && p.Use != policy.UseMachine {
		allowed := make([]string, len(p.Origins))
		for i, o := range p.Origins {
			allowed[i] = o.String()
		}
		return protocol.Refuse(protocol.CodeOriginNotAllowed, "profile", p.Name, "origin", origin.String(), "allowed", strings.Join(allowed, ", "))
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
		if s.Appliance != e.appliance || s.Key != protocol.DigestOf(it.csr.SPKI) || s.Subject != it.req.Subject {
			return errors.New("the station's statement is about another key, subject or appliance")
		}
		return nil
	}
	return errors.New("no station with this key is enrolled")
}

// The extensions that a CSR may ask for without asking for more than a profile gives.
var (
	oidAltName          = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
)

// extras refuses what a CSR asks for beyond its profile: names that the request does not give, and extensions.
func extras(c *csr.Request, names policy.Names, profile string) *protocol.Refusal {
	beyond := func(what string) *protocol.Refusal {
		return protocol.Refuse(protocol.CodeCSRExtra, "profile", profile, "reason", what)
	}
	for _, x := range c.Extensions {
		switch {
		case x.Id.Equal(oidAltName), x.Id.Equal(oidSubjectKeyID):
		case x.Id.Equal(oidBasicConstraints) && bytes.Equal(x.Value, []byte{0x30, 0}):
		default:
			return beyond("extension " + x.Id.String())
		}
	}
	given := func(kind, value string) bool {
		return slices.ContainsFunc(names.Alt, func(n policy.AltName) bool { return n.Type == kind && n.Value == value })
	}
	for kind, wanted := range map[string][]string{"dns": c.Names.DNS, "email": c.Names.Email, "uri": c.Names.URI} {
		for _, value := range wanted {
			if !given(kind, value) {
				return beyond("the " + kind + " name " + value)
			}
		}
	}
	for _, ip := range c.Names.IP {
		if !given("ip", ip.String()) {
			return beyond("the address " + ip.String())
		}
	}
	if len(c.Names.Other) != 0 {
		return beyond("a name of another form")
	}
	return nil
}
