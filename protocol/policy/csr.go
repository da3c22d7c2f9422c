package policy

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/csr"
)

// CheckCSR proves a CSR (protocol/csr) and asks whether the profile takes a key of its type. Names, and what the CSR
// asks for, are for Extras.
func (c *CompiledProfile) CheckCSR(der []byte) (*csr.Request, *protocol.Refusal) {
	r, err := csr.Check(der)
	if err != nil {
		return nil, c.refuseCSR(err)
	}
	if !slices.Contains(c.Keys, r.KeyType) {
		return nil, c.refuseKeyType(r.KeyType)
	}
	return r, nil
}

// CheckKey asks whether the profile takes a key that no CSR proves, such as that of another CA.
func (c *CompiledProfile) CheckKey(spki []byte) *protocol.Refusal {
	keyType, err := csr.CheckKey(spki)
	if err != nil {
		return c.refuseCSR(err)
	}
	if !slices.Contains(c.Keys, keyType) {
		return c.refuseKeyType(keyType)
	}
	return nil
}

func (c *CompiledProfile) refuseCSR(err error) *protocol.Refusal {
	var bad *csr.Error
	if errors.As(err, &bad) && bad.Reason == csr.KeyType {
		return c.refuseKeyType(bad.Detail)
	}
	return RefuseCSR(err)
}

func (c *CompiledProfile) refuseKeyType(kind string) *protocol.Refusal {
	return protocol.Refuse(protocol.CodeKeyType, "profile", c.Name, "type", kind, "allowed", strings.Join(c.Keys, ", "))
}

// RefuseCSR makes a refusal of an error of protocol/csr, where no profile is known yet.
func RefuseCSR(err error) *protocol.Refusal {
	var bad *csr.Error
	if !errors.As(err, &bad) {
		return protocol.Refuse(protocol.CodeBadCSR, "reason", err.Error())
	}
	switch bad.Reason {
	case csr.Possession:
		return protocol.Refuse(protocol.CodePossession)
	case csr.WeakKey, csr.WeakHash:
		return protocol.Refuse(protocol.CodeWeakKey, "reason", bad.Detail)
	}
	return protocol.Refuse(protocol.CodeBadCSR, "reason", bad.Detail)
}

// AllowsOrigin refuses an origin of the key that the profile does not allow, or not for this kind of request (law 2).
func (c *CompiledProfile) AllowsOrigin(origin protocol.Origin, kind protocol.Kind) *protocol.Refusal {
	if slices.Contains(c.Origins, origin) && (origin != protocol.OriginCurrent || kind == protocol.KindRenew) &&
		(origin != protocol.OriginAgent || c.Use == UseMachine) {
		return nil
	}
	allowed := make([]string, len(c.Origins))
	for i, o := range c.Origins {
		allowed[i] = o.String()
	}
	return protocol.Refuse(protocol.CodeOriginNotAllowed, "profile", c.Name, "origin", origin.String(), "allowed", strings.Join(allowed, ", "))
}

// The extensions that a CSR may ask for without asking for more than the profile gives.
var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidAltName          = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
)

// Extras refuses what a CSR asks for beyond the profile: names that the request does not give, and extensions, of which
// only those pass that ask for nothing more. A profile that drops what is beyond it refuses nothing.
func (c *CompiledProfile) Extras(r *csr.Request, names Names) *protocol.Refusal {
	if c.DropExtras {
		return nil
	}
	beyond := func(format string, args ...any) *protocol.Refusal {
		return protocol.Refuse(protocol.CodeCSRExtra, "profile", c.Name, "reason", fmt.Sprintf(format, args...))
	}
	for _, x := range r.Extensions {
		switch {
		case x.Id.Equal(oidAltName), x.Id.Equal(oidSubjectKeyID):
		case x.Id.Equal(oidBasicConstraints) && string(x.Value) == "\x30\x00": // not a CA
		case x.Id.Equal(oidKeyUsage) && c.givesUsage(x.Value):
		default:
			return beyond("extension %s", x.Id)
		}
	}
	given := func(kind, value string) bool {
		return slices.ContainsFunc(names.Alt, func(n AltName) bool { return n.Type == kind && n.Value == value })
	}
	asked := []struct {
		kind   string
		values []string
	}{{"dns", r.Names.DNS}, {"email", r.Names.Email}, {"uri", r.Names.URI}, {"ip", make([]string, len(r.Names.IP))}}
	for i, ip := range r.Names.IP {
		asked[3].values[i] = ip.String()
	}
	for _, a := range asked {
		for _, value := range a.values {
			if !given(a.kind, value) {
				return beyond("the %s name %s", a.kind, value)
			}
		}
	}
	if len(r.Names.Other) != 0 {
		return beyond("a name of another form")
	}
	return nil
}

// givesUsage tells whether the profile gives every usage in a keyUsage extension.
func (c *CompiledProfile) givesUsage(value []byte) bool {
	var bits asn1.BitString
	if rest, err := asn1.Unmarshal(value, &bits); err != nil || len(rest) != 0 {
		return false
	}
	names := keyUsages()
	for i := range bits.BitLength {
		if bits.At(i) == 1 && (i >= len(names) || !slices.Contains(c.KeyUsage, names[i])) {
			return false
		}
	}
	return true
}
