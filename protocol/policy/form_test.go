package policy

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

func TestEncodeDecode(t *testing.T) {
	base := libraryPolicy(t)
	rapid.Check(t, func(t *rapid.T) {
		p := &Policy{Version: 1, Name: "x", ClockAhead: rapid.Int64Range(1, maxAhead).Draw(t, "ahead")}
		for _, q := range base.Profiles {
			if !rapid.Bool().Draw(t, q.Name) {
				continue
			}
			q.Days = rapid.Int64Range(1, MaxDays).Draw(t, "days")
			q.Segments = rapid.Uint64Range(0, protocol.MaxSegments).Draw(t, "segments")
			q.DropExtras = rapid.Bool().Draw(t, "drop")
			q.Scheme = rapid.SampledFrom([]string{"", "it", "gr"}).Draw(t, "scheme")
			if rapid.Bool().Draw(t, "none") {
				q.Names, q.Fields, q.Approve, q.Renew = nil, nil, Rule{}, Renewal{}
			}
			p.Profiles = append(p.Profiles, q)
		}
		if len(p.Profiles) == 0 {
			p.Profiles = base.Profiles[:1]
		}
		data, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(Diff(p, again)) > 0 {
			t.Errorf("%q", Diff(p, again))
		}
		for i := range p.Profiles {
			a, err := p.Profiles[i].Digest()
			b, other := again.Profiles[i].Digest()
			if a != b || err != nil || other != nil {
				t.Errorf("the digest of %s changed: %v, %v", p.Profiles[i].Name, err, other)
			}
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good := func() (*Policy, *Roster) { return libraryPolicy(t), threeOfficers(t) }
	for name, change := range map[string]func(*Policy, *Roster){
		"version": func(p *Policy, o *Roster) { p.Version, o.Version = 2, 2 },
		"order": func(p *Policy, o *Roster) {
			p.Profiles[0], p.Profiles[1] = p.Profiles[1], p.Profiles[0]
			o.Orders[0], o.Orders[1] = o.Orders[1], o.Orders[0]
		},
		"twice": func(p *Policy, o *Roster) { p.Profiles[1] = p.Profiles[0]; o.Officers[1] = o.Officers[0] },
		"range": func(p *Policy, o *Roster) { p.Profiles[0].Days = -1; o.Orders[0].Persons = 1 << 40 },
		"unsorted": func(p *Policy, o *Roster) {
			p.Profiles[0].Keys = []string{"b", "a"}
			o.Officers[0].Roles = []string{"b", "a"}
		},
		"bad names": func(p *Policy, o *Roster) { p.Profiles[0].Name = "../a"; o.Officers[0].Person = "a" },
	} {
		p, o := good()
		change(p, o)
		if _, err := Encode(p); err == nil {
			t.Errorf("%s: the policy was encoded", name)
		}
		if _, err := EncodeRoster(o); err == nil {
			t.Errorf("%s: the roster was encoded", name)
		}
		data, err := cose.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(data); err == nil {
			t.Errorf("%s: the policy was decoded", name)
		}
		if data, err = cose.Marshal(o); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRoster(data); err == nil {
			t.Errorf("%s: the roster was decoded", name)
		}
	}
	p, _ := good()
	data, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "cut": data[:len(data)-1], "longer": append(bytes.Clone(data), 0), "a list": {0x80}, "an empty map": {0xa0},
		"too long": append(bytes.Clone(data), make([]byte, MaxEncoded)...), "an unknown key": append([]byte{0xa5}, append(bytes.Clone(data[1:]), 5, 0)...),
	} {
		if _, err := Decode(bad); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
}

// FuzzDecode: what is decoded is encoded to the same bytes, and Check and Compile bear whatever it is.
func FuzzDecode(f *testing.F) {
	p, err := Encode(libraryPolicy(f))
	if err != nil {
		f.Fatal(err)
	}
	o, err := EncodeRoster(threeOfficers(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p, o)
	f.Fuzz(func(t *testing.T, data, roster []byte) {
		o, err := DecodeRoster(roster)
		if err == nil {
			if again, err := EncodeRoster(o); err != nil || !bytes.Equal(again, roster) {
				t.Fatalf("%x was encoded as %x: %v", roster, again, err)
			}
			DiffRoster(o, &Roster{})
			NewIndex(o)
		}
		p, err := Decode(data)
		if err != nil {
			return
		}
		if again, err := Encode(p); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x was encoded as %x: %v", data, again, err)
		}
		Diff(p, &Policy{})
		Check(p, o)
		c, err := Compile(p)
		if err != nil {
			return
		}
		for i := range p.Profiles {
			q, _ := c.Profile(p.Profiles[i].Name)
			fields := map[string]string{}
			for _, field := range q.Fields {
				fields[field.Name] = "0001"
			}
			if n, refusal := q.Names(&protocol.Request{Body: "it/058091", Subject: "it:A"}, fields); refusal != nil && !reflect.DeepEqual(n, Names{}) {
				t.Fatalf("refused with names: %+v", n)
			}
		}
	})
}
