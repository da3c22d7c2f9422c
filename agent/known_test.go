package agent

import (
	"errors"
	"strings"
	"testing"

	"coldseal/protocol"
)

func TestIssuerFor(t *testing.T) {
	w := newWorld(t)
	spareKey, otherKey := newECDSA(t), newECDSA(t)
	spare := w.box.makeCA("Spare Issuing", w.box.root, spareKey)
	other := w.box.makeCA("issuing", w.box.root, otherKey) // its common name is another's label
	state := w.box.state
	state.CAs, state.Labels = append(state.CAs, spare.Raw, other.Raw), append(state.Labels, "spare", "other")
	many, err := decodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	few, err := decodeState(w.box.state)
	if err != nil {
		t.Fatal(err)
	}
	state.CAs, state.Labels = state.CAs[:1], []string{"issuing"}
	renamed, err := decodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	state.CAs, state.Labels = nil, nil
	none, err := decodeState(state)
	if err != nil {
		t.Fatal(err)
	}
	id := w.box.caID.String()
	for _, test := range []struct {
		known         *known
		name, profile string
		want          string // label; empty: an error
		err           error
		text          string
	}{
		{many, "", "it-workstation", "issuing", nil, ""},
		{many, "", "issuing-ca", "root", nil, ""},
		{many, "spare", "it-workstation", "spare", nil, ""},
		{many, "issuing", "it-workstation", "issuing", nil, ""},
		{many, "SPARE issuing", "", "spare", nil, ""},
		{many, id[:8], "", "issuing", nil, ""},
		{many, strings.ToUpper(id), "", "issuing", nil, ""},
		{many, id[:7], "", "", ErrInput, "0 CAs are called"},
		{many, "Issuing", "", "other", nil, ""},
		{many, "", "", "", ErrInput, "3 CAs come into question"},
		{many, "", "no-such", "", ErrInput, "3 CAs come into question"},
		{many, "nobody", "it-workstation", "", ErrInput, "0 CAs are called"},
		{few, "", "", "issuing", nil, ""},
		{few, "", "no-such", "issuing", nil, ""},
		{renamed, "", "it-workstation", "issuing", nil, ""}, // labels decide, even of a root
		{renamed, "", "issuing-ca", "", ErrInput, "0 CAs that are here may sign for issuing-ca; its policy names root"},
		{none, "", "it-workstation", "", ErrNotFound, "no CA yet"},
		{none, "issuing", "", "", ErrNotFound, "no CA yet"},
	} {
		got, err := test.known.issuerFor(test.name, test.profile)
		if test.want == "" {
			if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%q for %q: %v", test.name, test.profile, err)
			}
		} else if err != nil || test.known.label(got) != test.want {
			t.Errorf("%q for %q: %s, %v, want %s", test.name, test.profile, test.known.label(got), err, test.want)
		}
	}
	if label := few.label(protocol.Digest{1}); label != "0100000000000000" {
		t.Errorf("label of no CA %q", label)
	}
	state = w.box.state
	state.Labels = state.Labels[:1]
	if _, err := decodeState(state); err == nil {
		t.Error("a CA without label was accepted")
	}
}

// TestIssuerNotOfProfile names a CA that may not sign for the profile: the appliance would refuse.
func TestIssuerNotOfProfile(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	wish := w.station(1)
	wish.Issuer = "root"
	if _, err := w.s.Request(wish); !errors.Is(err, ErrRefused) {
		t.Errorf("a machine's certificate from the root: %v", err)
	}
	wish.Issuer = "issuing"
	if _, err := w.s.Request(wish); err != nil {
		t.Error(err)
	}
}
