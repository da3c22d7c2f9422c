package protocol_test

import (
	"bufio"
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// handoverOf is what the seal key signed of a handover.
func handoverOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var made handover
	if err := cose.Unmarshal(data, &made); err != nil {
		t.Fatal(err)
	}
	payload, err := cose.Verify(made.Statement, protocol.ContextHandover, publicKey(t, "seal"))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// TestKeysAreAFunctionOfTheSize walks the vectors, and asks at each size which keys stand.
func TestKeysAreAFunctionOfTheSize(t *testing.T) {
	w := makeWorld(t)
	keys, err := firstKeys(t).Walk(w.handed())
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[uint64]string{
		0: "log receiver seal", 20: "log receiver seal", 21: "new-log receiver seal", 30: "new-log receiver seal", 31: "new-log receiver new-seal",
		40: "new-log receiver new-seal", 41: "new-log new-receiver new-seal", 1 << 60: "new-log new-receiver new-seal",
	} {
		names := strings.Fields(want)
		stand := keys.At(size)
		for i, use := range protocol.Uses() {
			if stand.ID(use) != protocol.Digest(publicKey(t, names[i]).ID()) {
				t.Errorf("at %d entries the %s key is not %s", size, use, names[i])
			}
		}
		if !stand.Log.Equal(publicKey(t, names[0]).Public()) || stand.Seal.ID() != publicKey(t, names[2]).ID() {
			t.Errorf("at %d entries the keys are not those of their ids", size)
		}
	}
	if keys.Now() != keys.At(41) {
		t.Error("the newest keys are not those that stand at the end")
	}
	for name, want := range map[string]string{"log": "log false true", "new-log": "log true true", "receiver": "receiver false true", "stranger": "use-0 false false"} {
		if use, current, found := keys.Find(publicKey(t, name).ID()); fmt.Sprint(use, " ", current, " ", found) != want {
			t.Errorf("%s: %s, current %t, found %t", name, use, current, found)
		}
	}
	var seals []string
	keys.Each(protocol.UseSeal, func(spki []byte) { seals = append(seals, protocol.DigestOf(spki).String()) })
	if len(seals) != 2 || seals[0] != protocol.DigestOf(spki(t, "seal")).String() || seals[1] != protocol.DigestOf(spki(t, "new-seal")).String() {
		t.Errorf("seal keys %v", seals)
	}
	if opened, err := protocol.OpenIntroduction(load(t, "introduction-later"), w.appliance); err != nil || opened.Keys.Now().ID(protocol.UseLog) != keys.Now().ID(protocol.UseLog) {
		t.Errorf("introduction: %v", err)
	}
}

// TestWalk: of two lists one begins the other, and the longer stays.
func TestWalk(t *testing.T) {
	w := makeWorld(t)
	all := w.handed()
	first := firstKeys(t)
	walk := func(from *protocol.Keys, handovers [][]byte) *protocol.Keys {
		t.Helper()
		keys, err := from.Walk(handovers)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	two, three := walk(first, all[:2]), walk(first, all)
	if walk(three, all[:1]) != three || walk(two, nil) != two {
		t.Error("what was known is not kept")
	}
	if on := walk(two, all); len(on.Handovers()) != 3 || len(two.Handovers()) != 2 || len(first.Handovers()) != 0 {
		t.Error("walking on changes what there was")
	}
	other := w.handover(t, func(h *protocol.Handover) { h.Index++ }, "seal", "")
	for name, handovers := range map[string][][]byte{"another first": {other}, "another first, then more": {other, all[1]}} {
		if _, err := two.Walk(handovers); !errors.Is(err, protocol.ErrHandover) || !strings.Contains(err.Error(), "another one is known") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// handover makes the first handover of the vectors otherwise; of a seal key, possessor proves to have it.
func (w *world) handover(t testing.TB, change func(*protocol.Handover), seal, possessor string) []byte {
	t.Helper()
	h := protocol.Handover{
		Appliance: w.appliance, Use: protocol.UseLog, Replaces: publicKey(t, "log").ID(), Key: spki(t, "new-log"), Index: 20, Time: now + day,
	}
	if change != nil {
		change(&h)
	}
	var holder crypto.Signer
	if possessor != "" {
		holder = testKey(t, possessor)
	}
	data, err := protocol.SignHandover(h, testKey(t, seal), holder)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestHandoverRefusals(t *testing.T) {
	w := makeWorld(t)
	all := w.handed()
	type H = protocol.Handover
	made := func(seal, possessor string, change func(*H)) []byte { return w.handover(t, change, seal, possessor) }
	toSeal := func(name string) func(*H) {
		return func(h *H) {
			h.Use, h.Replaces, h.Key = protocol.UseSeal, publicKey(t, "seal").ID(), spki(t, name)
		}
	}
	good := handoverOf(t, all[0])
	raw := func(context string, payload []byte) []byte {
		return marshal(t, handover{Statement: sign(t, "seal", context, payload)})
	}
	for name, c := range map[string]struct {
		after  [][]byte // handovers before it
		data   []byte
		reason string // empty: accepted
	}{
		"good":                       {nil, made("seal", "", nil), ""},
		"good seal key":              {nil, made("seal", "new-seal", toSeal("new-seal")), ""},
		"good receiver":              {all[:2], all[2], ""},
		"wrong signer":               {nil, made("stranger", "", nil), "another key"},
		"by the new seal key itself": {nil, made("new-seal", "new-seal", toSeal("new-seal")), "another key"},
		"by the seal key that was": {all[:2], made("seal", "", func(h *H) {
			h.Use, h.Replaces, h.Key, h.Index = protocol.UseReceiver, publicKey(t, "receiver").ID(), spki(t, "new-receiver"), 40
			h.Previous = protocol.DigestOf(all[1])
		}), "another key"},
		"another purpose":             {nil, raw(protocol.ContextResponse, good), "verify"},
		"another appliance":           {nil, made("seal", "", func(h *H) { h.Appliance = protocol.Digest{1} }), "of the appliance 01"},
		"replay":                      {all[:1], all[0], "does not follow"},
		"replay after more":           {all, all[2], "does not follow"},
		"wrong order":                 {all[:1], all[2], "another key"},
		"an earlier leaf":             {all[:1], made("seal", "new-seal", func(h *H) { toSeal("new-seal")(h); h.Index, h.Previous = 19, protocol.DigestOf(all[0]) }), "does not come after"},
		"the same leaf":               {all[:1], made("seal", "new-seal", func(h *H) { toSeal("new-seal")(h); h.Previous = protocol.DigestOf(all[0]) }), "does not come after"},
		"leaf of the genesis":         {nil, made("seal", "", func(h *H) { h.Index = 0 }), "does not come after"},
		"a leaf that no log has":      {nil, made("seal", "", func(h *H) { h.Index = protocol.MaxLeaves }), "does not come after"},
		"gap":                         {nil, made("seal", "", func(h *H) { h.Replaces = publicKey(t, "stranger").ID() }), "not the one that stood"},
		"one left out":                {nil, all[1], "does not follow"},
		"one before that was not":     {nil, made("seal", "", func(h *H) { h.Previous = protocol.Digest{1} }), "does not follow"},
		"of a use that it is not for": {nil, made("seal", "", func(h *H) { h.Use = protocol.UseReceiver; h.Key = spki(t, "new-receiver") }), "receiver key that it replaces is not"},
		"unknown use":                 {nil, made("seal", "", func(h *H) { h.Use = 4 }), "use 4"},
		"no use":                      {nil, made("seal", "", func(h *H) { h.Use = 0 }), "use 0"},
		"log key on P-256":            {nil, made("seal", "", func(h *H) { h.Key = spki(t, "stranger") }), "not Ed25519"},
		"receiver on P-384": {nil, made("seal", "", func(h *H) {
			h.Use, h.Replaces, h.Key = protocol.UseReceiver, publicKey(t, "receiver").ID(), spki(t, "approver-p384")
		}), "not on P-256"},
		"no key":                {nil, made("seal", "", func(h *H) { h.Key = nil }), "log key"},
		"the same key":          {nil, made("seal", "", func(h *H) { h.Key = spki(t, "log") }), "one of the appliance's before"},
		"a key for another use": {nil, made("seal", "receiver", toSeal("receiver")), "one of the appliance's before"},
		"back to a key that was": {all[:2], made("new-seal", "seal", func(h *H) {
			toSeal("seal")(h)
			h.Replaces, h.Index, h.Previous = publicKey(t, "new-seal").ID(), 40, protocol.DigestOf(all[1])
		}), "one of the appliance's before"},
		"no time":                        {nil, made("seal", "", func(h *H) { h.Time = 0 }), "time 0"},
		"nobody holds the new seal key":  {nil, made("seal", "", toSeal("new-seal")), "nobody proved"},
		"another holds another seal key": {nil, made("seal", "stranger", toSeal("new-seal")), "nobody proved"},
		"possession of something else": {nil, marshal(t, handover{
			Statement:  sign(t, "seal", protocol.ContextHandover, edit(t, good, toSeal("new-seal"))),
			Possession: sign(t, "new-seal", protocol.ContextPossession, make([]byte, 32)),
		}), "nobody proved"},
		"possession out of place": {nil, made("seal", "new-log", nil), "out of place"},
		"seal key of no kind":     {nil, made("seal", "", func(h *H) { toSeal("new-seal")(h); h.Key = []byte{1} }), "seal key"},
		"no handover":             {nil, []byte{0xa0}, "decode"},
		"not signed":              {nil, marshal(t, handover{}), "COSE_Sign1"},
		"of something else":       {nil, raw(protocol.ContextHandover, []byte{0xa0}), "deterministic"},
		"trailing byte":           {nil, append(bytes.Clone(all[0]), 0), "decode"},
		"too long":                {nil, make([]byte, protocol.MaxHandover+1), "at most 1024"},
	} {
		keys, err := firstKeys(t).Walk(c.after)
		if err != nil {
			t.Fatal(err)
		}
		next, _, err := keys.Next(c.data)
		if c.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, protocol.ErrHandover) || !strings.Contains(err.Error(), c.reason) || next != nil {
			t.Errorf("%s: %v; want one about %q", name, err, c.reason)
		}
	}
}

// TestHandoversAreBounded: after MaxHandovers nothing is handed over any more, and no list is longer.
func TestHandoversAreBounded(t *testing.T) {
	keys := firstKeys(t)
	w := &world{t: t, appliance: keys.Appliance()}
	next := func(i int) []byte {
		public := numberedKey(t, i)
		return w.handover(t, func(h *protocol.Handover) {
			h.Replaces, h.Key, h.Index, h.Previous = keys.Now().ID(protocol.UseLog), public, uint64(i)+1, keys.Last()
		}, "seal", "")
	}
	for i := range protocol.MaxHandovers {
		var err error
		if keys, _, err = keys.Next(next(i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := keys.Next(next(protocol.MaxHandovers)); err == nil || !strings.Contains(err.Error(), "more than 128") {
		t.Errorf("one too many: %v", err)
	}
	read := func(list [][]byte) error {
		var b bytes.Buffer
		if err := protocol.WriteString(&b, marshal(t, list)); err != nil {
			t.Fatal(err)
		}
		_, err := protocol.ReadHandovers(bufio.NewReader(&b))
		return err
	}
	if err := read(keys.Handovers()); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
	for name, list := range map[string][][]byte{"one too many": append(keys.Handovers(), []byte{1}), "an empty list": {}} {
		if err := read(list); !errors.Is(err, protocol.ErrSequence) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestResponseAfterAHandover: a response is sealed by the key that stood at the size of its log, whoever reads it.
func TestResponseAfterAHandover(t *testing.T) {
	w := makeWorld(t)
	all := w.handed()
	respond := func(size uint64, key string, handovers [][]byte) []byte {
		h, _ := headerOf(t)
		h.FirstLeaf, h.Leaves, h.Results, h.CRLs, h.Rest = size, 0, 0, 0, protocol.DigestOf(nil)
		var out bytes.Buffer
		if err := protocol.WriteResponseHeader(&out, h, handovers, testKey(t, key)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := firstKeys(t)
	later, err := first.Walk(all)
	if err != nil {
		t.Fatal(err)
	}
	fork := w.handover(t, func(h *protocol.Handover) { h.Index = 5 }, "seal", "")
	for name, c := range map[string]struct {
		known  *protocol.Keys
		data   []byte
		reason string // empty: accepted
	}{
		"old, for one who knows no more":                {first, respond(25, "seal", nil), ""},
		"old, for one who knows all":                    {later, respond(25, "seal", nil), ""},
		"old, with what came later":                     {first, respond(25, "seal", all), ""},
		"new, for one who slept":                        {first, respond(50, "new-seal", all), ""},
		"new, for one who knows all":                    {later, respond(50, "new-seal", all), ""},
		"new, without handovers, for one who knows all": {later, respond(50, "new-seal", nil), ""},
		"at the order":                                  {first, respond(31, "new-seal", all[:2]), ""},
		"before the order":                              {first, respond(30, "seal", all[:2]), ""},
		"old key past the handover":                     {later, respond(31, "seal", nil), "did not stand"},
		"old key past the handover it brings":           {first, respond(31, "seal", all[:2]), "did not stand"},
		"new key before its time":                       {first, respond(30, "new-seal", all), "did not stand"},
		"new key of which nobody heard":                 {first, respond(50, "new-seal", nil), "no seal key of the appliance"},
		"handovers that lead nowhere":                   {first, respond(50, "new-seal", all[1:]), "handed over"},
		"handovers that are not those known":            {later, respond(25, "seal", [][]byte{fork}), "another one is known"},
	} {
		r, refusal, err := protocol.OpenResponse(bytes.NewReader(c.data), c.known, "registry")
		if err != nil {
			t.Fatal(err)
		}
		if c.reason == "" {
			if refusal != nil {
				t.Errorf("%s: %s", name, refusal.Words())
			} else if len(r.Keys.Handovers()) < len(c.known.Handovers()) {
				t.Errorf("%s: keys that were known are forgotten", name)
			}
			continue
		}
		if refusal == nil || refusal.Code != protocol.CodeBadSeal || !strings.Contains(refusal.Words(), c.reason) {
			t.Errorf("%s: refused with %v; want one about %q", name, refusal, c.reason)
		}
	}
}

// TestReceiptAfterAHandover: a receipt is signed by the key that stood at the size of the log that it names.
func TestReceiptAfterAHandover(t *testing.T) {
	w := makeWorld(t)
	later, err := firstKeys(t).Walk(w.handed())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := cose.Verify(w.receipt, protocol.ContextReceipt, publicKey(t, "seal"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys *protocol.Keys
		key  string
		size uint64
		good bool
	}{
		"before, by the old":    {later, "seal", 30, true},
		"after, by the new":     {later, "new-seal", 31, true},
		"after, by the old":     {later, "seal", 31, false},
		"before, by the new":    {later, "new-seal", 30, false},
		"by one not heard of":   {firstKeys(t), "new-seal", 31, false},
		"old, for who slept":    {firstKeys(t), "seal", 31, true}, // who has not heard of the handover can't know
		"a log that nobody has": {later, "new-seal", protocol.MaxLeaves + 1, false},
	} {
		message := sign(t, c.key, protocol.ContextReceipt, edit(t, payload, func(r *protocol.Receipt) { r.Size = c.size }))
		if _, err := protocol.OpenReceipt(message, c.keys); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
