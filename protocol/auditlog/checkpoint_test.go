package auditlog

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

var (
	logKey   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	logPub   = logKey.Public().(ed25519.PublicKey)
	origin   = Origin([32]byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0xff})
	root     = LeafHash([]byte("root"))
)

// signatureLine signs any text, also what SignCheckpoint refuses.
func signatureLine(text, name string, key ed25519.PrivateKey) string {
	id := keyID(name, key.Public().(ed25519.PublicKey))
	return "— " + name + " " + base64.StdEncoding.EncodeToString(append(id[:], ed25519.Sign(key, []byte(text))...)) + "\n"
}

func signRaw(text string) string { return text + "\n" + signatureLine(text, origin, logKey) }

func witnessLine(name string) string {
	return "— " + name + " " + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(name[:1]), 76)) + "\n"
}

// judge opens a note with the library of the Go checksum database.
func judge(t testing.TB, signed []byte) (*note.Note, error) {
	text, err := note.NewEd25519VerifierKey(origin, logPub)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	return note.Open(signed, note.VerifierList(verifier))
}

func TestCheckpointAgreesWithNote(t *testing.T) {
	if origin != "coldseal/123456789abcdef0" {
		t.Fatalf("origin is %q", origin)
	}
	for _, size := range []int64{1, 9, 10, 1000, MaxSize} {
		text := CheckpointText(origin, size, root)
		signed, err := SignCheckpoint(text, origin, logKey)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := judge(t, signed)
		if err != nil || opened.Text != string(text) {
			t.Errorf("size %d: note opens %q, %v", size, opened.Text, err)
		}
		c, err := verifyCheckpoint(signed, origin, logPub)
		if err != nil || c != (Checkpoint{origin, size, root}) {
			t.Errorf("size %d: got %+v, %v", size, c, err)
		}
	}
	skey := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, binary.BigEndian.Uint32(first4(keyID(origin, logPub))),
		base64.StdEncoding.EncodeToString(append([]byte{1}, logKey.Seed()...)))
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.Sign(&note.Note{Text: string(CheckpointText(origin, 5, root))}, signer)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := SignCheckpoint(CheckpointText(origin, 5, root), origin, logKey)
	if err != nil || !bytes.Equal(ours, theirs) {
		t.Errorf("note signs\n%s\nwe sign\n%s\n%v", theirs, ours, err)
	}
}

func first4(id [4]byte) []byte { return id[:] }

