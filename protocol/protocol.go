// Package protocol is what the appliance and the agent both must agree on: requests, approvals, bundles, responses,
// receipts and refusals, as strict deterministic CBOR signed with COSE.
//
// It exists so that one decoder decides what a message is on both sides of the gap. Input that was not verified is
// []byte; the functions that verify are the only ones that return a decoded value. It holds no policy (protocol/policy),
// no log (protocol/auditlog), and touches no disk (protocol/media). The formats are specified beside the code in
// request.md, approval.md, bundle.md and response.md.
package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Version is the version of every message in this package.
const Version = 1

// Contexts of signatures, one for each purpose (RFC 9052 section 4.4 external_aad). A signature made for one purpose
// never counts for another.
const (
	ContextApproval     = "coldseal/approval/v1"
	ContextRequester    = "coldseal/requester/v1"
	ContextCurrentKey   = "coldseal/current-key/v1"
	ContextKeyStatement = "coldseal/key-statement/v1"
	ContextBundle       = "coldseal/bundle/v1"
	ContextResponse     = "coldseal/response/v1"
	ContextReceipt      = "coldseal/receipt/v1"
	ContextIntroduction = "coldseal/introduction/v1"
	ContextPossession   = "coldseal/possession/v1"
	ContextHandover     = "coldseal/handover/v1"
)

// Digest is a SHA-256 hash.
type Digest [32]byte

// DigestOf hashes bytes as they are.
func DigestOf(data []byte) Digest { return sha256.Sum256(data) }

// String is lowercase hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells whether no digest was given.
func (d Digest) IsZero() bool { return d == Digest{} }

// Groups shows a digest as groups of five decimal digits, for reading aloud and typing: each 16 bits are one group.
func (d Digest) Groups() string {
	var b strings.Builder
	for i := 0; i < len(d); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%05d", uint(d[i])<<8|uint(d[i+1]))
	}
	return b.String()
}

// ParseDigest reads a digest as people type it: 64 hexadecimal digits or sixteen groups of five decimal digits, with
// any spacing.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	compact := strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, text)
	switch len(compact) {
	case 64:
		b, err := hex.DecodeString(compact)
		if err != nil {
			return d, fmt.Errorf("read digest: %w", err)
		}
		return Digest(b), nil
	case 80:
		for i := range 16 {
			var n uint
			for _, c := range compact[5*i : 5*i+5] {
				if c < '0' || c > '9' {
					return d, fmt.Errorf("read digest: %q is not a decimal digit", c)
				}
				n = 10*n + uint(c-'0')
			}
			if n > 0xffff {
				return d, fmt.Errorf("read digest: group %d is %05d, above 65535", i+1, n)
			}
			d[2*i], d[2*i+1] = byte(n>>8), byte(n)
		}
		return d, nil
	}
	return d, fmt.Errorf("read digest: %d characters, want 64 hexadecimal digits or 16 groups of five decimal digits", len(compact))
}

// Limits of messages, each with its reason. A decoder never allocates more than the limit of what it decodes.
const (
	MaxRequest        = 64 << 10           // a 16 KiB CSR, attestation chain of three certificates, fields; a compiled policy with 40 profiles
	MaxApproval       = 64 << 10           // 1,024 ids of 34 bytes, statements, a manifest
	MaxItem           = MaxRequest + 4<<10 // a request and two signatures
	MaxHeader         = 64 << 10           // a bundle header with its checkpoint and acknowledgements
	MaxGroupItems     = 1024               // what one approval covers, and one ledger transaction holds
	MaxGroupBytes     = 4 << 20            // what the appliance holds of one group in memory
	MaxGroupApprovals = 64                 // approvals of one group; the agent splits groups above that
	MaxGroupHeader    = 2 << 20            // the approvals of a group
	MaxItems          = 1 << 20            // items of one bundle
	MaxName           = 32                 // an agent's or station's name, also part of file names
	MaxText           = 256                // a person, a subject, one field's value
	MaxFields         = 32                 // fields of a request
	MaxSegments       = 8                  // segments of a body
	MaxCAs            = 64                 // CA certificates of a state
	MaxBodies         = 256                // bodies of an agent or station

	// MaxTime is 9999-12-31T23:59:59Z in unix seconds, the last moment a certificate can name (RFC 5280 section 4.1.2.5).
	MaxTime = 253402300799
)

var (
	bodyPattern = regexp.MustCompile(`^[a-z0-9-]+(/[a-z0-9-]+)*$`)
	namePattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

// ValidBody tells whether text is a body, such as it/058091 (DESIGN section 2).
func ValidBody(text string) bool {
	return len(text) <= MaxText && strings.Count(text, "/") < MaxSegments && bodyPattern.MatchString(text)
}

// ValidName tells whether text names an agent, a station, a key or a profile.
func ValidName(text string) bool { return namePattern.MatchString(text) }

// BodyContains compares by segment: it/058091 contains it/058091 and it/058091/anagrafe, not it/0580912.
func BodyContains(scope, body string) bool {
	return body == scope || strings.HasPrefix(body, scope+"/")
}

// Scope is one pair a person may approve: a profile, and a body with all below it. Any, in either place, is for
// officers of the roster only.
type Scope struct {
	_       struct{} `cbor:",toarray"`
	Profile string
	Body    string
}

// Any stands for every profile or every body in an officer's scope.
const Any = "*"

// Contains tells whether s covers all of t.
func (s Scope) Contains(t Scope) bool {
	return (s.Profile == Any || s.Profile == t.Profile) && (s.Body == Any || t.Body != Any && BodyContains(s.Body, t.Body))
}

// ValidPerson tells whether text is one human's normalised identifier, the same in roster and approver certificates: a scheme, a colon, a
// value, such as it:FTTCRL84C52H501V. Quorums count persons.
func ValidPerson(text string) bool {
	scheme, value, found := strings.Cut(text, ":")
	if !found || !namePattern.MatchString(scheme) || value == "" || len(text) > MaxText {
		return false
	}
	for _, r := range value {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return false
		}
	}
	return true
}

// Date shows a time, in unix seconds, in refusals and listings: UTC, to the minute, the same everywhere.
func Date(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04 UTC") }
