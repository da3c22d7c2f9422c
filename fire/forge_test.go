package fire

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
)

// forge seals a bundle as the agent does, with one revocation and as much junk beside it, and gives the id of the one.
func (w *world) forge(t *testing.T, serial string, junk int) protocol.Digest {
	t.Helper()
	id := w.must(t, "agent", "request", "revoke", "--serial", serial, "--reason", "keyCompromise")
	approval := w.approval(t, id)
	item, err := cose.Marshal(protocol.Item{Request: readAll(t, w.path("pending", id+".request"))})
	if err != nil {
		t.Fatal(err)
	}
	group := protocol.Group{Section: protocol.SectionTakeAway, Approvals: [][]byte{approval}, Items: [][]byte{item}}
	groups := []protocol.Group{group}
	for range junk / protocol.MaxGroupBytes {
		groups = append(groups, protocol.Group{Section: protocol.SectionRequests, Items: [][]byte{}})
		for range protocol.MaxGroupBytes / protocol.MaxItem {
			last := &groups[len(groups)-1]
			last.Items = append(last.Items, make([]byte, protocol.MaxItem))
		}
	}
	w.seal(t, groups)
	request, err := hex.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return protocol.Digest(request)
}

// approval has one request approved, and not attached.
func (w *world) approval(t *testing.T, id string) []byte {
	t.Helper()
	w.must(t, "agent", "pending", "--out", "pending")
	for _, name := range w.glob(t, "pending/*.request") {
		if filepath.Base(name) != id+".request" {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.must(t, "coldseal", "approve", "--key", "local.key", "--introduction", "introduction", "--digest", w.digest, "--dir", "pending", "--yes", "--out", "approvals/")
	return readAll(t, w.glob(t, "approvals/*")[0])
}

// seal puts groups onto the stick, as the agent's bundle 4.
func (w *world) seal(t *testing.T, groups []protocol.Group) {
	t.Helper()
	appliance, err := hex.DecodeString(w.digest)
	if err != nil {
		t.Fatal(err)
	}
	in, err := protocol.OpenIntroduction(readAll(t, w.path("introduction")), protocol.Digest(appliance))
	if err != nil {
		t.Fatal(err)
	}
	receiver := in.Keys.Now().Receiver
	block, _ := pem.Decode(readAll(t, w.path("agent", "seal.key")))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	header := protocol.BundleHeader{Version: protocol.Version, From: "desk", To: protocol.Digest(appliance), Sequence: 4, Created: now, Expires: now + 86400}
	write := func(out io.Writer) error {
		for _, g := range groups {
			if err := protocol.WriteGroup(out, g); err != nil {
				return err
			}
		}
		return nil
	}
	rest := sha256.New()
	if err := write(rest); err != nil {
		t.Fatal(err)
	}
	header.Rest = protocol.Digest(rest.Sum(nil))
	for _, g := range groups {
		header.Items += uint64(len(g.Items))
	}
	path, err := media.Name{Kind: media.Bundle, Appliance: media.Tag(protocol.Digest(appliance)), Agent: "desk", Sequence: 4}.Path()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(w.path("stick", path)), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(w.path("stick", path))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := media.Encrypt(f, receiver)
	if err == nil {
		err = errors.Join(protocol.WriteHeader(sealed, header, key.(*ecdsa.PrivateKey)), write(sealed), sealed.Close())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
