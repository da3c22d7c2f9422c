package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/protocol"
)

func TestCompare(t *testing.T) {
	id := func(n byte) protocol.Digest { return signer.KeyInfo{SPKI: []byte{n}}.ID() }
	known := func(n byte) appliance.KnownKey {
		return appliance.KnownKey{ID: id(n), Label: fmt.Sprintf("key%d", n), Purpose: signer.CA, Algorithm: signer.P256}
	}
	key := func(n byte) signer.KeyInfo {
		return signer.KeyInfo{Label: fmt.Sprintf("key%d", n), Purpose: signer.CA, Algorithm: signer.P256, SPKI: []byte{n}}
	}
	on := func(device string, n byte) signer.Object {
		return signer.Object{Device: device, Class: signer.ClassPrivateKey, Label: fmt.Sprintf("key%d", n), Key: id(n), Ours: true}
	}
	destroyed := known(1)
	destroyed.Destroyed = true
	renamed := key(1)
	renamed.Label = "renamed"
	swapped := key(2)
	swapped.Label = "key1"
	odd := on("a:", 1)
	odd.Key, odd.Note = [32]byte{}, "no public key"
	for name, c := range map[string]struct {
		known   []appliance.KnownKey
		keys    []signer.KeyInfo
		objects []signer.Object
		want    string
	}{
		"as it should be":  {[]appliance.KnownKey{known(1), known(2)}, []signer.KeyInfo{key(1), key(2)}, []signer.Object{on("a:", 1), on("b:", 2)}, "key1 ok, key2 ok"},
		"missing":          {[]appliance.KnownKey{known(1), known(2)}, []signer.KeyInfo{key(1)}, []signer.Object{on("a:", 1)}, "key1 ok, key2 missing"},
		"in two devices":   {[]appliance.KnownKey{known(1)}, []signer.KeyInfo{key(1)}, []signer.Object{on("a:", 1), on("b:", 1)}, "key1 duplicate"},
		"with public part": {[]appliance.KnownKey{known(1)}, []signer.KeyInfo{key(1)}, []signer.Object{on("a:", 1), {Device: "a:", Class: "public key", Key: id(1)}}, "key1 ok"},
		"not usable":       {[]appliance.KnownKey{known(1)}, nil, []signer.Object{odd}, "key1 missing, key1 odd"},
		"another name":     {[]appliance.KnownKey{known(1)}, []signer.KeyInfo{renamed}, []signer.Object{on("a:", 1)}, "key1 odd"},
		"another key":      {[]appliance.KnownKey{known(1)}, []signer.KeyInfo{swapped}, []signer.Object{on("a:", 2)}, "key1 missing, key1 odd"},
		"destroyed":        {[]appliance.KnownKey{destroyed}, nil, nil, ""},
		"still there":      {[]appliance.KnownKey{destroyed}, []signer.KeyInfo{key(1)}, []signer.Object{on("a:", 1)}, "key1 destroyed"},
		"not ordered":      {nil, []signer.KeyInfo{key(1)}, []signer.Object{on("a:", 1)}, "key1 unordered"},
		"stranger":         {nil, nil, []signer.Object{{Device: "a:", Class: "certificate", Label: "visitor"}}, "visitor stranger"},
		"stranger's key":   {nil, nil, []signer.Object{{Device: "a:", Class: signer.ClassPrivateKey, Label: "visitor", Note: "it can leave the device"}}, "visitor stranger"},
		"counter":          {nil, nil, []signer.Object{{Device: "a:", Class: signer.ClassCounter, Ours: true}}, ""},
	} {
		var got []string
		troubles := 0
		for _, h := range compare(c.known, c.keys, c.objects) {
			got = append(got, h.Label+" "+h.State)
			if h.trouble() {
				troubles++
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
		wanted := 0
		for _, state := range []string{stateMissing, stateDuplicate, stateOdd, stateDestroyed} {
			wanted += strings.Count(c.want, " "+state)
		}
		if troubles != wanted {
			t.Errorf("%s: %d troubles, want %d", name, troubles, wanted)
		}
	}
}

func TestDevicesFlags(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"--pin-file p", "belongs behind the --keys"},
		{"--keys piv:serial=1 --pin-file p --pin-file q", "belongs behind the --keys"},
		{"--keys piv:serial=1 --pin-file p --pin-fd 5", "belongs behind the --keys"},
		{"--keys piv:serial=1 --pin-fd x", "not a descriptor"},
		{"--keys piv:serial=1 --pin-fd 5 --keys piv:serial=2 --pin-file p --keys softkey:", ""},
	} {
		root := rootCommand()
		root.SetArgs(append([]string{"status", "--state", t.TempDir() + "/none"}, strings.Fields(c.args)...))
		root.SilenceErrors, root.SilenceUsage = true, true
		err := root.Execute()
		if c.says == "" {
			c.says = "open appliance"
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	d := &devices{secret: "s", keys: []*place{{text: "tpm:device=/dev/tpmrm0", pinFile: "p", pinFD: -1}, {text: "softkey:", pinFD: -1}}}
	if err := d.unattended(); err != nil {
		t.Error(err)
	}
	d.keys = slices.Insert(d.keys, 1, &place{text: "piv:serial=1", pinFD: 7})
	if err := d.unattended(); err == nil || !strings.Contains(err.Error(), "piv:serial=1") {
		t.Error(err)
	}
}
