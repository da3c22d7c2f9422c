package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"testing"
)

// hand is a card without a reader.
func hand(t testing.TB, fresh state) *card {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.card")
	s, err := load(file, fresh)
	if err != nil {
		t.Fatal(err)
	}
	c := &card{state: s, file: file}
	ask(t, c, 0x9000, "00a4040005a000000308")
	return c
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ask sends a command and wants this status.
func ask(t testing.TB, c *card, want status, text string) []byte {
	t.Helper()
	return askBytes(t, c, want, unhex(t, text))
}

func askBytes(t testing.TB, c *card, want status, apdu []byte) []byte {
	t.Helper()
	reply := c.transmit(apdu)
	if got := status(binary.BigEndian.Uint16(reply[len(reply)-2:])); got != want {
		t.Fatalf("%x: status %04x, want %04x", apdu[:min(len(apdu), 16)], got, want)
	}
	return reply[:len(reply)-2]
}

// manage proves the management key.
func manage(t testing.TB, c *card, algorithm byte, key []byte) {
	t.Helper()
	var block cipher.Block
	var err error
	if algorithm == alg3DES {
		block, err = des.NewTripleDESCipher(key)
	} else {
		block, err = aes.NewCipher(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	n := block.BlockSize()
	witness := askBytes(t, c, done, []byte{0, insAuthenticate, algorithm, refManagement, 4, 0x7c, 2, 0x80, 0})[4:]
	plain := make([]byte, n)
	block.Decrypt(plain, witness)
	data := object(tagTemplate, object(tagWitness, plain), object(tagChallenge, make([]byte, n)))
	reply := askBytes(t, c, done, append([]byte{0, insAuthenticate, algorithm, refManagement, byte(len(data))}, data...))
	block.Encrypt(plain, make([]byte, n))
	if !bytes.Equal(reply[4:], plain) {
		t.Fatal("the card did not prove that it knows the management key")
	}
}

const (
	rightPIN = "0020008008313233343536ffff"
	wrongPIN = "0020008008313233343537ffff"
)

func TestPIN(t *testing.T) {
	c := hand(t, state{Version: [3]byte{5, 4, 3}})
	ask(t, c, 0x63c3, "00200080")
	ask(t, c, 0x63c2, wrongPIN)
	ask(t, c, 0x63c1, wrongPIN)
	ask(t, c, done, rightPIN)
	ask(t, c, done, "00200080")
	ask(t, c, done, "0020ff80")
	ask(t, c, 0x63c3, "00200080")
	// A card that loses its power has counted before it compared.
	ask(t, c, 0x63c2, wrongPIN)
	again, err := load(c.file, state{})
	if err != nil || again.PIN.Left != 2 {
		t.Fatalf("%d tries left without power, %v", again.PIN.Left, err)
	}
	ask(t, c, 0x63c1, wrongPIN)
	ask(t, c, blocked, wrongPIN)
	ask(t, c, blocked, rightPIN)
	ask(t, c, blocked, "00200080")
	ask(t, c, 0x63c2, "002c008010"+"3132333435363739"+"363534333231ffff")
	ask(t, c, done, "002c008010"+"3132333435363738"+"363534333231ffff")
	ask(t, c, done, "0020008008363534333231ffff")
	ask(t, c, wrongData, "0024008010"+"363534333231ffff"+"3132333435ffffff")
	ask(t, c, done, "0024008010"+"363534333231ffff"+"313233343536ffff")
	ask(t, c, done, rightPIN)
	ask(t, c, done, "0024008110"+"3132333435363738"+"3837363534333231")
	ask(t, c, noReference, "0020008108313233343536ffff")
}

func TestManagementKeys(t *testing.T) {
	for _, m := range []management{{alg3DES, bytes.Repeat([]byte{7}, 24)}, {algAES128, bytes.Repeat([]byte{8}, 16)},
		{algAES192, bytes.Repeat([]byte{9}, 24)}, {algAES256, bytes.Repeat([]byte{10}, 32)}} {
		c := hand(t, state{Version: [3]byte{5, 4, 3}})
		ask(t, c, notSatisfied, "00db3fff085c035fc1055301aa")
		ask(t, c, notSatisfied, "0047009a05ac03800111")
		manage(t, c, alg3DES, []byte(defaultKey))
		askBytes(t, c, done, append([]byte{0, insSetManagement, 0xff, 0xff, byte(3 + len(m.Key)), m.Algorithm, refManagement, byte(len(m.Key))}, m.Key...))
		ask(t, c, done, "00a4040005a000000308")
		ask(t, c, notSatisfied, "00db3fff085c035fc1055301aa")
		if got := ask(t, c, done, "00f7009b"); got[2] != m.Algorithm || got[len(got)-1] != 0 {
			t.Errorf("metadata %x", got)
		}
		manage(t, c, m.Algorithm, m.Key)
		ask(t, c, done, "00db3fff085c035fc1055301aa")
		if got := ask(t, c, done, "00cb3fff055c035fc105"); !bytes.Equal(got, []byte{0x53, 1, 0xaa}) {
			t.Errorf("object %x", got)
		}
		ask(t, c, done, "00db3fff075c035fc1055300")
		ask(t, c, notFound, "00cb3fff055c035fc105")
		// The host may prove itself alone.
		ask(t, c, done, "00a4040005a000000308")
		challenge := ask(t, c, done, fmt.Sprintf("0087%02x9b047c028100", m.Algorithm))[4:]
		block, err := m.block()
		if err != nil {
			t.Fatal(err)
		}
		block.Encrypt(challenge, challenge)
		response := object(tagTemplate, object(tagResponse, challenge))
		ask(t, c, notSatisfied, "00db3fff085c035fc1055301aa")
		askBytes(t, c, done, append([]byte{0, insAuthenticate, m.Algorithm, refManagement, byte(len(response))}, response...))
		ask(t, c, done, "00db3fff085c035fc1055301aa")
		askBytes(t, c, notSatisfied, append([]byte{0, insAuthenticate, m.Algorithm, refManagement, byte(len(response))}, response...))
		// A wrong answer proves nothing, and takes back what was proved.
		ask(t, c, done, fmt.Sprintf("0087%02x9b047c028000", m.Algorithm))
		data := object(tagTemplate, object(tagWitness, make([]byte, 16)), object(tagChallenge, make([]byte, 16)))
		if m.Algorithm != alg3DES {
			askBytes(t, c, notSatisfied, append([]byte{0, insAuthenticate, m.Algorithm, refManagement, byte(len(data))}, data...))
		}
		ask(t, c, notSatisfied, "00db3fff085c035fc1055301aa")
	}
}

func TestPolicies(t *testing.T) {
	sign := "0087119c26" + "7c24" + "8200" + "8120" + "0101010101010101010101010101010101010101010101010101010101010101"
	c := hand(t, state{Version: [3]byte{5, 4, 3}})
	ask(t, c, noReference, sign)
	manage(t, c, alg3DES, []byte(defaultKey))
	point := ask(t, c, done, "0047009c05ac03800111")
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[5:])
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, notSatisfied, sign)
	ask(t, c, done, rightPIN)
	reply := ask(t, c, done, sign)
	if !ecdsa.VerifyASN1(key, bytes.Repeat([]byte{1}, 32), reply[4:]) {
		t.Error("the signature does not verify")
	}
	ask(t, c, notSatisfied, sign) // a PIN for each signature
	ask(t, c, done, rightPIN)
	ask(t, c, wrongReference, "0087149c26"+sign[10:])
	ask(t, c, done, "0047009c0bac09800111aa0102ab0101")
	ask(t, c, done, rightPIN)
	ask(t, c, done, sign)
	ask(t, c, done, sign)
	ask(t, c, done, "0047009c0bac09800111aa0101ab0101")
	ask(t, c, done, "00a4040005a000000308")
	ask(t, c, done, sign)
}

func TestChaining(t *testing.T) {
	c := hand(t, state{Version: [3]byte{5, 4, 3}})
	manage(t, c, alg3DES, []byte(defaultKey))
	content := random(1000)
	data := append(unhex(t, "5c035fc105"), object(0x53, content)...)
	rest := data
	for len(rest) > 255 {
		askBytes(t, c, done, append([]byte{0x10, insPutData, 0x3f, 0xff, 255}, rest[:255]...))
		rest = rest[255:]
	}
	askBytes(t, c, done, append([]byte{0, insPutData, 0x3f, 0xff, byte(len(rest))}, rest...))
	got := ask(t, c, 0x61ff, "00cb3fff055c035fc105")
	got = append(got, ask(t, c, 0x61ff, "00c0000000")...)
	got = append(got, ask(t, c, 0x61ec, "00c0000000")...)
	got = append(got, ask(t, c, done, "00c0000000")...)
	if !bytes.Equal(got, object(0x53, content)) {
		t.Errorf("%d bytes came back", len(got))
	}
	if whole := ask(t, c, done, "00cb3fff0000055c035fc1050000"); !bytes.Equal(whole, got) {
		t.Errorf("in one answer %d bytes", len(whole))
	}
	// Another command in between ends the chain.
	askBytes(t, c, done, append([]byte{0x10, insPutData, 0x3f, 0xff, 255}, data[:255]...))
	ask(t, c, 0x63c3, "00200080")
	askBytes(t, c, wrongData, append([]byte{0, insPutData, 0x3f, 0xff, 5}, unhex(t, "5c035fc105")...))
	// Nobody fills the memory.
	sw := done
	for range 1000 {
		reply := c.transmit(append([]byte{0x10, insPutData, 0x3f, 0xff, 255}, data[:255]...))
		if sw = status(binary.BigEndian.Uint16(reply)); sw != done {
			break
		}
	}
	if sw != wrongLength || len(c.chain) > 1<<15 {
		t.Errorf("status %04x with %d bytes", sw, len(c.chain))
	}
}

func TestPlain(t *testing.T) {
	c := hand(t, state{Plain: true})
	for _, apdu := range []string{"00fd0000", "00f80000", "00f7009b", "00f99c00", "00fb0000", "00ffffff"} {
		ask(t, c, noInstruction, apdu)
	}
	manage(t, c, alg3DES, []byte(defaultKey))
	ask(t, c, done, "0047009c0bac09800111aa0101ab0101")
	if c.Keys[0x9c].PINPolicy != pinAlways {
		t.Error("a plain card took Yubico's policy")
	}
}

func TestReset(t *testing.T) {
	c := hand(t, state{Version: [3]byte{5, 7, 1}, Serial: 5})
	manage(t, c, algAES192, []byte(defaultKey))
	ask(t, c, done, "0047009c05ac038001e0")
	root := ask(t, c, done, "00cb3fff0000055c035fff010000")
	ask(t, c, conditions, "00fb0000")
	for range 3 {
		c.transmit(unhex(t, wrongPIN))
		c.transmit(unhex(t, "0024008110"+"3030303030303030"+"3132333435363738"))
	}
	ask(t, c, done, "00fb0000")
	ask(t, c, done, rightPIN)
	ask(t, c, noReference, "00f7009c")
	if got := ask(t, c, done, "00cb3fff0000055c035fff010000"); !bytes.Equal(got, root) || c.Serial != 5 {
		t.Error("the factory's own was reset too")
	}
}

func FuzzTransmit(f *testing.F) {
	for _, seed := range []string{"00a4040005a000000308", rightPIN, "0047009c0bac09800111aa0101ab0101", "00cb3fff0000055c035fc1050000", "00fe119a00", "1087119c03"} {
		f.Add(unhex(f, seed))
	}
	c := hand(f, state{Version: [3]byte{5, 7, 1}})
	c.file = filepath.Join(f.TempDir(), "gone", "x") // nothing is kept
	f.Fuzz(func(t *testing.T, apdu []byte) {
		c.selected, c.managed, c.verified = true, true, true
		if len(apdu) > 1 && (apdu[1] == insGenerate) {
			return // it would take its time
		}
		if reply := c.transmit(apdu); len(reply) < 2 {
			t.Fatalf("answered %x", reply)
		}
	})
}
