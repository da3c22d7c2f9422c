package signer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"coldseal/appliance/wire"
)

// lie is a signer process that is honest but for one thing. It is this test binary, started as `signer.test liar MODE`.
func lie(mode string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return err
	}
	ca := KeyInfo{"ca", CA, P256, spki}
	counter := uint64(10)
	mode, slowly := strings.CutSuffix(mode, ", slowly")
	return wire.Serve(wire.Descriptor, 1, func(op uint64, body []byte) (any, error) {
		request, err := decodeRequest(op, body)
		if err != nil {
			return nil, err
		}
		switch r := request.(type) {
		case *helloRequest:
			if mode == "version" {
				return Hello{Version: 2}, nil
			}
			if slowly {
				return Hello{Version: Version, Backend: "liar", Pace: 100}, nil
			}
			return Hello{Version: Version, Backend: "liar"}, nil
		case *shareRequest:
			return lieAboutShares(mode, r), nil
		case *createRequest:
			return lieAboutCreation(mode, ca, r)
		case *signRequest:
			return lieAboutSignatures(mode, private, r)
		case *counterMessage:
			if mode == "advance" {
				return counterMessage{r.Value + 1}, nil
			}
			return counterMessage{r.Value}, nil
		case *pinMessage:
			return pinMessage{sha256.Sum256(r.Digest[:])}, nil
		}
		if op == opCounter {
			counter--
			return counterMessage{counter}, nil
		}
		return lieAboutKeys(mode, ca), nil
	})
}

func lieAboutKeys(mode string, ca KeyInfo) keysReply {
	switch mode {
	case "list-twice":
		return keysReply{[]KeyInfo{ca, ca}}
	case "list-same-key":
		other := ca
		other.Label = "other"
		return keysReply{[]KeyInfo{ca, other}}
	case "list-spki":
		ca.SPKI = ca.SPKI[1:]
	case "list-algorithm":
		ca.Algorithm = P384
	case "list-purpose":
		ca.Purpose = "all"
	case "list-many":
		return keysReply{make([]KeyInfo, MaxKeys+1)}
	}
	return keysReply{[]KeyInfo{ca}}
}

func lieAboutCreation(mode string, ca KeyInfo, r *createRequest) (any, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	made := KeyInfo{r.Label, r.Purpose, r.Algorithm, spki}
	switch mode {
	case "create-purpose":
		made.Purpose = Receiver
	case "create-label":
		made.Label = "else"
	case "create-old":
		made.SPKI = ca.SPKI
	case "create-algorithm":
		made.Algorithm = Ed25519
	}
	return createReply{Key: made}, err
}

func lieAboutSignatures(mode string, private *ecdsa.PrivateKey, r *signRequest) (any, error) {
	reply := signReply{}
	for _, input := range r.Inputs {
		signature, err := private.Sign(nil, input, r.Scheme.Options())
		if err != nil {
			return nil, err
		}
		reply.Signatures = append(reply.Signatures, signature)
	}
	last := len(reply.Signatures) - 1
	switch mode {
	case "few":
		reply.Signatures = reply.Signatures[:last]
	case "many":
		reply.Signatures = append(reply.Signatures, reply.Signatures[0])
	case "none":
		reply.Signatures = nil
	case "swapped":
		reply.Signatures[0], reply.Signatures[last] = reply.Signatures[last], reply.Signatures[0]
	case "flipped":
		reply.Signatures[last][20] ^= 1
	case "empty":
		reply.Signatures[last] = nil
	case "trailing":
		reply.Signatures[last] = append(reply.Signatures[last], 0)
	case "other-key":
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if reply.Signatures[last], err = other.Sign(nil, r.Inputs[last], r.Scheme.Options()); err != nil {
			return nil, err
		}
	case "panic":
		panic("bug")
	case "wrong-type":
		return counterMessage{1}, nil
	case "broken":
		return nil, errors.New("token removed")
	}
	return reply, nil
}

func startLiar(mode string) (*Client, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Start(context.Background(), path, []string{"liar", mode}, Options{})
}

