package auditlog

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

var (
	issuer = bytes.Repeat([]byte{0xca}, 32)
	serial = []byte{0x4f, 0x00, 0x17}
	body   = BodyDigest([16]byte{1}, []byte("body"))
)

// oneOfEach holds a valid leaf of every kind and status.
func oneOfEach() []Leaf {
	const now = 1_700_000_000
	return []Leaf{
		{Kind: Genesis, Time: now, Body: body},
		{Kind: Bundle, Time: now, Number: 1, Body: body},
		{Kind: Intents, Time: now, Number: 1000, Body: body},
		{Kind: Step, Time: now, Number: 7},
		{Kind: Issued, Time: now, Issuer: issuer, Serial: serial, Status: Active, Profile: "it-workstation", Body: body},
		{Kind: Changed, Time: now, Issuer: issuer, Serial: serial, Status: Active, Body: body},
		{Kind: Changed, Time: now, Issuer: issuer, Serial: serial, Status: Held, Body: body},
		{Kind: Changed, Time: now, Issuer: issuer, Serial: serial, Status: Revoked, Body: body},
		{Kind: Burned, Time: now, Issuer: issuer, Serial: serial, Status: Revoked, Profile: "it-workstation", Body: body},
		{Kind: CRL, Time: now, Issuer: issuer, Number: 12, Body: body},
		{Kind: Order, Time: now, Body: body},
		{Kind: Refused, Time: now, Body: body},
		{Kind: Withdrawn, Time: now, Body: body},
		{Kind: Restored, Time: now, Number: 41, Body: body},
	}
}

func TestLeafRoundTrip(t *testing.T) {
	for _, leaf := range oneOfEach() {
		data, err := leaf.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseLeaf(data)
		if err != nil {
			t.Fatalf("%s %x: %v", leaf.Kind, data, err)
		}
		if leaf.Issuer == nil {
			leaf.Issuer = []byte{}
		}
		if leaf.Serial == nil {
			leaf.Serial = []byte{}
		}
		if !reflect.DeepEqual(again, leaf) {
			t.Errorf("%s: got %+v, want %+v", leaf.Kind, again, leaf)
		}
	}
}

func TestLongestLeafFits(t *testing.T) {
	data, err := Leaf{Kind: Issued, Time: maxTime, Issuer: issuer, Serial: append([]byte{0x7f}, make([]byte, 19)...), Status: Active,
		Profile: strings.Repeat("p", protocol.MaxName), Body: body}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > protocol.MaxLeaf {
		t.Errorf("longest leaf has %d bytes, at most %d are read", len(data), protocol.MaxLeaf)
	}
	if _, err := ParseLeaf(data); err != nil {
		t.Error(err)
	}
}

