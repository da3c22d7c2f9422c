package main

import (
	"bytes"
	"os"
	"testing"
	"unicode"

	"coldseal/cmd/internal/introduction"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/show"
)

// FuzzInspect shows any file, with the keys of an appliance known. Whatever is in it, nothing of it drives the terminal.
func FuzzInspect(f *testing.F) {
	s := samples(f)
	files, err := os.ReadDir(s.dir)
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(s.read(file.Name()))
	}
	appliance := &introduction.Flags{File: s.path("introduction"), Digest: s.digest}
	learned := &inspection{appliance: appliance}
	if err := learned.learn(nil); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, full := range []bool{false, true} {
			var out bytes.Buffer
			in := &inspection{appliance: appliance, full: full, known: learned.known, out: &out}
			if err := in.file(bytes.NewReader(data), int64(len(data))); err != nil {
				out.WriteString(show.Text(err.Error()))
			}
			for _, r := range out.String() {
				if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
					t.Fatalf("%q gets to the terminal", r)
				}
			}
		}
	})
}

// FuzzLog reads any file as an exported log: nothing verifies but what the appliance signed.
func FuzzLog(f *testing.F) {
	l := story(f)
	l.export("log")
	good := l.read("log")
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &replay{typed: l.digest}
		if err := r.run(bytes.NewReader(data), newAuditor().entry); err == nil && !bytes.Equal(data, good) {
			t.Error("another log verifies")
		}
	})
}

// FuzzAudit puts any bytes into the place of one body, in a log that the appliance signed all the same. The audit finds
// something, or it is the body that was there.
func FuzzAudit(f *testing.F) {
	l := story(f)
	for index, salted := range l.bodies {
		if len(salted) > 16 {
			f.Add(uint(index), salted[16:])
		}
	}
	f.Fuzz(func(t *testing.T, place uint, body []byte) {
		index := int(place % uint(len(l.leaves)))
		old := l.bodies[index]
		leaf, err := auditlog.ParseLeaf(l.leaves[index])
		if err != nil {
			t.Fatal(err)
		}
		if index == 0 || len(old) < 16 || len(body) > auditlog.MaxBody-16 {
			return
		}
		own, changed := *l.site, *l
		own.t, changed.site = t, &own
		changed.leaves, changed.bodies = append([][]byte(nil), l.leaves...), append([][]byte(nil), l.bodies...)
		leaf.Body = auditlog.BodyDigest([16]byte(old[:16]), body)
		if changed.leaves[index], err = leaf.Encode(); err != nil {
			t.Fatal(err)
		}
		changed.bodies[index] = append(old[:16:16], body...)
		r, a := &replay{typed: l.digest}, newAuditor()
		if err := r.run(bytes.NewReader(changed.exported(changed.note())), a.entry); err == nil && len(body) > 0 && a.found == 0 && !bytes.Equal(body, old[16:]) {
			t.Errorf("another body of leaf %d, a %s, is found in order: %x", index, leaf.Kind, body)
		}
	})
}
