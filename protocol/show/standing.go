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
	case protocol.KindRotateKey:
		c, refusal := r.Rotation()
		s.add("use", c.Use.String())
		s.digest("replaces", c.Replaces)
		s.add("attention", "make a backup right after it: an older one can't go on where anybody has heard of the new key")
		return s, refused(refusal)
	case protocol.KindRestore:
		c, refusal := r.Restoration()
		s.add("backup", fmt.Sprintf("%d log entries", c.From))
		s.add("brought", fmt.Sprintf("%d log entries since", c.Size-min(c.From, c.Size)))
		s.add("goes on after", fmt.Sprintf("%d log entries", c.Size))
		s.digest("root", c.Root)
		for _, f := range c.CRLs {
			s.add("CRLs above", fmt.Sprintf("%d of CA key %s", f.Number, f.Issuer))
		}
		if c.Lost > 0 {
			s.add("attention", fmt.Sprintf("%d orders since the backup are lost, and what they changed: order it again", c.Lost))
		}
		s.add("attention", "nobody may know more entries of the log than these; approvals made before the restore are void")
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