func TestCheckpointAccepts(t *testing.T) {
	text := string(CheckpointText(origin, 5, root))
	ours := signatureLine(text, origin, logKey)
	sixteen := ours
	for i := range 15 {
		sixteen += witnessLine(fmt.Sprintf("%c.witness.example/with-a-rather-long-name-for-its-log", 'a'+i))
	}
	for name, signed := range map[string]string{
		"alone":                 text + "\n" + ours,
		"fifteen witnesses":     text + "\n" + sixteen,
		"a witness first":       text + "\n" + witnessLine("w") + ours,
		"our name, another key": text + "\n" + ours + signatureLine(text, origin, otherKey),
		"our key, another name": text + "\n" + ours + signatureLine(text, "w.example", logKey),
		"name in Greek":         text + "\n" + ours + "— μάρτυρας AAAAAAA=\n",
	} {
		c, err := verifyCheckpoint([]byte(signed), origin, logPub)
		if err != nil || c != (Checkpoint{origin, 5, root}) {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
		if _, err := judge(t, []byte(signed)); err != nil {
			t.Errorf("%s: note refuses: %v", name, err)
		}
	}
	empty := EmptyCheckpoint(origin)
	c, err := verifyCheckpoint([]byte(signRaw(string(CheckpointText(origin, 0, empty.Root)))), origin, logPub)
	if err != nil || c != empty {
		t.Errorf("empty tree: got %+v, %v", c, err)
	}
}

func TestCheckpointRefusals(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString(root[:])
	text := string(CheckpointText(origin, 5, root))
	ours := signatureLine(text, origin, logKey)
	good := text + "\n" + ours
	if _, err := verifyCheckpoint([]byte(good), origin, logPub); err != nil {
		t.Fatalf("the checkpoint that the table below breaks: %v", err)
	}
	// The last character before the padding of 32 bytes carries two bits that mean nothing.
	i := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", b64[42])
	stray := b64[:42] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[i+1]) + "="
	line := strings.TrimSuffix(strings.TrimPrefix(ours, "— "+origin+" "), "\n")
	seventeen := ours
	for i := range 16 {
		seventeen += witnessLine(fmt.Sprintf("%c", 'a'+i))
	}
	for name, test := range map[string]struct{ note, want string }{
		"empty":                     {"", "no blank line"},
		"text only":                 {text, "no blank line"},
		"no signature":              {text + "\n", "no signature"},
		"witness only":              {text + "\n" + witnessLine("w"), "no signature"},
		"another key":               {text + "\n" + signatureLine(text, origin, otherKey), "no signature"},
		"another name":              {text + "\n" + signatureLine(text, "w.example", logKey), "no signature"},
		"signature of another text": {text + "\n" + signatureLine("x\n", origin, logKey), "is wrong"},
		"two of ours":               {good + ours, "two signatures"},
		"two of ours, one wrong":    {good + signatureLine("x\n", origin, logKey), "two signatures"},
		"the same witness twice":    {good + witnessLine("w") + witnessLine("w"), "two signatures"},
		"seventeen":                 {text + "\n" + seventeen, "more than 16"},
		"too long":                  {good + witnessLine(strings.Repeat("w", MaxCheckpoint)), "at most 4096"},
		"trailing newline":          {good + "\n", "not a signature line"},
		"trailing text":             {good + "x", "not a signature line"},
		"no last newline":           {strings.TrimSuffix(good, "\n"), "not a signature line"},
		"hyphen for the dash":       {text + "\n" + "- " + origin + " " + line + "\n", "not a signature line"},
		"no name":                   {text + "\n" + "—  " + line + "\n", "not a signature line"},
		"plus in a name":            {good + "— a+b AAAAAAA=\n", "not a signature line"},
		"space in a name":           {good + "— a\u00a0b AAAAAAA=\n", "not a signature line"},
		"two spaces":                {text + "\n" + "— " + origin + "  " + line + "\n", "illegal base64"},
		"signature truncated":       {text + "\n" + "— " + origin + " " + line[:len(line)-4] + "\n", "is wrong"},
		"signature not base64":      {text + "\n" + "— " + origin + " " + line[:len(line)-1] + "\n", "illegal base64"},
		"signature longer":          {text + "\n" + "— " + origin + " " + line + "AAAA" + "\n", "illegal base64"},
		"key id only":               {good + "— w AAAAAA==\n", "4 bytes"},
		"witness, stray bits":       {good + "— w AAAAAAB=\n", "not canonical base64"},
		"carriage return":           {strings.ReplaceAll(good, "\n", "\r\n"), "control character"},
		"control character":         {good + "— w\x01 AAAAAAA=\n", "control character"},
		"invalid UTF-8":             {good + "— w\xff AAAAAAA=\n", "invalid UTF-8"},
		"extension line":            {signRaw(text + "extension\n"), "not three lines"},
		"two lines":                 {signRaw(origin + "\n5\n"), "not three lines"},
		"empty line in the text":    {signRaw(text + "\nmore\n"), "not a signature line"},
		"empty line first":          {"\n" + good, "is wrong"},
		"another origin":            {signRaw("coldseal/0000000000000000\n5\n" + b64 + "\n"), "origin is"},
		"space after the origin":    {signRaw(origin + " \n5\n" + b64 + "\n"), "origin is"},
		"leading zero":              {signRaw(origin + "\n05\n" + b64 + "\n"), "canonical decimal"},
		"plus before the size":      {signRaw(origin + "\n+5\n" + b64 + "\n"), "canonical decimal"},
		"negative size":             {signRaw(origin + "\n-5\n" + b64 + "\n"), "canonical decimal"},
		"minus zero":                {signRaw(origin + "\n-0\n" + b64 + "\n"), "canonical decimal"},
		"hexadecimal size":          {signRaw(origin + "\n0x5\n" + b64 + "\n"), "canonical decimal"},
		"underscore":                {signRaw(origin + "\n1_0\n" + b64 + "\n"), "canonical decimal"},
		"size 2^53+1":               {signRaw(origin + "\n9007199254740993\n" + b64 + "\n"), "canonical decimal"},
		"size 2^64":                 {signRaw(origin + "\n18446744073709551616\n" + b64 + "\n"), "canonical decimal"},
		"root of size 0":            {signRaw(origin + "\n0\n" + b64 + "\n"), "empty tree"},
		"root truncated":            {signRaw(origin + "\n5\n" + b64[:40] + "\n"), "base64 of 32 bytes"},
		"root without padding":      {signRaw(origin + "\n5\n" + b64[:43] + "\n"), "base64 of 32 bytes"},
		"root, stray bits":          {signRaw(origin + "\n5\n" + stray + "\n"), "base64 of 32 bytes"},
		"root of 33 bytes":          {signRaw(origin + "\n5\n" + base64.StdEncoding.EncodeToString(append(root[:], 0)) + "\n"), "base64 of 32 bytes"},
		"root in hexadecimal":       {signRaw(fmt.Sprintf("%s\n5\n%x\n", origin, root[:])), "base64 of 32 bytes"},
	} {
		c, err := verifyCheckpoint([]byte(test.note), origin, logPub)
		if !errors.Is(err, ErrCheckpoint) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", name, err, test.want)
		}
		if c != (Checkpoint{}) {
			t.Errorf("%s: a refused note gave %+v", name, c)
		}
	}
	for i := range len(good) {
		flipped := []byte(good)
		flipped[i] ^= 1
		if c, err := verifyCheckpoint(flipped, origin, logPub); err == nil {
			t.Errorf("byte %d flipped: accepted as %+v", i, c)
		}
		if c, err := verifyCheckpoint([]byte(good)[:i], origin, logPub); err == nil {
			t.Errorf("cut to %d bytes: accepted as %+v", i, c)
		}
	}
	for name, want := range map[string]string{
		"coldseal/0000000000000000": "no signature",
		"":                          "no signature",
	} {
		if _, err := verifyCheckpoint([]byte(good), name, logPub); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened as %q: got error %v, want %q", name, err, want)
		}
	}
	if _, err := verifyCheckpoint([]byte(good), origin, logPub[:31]); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("short log key: got error %v", err)
	}
}

