package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// openResponse opens a response to the agent of the vectors.
func openResponse(t testing.TB, data []byte) (*protocol.Response, *protocol.Refusal) {
	t.Helper()
	r, refusal, err := protocol.OpenResponse(bytes.NewReader(data), firstKeys(t), "registry")
	if err != nil {
		t.Fatal(err)
	}
	return r, refusal
}

// TestResponseVector reads the vector the way an agent does, with its log.
func TestResponseVector(t *testing.T) {
	r, refusal := openResponse(t, load(t, "response"))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	w := makeWorld(t)
	origin := auditlog.Origin(w.appliance)
	next, err := auditlog.OpenCheckpoint(r.Header.Checkpoint, r.Keys)
	if err != nil {
		t.Fatal(err)
	}
	b, _, _ := readBundle(t, w.bundle, registry(t, nil))
	known := auditlog.Checkpoint{Origin: origin, Size: int64(b.Header.KnownSize), Root: auditlog.Hash(b.Header.KnownRoot)}
	extension, err := auditlog.NewExtension(known, r.Header.Range)
	if err != nil {
		t.Fatal(err)
	}
	if err := auditlog.CheckConsistency(r.Header.Consistency, known, next); err != nil {
		t.Error(err)
	}
	answers, leaves := map[uint64]protocol.Answer{}, r.Header.FirstLeaf
	var outcomes []string
	for {
		part, data, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch part {
		case protocol.PartAnswer:
			a, result, err := protocol.ParseAnswer(data)
			if err != nil {
				t.Fatal(err)
			}
			answers[a.Index] = a
			outcomes = append(outcomes, result.Outcome.String())
			if result.Outcome == protocol.OutcomeHeld {
				receipt, err := protocol.OpenReceipt(result.Receipt, firstKeys(t))
				if err != nil || receipt.Request != result.ID || !bytes.Equal(receipt.Serial, w.serial) {
					t.Errorf("receipt %+v, %v", receipt, err)
				}
			}
		case protocol.PartLeaf:
			leaf, err := extension.Append(data)
			if err != nil {
				t.Fatal(err)
			}
			if a, recorded := answers[leaves]; recorded && leaf.Body != auditlog.BodyDigest([16]byte(a.Salt), a.Body) {
				t.Errorf("leaf %d records another result", leaves)
			}
			leaves++
		case protocol.PartCRL:
			if !bytes.Equal(data, w.crl) {
				t.Error("another CRL")
			}
		}
	}
	if err := extension.Done(next); err != nil {
		t.Error(err)
	}
	if got := strings.Join(outcomes, " "); got != "held issued refused" {
		t.Errorf("outcomes %s", got)
	}
	if _, _, err := r.Next(); err != io.EOF {
		t.Errorf("after its end: %v", err)
	}
}

// headerOf is the header of the vector and what follows it.
func headerOf(t testing.TB) (protocol.ResponseHeader, []byte) {
	r, refusal := openResponse(t, load(t, "response"))
	if refusal != nil {
		t.Fatal(refusal.Words())
	}
	_, contents := split(t, load(t, "response"))
	return r.Header, contents
}

// sealResponse seals any header, right or wrong.
func sealResponse(t testing.TB, h protocol.ResponseHeader, key, context string, contents []byte) []byte {
	var out bytes.Buffer
	out.WriteByte(0x40) // no handovers
	if err := protocol.WriteString(&out, sign(t, key, context, marshal(t, h))); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), contents...)
}

