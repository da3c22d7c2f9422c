package protocol_test

import (
	"bytes"
	"fmt"
	"testing"

	"coldseal/protocol"
)

func TestGenesisRefusals(t *testing.T) {
	type G = protocol.Genesis
	good := load(t, "genesis")
	if _, err := protocol.ParseGenesis(good, protocol.DigestOf(good)); err != nil {
		t.Error(err)
	}
	if g, err := protocol.ParseGenesis(good, protocol.Digest{1}); err == nil || g.Name != "" {
		t.Errorf("another digest: %v, %v", g, err)
	}
	for name, change := range map[string]func(*G){
		"version":            func(g *G) { g.Version = 2 },
		"name":               func(g *G) { g.Name = "A" },
		"created never":      func(g *G) { g.Created = 0 },
		"created after 9999": func(g *G) { g.Created = protocol.MaxTime + 1 },
		"no log key":         func(g *G) { g.Log = []byte{1} },
		"log on P-256":       func(g *G) { g.Log = spki(t, "stranger") },
		"receiver Ed25519":   func(g *G) { g.Receiver = spki(t, "machine") },
		"receiver on P-384":  func(g *G) { g.Receiver = spki(t, "approver-p384") },
		"no seal key":        func(g *G) { g.Seal = nil },
		"seal RSA":           func(g *G) { g.Seal = spki(t, "approver-rsa") },
		"seal is receiver":   func(g *G) { g.Seal = g.Receiver },
		"seal is log":        func(g *G) { g.Seal = g.Log },
	} {
		data := edit(t, good, change)
		if g, err := protocol.ParseGenesis(data, protocol.DigestOf(data)); err == nil || g.Name != "" {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
	long := append(bytes.Clone(good), 0)
	if _, err := protocol.ParseGenesis(long, protocol.DigestOf(long)); err == nil {
		t.Error("trailing byte: was accepted")
	}
}

// oldState is a state whose CAs have no labels.
type oldState struct {
	Policy []byte   `cbor:"1,keyasint"`
	Roster []byte   `cbor:"2,keyasint"`
	CAs    [][]byte `cbor:"3,keyasint"`
}

func TestIntroduction(t *testing.T) {
	good, genesis := load(t, "introduction"), load(t, "genesis")
	typed := protocol.DigestOf(genesis)
	opened, err := protocol.OpenIntroduction(good, typed)
	state := opened.State
	if err != nil || opened.Genesis.Name != "test" || !bytes.Equal(opened.Bytes, genesis) || len(state.CAs) != 1 || state.Labels[0] != "root" {
		t.Fatalf("%+v, %v", opened, err)
	}
	labelled := func(labels ...string) protocol.State {
		return protocol.State{CAs: make([][]byte, len(labels)), Labels: labels}
	}
	many := func(n int) (labels []string) {
		for i := range n {
			labels = append(labels, fmt.Sprint("ca-", i))
		}
		return labels
	}
	signed := func(key, context string, state any) []byte {
		return marshal(t, introduction{Genesis: genesis, Signed: sign(t, key, context, marshal(t, state))})
	}
	for name, in := range map[string][]byte{
		"too long":        make([]byte, protocol.MaxIntroduction+1),
		"trailing byte":   append(bytes.Clone(good), 0),
		"another key":     signed("stranger", protocol.ContextIntroduction, state),
		"another purpose": signed("seal", protocol.ContextResponse, state),
		"no state":        signed("seal", protocol.ContextIntroduction, []int{}),
		"too many CAs":    signed("seal", protocol.ContextIntroduction, labelled(many(protocol.MaxCAs+1)...)),
		"no labels":       signed("seal", protocol.ContextIntroduction, protocol.State{CAs: state.CAs}),
		"a label too few": signed("seal", protocol.ContextIntroduction, protocol.State{CAs: make([][]byte, 2), Labels: []string{"root"}}),
		"a label of none": signed("seal", protocol.ContextIntroduction, protocol.State{Labels: []string{"root"}}),
		"labels alike":    signed("seal", protocol.ContextIntroduction, labelled("root", "issuing", "root")),
		"empty label":     signed("seal", protocol.ContextIntroduction, labelled("")),
		"label as a path": signed("seal", protocol.ContextIntroduction, labelled("../root")),
		"state of old":    signed("seal", protocol.ContextIntroduction, oldState{CAs: state.CAs}),
		"no array":        {0xa0},
		"not signed":      marshal(t, introduction{Genesis: genesis}),
	} {
		if opened, err := protocol.OpenIntroduction(in, typed); err == nil || opened.Genesis.Name != "" || opened.Bytes != nil || opened.Keys != nil || len(opened.State.Policy) != 0 {
			t.Errorf("%s: %+v, %v", name, opened, err)
		}
	}
	if _, err := protocol.OpenIntroduction(good, protocol.Digest{}); err == nil {
		t.Error("another digest: was accepted")
	}
	for n := range good {
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		if _, err := protocol.OpenIntroduction(flipped, typed); err == nil {
			t.Errorf("flipped at %d: was accepted", n)
		}
	}
	if _, err := protocol.MakeIntroduction(genesis, nil, labelled(many(protocol.MaxCAs+1)...), testKey(t, "seal")); err == nil {
		t.Error("too many CAs: was made")
	}
	if _, err := protocol.MakeIntroduction(genesis, nil, labelled(many(protocol.MaxCAs)...), testKey(t, "seal")); err != nil {
		t.Errorf("as many CAs as there may be: %v", err)
	}
	if _, err := protocol.MakeIntroduction(genesis, nil, labelled("root", "root"), testKey(t, "seal")); err == nil {
		t.Error("labels alike: was made")
	}
	if _, err := protocol.MakeIntroduction(genesis, nil, protocol.State{Policy: make([]byte, protocol.MaxIntroduction)}, testKey(t, "seal")); err == nil {
		t.Error("too long: was made")
	}
}
