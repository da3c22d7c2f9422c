package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"coldseal/agent"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

const (
	manyItems  = 200000
	issuedLast = 1024
	dataLimit  = 176 << 20 // of each process; the Go runtime takes heap 64 MiB at a time, so that 128 MiB of it fit
	mostMiB    = 96        // of all processes
	day        = 24 * time.Hour
)

// TestMemoryStaysWhateverComes has the real program process a bundle that it could not hold: 200,000 requests, all of
// which waited too long but the last thousand, which are issued. What comes of it is backed up, and the box restored from a
// backup of before, to which the agent brings the whole log.
func TestMemoryStaysWhateverComes(t *testing.T) {
	w := &world{dir: t.TempDir(), bin: t.TempDir(), n: issuedLast}
	for _, name := range []string{"coldseal-appliance", "coldseal-agent", "coldseal-signer", "coldseal-lint"} {
		build := exec.Command("go", "build", "-o", filepath.Join(w.bin, name), "coldseal/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // a thread of C reserves 8 MiB
		if said, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	var size int64
	err := w.with(t.Context(), w.approver, func(context.Context) (err error) {
		w.digest = w.engine.Appliance().String()
		size, err = w.many()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if size < dataLimit+16<<20 {
		t.Fatalf("the bundle has %d bytes, which fit", size)
	}
	b := box{t, w}
	vault, shares := b.backUp("before")
	u, err := execute(t.Context(), "/bin/sh", append(limited(filepath.Join(w.bin, "coldseal-appliance")),
		"process", "--state", w.path(applianceDir), "--secret-file", w.path(secretFile), "--media", w.path(stickDir))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, peak of RssAnon %.1f MiB", size, u.peak)
	if u.peak > mostMiB || u.peak == 0 {
		t.Errorf("peak of RssAnon is %.1f MiB, at most %d", u.peak, mostMiB)
	}
	s, err := agent.Open(agent.Config{Dir: w.path(agentDir), Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Import(t.Context(), w.path(stickDir), nil)
	if err := errors.Join(err, s.Close()); err != nil || len(all) == 0 {
		t.Fatalf("%d responses imported: %v", len(all), err)
	}
	if last := all[len(all)-1]; last.Refusal != nil || last.Results != manyItems || last.Refused != manyItems-issuedLast {
		t.Errorf("%+v, want %d results, %d of them refused", last, manyItems, manyItems-issuedLast)
	}
	b.backUp("after")
	b.restore(vault, shares)
}

// many writes the bundle to the medium without ever holding it, and gives its size. The agent would not send what has
// expired, so it is made behind its back, with its key.
func (w *world) many() (int64, error) {
	rest, err := os.Create(w.path("rest"))
	if err != nil {
		return 0, err
	}
	defer rest.Close()
	hash := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(rest, hash))
	if err := errors.Join(w.writeLate(out), w.writeGood(out), out.Flush()); err != nil {
		return 0, err
	}
	data, err := os.ReadFile(filepath.Join(w.path(agentDir), "seal.key"))
	if err != nil {
		return 0, err
	}
	key, err := agent.ParseKey(data)
	if err != nil {
		return 0, err
	}
	introduction, err := w.engine.Introduction()
	if err != nil {
		return 0, err
	}
	in, err := protocol.OpenIntroduction(introduction, w.engine.Appliance())
	if err != nil {
		return 0, err
	}
	receiver := in.Keys.Now().Receiver
	const sequence = 2 // the approver came in the first
	path, err := media.Name{Kind: media.Bundle, Appliance: media.Tag(w.engine.Appliance()), Agent: "bench", Sequence: sequence}.Path()
	if err != nil {
		return 0, err
	}
	now := time.Now()
	h := protocol.BundleHeader{
		Version: protocol.Version, From: "bench", To: w.engine.Appliance(), Sequence: sequence, Created: now.Unix(), Expires: now.Add(day).Unix(),
		Items: manyItems, Rest: protocol.Digest(hash.Sum(nil)),
	}
	stick, err := media.OpenMedium(w.path(stickDir))
	if err != nil {
		return 0, err
	}
	defer stick.Close()
	err = stick.Write(path, media.WriteOptions{}, func(to io.Writer) error {
		sealed, err := media.Encrypt(to, receiver)
		if err != nil {
			return err
		}
		if err := protocol.WriteHeader(sealed, h, key); err != nil {
			return err
		}
		if _, err := io.Copy(sealed, io.NewSectionReader(rest, 0, 1<<40)); err != nil {
			return err
		}
		return sealed.Close()
	})
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(filepath.Join(w.path(stickDir), path))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (w *world) workstation(number int, csr []byte, created time.Time) (r protocol.Request, err error) {
	r = protocol.Request{
		Version: protocol.Version, Appliance: w.engine.Appliance(), Kind: protocol.KindIssue, Issuer: w.issuing, Profile: profile, Body: body(0),
		Subject: fmt.Sprintf("%s-PC-%04d", filepath.Base(body(0)), number), Created: created.Unix(), Expires: created.Add(day).Unix(),
	}
	p, _ := w.policy.Profile(profile)
	if r.ProfileDigest, err = p.Digest(); err != nil {
		return r, err
	}
	r.Content, err = cose.Marshal(protocol.Issuance{CSR: csr, Fields: map[string]string{"number": fmt.Sprintf("%04d", number)}, Origin: protocol.OriginHolder})
	return r, err
}

// item gives a request a nonce and makes an item of it.
func item(r *protocol.Request) (id protocol.Digest, encoded []byte, err error) {
	rand.Read(r.Nonce[:])
	raw, err := cose.Marshal(r)
	if err != nil {
		return id, nil, err
	}
	encoded, err = cose.Marshal(protocol.Item{Request: raw})
	return protocol.ID(raw), encoded, err
}

func (w *world) writeLate(out io.Writer) error {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		return err
	}
	csr, err := newCSR(key)
	if err != nil {
		return err
	}
	late, err := w.workstation(9999, csr, time.Now().Add(-2*day))
	if err != nil {
		return err
	}
	for left := manyItems - issuedLast; left > 0; left -= protocol.MaxGroupItems {
		g := protocol.Group{Section: protocol.SectionRequests}
		for range min(left, protocol.MaxGroupItems) {
			_, encoded, err := item(&late)
			if err != nil {
				return err
			}
			g.Items = append(g.Items, encoded)
		}
		if err := protocol.WriteGroup(out, g); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) writeGood(out io.Writer) error {
	g := protocol.Group{Section: protocol.SectionRequests}
	var requests []protocol.Request
	var ids []protocol.Digest
	for i := range issuedLast {
		key, _, err := newKey()
		if err != nil {
			return err
		}
		csr, err := newCSR(key)
		if err != nil {
			return err
		}
		r, err := w.workstation(i, csr, time.Now())
		if err != nil {
			return err
		}
		id, encoded, err := item(&r)
		if err != nil {
			return err
		}
		requests, ids, g.Items = append(requests, r), append(ids, id), append(g.Items, encoded)
	}
	approval, err := w.approve(w.local, nil, []protocol.Statement{protocol.StatementFingerprint}, requests, ids)
	if err != nil {
		return err
	}
	g.Approvals = [][]byte{approval}
	return protocol.WriteGroup(out, g)
}