func TestResponseHeaderRefusals(t *testing.T) {
	type H = protocol.ResponseHeader
	many := func(n int) (numbers []uint64) {
		for i := range n {
			numbers = append(numbers, uint64(i)+1)
		}
		return numbers
	}
	for _, c := range []struct {
		name   string
		code   protocol.Code // empty: accepted
		reason string
		form   bool // the writer refuses it too
		change func(*H)
	}{
		{"as it is", "", "", false, func(h *H) {}},
		{"a refused bundle, where something was taken away", "", "", false, func(h *H) { h.Refusal = protocol.Refuse(protocol.CodeClock, "now", "1970") }},
		{"all numbers at their limits", "", "", false, func(h *H) { h.Last, h.Missing, h.Pending = 5000, many(protocol.MaxMissing), many(protocol.MaxPending) }},
		{"nothing used yet", "", "", false, func(h *H) { h.Last, h.Missing, h.Pending = 0, nil, nil }},
		{"version", protocol.CodeMalformed, "version 2", true, func(h *H) { h.Version = 2 }},
		{"to nobody", protocol.CodeMalformed, "not a name", true, func(h *H) { h.To = "" }},
		{"answers 0", protocol.CodeMalformed, "number of the bundle is 0", true, func(h *H) { h.Answers = 0 }},
		{"created never", protocol.CodeMalformed, "not a time", true, func(h *H) { h.Created = 0 }},
		{"created after 9999", protocol.CodeMalformed, "not a time", true, func(h *H) { h.Created = protocol.MaxTime + 1 }},
		{"missing out of order", protocol.CodeMalformed, "missing numbers", true, func(h *H) { h.Missing = []uint64{3, 2} }},
		{"missing above last", protocol.CodeMalformed, "missing numbers", true, func(h *H) { h.Missing = []uint64{7} }},
		{"too many missing", protocol.CodeMalformed, "missing numbers", true, func(h *H) { h.Last, h.Missing = 5000, many(protocol.MaxMissing+1) }},
		{"pending out of order", protocol.CodeMalformed, "pending numbers", true, func(h *H) { h.Pending = []uint64{4, 4} }},
		{"pending above last", protocol.CodeMalformed, "pending numbers", true, func(h *H) { h.Pending = []uint64{8} }},
		{"too many pending", protocol.CodeMalformed, "pending numbers", true, func(h *H) { h.Last, h.Pending = 5000, many(protocol.MaxPending+1) }},
		{"too many results", protocol.CodeMalformed, "too many", true, func(h *H) { h.Results = protocol.MaxItems + 1 }},
		{"leaves that overflow", protocol.CodeMalformed, "too many", true, func(h *H) { h.Leaves = 1<<64 - 3 }},
		{"first leaf too high", protocol.CodeMalformed, "too many", true, func(h *H) { h.FirstLeaf = protocol.MaxLeaves + 1 }},
		{"CRLs that overflow", protocol.CodeMalformed, "too many", true, func(h *H) { h.CRLs = 1<<64 - 3 }},
		{"too many CAs", protocol.CodeMalformed, "65 CA certificates", true, func(h *H) { h.State.CAs = make([][]byte, protocol.MaxCAs+1) }},
		{"no labels", protocol.CodeMalformed, "0 labels for 1 CA", true, func(h *H) { h.State.Labels = nil }},
		{"label that is no name", protocol.CodeMalformed, "is not a name", true, func(h *H) { h.State.Labels = []string{"Root"} }},
		{"labels alike", protocol.CodeMalformed, "have the label root", true, func(h *H) {
			h.State.CAs, h.State.Labels = append(h.State.CAs, h.State.CAs[0]), []string{"root", "root"}
		}},
		{"refused without code", protocol.CodeMalformed, "code", true, func(h *H) { h.Refusal = &protocol.Refusal{} }},
		{"from another", protocol.CodeWrongAppliance, "010000", false, func(h *H) { h.From = protocol.Digest{1} }},
		{"to another", protocol.CodeNotForAgent, "other", false, func(h *H) { h.To = "other" }},
		{"other contents", protocol.CodeBadSeal, "not those that were sealed", false, func(h *H) { h.Rest = protocol.Digest{1} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, contents := headerOf(t)
			c.change(&h)
			_, refusal := openResponse(t, sealResponse(t, h, "seal", protocol.ContextResponse, contents))
			if c.code == "" && refusal != nil {
				t.Error(refusal.Words())
			} else if c.code != "" {
				refuses(t, refusal, c.code, c.reason)
			}
			if err := protocol.WriteResponseHeader(io.Discard, h, nil, testKey(t, "seal")); (err != nil) != c.form {
				t.Errorf("WriteResponseHeader: %v", err)
			}
		})
	}
	h, contents := headerOf(t)
	_, refusal := openResponse(t, sealResponse(t, h, "stranger", protocol.ContextResponse, contents))
	refuses(t, refusal, protocol.CodeBadSeal, "")
	_, refusal = openResponse(t, sealResponse(t, h, "seal", protocol.ContextBundle, contents))
	refuses(t, refusal, protocol.CodeBadSeal, "")
	junk := bytes.NewBuffer([]byte{0x40})
	if err := protocol.WriteString(junk, sign(t, "seal", protocol.ContextResponse, []byte{0xa0})); err != nil {
		t.Fatal(err)
	}
	_, refusal = openResponse(t, junk.Bytes())
	refuses(t, refusal, protocol.CodeMalformed, "response")
	h.State.Policy = make([]byte, protocol.MaxResponseHeader)
	if err := protocol.WriteResponseHeader(io.Discard, h, nil, testKey(t, "seal")); err == nil {
		t.Error("a header above its limit was written")
	}
}

