package auditlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// The own keys of an appliance whose origin is that of the other tests.
var (
	typed    = protocol.Digest{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0xff}
	sealKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	nextSeal = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{10}, ed25519.SeedSize))
)

func spkiOf(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	data, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ownKeys are those of a genesis.
func ownKeys(t testing.TB) *protocol.Keys {
	t.Helper()
	receiver, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := protocol.Genesis{Log: spkiOf(t, logPub), Receiver: spkiOf(t, receiver.Public()), Seal: spkiOf(t, sealKey.Public())}.Keys(typed)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// rotated hands the log key over at leaf 20.
func rotated(t testing.TB, change func(*protocol.Handover)) []byte {
	t.Helper()
	h := protocol.Handover{
		Appliance: typed, Use: protocol.UseLog, Replaces: ownKeys(t).Now().ID(protocol.UseLog), Key: spkiOf(t, otherKey.Public()), Index: 20, Time: 1_800_000_000,
	}
	var possessor crypto.Signer
	if change != nil {
		if change(&h); h.Use == protocol.UseSeal {
			possessor = nextSeal
		}
	}
	data, err := protocol.SignHandover(h, sealKey, possessor)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCheckpointByTheKeyOfItsSize: which log key has to have signed a checkpoint follows from the size that it is over.
func TestCheckpointByTheKeyOfItsSize(t *testing.T) {
	first := ownKeys(t)
	later, _, err := first.Next(rotated(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	signed := func(size int64, key ed25519.PrivateKey) []byte {
		note, err := SignCheckpoint(CheckpointText(origin, size, root), origin, key)
		if err != nil {
			t.Fatal(err)
		}
		return note
	}
	for name, c := range map[string]struct {
		keys *protocol.Keys
		note []byte
		good bool
	}{
		"before, by the old":     {later, signed(20, logKey), true},
		"after, by the new":      {later, signed(21, otherKey), true},
		"after, by the old":      {later, signed(21, logKey), false},
		"before, by the new":     {later, signed(20, otherKey), false},
		"by one not heard of":    {first, signed(21, otherKey), false},
		"before, for who slept":  {first, signed(20, logKey), true},
		"a size that was forged": {later, bytes.Replace(signed(20, logKey), []byte("\n20\n"), []byte("\n21\n"), 1), false},
		"forged the other way":   {later, bytes.Replace(signed(21, otherKey), []byte("\n21\n"), []byte("\n20\n"), 1), false},
	} {
		if _, err := OpenCheckpoint(c.note, c.keys); (err == nil) != c.good || err != nil && !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for note, want := range map[string]uint64{"": 0, "x\n12": 0, "x\n12\n": 12, "x\n-1\n": 0, "x\n99999999999999999999\n": 0, string(signed(21, otherKey)): 21} {
		if got := ClaimedSize([]byte(note)); got != want {
			t.Errorf("%.20q claims %d, want %d", note, got, want)
		}
	}
}

// TestInclusionAfterAHandover: a proof brings the way to the key that signed its checkpoint.
func TestInclusionAfterAHandover(t *testing.T) {
	data, digest := makeInclusion(t)
	var p InclusionProof
	if err := cose.Unmarshal(data, &p); err != nil {
		t.Fatal(err)
	}
	genesis, err := protocol.ParseGenesis(p.Genesis, digest)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := genesis.Keys(digest)
	if err != nil {
		t.Fatal(err)
	}
	handover, err := protocol.SignHandover(protocol.Handover{
		Appliance: digest, Use: protocol.UseLog, Replaces: keys.Now().ID(protocol.UseLog), Key: spkiOf(t, otherKey.Public()), Index: 1, Time: 1_800_000_000,
	}, sealKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	old, err := OpenCheckpoint(p.Checkpoint, keys)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := SignCheckpoint(CheckpointText(old.Origin, old.Size, old.Root), old.Origin, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		note      []byte
		handovers [][]byte
		good      bool
	}{
		"with the handover":           {fresh, [][]byte{handover}, true},
		"without":                     {fresh, nil, false},
		"an old key past its time":    {p.Checkpoint, [][]byte{handover}, false},
		"with a handover of somebody": {fresh, [][]byte{rotated(t, nil)}, false},
	} {
		changed := p
		changed.Checkpoint, changed.Handovers = c.note, c.handovers
		file, err := changed.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenInclusionProof(file, digest); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRotationIsAboutItsOrder: a handover in the result of an order is of what that order replaced, at its leaf.
func TestRotationIsAboutItsOrder(t *testing.T) {
	content := protocol.Rotation{Use: protocol.UseLog, Replaces: ownKeys(t).Now().ID(protocol.UseLog)}
	encoded, err := cose.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	req := protocol.Request{Kind: protocol.KindRotateKey, Content: encoded}
	other := spkiOf(t, otherKey.Public())
	for name, c := range map[string]struct {
		handover []byte
		key      []byte
		index    uint64
		now      int64
		reason   string
	}{
		"good":         {rotated(t, nil), other, 20, 1_800_000_000, ""},
		"no handover":  {nil, other, 20, 1_800_000_000, "handed over"},
		"another leaf": {rotated(t, nil), other, 22, 1_800_000_000, "another order"},
		"another time": {rotated(t, nil), other, 20, 1_800_000_001, "another order"},
		"another key":  {rotated(t, nil), spkiOf(t, nextSeal.Public()), 20, 1_800_000_000, "another order"},
		"another use": {rotated(t, func(h *protocol.Handover) {
			h.Use, h.Replaces = protocol.UseSeal, ownKeys(t).Now().ID(protocol.UseSeal)
			h.Key = spkiOf(t, nextSeal.Public())
		}), spkiOf(t, nextSeal.Public()), 20, 1_800_000_000, "another order"},
		"of somebody": {rotated(t, func(h *protocol.Handover) { h.Appliance = protocol.Digest{1} }), other, 20, 1_800_000_000, "handed over"},
	} {
		s := &State{Own: ownKeys(t)}
		err := s.Carry(&req, protocol.Result{Outcome: protocol.OutcomeDone, Key: c.key, Handover: c.handover}, c.index, c.now)
		if (err == nil) != (c.reason == "") || err != nil && !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
		if now := s.Own.Now().ID(protocol.UseLog) == protocol.DigestOf(other); now != (c.reason == "") {
			t.Errorf("%s: the key stands: %t", name, now)
		}
	}
}