// badSigner answers with a wrong signature, as a broken device would.
type badSigner struct{ crypto.Signer }

func (badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, ed25519.SignatureSize), nil
}

// deadSigner fails.
type deadSigner struct{ crypto.Signer }

var errDead = errors.New("device is gone")

func (deadSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errDead }

// foreignSigner has a key that is not Ed25519.
type foreignSigner struct{ crypto.Signer }

func (foreignSigner) Public() crypto.PublicKey { return "a key" }

func TestSignCheckpointRefusals(t *testing.T) {
	good := CheckpointText(origin, 5, root)
	for name, test := range map[string]struct {
		text   []byte
		name   string
		signer crypto.Signer
		want   string
	}{
		"another name":    {good, "coldseal/0000000000000000", logKey, "origin is"},
		"name in capital": {CheckpointText("coldseal/123456789ABCDEF0", 5, root), "coldseal/123456789ABCDEF0", logKey, "16 hexadecimal"},
		"short name":      {CheckpointText("coldseal/12", 5, root), "coldseal/12", logKey, "16 hexadecimal"},
		"other name":      {CheckpointText("go.sum", 5, root), "go.sum", logKey, "16 hexadecimal"},
		"no text":         {nil, origin, logKey, "not three lines"},
		"negative size":   {CheckpointText(origin, -1, root), origin, logKey, "canonical decimal"},
		"extension":       {append(good[:len(good):len(good)], "x\n"...), origin, logKey, "not three lines"},
		"root of size 0":  {CheckpointText(origin, 0, root), origin, logKey, "empty tree"},
		"wrong signature": {good, origin, badSigner{logKey}, "does not verify"},
		"no signature":    {good, origin, deadSigner{logKey}, errDead.Error()},
		"foreign key":     {good, origin, foreignSigner{logKey}, "want Ed25519"},
	} {
		if signed, err := SignCheckpoint(test.text, test.name, test.signer); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %q, error %v, want %q", name, signed, err, test.want)
		}
	}
}

// FuzzOpenCheckpoint signs whatever text it is given, or else nothing but the seeds would pass the signature.
func FuzzOpenCheckpoint(f *testing.F) {
	text := string(CheckpointText(origin, 5, root))
	f.Add(text, "")
	f.Add(string(CheckpointText(origin, 0, EmptyCheckpoint(origin).Root)), witnessLine("w"))
	f.Add(text+"extension\n", signatureLine(text, origin, otherKey))
	f.Add(origin+"\n05\n", signatureLine(text, origin, logKey))
	keys := ownKeys(f)
	f.Fuzz(func(t *testing.T, text, witnesses string) {
		signed := signRaw(text) + witnesses
		c, err := OpenCheckpoint([]byte(signed), keys)
		if err != nil {
			return
		}
		if again := CheckpointText(c.Origin, c.Size, c.Root); string(again) != text {
			t.Fatalf("%q was accepted and encodes as %q", text, again)
		}
		if _, err := judge(t, []byte(signed)); err != nil {
			t.Fatalf("%q was accepted, and note refuses it: %v", signed, err)
		}
		if _, err := OpenCheckpoint([]byte(text+"\n"+witnesses), keys); err == nil {
			t.Fatalf("%q was accepted without the log's signature", witnesses)
		}
	})
}