func TestResponseDamage(t *testing.T) {
	good := load(t, "response")
	for n := range good {
		if _, refusal := openResponse(t, good[:n]); refusal == nil {
			t.Errorf("cut at %d: was opened", n)
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, refusal := openResponse(t, flipped); refusal == nil {
			t.Errorf("flipped at %d: was opened", n)
		}
	}
	if _, refusal := openResponse(t, append(bytes.Clone(good), 0x40)); refusal == nil {
		t.Error("appended: was opened")
	}
}

// TestResponseParts: the parts are as many as the header counts, each within its limit, and nothing follows.
func TestResponseParts(t *testing.T) {
	one := func(size int) []byte {
		var out bytes.Buffer
		if err := protocol.WriteString(&out, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	type H = protocol.ResponseHeader
	for _, c := range []struct {
		name     string
		reason   string // empty: accepted
		change   func(*H)
		contents []byte
	}{
		{"largest answer", "", func(h *H) { h.Results = 1 }, one(protocol.MaxAnswer)},
		{"largest leaf", "", func(h *H) { h.Leaves = 1 }, one(protocol.MaxLeaf)},
		{"large CRL", "", func(h *H) { h.CRLs = 1 }, one(3 << 20)},
		{"nothing", "", func(h *H) {}, nil},
		{"answer too large", "at most 32768", func(h *H) { h.Results = 1 }, one(protocol.MaxAnswer + 1)},
		{"leaf too large", "at most 256", func(h *H) { h.Leaves = 1 }, one(protocol.MaxLeaf + 1)},
		{"CRL too large", "at most 67108864", func(h *H) { h.CRLs = 1 }, []byte{0x5a, 4, 0, 0, 1}},
		{"answer missing", "part 0", func(h *H) { h.Results = 1 }, nil},
		{"CRL cut", "part 0", func(h *H) { h.CRLs = 1 }, one(1000)[:500]},
		{"left over", "after the last", func(h *H) { h.Leaves = 1 }, append(one(1), one(1)...)},
		{"no byte string", "initial byte", func(h *H) { h.Leaves = 1 }, []byte{0xa0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, _ := headerOf(t)
			h.Results, h.Leaves, h.CRLs, h.Rest = 0, 0, 0, protocol.DigestOf(c.contents)
			c.change(&h)
			r, refusal := openResponse(t, sealResponse(t, h, "seal", protocol.ContextResponse, c.contents))
			if refusal != nil {
				t.Fatal(refusal.Words())
			}
			var err error
			for err == nil {
				_, _, err = r.Next()
			}
			if c.reason == "" && err != io.EOF {
				t.Error(err)
			} else if c.reason != "" && (!errors.Is(err, protocol.ErrSequence) || !strings.Contains(err.Error(), c.reason)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestResultRefusals(t *testing.T) {
	type R = protocol.Result
	id, ca := protocol.Digest{1}, protocol.Digest{2}
	good := map[protocol.Outcome]R{
		protocol.OutcomeIssued:    {Issuer: ca, Serial: []byte{1}, Certificate: []byte{1}},
		protocol.OutcomeRevoked:   {Issuer: ca, Serial: []byte{1}, Receipt: []byte{1}},
		protocol.OutcomeHeld:      {Issuer: ca, Serial: []byte{1}, Receipt: []byte{1}},
		protocol.OutcomeReleased:  {Issuer: ca, Serial: []byte{1}},
		protocol.OutcomeWithdrawn: {},
		protocol.OutcomeDone:      {},
		protocol.OutcomeRefused:   {Refusal: protocol.Refuse(protocol.CodeWithdrawn)},
	}
	fields := map[string]func(r *R, there bool){
		"issuer": func(r *R, there bool) {
			if r.Issuer = (protocol.Digest{}); there {
				r.Issuer = ca
			}
		},
		"serial": func(r *R, there bool) {
			if r.Serial = nil; there {
				r.Serial = []byte{1}
			}
		},
		"certificate": func(r *R, there bool) {
			if r.Certificate = nil; there {
				r.Certificate = []byte{1}
			}
		},
		"key": func(r *R, there bool) {
			if r.Key = nil; there {
				r.Key = []byte{1}
			}
		},
		"receipt": func(r *R, there bool) {
			if r.Receipt = nil; there {
				r.Receipt = []byte{1}
			}
		},
		"attestation": func(r *R, there bool) {
			if r.Attestation = nil; there {
				r.Attestation = []byte{1}
			}
		},
		"refusal": func(r *R, there bool) {
			if r.Refusal = nil; there {
				r.Refusal = protocol.Refuse(protocol.CodeWithdrawn)
			}
		},
	}
	has := map[protocol.Outcome]string{1: "issuer serial certificate", 2: "issuer serial receipt", 3: "issuer serial receipt", 4: "issuer serial", 7: "refusal"}
	for outcome, r := range good {
		r.ID, r.Outcome = id, outcome
		if _, err := protocol.ParseResult(marshal(t, r)); err != nil {
			t.Errorf("%s: %v", outcome, err)
		}
		for name, set := range fields {
			changed := r
			set(&changed, !strings.Contains(has[outcome], name))
			optional := outcome == protocol.OutcomeDone && name == "key"
			if _, err := protocol.ParseResult(marshal(t, changed)); (err == nil) != optional {
				t.Errorf("%s with or without %s: %v", outcome, name, err)
			}
		}
	}
	for name, r := range map[string]R{
		"outcome 0":         {ID: id},
		"outcome 8":         {ID: id, Outcome: 8},
		"bad serial":        {ID: id, Outcome: protocol.OutcomeReleased, Issuer: ca, Serial: []byte{0, 1}},
		"bad code":          {ID: id, Outcome: protocol.OutcomeRefused, Refusal: &protocol.Refusal{Code: "No Code"}},
		"bad parameter":     {ID: id, Outcome: protocol.OutcomeRefused, Refusal: &protocol.Refusal{Code: "x", Params: map[string]string{"A": ""}}},
		"long value":        {ID: id, Outcome: protocol.OutcomeRefused, Refusal: &protocol.Refusal{Code: "x", Params: map[string]string{"a": strings.Repeat("v", 257)}}},
		"no id, no outcome": {},
		"long attestation":  {ID: id, Outcome: protocol.OutcomeDone, Key: []byte{1}, Attestation: make([]byte, protocol.MaxAttestation+1)},
	} {
		if _, err := protocol.ParseResult(marshal(t, r)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	attested := R{ID: id, Outcome: protocol.OutcomeDone, Key: []byte{1}, Attestation: make([]byte, protocol.MaxAttestation)}
	if r, err := protocol.ParseResult(marshal(t, attested)); err != nil || len(r.Attestation) != protocol.MaxAttestation {
		t.Errorf("a key with its attestation: %v", err)
	}
	body := marshal(t, R{ID: id, Outcome: protocol.OutcomeDone})
	for name, c := range map[string]struct {
		answer protocol.Answer
		good   bool
	}{
		"without leaf":     {protocol.Answer{Body: body}, true},
		"with leaf":        {protocol.Answer{Body: body, Index: 1, Salt: make([]byte, 16)}, true},
		"index, no salt":   {protocol.Answer{Body: body, Index: 1}, false},
		"salt, no index":   {protocol.Answer{Body: body, Salt: make([]byte, 16)}, false},
		"short salt":       {protocol.Answer{Body: body, Index: 1, Salt: make([]byte, 15)}, false},
		"no result":        {protocol.Answer{Body: []byte{0xa0}}, false},
		"result and a bit": {protocol.Answer{Body: append(bytes.Clone(body), 0)}, false},
	} {
		a, r, err := protocol.ParseAnswer(marshal(t, c.answer))
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (len(a.Body) != 0 || r.Outcome != 0) {
			t.Errorf("%s: a refused answer has a value", name)
		}
	}
}

func TestReceiptRefusals(t *testing.T) {
	payload, err := cose.Verify(load(t, "receipt"), protocol.ContextReceipt, publicKey(t, "seal"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := protocol.OpenReceipt(load(t, "receipt"), firstKeys(t)); err != nil {
		t.Error(err)
	}
	type R = protocol.Receipt
	for name, message := range map[string][]byte{
		"another key":     sign(t, "stranger", protocol.ContextReceipt, payload),
		"another purpose": sign(t, "seal", protocol.ContextResponse, payload),
		"no receipt":      sign(t, "seal", protocol.ContextReceipt, []byte{0xa0}),
		"issued":          sign(t, "seal", protocol.ContextReceipt, edit(t, payload, func(r *R) { r.Outcome = protocol.OutcomeIssued })),
		"no serial":       sign(t, "seal", protocol.ContextReceipt, edit(t, payload, func(r *R) { r.Serial = nil })),
	} {
		if r, err := protocol.OpenReceipt(message, firstKeys(t)); err == nil || r.Outcome != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}