func TestLeafRefusals(t *testing.T) {
	change := func(kind Kind, f func(*Leaf)) Leaf {
		for _, l := range oneOfEach() {
			if l.Kind == kind {
				f(&l)
				return l
			}
		}
		t.Fatalf("no leaf of kind %s", kind)
		return Leaf{}
	}
	for name, test := range map[string]struct {
		leaf Leaf
		want string
	}{
		"kind 0":            {Leaf{Body: body}, "kind 0 is unknown"},
		"kind 13":           {Leaf{Kind: 13, Body: body}, "kind 13 is unknown"},
		"time before 1970":  {change(Genesis, func(l *Leaf) { l.Time = -1 }), "time -1"},
		"time after 9999":   {change(Genesis, func(l *Leaf) { l.Time = maxTime + 1 }), "time 253402300800"},
		"genesis, issuer":   {change(Genesis, func(l *Leaf) { l.Issuer = issuer }), "issuer does not belong"},
		"genesis, number":   {change(Genesis, func(l *Leaf) { l.Number = 1 }), "number does not belong"},
		"genesis, no body":  {change(Genesis, func(l *Leaf) { l.Body = [32]byte{} }), "body is missing"},
		"order, profile":    {change(Order, func(l *Leaf) { l.Profile = "p" }), "profile does not belong"},
		"order, status":     {change(Order, func(l *Leaf) { l.Status = Active }), "status active does not belong"},
		"refused, serial":   {change(Refused, func(l *Leaf) { l.Serial = serial }), "serial does not belong"},
		"withdrawn, status": {change(Withdrawn, func(l *Leaf) { l.Status = Revoked }), "status revoked does not belong"},
		"bundle 0":          {change(Bundle, func(l *Leaf) { l.Number = 0 }), "number is missing"},
		"no intents":        {change(Intents, func(l *Leaf) { l.Number = 0 }), "number is missing"},
		"step 0":            {change(Step, func(l *Leaf) { l.Number = 0 }), "number is missing"},
		"step, body":        {change(Step, func(l *Leaf) { l.Body = body }), "body does not belong"},
		"issued, no issuer": {change(Issued, func(l *Leaf) { l.Issuer = nil }), "issuer is missing"},
		"short issuer":      {change(Issued, func(l *Leaf) { l.Issuer = issuer[:31] }), "issuer of 31 bytes"},
		"long issuer":       {change(CRL, func(l *Leaf) { l.Issuer = append(issuer[:32:32], 0) }), "issuer of 33 bytes"},
		"issued, no serial": {change(Issued, func(l *Leaf) { l.Serial = nil }), "serial is missing"},
		"serial 0":          {change(Issued, func(l *Leaf) { l.Serial = []byte{0} }), "leading zero"},
		"padded serial":     {change(Issued, func(l *Leaf) { l.Serial = []byte{0, 1} }), "leading zero"},
		"serial, 21 bytes":  {change(Issued, func(l *Leaf) { l.Serial = bytes.Repeat([]byte{1}, 21) }), "more than 20 octets"},
		"serial, high bit":  {change(Issued, func(l *Leaf) { l.Serial = bytes.Repeat([]byte{0x80}, 20) }), "more than 20 octets"},
		"issued held":       {change(Issued, func(l *Leaf) { l.Status = Held }), "status held does not belong"},
		"issued none":       {change(Issued, func(l *Leaf) { l.Status = None }), "status none does not belong"},
		"issued 4":          {change(Issued, func(l *Leaf) { l.Status = 4 }), "status status-4 does not belong"},
		"issued, number":    {change(Issued, func(l *Leaf) { l.Number = 3 }), "number does not belong"},
		"no profile":        {change(Issued, func(l *Leaf) { l.Profile = "" }), "profile is missing"},
		"profile, capital":  {change(Issued, func(l *Leaf) { l.Profile = "IT" }), "is not a name"},
		"profile, 33 bytes": {change(Issued, func(l *Leaf) { l.Profile = strings.Repeat("p", 33) }), "is not a name"},
		"changed none":      {change(Changed, func(l *Leaf) { l.Status = None }), "status none does not belong"},
		"changed 4":         {change(Changed, func(l *Leaf) { l.Status = 4 }), "status status-4 does not belong"},
		"changed, profile":  {change(Changed, func(l *Leaf) { l.Profile = "p" }), "profile does not belong"},
		"burned active":     {change(Burned, func(l *Leaf) { l.Status = Active }), "status active does not belong"},
		"restored 0":        {change(Restored, func(l *Leaf) { l.Number = 0 }), "number is missing"},
		"restored, issuer":  {change(Restored, func(l *Leaf) { l.Issuer = issuer }), "issuer does not belong"},
		"restored, no body": {change(Restored, func(l *Leaf) { l.Body = [32]byte{} }), "body is missing"},
		"CRL 0":             {change(CRL, func(l *Leaf) { l.Number = 0 }), "number is missing"},
		"CRL, serial":       {change(CRL, func(l *Leaf) { l.Serial = serial }), "serial does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := test.leaf.Encode(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("encode: got error %v, want %q", err, test.want)
			}
			data, err := cose.Marshal(test.leaf)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseLeaf(data); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("parse: got error %v, want %q", err, test.want)
			}
		})
	}
}

func TestLeafEncodingRefusals(t *testing.T) {
	const b32 = "5820" + "11111111111111111111111111111111" + "22222222222222222222222222222222"
	if _, err := ParseLeaf(unhex(t, "88"+"01"+"01"+"40"+"40"+"00"+"60"+"00"+b32)); err != nil {
		t.Fatalf("the leaf that the table below breaks: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":           "",
		"trailing byte":     "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + b32 + "00",
		"truncated":         "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + b32[:66],
		"seven fields":      "87" + "01" + "01" + "40" + "40" + "00" + "60" + "00",
		"nine fields":       "89" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + b32 + "00",
		"indefinite array":  "9f" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + b32 + "ff",
		"map":               "a0",
		"tagged":            "c1" + "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + b32,
		"long kind":         "88" + "1801" + "01" + "40" + "40" + "00" + "60" + "00" + b32,
		"negative kind":     "88" + "20" + "01" + "40" + "40" + "00" + "60" + "00" + b32,
		"float time":        "88" + "01" + "f93c00" + "40" + "40" + "00" + "60" + "00" + b32,
		"null issuer":       "88" + "01" + "01" + "f6" + "40" + "00" + "60" + "00" + b32,
		"text issuer":       "88" + "01" + "01" + "60" + "40" + "00" + "60" + "00" + b32,
		"array serial":      "88" + "01" + "01" + "40" + "80" + "00" + "60" + "00" + b32,
		"bytes profile":     "88" + "01" + "01" + "40" + "40" + "00" + "40" + "00" + b32,
		"body of 31 bytes":  "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + "581f" + b32[4:66],
		"body of 33 bytes":  "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + "5821" + b32[4:] + "00",
		"body as array":     "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + "9820" + strings.Repeat("01", 32),
		"invalid UTF-8":     "88" + "01" + "01" + "40" + "40" + "00" + "61ff" + "00" + b32,
		"more than 256":     "88" + "01" + "01" + "40" + "40" + "00" + "60" + "00" + "5901f4" + strings.Repeat("11", 500),
		"huge length claim": "88" + "01" + "01" + "5b7fffffffffffffff",
	} {
		if leaf, err := ParseLeaf(unhex(t, text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, leaf)
		}
	}
}

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzParseLeaf(f *testing.F) {
	for _, leaf := range oneOfEach() {
		data, err := leaf.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		leaf, err := ParseLeaf(data)
		if err != nil {
			return
		}
		again, err := leaf.Encode()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x was accepted and encodes as %x, %v", data, again, err)
		}
	})
}
