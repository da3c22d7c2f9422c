package auditlog

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// bring writes leaves as an agent does.
func bring(t testing.TB, header BroughtHeader, all ...Brought) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteBroughtHeader(&b, header); err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		if err := WriteBrought(&b, one); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// answered is a leaf with the result and the request that it is about.
func answered(t testing.TB, change func(*protocol.Request, *protocol.Result)) Brought {
	t.Helper()
	marshal := func(v any) []byte {
		data, err := cose.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	req := protocol.Request{
		Version: 1, Appliance: protocol.Digest{1}, Kind: protocol.KindWithdraw, Body: "it/058091", Created: 1, Expires: 2,
		Content: marshal(protocol.Withdrawal{Request: protocol.Digest{9}}),
	}
	raw := marshal(req)
	result := protocol.Result{ID: protocol.ID(raw), Outcome: protocol.OutcomeWithdrawn}
	change(&req, &result)
	salted := append(bytes.Repeat([]byte{5}, 16), marshal(result)...)
	leaf, err := Leaf{Kind: Withdrawn, Time: 1, Body: BodyDigest([16]byte(salted), salted[16:])}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return Brought{Leaf: leaf, Salted: salted, Item: marshal(protocol.Item{Request: marshal(req)})}
}

func readAll(r *BroughtReader, err error) (all []Brought, _ error) {
	for err == nil {
		var one Brought
		if _, _, one, err = r.Next(); err == nil {
			all = append(all, one)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return all, err
}

func TestBrought(t *testing.T) {
	same := func(*protocol.Request, *protocol.Result) {}
	good := answered(t, same)
	bare := Brought{Leaf: good.Leaf}
	header := BroughtHeader{Appliance: protocol.Digest{1}, From: "desk", First: 7, Checkpoint: []byte("note")}
	data := bring(t, header, good, bare, Brought{Leaf: good.Leaf, Salted: good.Salted})
	r, err := ReadBrought(bytes.NewReader(data))
	if err != nil || r.Header.First != 7 || r.Header.From != "desk" {
		t.Fatalf("%+v, %v", r, err)
	}
	for i := range 3 {
		if index, leaf, _, err := r.Next(); err != nil || index != uint64(7+i) || leaf.Kind != Withdrawn {
			t.Fatalf("%d, %+v, %v", index, leaf, err)
		}
	}
	if _, _, _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	for cut := range data {
		if all, err := readAll(ReadBrought(bytes.NewReader(data[:cut]))); err == nil && len(all) == 3 {
			t.Fatalf("cut at %d: %d leaves", cut, len(all))
		}
	}
	step, err := Leaf{Kind: Step, Time: 1, Number: 2}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Brought)) Brought {
		b := Brought{bytes.Clone(good.Leaf), bytes.Clone(good.Salted), bytes.Clone(good.Item)}
		f(&b)
		return b
	}
	for name, c := range map[string]struct {
		one  Brought
		want string
	}{
		"another body":     {change(func(b *Brought) { b.Salted[20]++ }), "not the one that was logged"},
		"another salt":     {change(func(b *Brought) { b.Salted[0]++ }), "not the one that was logged"},
		"half a salt":      {change(func(b *Brought) { b.Salted = b.Salted[:8] }), "not the one that was logged"},
		"body of a step":   {change(func(b *Brought) { b.Leaf = step }), "not the one that was logged"},
		"request alone":    {change(func(b *Brought) { b.Salted = nil }), "without its result"},
		"another request":  {change(func(b *Brought) { b.Item[len(b.Item)-1]++ }), "not the one whose result"},
		"another's result": {answered(t, func(r *protocol.Request, _ *protocol.Result) { r.Nonce[0]++ }), "not the one whose result"},
		"no item":          {change(func(b *Brought) { b.Item = []byte{1} }), "item"},
		"no leaf":          {change(func(b *Brought) { b.Leaf = []byte{1} }), "parse leaf"},
	} {
		if _, err := readAll(ReadBrought(bytes.NewReader(bring(t, header, c.one)))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, h := range map[string]BroughtHeader{"no name": {From: "Desk"}, "too far": {First: MaxSize + 1}} {
		if _, err := ReadBrought(bytes.NewReader(bring(t, h))); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ReadBrought(bytes.NewReader(nil)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func FuzzReadBrought(f *testing.F) {
	good := answered(f, func(*protocol.Request, *protocol.Result) {})
	f.Add(bring(f, BroughtHeader{Appliance: protocol.Digest{1}, From: "desk", Checkpoint: []byte("note")}, good, Brought{Leaf: good.Leaf}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadBrought(bytes.NewReader(data))
		if err != nil {
			return
		}
		all, err := readAll(r, nil)
		if err != nil {
			return
		}
		if again := bring(t, r.Header, all...); !bytes.Equal(again, data) {
			t.Fatalf("%x comes back as %x", data, again)
		}
	})
}

func FuzzReadExported(f *testing.F) {
	good := answered(f, func(*protocol.Request, *protocol.Result) {})
	var log bytes.Buffer
	for _, part := range [][]byte{[]byte("note"), good.Leaf, good.Salted} {
		if err := protocol.WriteString(&log, part); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(log.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ReadExported(bytes.NewReader(data))
		if err != nil {
			return
		}
		all, err := readAll(r, nil)
		if err != nil {
			return
		}
		var again bytes.Buffer
		parts := [][]byte{r.Header.Checkpoint}
		for _, one := range all {
			parts = append(parts, one.Leaf, one.Salted)
		}
		for _, part := range parts {
			if err := protocol.WriteString(&again, part); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%x comes back as %x", data, again.Bytes())
		}
	})
}

// FuzzSignedBy takes data as a certificate that our root signed: it is the one there is, or none.
func FuzzSignedBy(f *testing.F) {
	root, err := os.ReadFile("../../appliance/issue/testdata/root-P-256.cer")
	if err != nil {
		f.Fatal(err)
	}
	c, err := x509.ParseCertificate(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := SignedBy(data, c.RawSubjectPublicKeyInfo); err == nil && !bytes.Equal(got.RawTBSCertificate, c.RawTBSCertificate) {
			t.Errorf("%x is signed by the root", data)
		}
	})
}
