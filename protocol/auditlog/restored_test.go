package auditlog

import (
	"bytes"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// restoredFloor is what the restore of the vector says of the CRLs: CRL 1 was brought, another one may be about.
const restoredFloor = 1001

// makeRestored is the body of the leaf that ends the restore of the vector: the leaves from a backup's size on were brought.
// The order among them came without its body.
func makeRestored(t testing.TB, appliance protocol.Digest, from, size uint64, root Hash) string {
	t.Helper()
	encode := func(v any) []byte {
		t.Helper()
		data, err := cose.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	c := protocol.Restoration{From: from, Size: size, Root: protocol.Digest(root), Lost: 1, CRLs: []protocol.CRLFloor{{Issuer: protocol.Digest(issuer), Number: restoredFloor}}}
	content, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := protocol.Request{
		Version: protocol.Version, Appliance: appliance, Kind: protocol.KindRestore, Nonce: [16]byte{byte(protocol.KindRestore)},
		Created: 1_800_000_019, Expires: 1_800_003_600, Content: content,
	}
	request := encode(r)
	challenge := bytes.Repeat([]byte{0xcc}, 16)
	a := protocol.Approval{
		Version: protocol.Version, Appliance: appliance, Created: 1_800_000_019, Expires: 1_800_003_600,
		Entries: []protocol.ApprovalEntry{{ID: protocol.ID(request)}}, Manifest: protocol.ManifestOf([]protocol.Request{r}), Challenge: challenge,
	}
	payload, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	approval, err := cose.Sign(approverKey, protocol.ContextApproval, payload)
	if err != nil {
		t.Fatal(err)
	}
	result := encode(protocol.Result{ID: protocol.ID(request), Outcome: protocol.OutcomeDone})
	return string(encode(OrderBody{Request: request, Approvals: [][]byte{approval}, Challenge: challenge, Result: result}))
}

// restoreOf reads the order that ends the restore of the vector.
func restoreOf(t testing.TB, v vector) protocol.Request {
	t.Helper()
	var o OrderBody
	if err := cose.Unmarshal(unhex(t, v.Leaves[v.Newest.Size].Body), &o); err != nil {
		t.Fatal(err)
	}
	r, refusal := protocol.ParseRequest(o.Request)
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	if result, err := protocol.ParseResult(o.Result); err != nil || result.ID != protocol.ID(o.Request) {
		t.Errorf("%+v, %v", result, err)
	}
	return r
}

// The order in the vector can be read again, and says what the leaves before it are.
func TestRestoredVector(t *testing.T) {
	v := makeVector(t)
	r := restoreOf(t, v)
	c, refusal := r.Restoration()
	if refusal != nil || c.From != uint64(v.Known.Size) || c.Size != uint64(v.Newest.Size) || !bytes.Equal(c.Root[:], unhex(t, v.Newest.Root)) {
		t.Errorf("%+v, %v", c, refusal)
	}
}