func TestLiarWhenSigning(t *testing.T) {
	for mode, why := range map[string]string{
		"few":        "2 signatures for 3 inputs",
		"many":       "4 signatures for 3 inputs",
		"none":       "0 signatures for 3 inputs",
		"swapped":    "does not verify",
		"flipped":    "signature 3 of 3 by key ca does not verify",
		"empty":      "signature 3 of 3 by key ca does not verify",
		"trailing":   "signature 3 of 3 by key ca does not verify",
		"other-key":  "signature 3 of 3 by key ca does not verify",
		"panic":      "panic: bug",
		"wrong-type": "answer to operation 4",
		"broken":     "token removed",
	} {
		t.Run(mode, func(t *testing.T) {
			c, err := startLiar(mode)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			key, err := c.KeyLabelled("ca", CA)
			if err != nil {
				t.Fatal(err)
			}
			signatures, err := c.SignBatch(key.ID(), CA, ECDSASHA256, digests(3))
			if signatures != nil {
				t.Errorf("%d signatures came out", len(signatures))
			}
			wantFault(t, c, err, why)
		})
	}
	for _, mode := range []string{"honest", "honest, slowly"} {
		c, err := startLiar(mode)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, n := range []int{1, portion, portion + 1, MaxBatch} {
			if signatures, err := c.SignBatch(c.Keys()[0].ID(), CA, ECDSASHA256, digests(n)); err != nil || len(signatures) != n {
				t.Errorf("%s: told the truth, and %v", mode, err)
			}
		}
	}
}

// TestLiarInPortions has every portion of a batch lie about its last signature, or but one of them.
func TestLiarInPortions(t *testing.T) {
	for mode, why := range map[string]string{"few": "signatures for", "flipped": "does not verify", "swapped": "does not verify", "broken": "token removed"} {
		c, err := startLiar(mode + ", slowly")
		if err != nil {
			t.Fatal(err)
		}
		signatures, err := c.SignBatch(c.Keys()[0].ID(), CA, ECDSASHA256, digests(3*portion+5))
		if signatures != nil {
			t.Errorf("%s: %d signatures came out", mode, len(signatures))
		}
		wantFault(t, c, err, why)
	}
}

func TestLiarWhenStarted(t *testing.T) {
	for mode, why := range map[string]string{
		"version":        "speaks version 2",
		"list-twice":     "is there twice",
		"list-same-key":  "is there twice",
		"list-spki":      "key ca",
		"list-algorithm": "not of algorithm P-384",
		"list-purpose":   `purpose "all"`,
		"list-many":      "lists 257 keys",
	} {
		t.Run(mode, func(t *testing.T) {
			c, err := startLiar(mode)
			if err == nil {
				t.Fatal("started")
			}
			if c != nil {
				t.Error("a client beside an error")
			}
			if want := why; !errors.Is(err, wire.ErrFault) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want a fault that says %q", err, want)
			}
		})
	}
}

func TestLiarElsewhere(t *testing.T) {
	for mode, do := range map[string]func(c *Client) error{
		"create-purpose":   func(c *Client) error { _, err := c.CreateKey("new", CA, P256); return err },
		"create-label":     func(c *Client) error { _, err := c.CreateKey("new", CA, P256); return err },
		"create-old":       func(c *Client) error { _, err := c.CreateKey("new", CA, P256); return err },
		"create-algorithm": func(c *Client) error { _, err := c.CreateKey("new", CA, P256); return err },
		"advance":          func(c *Client) error { return c.Advance(11) },
		"pin":              func(c *Client) error { return c.Pin([32]byte{1}) },
		"counter": func(c *Client) error {
			if _, err := c.Counter(); err != nil {
				return fmt.Errorf("first reading: %v", err)
			}
			_, err := c.Counter()
			return err
		},
	} {
		t.Run(mode, func(t *testing.T) {
			c, err := startLiar(mode)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			wantFault(t, c, do(c))
		})
	}
}
