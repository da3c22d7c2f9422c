package protocol

import (
	"bytes"
	"fmt"
	"sort"

	"coldseal/protocol/cose"
)

// Statement is what an approver states about one request.
type Statement uint64

// The statements.
const (
	StatementPresence    Statement = 1 // identified by physical presence
	StatementFingerprint Statement = 2 // key fingerprint matched the one shown by the holder's own device
)

var statementNames = [...]string{StatementPresence: "presence", StatementFingerprint: "fingerprint"}

// String is the statement's name in policies and commands.
func (s Statement) String() string {
	if s >= 1 && int(s) < len(statementNames) {
		return statementNames[s]
	}
	return fmt.Sprintf("statement-%d", uint64(s))
}

// ParseStatement is the inverse of String.
func ParseStatement(name string) (Statement, bool) {
	for s, n := range statementNames {
		if n == name && n != "" {
			return Statement(s), true
		}
	}
	return 0, false
}

// ApprovalEntry approves one request.
type ApprovalEntry struct {
	_          struct{} `cbor:",toarray"`
	ID         Digest
	Statements []Statement // strictly ascending
}

// Count is one line of the manifest.
type Count struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Profile string
	Body    string
	N       uint64
}

// Approval is one person's approval of up to MaxGroupItems requests (approval.md).
type Approval struct {
	Version   uint64          `cbor:"1,keyasint"`
	Appliance Digest          `cbor:"2,keyasint"`
	Created   int64           `cbor:"3,keyasint"`           // unix seconds
	Expires   int64           `cbor:"4,keyasint"`           // unix seconds, exclusive
	Entries   []ApprovalEntry `cbor:"5,keyasint"`           // strictly ascending by id
	Manifest  []Count         `cbor:"6,keyasint"`           // what the person was shown; strictly ascending
	Challenge []byte          `cbor:"7,keyasint,omitempty"` // made at the console: the challenge it showed, 16 bytes
}

// MaxApprovalLifetime bounds how long an approval may wait on its way: a quarter and a week.
const MaxApprovalLifetime = 100 * 24 * 3600

// Entry finds the entry for a request.
func (a *Approval) Entry(id Digest) (ApprovalEntry, bool) {
	i := sort.Search(len(a.Entries), func(i int) bool { return bytes.Compare(a.Entries[i].ID[:], id[:]) >= 0 })
	if i < len(a.Entries) && a.Entries[i].ID == id {
		return a.Entries[i], true
	}
	return ApprovalEntry{}, false
}

// States tells whether the entry makes the statement.
func (e ApprovalEntry) States(s Statement) bool {
	for _, t := range e.Statements {
		if t == s {
			return true
		}
	}
	return false
}

// ManifestOf counts requests as a manifest does.
func ManifestOf(requests []Request) []Count {
	type key struct {
		kind          Kind
		profile, body string
	}
	counts := map[key]uint64{}
	for _, r := range requests {
		counts[key{r.Kind, r.Profile, r.Body}]++
	}
	manifest := make([]Count, 0, len(counts))
	for k, n := range counts {
		manifest = append(manifest, Count{Kind: k.kind, Profile: k.profile, Body: k.body, N: n})
	}
	sort.Slice(manifest, func(i, j int) bool { return countLess(manifest[i], manifest[j]) })
	return manifest
}

func countLess(a, b Count) bool {
	if a.Kind != b.Kind {
		return a.Kind < b.Kind
	}
	return scopeLess(Scope{Profile: a.Profile, Body: a.Body}, Scope{Profile: b.Profile, Body: b.Body})
}

// OpenApproval returns the approval that the key signed. That the key may approve is the caller's to know. Whatever is
// wrong with an approval, its refusal is open: the requests that it was to cover can be approved again.
func OpenApproval(message []byte, key cose.Key) (Approval, *Refusal) {
	a, err := openApproval(message, key)
	if err != nil {
		return Approval{}, Refuse(CodeApprovalInvalid, "reason", err.Error())
	}
	return a, nil
}

func openApproval(message []byte, key cose.Key) (a Approval, err error) {
	if len(message) > MaxApproval {
		return a, fmt.Errorf("%d bytes, at most %d", len(message), MaxApproval)
	}
	payload, err := cose.Verify(message, ContextApproval, key)
	if err != nil {
		return a, err
	}
	if err := cose.Unmarshal(payload, &a); err != nil {
		return a, err
	}
	return a, a.check()
}

// check is the one test of form, for those who make approvals and those who open them.
func (a *Approval) check() error {
	switch {
	case a.Version != Version:
		return fmt.Errorf("version %d is not %d", a.Version, Version)
	case len(a.Entries) == 0 || len(a.Entries) > MaxGroupItems:
		return fmt.Errorf("%d requests, from 1 to %d", len(a.Entries), MaxGroupItems)
	case a.Created <= 0 || a.Expires <= a.Created || a.Expires-a.Created > MaxApprovalLifetime || a.Expires > MaxTime:
		return fmt.Errorf("created %d and expires %d are not in order or too far apart", a.Created, a.Expires)
	case len(a.Challenge) != 0 && len(a.Challenge) != 16:
		return fmt.Errorf("challenge of %d bytes, want 16", len(a.Challenge))
	}
	for i, e := range a.Entries {
		if i > 0 && bytes.Compare(a.Entries[i-1].ID[:], e.ID[:]) >= 0 {
			return fmt.Errorf("entry %d is not in order", i)
		}
		for j, s := range e.Statements {
			if s < StatementPresence || s > StatementFingerprint || j > 0 && e.Statements[j-1] >= s {
				return fmt.Errorf("entry %d: statement %d is not known or not in order", i, uint64(s))
			}
		}
	}
	var total uint64
	for i, c := range a.Manifest {
		has, known := kinds[c.Kind]
		switch {
		case !known, has.profile != (c.Profile != ""), has.profile && !ValidName(c.Profile), has.body != (c.Body != ""), has.body && !ValidBody(c.Body):
			return fmt.Errorf("manifest line %d: kind %s, profile %q and body %q are not those of a request", i, c.Kind, cut(c.Profile), cut(c.Body))
		case c.N == 0 || c.N > MaxGroupItems || i > 0 && !countLess(a.Manifest[i-1], c):
			return fmt.Errorf("manifest line %d counts nothing or is not in order", i)
		}
		total += c.N
	}
	if total != uint64(len(a.Entries)) {
		return fmt.Errorf("manifest counts %d requests, there are %d", total, len(a.Entries))
	}
	return nil
}

// Encode checks the form and returns the payload to be signed with ContextApproval.
func (a *Approval) Encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("make approval: %w", err)
	}
	payload, err := cose.Marshal(a)
	if err == nil && len(payload) > MaxApproval-signing {
		return nil, fmt.Errorf("make approval: %d bytes, at most %d: approve fewer at once", len(payload), MaxApproval-signing)
	}
	return payload, err
}

// signing is room for what a COSE_Sign1 puts around its payload: two headers and a signature of at most 96 bytes.
const signing = 256
