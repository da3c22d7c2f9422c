//go:build cgo

package piv

import (
	"bytes"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
	"coldseal/protocol/shamir"
)

// newShares makes the shares of a new set, 2 of 3.
func newShares(t testing.TB) (all [][]byte) {
	t.Helper()
	_, shares, err := shamir.Split([shamir.SecretSize]byte{7}, 2, 3, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		all = append(all, s.Encode())
	}
	return all
}

// factoryCard puts a new card into a reader as it comes from the factory.
func factoryCard(t testing.TB, reader int, name, version string) signer.Locator {
	t.Helper()
	tell(t, "new %d %s %s", reader, name, version)
	l, err := signer.ParseLocator(strings.ReplaceAll("piv:reader="+readerName(reader), " ", "%20"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tool runs yubico-piv-tool on the card in a reader.
func tool(t testing.TB, reader int, args ...string) string {
	t.Helper()
	out, err := exec.Command("yubico-piv-tool", append([]string{"-r", readerName(reader)}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("yubico-piv-tool %v: %v: %s", args, err, out)
	}
	return string(out)
}

// setManagement gives a card another management key (Yubico's SET MANAGEMENT KEY), which its tool here does for 3DES alone.
func setManagement(t testing.TB, l signer.Locator, algorithm byte, key []byte) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := openManager()
	must(err)
	c, err := lookFor(l, m)
	must(err)
	a := applet{c.transmit}
	must(a.authenticate(factoryKey))
	_, err = a.command(0xff, 0xff, 0xff, append([]byte{algorithm, 0x9b, byte(len(key))}, key...))
	must(errors.Join(err, c.close(), m.close()))
}

func equal(t testing.TB, what string, got [][]byte, want ...[]byte) {
	t.Helper()
	if !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
		t.Errorf("%s: there are %x, want %x", what, got, want)
	}
}

// TestShare writes shares to cards with every kind of management key, and reads them; the card's own tool reads the same.
func TestShare(t *testing.T) {
	first, second, third, fourth := newShares(t), newShares(t), newShares(t), newShares(t)
	aes := bytes.Repeat([]byte{9}, 32)
	for name, c := range map[string]struct {
		version    string
		algorithm  byte // of the management key, if it is not the factory's
		management []byte
		factory    bool
	}{
		"factory, 3DES":    {"5.4.3", 0, nil, true},
		"factory, AES-192": {"5.7.1", 0, nil, true},
		"plain":            {"plain", 0, nil, true},
		"plain, given":     {"plain", 0, factoryKey, false},
		"old":              {"5.2.7", 0, factoryKey, false},
		"given, AES-256":   {"5.7.1", algAES256, aes, false},
		"given, AES-192":   {"5.4.3", algAES192, aes[:24], false},
		"given, AES-128":   {"5.7.1", algAES128, aes[:16], false},
	} {
		t.Run(name, func(t *testing.T) {
			l := factoryCard(t, 8, "share", c.version)
			if c.algorithm != 0 {
				setManagement(t, l, c.algorithm, c.management)
			}
			_, _, err := Share(l, []byte(pin), nil, nil)
			wants(t, err, signer.ShareMissing, "is empty")
			for i, share := range [][]byte{first[0], second[2], second[2], third[1], fourth[0]} {
				shares, factory, err := Share(l, []byte(pin), c.management, share)
				if err != nil || factory != (c.factory && i != 2) { // what is there already is not written
					t.Fatalf("share %d: factory's key %v, %v", i, factory, err)
				}
				equal(t, "written", shares[:1], share)
			}
			shares, _, err := Share(l, []byte(pin), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "read", shares, fourth[0], third[1], second[2])
			if c.version == "plain" {
				return // the tool wants Yubico's extensions
			}
			if out := tool(t, 8, "-a", "verify-pin", "-P", pin, "-a", "read-object", "--id", "0x5fc121"); !strings.Contains(out, hex.EncodeToString(bytes.Join(shares, nil))) {
				t.Errorf("yubico-piv-tool reads %s", out)
			}
			// Without the PIN nobody reads it.
			if out, err := exec.Command("yubico-piv-tool", "-r", readerName(8), "-a", "read-object", "--id", "0x5fc121").CombinedOutput(); err == nil || strings.Contains(string(out), hex.EncodeToString(fourth[0][:16])) {
				t.Errorf("without the PIN: %s, %v", out, err)
			}
		})
	}
	t.Run("under the PIN", func(t *testing.T) {
		l := locator(t, newCard(t, 8, "share", "5.4.3"), 8)
		if shares, factory, err := Share(l, []byte(pin), nil, first[0]); err != nil || factory || len(shares) != 1 {
			t.Errorf("%d shares, factory's key %v, %v", len(shares), factory, err)
		}
	})
}

// TestShareRefused has each thing that can be wrong: its own trouble, and the card as it was.
func TestShareRefused(t *testing.T) {
	first, second := newShares(t), newShares(t)
	serial := newCard(t, 9, "refused", "5.4.3")
	tell(t, "remove 15")
	l := locator(t, serial, 9)
	here := []byte(pin)
	if _, _, err := Share(l, here, nil, first[0]); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		locator                signer.Locator
		pin, management, share []byte
		code                   signer.TroubleCode
		words                  string
	}{
		"another of the set":  {l, here, nil, first[1], signer.ObjectTaken, "share 1 of the same set"},
		"other key":           {l, here, bytes.Repeat([]byte{1}, 24), second[0], signer.ManagementKey, "not the card's"},
		"key of other length": {l, here, bytes.Repeat([]byte{1}, 16), second[0], signer.ManagementKey, "not the card's"},
		"no PIN":              {l, []byte("12345"), nil, nil, signer.PINWrong, "no try was used up"},
		"long PIN":            {l, []byte("123456789"), nil, nil, signer.PINWrong, "no try was used up"},
		"another card":        {locator(t, serial+1000, 9), here, nil, nil, signer.TokenSwapped, fmt.Sprint(serial)},
		"no card":             {locator(t, serial, 15), here, nil, nil, signer.TokenAbsent, "no card"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Share(c.locator, c.pin, c.management, c.share)
			wants(t, err, c.code, c.words)
			shares, _, err := Share(l, here, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "afterwards", shares, first[0])
		})
	}
	t.Run("busy", func(t *testing.T) {
		card, err := piv.Open(readerName(9))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Share(l, here, nil, nil)
		wants(t, err, signer.DeviceBusy, readerName(9))
		if err := card.Close(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("several cards", func(t *testing.T) {
		tell(t, "insert 8 another")
		several, err := signer.ParseLocator("piv:reader=Yubikey%20E%2000")
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Share(several, here, nil, nil)
		wants(t, err, signer.TokenSwapped, "more than one")
		numbered, err := signer.ParseLocator(fmt.Sprintf("piv:serial=%d", serial))
		if err != nil {
			t.Fatal(err)
		}
		if shares, _, err := Share(numbered, here, nil, nil); err != nil || len(shares) != 1 {
			t.Errorf("by its number: %v", err)
		}
		tell(t, "remove 8")
	})
	t.Run("PIN", func(t *testing.T) {
		for left := 2; left > 0; left-- {
			_, _, err := Share(l, []byte("000000"), nil, second[0])
			wants(t, err, signer.PINWrong, fmt.Sprintf("%d tries are left", left))
		}
		_, _, err := Share(l, []byte("000000"), nil, nil)
		wants(t, err, signer.PINLocked, "")
		_, _, err = Share(l, here, nil, nil)
		wants(t, err, signer.PINLocked, "")
		tool(t, 9, "-a", "unblock-pin", "-P", "12345678", "-N", pin)
	})
	t.Run("something else is there", func(t *testing.T) {
		l := factoryCard(t, 9, "taken", "5.4.3")
		for _, content := range []string{"c1", strings.Repeat("00", 64), hex.EncodeToString(first[0]) + "00", strings.Repeat(hex.EncodeToString(first[0]), 4)} {
			tool(t, 9, "-a", "write-object", "--id", "0x5fc121", "-f", "hex", "-i", written(t, content))
			for _, share := range [][]byte{nil, first[0]} {
				_, _, err := Share(l, here, nil, share)
				wants(t, err, signer.ObjectTaken, "are no shares")
			}
			if out := tool(t, 9, "-a", "verify-pin", "-P", pin, "-a", "read-object", "--id", "0x5fc121"); !strings.Contains(out, content) {
				t.Errorf("it was overwritten: %s", out)
			}
		}
	})
	t.Run("no key", func(t *testing.T) {
		own := factoryCard(t, 9, "own", "5.4.3")
		tool(t, 9, "-a", "set-mgm-key", "-n", strings.Repeat("0a", 24))
		_, _, err := Share(own, here, nil, first[0])
		wants(t, err, signer.ManagementKey, "none was given")
		_, _, err = Share(own, here, nil, nil)
		wants(t, err, signer.ShareMissing, "")
	})
}

func written(t testing.TB, content string) string {
	t.Helper()
	name := t.TempDir() + "/content"
	if err := exec.Command("sh", "-c", "printf %s "+content+" > "+name).Run(); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSharePulled pulls the card after each command of writing and of reading. The card holds what it held, or what it
// should, and the same again does it.
func TestSharePulled(t *testing.T) {
	first, second := newShares(t), newShares(t)
	serial := newCard(t, 7, "torn", "5.4.3")
	if _, _, err := Share(locator(t, serial, 7), []byte(pin), nil, first[0]); err != nil {
		t.Fatal(err)
	}
	for name, share := range map[string][]byte{"read": nil, "write": second[0]} {
		t.Run(name, func(t *testing.T) {
			tell(t, "copy 7 torn counted")
			var n int
			if _, _, err := Share(locator(t, serial, 7), []byte(pin), nil, share); err != nil {
				t.Fatal(err)
			}
			fmt.Sscan(tell(t, "count 7"), &n)
			if n < 4 || share != nil && n < 9 {
				t.Fatalf("%d commands", n)
			}
			at := make(chan int)
			var group sync.WaitGroup
			for reader := range readers {
				if reader != 7 {
					group.Go(func() {
						for at := range at {
							torn(t, serial, reader, at, first[0], share)
						}
					})
				}
			}
			for i := range n {
				at <- i + 1
			}
			close(at)
			group.Wait()
		})
	}
}

func torn(t *testing.T, serial uint32, reader, at int, before, share []byte) {
	t.Helper()
	file := fmt.Sprintf("torn%d", reader)
	l := locator(t, serial, reader)
	tell(t, "copy %d torn %s", reader, file)
	tell(t, "pull %d %d", reader, at)
	_, _, err := Share(l, []byte(pin), nil, share)
	if trouble, is := errors.AsType[*signer.Trouble](err); !is || trouble.Code != signer.DeviceGone && trouble.Code != signer.TokenAbsent {
		t.Errorf("pulled at command %d: %v", at, err)
	}
	tell(t, "insert %d %s", reader, file)
	shares, _, err := Share(l, []byte(pin), nil, nil)
	if err != nil || !bytes.Equal(shares[len(shares)-1], before) || len(shares) > 1 && !bytes.Equal(shares[0], share) {
		t.Errorf("pulled at command %d: it holds %x, %v", at, shares, err)
	}
	if share == nil {
		return
	}
	if shares, _, err = Share(l, []byte(pin), nil, share); err != nil {
		t.Errorf("again, after it was pulled at command %d: %v", at, err)
	}
	equal(t, "in the end", shares, share, before)
}

// TestLyingCard has cards that say they did what they did not: know the management key, or keep what is written.
func TestLyingCard(t *testing.T) {
	block, err := des.NewTripleDESCipher(factoryKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		knows bool
		code  signer.TroubleCode
		words string
	}{
		"knows no key":  {false, signer.ManagementKey, "none was given"},
		"keeps nothing": {true, signer.DeviceFails, "reads back otherwise"},
	} {
		l, err := signer.ParseLocator("piv:reader=x")
		if err != nil {
			t.Fatal(err)
		}
		card := &applet{func(command []byte) ([]byte, error) {
			ok := func(data []byte) ([]byte, error) { return append(data, 0x90, 0), nil }
			switch command[1] {
			case insMetadata:
				return ok(field(0x01, []byte{alg3DES}))
			case insGetData:
				return []byte{0x6a, 0x82}, nil
			case insAuthenticate:
				response := make([]byte, 8)
				challenge := command[len(command)-8:]
				if len(command) < 20 {
					return ok(field(0x7c, field(0x80, response)))
				}
				if c.knows {
					block.Encrypt(response, challenge)
				}
				return ok(field(0x7c, field(0x82, response)))
			}
			return ok(nil)
		}}
		_, _, err = holder{l, card}.add(nil, newShares(t)[0], nil)
		t.Log(name)
		wants(t, explain(l, "write", err), c.code, c.words)
	}
}

// FuzzCard lets a card answer whatever it likes.
func FuzzCard(f *testing.F) {
	f.Add([]byte("\x90\x00\x53\x02\x01\x02\x90\x00"), true)
	f.Add([]byte("\x61\x01"), false)
	f.Fuzz(func(t *testing.T, answers []byte, write bool) {
		parts := bytes.Split(answers, []byte{0xee, 0xee})
		card := &applet{func([]byte) ([]byte, error) {
			if len(parts) == 0 {
				return nil, errors.New("the card was pulled")
			}
			answer := parts[0]
			parts = parts[1:]
			return answer, nil
		}}
		h := holder{signer.Locator{}, card}
		shares, err := h.shares()
		for _, share := range shares {
			if _, errShare := shamir.Parse(share); err != nil || errShare != nil {
				t.Fatalf("%x: %v, %v", share, err, errShare)
			}
		}
		if len(shares) > signer.MaxShares {
			t.Fatalf("%d shares", len(shares))
		}
		if write {
			_, _, _ = h.add(shares, newShares(t)[0], nil)
		}
	})
}
