// Package person is what a person does with a key of theirs beside approving: telling which key it is, asking for a
// certificate with it, proving to hold it. coldseal does it with a key in a file, coldseal-station with one on a card;
// what differs between them is a Key.
package person

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/csr"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/show"
)

// Key is a person's key, in a file or on a card. Its errors are told as they are.
type Key interface {
	Public() crypto.PublicKey
	// For gives what makes one signature. What is signed is said to the person where each signature is asked for.
	For(what string) crypto.Signer
	Close() error
}

// Open gets the key ready. A PIN is asked for later, by what For gives.
type Open func() (Key, error)

// use opens the key and has f do something with it.
func (open Open) use(f func(Key) error) error {
	key, err := open()
	if err != nil {
		return err
	}
	return errors.Join(f(key), key.Close())
}

// Print prints what people compare of a public key.
func Print(c *cobra.Command, public crypto.PublicKey, asJSON bool) error {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	id := protocol.DigestOf(spki)
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), struct {
			Type   string `json:"key_type"`
			Key    string `json:"key"`
			Groups string `json:"key_groups"`
		}{show.KeyType(public), id.String(), id.Groups()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", id, id.Groups())
	return err
}

// AddPublic makes c the command that writes the public half of a key and prints its fingerprint.
func AddPublic(c *cobra.Command, open Open) {
	var out string
	var asJSON bool
	c.Args = cobra.NoArgs
	c.Flags().StringVar(&out, "out", "", "`file` for the public key, PEM; without it only the fingerprint is printed")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return open.use(func(key Key) error {
			if out != "" {
				data, err := keyfile.EncodePublic(key.Public())
				if err != nil {
					return err
				}
				if err := cli.WriteOutput(out, c.OutOrStdout(), data, false); err != nil || out == "-" {
					return err
				}
			}
			return Print(c, key.Public(), asJSON)
		})
	}
}

// AddCSR makes c the command that makes a certificate request.
func AddCSR(c *cobra.Command, open Open) {
	var out, name string
	c.Args = cobra.NoArgs
	c.Flags().StringVar(&out, "out", "", "`file` to write, PEM; - is standard output")
	c.Flags().StringVar(&name, "cn", "", "common `name`, where a tool on the way wants one; it counts for nothing")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if out == "" {
			return cli.Usage("--out says which file the request goes to")
		}
		return open.use(func(key Key) error {
			der, err := MakeCSR(key.For("certificate request"), name)
			if err != nil {
				return err
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
			return cli.WriteOutput(out, c.OutOrStdout(), text, false)
		})
	}
}

// MakeCSR makes a request that csr.Check accepts; signatures of keys in files are deterministic (RFC 6979), but those of
// RSA, whose one way to sign is RSASSA-PSS here.
func MakeCSR(key crypto.Signer, name string) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	var random io.Reader
	if _, is := key.Public().(*rsa.PublicKey); is {
		template.SignatureAlgorithm, random = x509.SHA256WithRSAPSS, rand.Reader
	}
	der, err := x509.CreateCertificateRequest(random, template, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	if _, err := csr.Check(der); err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// AddPossess makes c the command by which an officer proves to hold a key of a new roster.
func AddPossess(c *cobra.Command, open Open) {
	var roster protocol.Digest
	var out string
	c.Args = cobra.NoArgs
	cli.DigestVar(c.Flags(), &roster, "digest", "digest of the compiled roster, typed")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if roster.IsZero() || out == "" {
			return cli.Usage("--digest says which roster, --out which file the proof goes to")
		}
		return open.use(func(key Key) error {
			proof, err := protocol.SignID(key.For("proof for the roster "+roster.String()[:16]), protocol.ContextPossession, roster)
			if err != nil {
				return err
			}
			return cli.WriteOutput(out, c.OutOrStdout(), proof, false)
		})
	}
}
