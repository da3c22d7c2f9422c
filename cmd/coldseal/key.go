package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol/keyfile"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "key",
		Short: "make and use the keys of persons",
		Long:  "A key file is PKCS#8 in PEM, or that inside an age file under a passphrase, which `age -d` opens too.",
	}
	c.AddCommand(keyNewCommand(), keyPublicCommand(), keyCSRCommand(), keyStationCommand(), keyPossessCommand())
	return c
}

func keyNewCommand() *cobra.Command {
	var kind, out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "new --out FILE",
		Short: "make a private key, and its public half in FILE.pub",
		Long:  "new never replaces a file. It prints the fingerprint of the key: the SHA-256 of its SubjectPublicKeyInfo, as hexadecimal\nand as groups of five digits.",
		Args:  cobra.NoArgs,
	}
	c.Flags().StringVar(&kind, "type", "P-256", "`type` of the key: P-256, P-384 or Ed25519")
	c.Flags().StringVar(&out, "out", "", "`file` to write")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	secret := cli.AddSecret(c, "passphrase", "new passphrase of the key", true)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if out == "" || out == "-" {
			return cli.Usage("--out says which file the key goes to")
		}
		key, err := newKey(kind)
		if err != nil {
			return err
		}
		passphrase, err := secret.ReadNew()
		if err != nil {
			return err
		}
		data, err := keyfile.Encode(key, passphrase)
		clear(passphrase)
		if err != nil {
			return err
		}
		public, err := keyfile.EncodePublic(key.Public())
		if err != nil {
			return err
		}
		if err := cli.WriteOutput(out, nil, data, true); err != nil {
			return err
		}
		if err := cli.WriteOutput(out+".pub", nil, public, false); err != nil {
			return fmt.Errorf("the key is in %s, its public half is not written (coldseal key public writes it): %w", out, err)
		}
		return person.Print(c, key.Public(), asJSON)
	}
	return c
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "Ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, cli.Usage("--type %q is not P-256, P-384 or Ed25519", kind)
}

// keyFlags are by which a command gets a private key.
type keyFlags struct {
	file   string
	secret *cli.Secret
}

func addKey(c *cobra.Command) *keyFlags {
	k := &keyFlags{}
	c.Flags().StringVar(&k.file, "key", "", "`file` of the private key")
	k.secret = cli.AddSecret(c, "passphrase", "passphrase of the key", false)
	return k
}

func (k *keyFlags) read() (crypto.Signer, error) {
	if k.file == "" {
		return nil, cli.Usage("--key says which key")
	}
	return readKey(k.file, k.secret)
}

// open is read for commands that a card can do as well.
func (k *keyFlags) open() (person.Key, error) {
	key, err := k.read()
	return fileKey{key, k.file}, err
}

func keyPublicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "public --key FILE",
		Short: "write the public half of a key, and print its fingerprint",
	}
	person.AddPublic(c, addKey(c).open)
	return c
}

func keyCSRCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "csr --key FILE --out FILE",
		Short: "make a certificate request that proves possession of a key",
		Long:  "The request asks for nothing: names come from the request that an agent makes of it, the key from here.",
	}
	person.AddCSR(c, addKey(c).open)
	return c
}

func keyPossessCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "possess --key FILE --digest DIGEST --out FILE",
		Short: "prove to hold the key of an officer in a new roster",
		Long:  "The officer types the digest of the compiled roster, as coldseal roster compile printed it, and hands the proof to whoever\nmakes the order (coldseal order roster --possession).",
	}
	person.AddPossess(c, addKey(c).open)
	return c
}
