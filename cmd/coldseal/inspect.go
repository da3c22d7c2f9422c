package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
	"coldseal/protocol/show"
)

// inspection is one run of inspect.
type inspection struct {
	appliance *introduction.Flags
	parties   []string
	key       string
	secret    *cli.Secret
	full      bool
	json      bool

	known show.Known
	out   io.Writer
	shown bool
}

func inspectCommand() *cobra.Command {
	in := &inspection{}
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "show any file that crosses the gap, decoded by the code that decides about it",
		Long: "inspect finds out what FILE is: a request, approval, enrolment, introduction, genesis, receipt, result, checkpoint, policy,\n" +
			"roster, CSR, certificate, CRL, public key, bundle or response (- is standard input). It verifies signatures of keys that\n" +
			"--introduction with --digest, or --party, tell it about, and says where it did not. A sealed file needs the receiver's\n" +
			"--key. Nothing hidden gets to the terminal: controls and direction marks are shown as \\u{202e}.",
		Example: "  coldseal inspect requests/0020.request\n  coldseal inspect --introduction introduction --digest '28347 48654 …' one.approval\n  coldseal inspect --json stick/coldseal/8f3a91c0/clear/issuing.crl",
		Args:    cobra.ExactArgs(1),
	}
	in.appliance = introduction.Add(c)
	f := c.Flags()
	f.StringArrayVar(&in.parties, "party", nil, "`file` with the record of an agent or station whose key is to be believed")
	f.StringVar(&in.key, "key", "", "`file` with the receiver's private key, for a sealed file")
	f.BoolVar(&in.full, "full", false, "show long lists whole")
	f.BoolVar(&in.json, "json", false, "print JSON, an object a line")
	in.secret = cli.AddSecret(c, "passphrase", "passphrase of the receiver's key", false)
	c.RunE = func(c *cobra.Command, args []string) error { return in.run(c, args[0]) }
	return c
}

func (in *inspection) run(c *cobra.Command, name string) error {
	in.out = c.OutOrStdout()
	if err := in.learn(c.InOrStdin()); err != nil {
		return err
	}
	if name == "-" {
		data, err := cli.ReadInput(name, c.InOrStdin(), media.MaxClearBytes)
		if err != nil {
			return err
		}
		return in.file(bytes.NewReader(data), int64(len(data)))
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("inspect %s: not a regular file", name)
	}
	sealed, err := begins(f, ageIntro)
	if err != nil {
		return err
	}
	if sealed {
		return in.sealed(c.Context(), name)
	}
	return in.file(f, info.Size())
}

// learn collects the keys that are to be believed.
func (in *inspection) learn(stdin io.Reader) error {
	others, err := parties(in.parties, stdin)
	if err != nil {
		return err
	}
	given, err := in.appliance.Given()
	if err != nil {
		return err
	}
	if !given {
		in.known = others
		return nil
	}
	w, err := in.appliance.Open(stdin)
	if err != nil {
		return err
	}
	in.known = func(id protocol.Digest) (show.Holder, bool) {
		if h, found := w.Known(id); found {
			return h, true
		}
		return others(id)
	}
	return nil
}

// ageIntro begins a sealed file (C2SP age).
const ageIntro = "age-encryption.org/v1\n"

func begins(r io.ReaderAt, prefix string) (bool, error) {
	head := make([]byte, len(prefix))
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("read beginning of the file: %w", err)
	}
	return string(head[:n]) == prefix, nil
}

// sealed decrypts by way of a spool in a folder of its own.
func (in *inspection) sealed(ctx context.Context, name string) error {
	if in.key == "" {
		return &cli.ExitError{Code: cli.ExitUsage, Err: fmt.Errorf("%s is sealed", name), Hint: "give the receiver's --key; the appliance's own receiver key never leaves its signer"}
	}
	signer, err := readKey(in.key, in.secret)
	if err != nil {
		return err
	}
	private, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s is of type %s; receiver keys are on P-256", in.key, show.KeyType(signer.Public()))
	}
	ecdh, err := private.ECDH()
	if err != nil {
		return fmt.Errorf("receiver key %s: %w", in.key, err)
	}
	key, err := media.NewSoftwareKey(ecdh)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coldseal-inspect-")
	if err != nil {
		return fmt.Errorf("make spool: %w", err)
	}
	plain, err := unseal(ctx, name, dir, key)
	if err == nil {
		err = errors.Join(in.file(plain, plain.Size()), plain.Close())
	}
	return errors.Join(err, os.RemoveAll(dir))
}

func unseal(ctx context.Context, name, dir string, key media.Key) (*media.File, error) {
	spool, err := media.NewSpool(dir, 0)
	if err != nil {
		return nil, err
	}
	medium, err := media.OpenMedium(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer medium.Close()
	sealed, err := spool.Take(medium, filepath.Base(name), media.MaxBundleBytes)
	if err != nil {
		return nil, err
	}
	defer sealed.Close()
	return spool.Decrypt(ctx, sealed, key)
}

// emit writes one sheet.
func (in *inspection) emit(s show.Sheet) error {
	if in.json {
		return cli.PrintJSON(in.out, s)
	}
	if in.shown {
		if _, err := fmt.Fprintln(in.out); err != nil {
			return err
		}
	}
	in.shown = true
	return s.Write(in.out)
}

// readKey reads a private key; a passphrase is asked for only where the file is under one.
func readKey(name string, secret *cli.Secret) (crypto.Signer, error) {
	data, err := cli.ReadInput(name, nil, keyfile.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	var passphrase []byte
	if keyfile.Encrypted(data) {
		if passphrase, err = secret.Read(); err != nil {
			return nil, err
		}
	}
	key, err := keyfile.Decode(data, passphrase)
	clear(passphrase)
	switch {
	case errors.Is(err, keyfile.ErrPassphraseWrong):
		return nil, cli.Fail(cli.ExitDevice, "type the passphrase of this key again", "%s: %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
