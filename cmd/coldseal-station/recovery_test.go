//go:build cgo

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// TestRostersToCome has a card approve a roster whose key is in none that stands: that of a person who may recover it, and
// that of an officer whom it brings. Both are told as whom; for anything else the card is the wrong one.
func TestRostersToCome(t *testing.T) {
	holder := newCard(t, 3, "holder", "5.4.3", piv.SlotSignature, p256())
	coming := newCard(t, 4, "coming", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t)
	roster := must[*policy.Roster](t)(policy.DecodeRoster(d.state.Roster))
	roster.Recovery = &policy.Recovery{Persons: 1, Days: 30, Holders: []policy.Holder{{Person: "it:HOLDER1", Name: "Holder", Keys: [][]byte{spkiOf(t, holder)}}}}
	d.state.Roster = must[[]byte](t)(policy.EncodeRoster(roster))
	d.write("introduction", must[[]byte](t)(protocol.MakeIntroduction(d.genesis, nil, d.state, d.seal)))
	next := *roster
	next.Officers = slices.Clone(roster.Officers)
	next.Officers[0].Person, next.Officers[0].Keys = "it:COMING1", [][]byte{spkiOf(t, coming)}
	now := time.Now().Unix()
	c := protocol.Replacement{Replaces: protocol.DigestOf(d.state.Roster), New: must[[]byte](t)(policy.EncodeRoster(&next))}
	d.write("roster.request", must[[]byte](t)(cose.Marshal(protocol.Request{
		Version: 1, Appliance: d.digest, Kind: protocol.KindRoster, Created: now, Expires: now + 86400, Content: must[[]byte](t)(cose.Marshal(c)),
	})))
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	for reader, who := range map[string]string{"B_00_01": "it:HOLDER1", "C_00_00": "it:COMING1"} {
		approve := "approve $KNOWN --pin-file @pin --yes --reader " + reader
		_, stderr := d.ok(approve + " --challenge 00112233445566778899aabbccddeeff --request @roster.request --out @" + reader)
		if !strings.Contains(stderr, who) {
			t.Errorf("%s is not told:\n%s", who, stderr)
		}
	}
	d.approval("B_00_01", holder)
	d.approval("C_00_00", coming)
	for _, reader := range []string{"B_00_01", "C_00_00"} {
		d.fails("approve $KNOWN --pin-file @pin --yes --reader "+reader+" --request @pc.request --statement fingerprint --out @x", 6, "is the wrong card")
	}
}
