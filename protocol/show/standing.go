package show

import (
	"fmt"

	"coldseal/protocol"
)

// standing shows the content of orders about keys, certificates and officers that stand.
func standing(r *protocol.Request) (Sheet, error) {
	var s Sheet
	switch r.Kind {
	case protocol.KindDestroyKey:
		c, refusal := r.DestroyKey()
		s.digest("key", c.Key)
		s.add("attention", "a destroyed key never comes back")
		return s, refused(refusal)
	case protocol.KindForeignCA:
		c, ca, refusal := r.ForeignEnrolment()
		if refusal != nil {
			return nil, refused(refusal)
		}
		if !c.Replaces.IsZero() {
			s.digest("replaces", c.Replaces)
		}
		s.add("name", ca.Name)
		if ca.Retired {
			s.add("retired", true)
		}
		certificate, err := Certificate(ca.Certificate)
		s.below("certificate", nil, certificate)
		return s, err
	case protocol.KindRecovery:
		c, refusal := r.Recovery()
		s.digest("replaces", c.Replaces)
		s.digest("announces", c.New)
		return s, refused(refusal)
	case protocol.KindCrossCertify:
		c, refusal := r.CrossCertification()
		if refusal != nil {
			return nil, refused(refusal)
		}
		s.time("not before", c.NotBefore)
		s.time("not after", c.NotAfter)
		certificate, err := Certificate(c.Certificate)
		s.below("certifies", nil, certificate)
		return s, err
	case protocol.KindSuspend:
		c, refusal := r.Suspension()
		s.add("suspends", c.Person)
		s.digest("replaces", c.Replaces)
		return s, refused(refusal)
	case protocol.KindRevokeCA:
		c, refusal := r.CARevocation()
		s.add("serial", fmt.Sprintf("%x", c.Serial))
		s.add("reason", c.Reason.String())
		s.time("since", c.Since)
		return s, refused(refusal)
	}
	return nil, fmt.Errorf("kind %s is not known", r.Kind)
}
