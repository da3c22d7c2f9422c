package protocol_test

import (
	"bytes"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// approvalOf is the payload of a vector.
func approvalOf(t testing.TB, name string) protocol.Approval {
	t.Helper()
	a, refusal := protocol.OpenApproval(load(t, "approval-"+name), publicKey(t, "approver-"+name))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	return a
}

func TestOpenApproval(t *testing.T) {
	a := approvalOf(t, "ed25519")
	issue, release := protocol.ID(load(t, "request-issue")), protocol.ID(load(t, "request-release"))
	for _, id := range []protocol.Digest{issue, release} {
		e, covered := a.Entry(id)
		if !covered || e.ID != id || !e.States(protocol.StatementFingerprint) || e.States(protocol.StatementPresence) {
			t.Errorf("entry of %s: %v, %v", id, e, covered)
		}
	}
	for _, id := range []protocol.Digest{{}, protocol.DigestOf(nil), {0xff}} {
		if _, covered := a.Entry(id); covered {
			t.Errorf("covers %s", id)
		}
	}
	if a := approvalOf(t, "p384"); len(a.Challenge) != 16 {
		t.Errorf("challenge %x", a.Challenge)
	}
}

func TestOpenApprovalRefusesSignatures(t *testing.T) {
	good := load(t, "approval-p256")
	payload, err := cose.Verify(good, protocol.ContextApproval, publicKey(t, "approver-p256"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		message []byte
		key     string
	}{
		"another key":   {good, "approver-p384"},
		"another use":   {sign(t, "approver-p256", protocol.ContextRequester, payload), "approver-p256"},
		"bit flipped":   {flipped, "approver-p256"},
		"bare payload":  {payload, "approver-p256"},
		"nothing":       {nil, "approver-p256"},
		"trailing byte": {append(bytes.Clone(good), 0), "approver-p256"},
	} {
		t.Run(name, func(t *testing.T) {
			a, refusal := protocol.OpenApproval(c.message, publicKey(t, c.key))
			refuses(t, refusal, protocol.CodeApprovalInvalid, "")
			if len(a.Entries) != 0 {
				t.Error("a refused approval has entries")
			}
		})
	}
	_, refusal := protocol.OpenApproval(make([]byte, protocol.MaxApproval+1), publicKey(t, "approver-p256"))
	refuses(t, refusal, protocol.CodeApprovalInvalid, "at most 65536")
	_, refusal = protocol.OpenApproval(sign(t, "approver-p256", protocol.ContextApproval, append(payload, 0)), publicKey(t, "approver-p256"))
	refuses(t, refusal, protocol.CodeApprovalInvalid, "")
}

func TestApprovalRefusals(t *testing.T) {
	type A = protocol.Approval
	for _, c := range []struct {
		name, reason string
		change       func(*A)
	}{
		{"version", "version 2", func(a *A) { a.Version = 2 }},
		{"no entries", "0 requests", func(a *A) { a.Entries, a.Manifest = nil, nil }},
		{"too many entries", "1025 requests", func(a *A) { a.Entries = make([]protocol.ApprovalEntry, protocol.MaxGroupItems+1) }},
		{"created never", "not in order", func(a *A) { a.Created = 0 }},
		{"expires when created", "not in order", func(a *A) { a.Expires = a.Created }},
		{"lives too long", "too far apart", func(a *A) { a.Expires = a.Created + protocol.MaxApprovalLifetime + 1 }},
		{"after 9999", "not in order", func(a *A) { a.Created, a.Expires = protocol.MaxTime, protocol.MaxTime+1 }},
		{"short challenge", "challenge of 15", func(a *A) { a.Challenge = make([]byte, 15) }},
		{"long challenge", "challenge of 17", func(a *A) { a.Challenge = make([]byte, 17) }},
		{"entries out of order", "entry 1", func(a *A) { slices.Reverse(a.Entries) }},
		{"entry twice", "entry 1", func(a *A) { a.Entries[1] = a.Entries[0] }},
		{"statement 0", "statement 0", func(a *A) { a.Entries[0].Statements = []protocol.Statement{0} }},
		{"statement 3", "statement 3", func(a *A) { a.Entries[0].Statements = []protocol.Statement{3} }},
		{"statement twice", "statement 1", func(a *A) { a.Entries[0].Statements = []protocol.Statement{1, 1} }},
		{"statements out of order", "statement 1", func(a *A) { a.Entries[0].Statements = []protocol.Statement{2, 1} }},
		{"no manifest", "counts 0 requests", func(a *A) { a.Manifest = nil }},
		{"counts too few", "counts 1 requests", func(a *A) { a.Manifest = a.Manifest[1:] }},
		{"counts too many", "counts 3 requests", func(a *A) { a.Manifest[0].N = 2 }},
		{"counts nothing", "line 0 counts nothing", func(a *A) { a.Manifest[0].N = 0 }},
		{"counts beyond", "line 0 counts nothing", func(a *A) { a.Manifest[0].N = protocol.MaxGroupItems + 1 }},
		{"counts around", "line 0 counts nothing", func(a *A) { a.Manifest[0].N = 1<<64 - 1 }},
		{"lines out of order", "line 1", func(a *A) { slices.Reverse(a.Manifest) }},
		{"line twice", "line 1", func(a *A) { a.Manifest[1] = a.Manifest[0] }},
		{"line of unknown kind", "line 0", func(a *A) { a.Manifest[0].Kind = 7 }},
		{"line without profile", "line 0", func(a *A) { a.Manifest[0].Profile = "" }},
		{"line of no profile", "line 0", func(a *A) { a.Manifest[0].Profile = "\u202e" }},
		{"line without body", "line 0", func(a *A) { a.Manifest[0].Body = "" }},
		{"line of no body", "line 0", func(a *A) { a.Manifest[0].Body = "*" }},
		{"order with body", "line 1", func(a *A) { a.Manifest[1].Kind = protocol.KindCRL }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := approvalOf(t, "ed25519")
			c.change(&a)
			if _, err := a.Encode(); err == nil {
				t.Error("was encoded")
			}
			_, refusal := protocol.OpenApproval(sign(t, "approver-ed25519", protocol.ContextApproval, marshal(t, a)), publicKey(t, "approver-ed25519"))
			refuses(t, refusal, protocol.CodeApprovalInvalid, c.reason)
		})
	}
}

// TestLargestApproval shows that as many requests as a group holds fit under the limit, and that the maker is told when
// the manifest is too long for it.
func TestLargestApproval(t *testing.T) {
	a := approvalOf(t, "p256")
	a.Expires = a.Created + protocol.MaxApprovalLifetime
	a.Entries = make([]protocol.ApprovalEntry, protocol.MaxGroupItems)
	for i := range a.Entries {
		a.Entries[i] = protocol.ApprovalEntry{ID: protocol.Digest{byte(i >> 8), byte(i)}, Statements: []protocol.Statement{1, 2}}
	}
	a.Manifest[0].N = protocol.MaxGroupItems
	payload, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, refusal := protocol.OpenApproval(sign(t, "approver-p384", protocol.ContextApproval, payload), publicKey(t, "approver-p384")); refusal != nil {
		t.Error(refusal.Words())
	}
	a.Manifest = nil
	for i := range protocol.MaxGroupItems {
		body := "it/" + string(bytes.Repeat([]byte{'a'}, 200)) + string([]byte{'a' + byte(i>>8), '0' + byte(i>>4&7), 'a' + byte(i>>7&1), 'a' + byte(i&15)})
		a.Manifest = append(a.Manifest, protocol.Count{Kind: protocol.KindHold, Profile: "p", Body: body, N: 1})
	}
	slices.SortFunc(a.Manifest, func(x, y protocol.Count) int { return bytes.Compare([]byte(x.Body), []byte(y.Body)) })
	if _, err := a.Encode(); err == nil || !bytes.Contains([]byte(err.Error()), []byte("approve fewer at once")) {
		t.Errorf("a manifest of 200 KB: %v", err)
	}
}

func TestManifestOf(t *testing.T) {
	r := func(k protocol.Kind, profile, body string) protocol.Request {
		return protocol.Request{Kind: k, Profile: profile, Body: body}
	}
	got := protocol.ManifestOf([]protocol.Request{r(4, "b", "it"), r(1, "b", "it/2"), r(1, "b", "it/1"), r(1, "a", "it/3"), r(4, "b", "it")})
	want := []protocol.Count{
		{Kind: 1, Profile: "a", Body: "it/3", N: 1}, {Kind: 1, Profile: "b", Body: "it/1", N: 1}, {Kind: 1, Profile: "b", Body: "it/2", N: 1},
		{Kind: 4, Profile: "b", Body: "it", N: 2},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
