package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyApprovalCommand() *cobra.Command {
	return verifyVerb("approval --key PUB | --introduction FILE --digest DIGEST FILE", "decide whether somebody made an approval",
		"approval accepts FILE if the key of --key (a public key or a certificate, PEM) signed it, or an officer of the roster that the\n"+
			"introduction holds. Whether that person may approve the requests in it is decided by the appliance alone.",
		func(c *cobra.Command) verification {
			var keyName string
			c.Flags().StringVar(&keyName, "key", "", "`file` with the approver's public key or certificate")
			appliance := introduction.Add(c)
			at := addTime(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				given, err := appliance.Given()
				if err != nil {
					return err
				}
				if given == (keyName != "") {
					return cli.Usage("either --key, or --introduction and --digest, say by whom it has to be")
				}
				if err := stdinOnce(file, keyName, appliance.File); err != nil {
					return err
				}
				now, err := at()
				if err != nil {
					return err
				}
				var w *introduction.Appliance
				if given {
					if w, err = openWorld(c, v, appliance); w == nil {
						return err
					}
				}
				data, err := cli.ReadInput(file, c.InOrStdin(), protocol.MaxApproval)
				if err != nil {
					return err
				}
				return approval(c, v, data, keyName, w, now)
			}
		})
}

func approval(c *cobra.Command, v *verdict, data []byte, keyName string, w *introduction.Appliance, now int64) error {
	who, err := approver(c, v, data, keyName, w)
	if who == nil || err != nil {
		return err
	}
	a, refusal := protocol.OpenApproval(data, who.Key)
	switch {
	case refusal != nil:
		v.refuse("", refusal)
		return nil
	case w != nil && a.Appliance != w.Digest:
		v.refuse("", protocol.Refuse(protocol.CodeWrongAppliance, "appliance", a.Appliance.String()))
	}
	if now >= a.Expires {
		v.refuse("", protocol.Refuse(protocol.CodeApprovalExpired, "person", who.Who, "expires", protocol.Date(a.Expires)))
	}
	v.Facts, err = show.Approval(data, func(protocol.Digest) (show.Holder, bool) { return *who, true }, false)
	return err
}

// approver finds the key that has to have made an approval; nil where nobody may have.
func approver(c *cobra.Command, v *verdict, data []byte, keyName string, w *introduction.Appliance) (*show.Holder, error) {
	if w == nil {
		key, err := readPublicKey(c, keyName)
		return &show.Holder{Key: key, Who: "the key in " + keyName}, err
	}
	id, err := cose.KeyID(data)
	if err != nil {
		v.refuse("", protocol.Malformed("approval", err))
		return nil, nil
	}
	officer, key, found := auditlog.Officer(w.Roster, id)
	switch {
	case !found:
		v.refuse("", protocol.Refuse(protocol.CodeApproverUnknown, "key", protocol.Digest(id).String()))
		return nil, nil
	case officer.Suspended:
		v.refuse("", protocol.Refuse(protocol.CodeApproverSuspended, "person", officer.Person))
	}
	return &show.Holder{Key: key, Who: officer.Person}, nil
}

func readPublicKey(c *cobra.Command, name string) (cose.Key, error) {
	data, err := cli.ReadInput(name, c.InOrStdin(), keyfile.MaxSize)
	if err != nil {
		return cose.Key{}, err
	}
	public, err := keyfile.DecodePublic(data)
	if bytes.Contains(data, []byte("-----BEGIN "+pemCertificate)) {
		var der []byte
		var cert *x509.Certificate
		if der, err = readOne(c, name, pemCertificate, keyfile.MaxSize); err == nil {
			if cert, err = x509.ParseCertificate(der); err == nil {
				public = cert.PublicKey
			}
		}
	}
	if err != nil {
		return cose.Key{}, fmt.Errorf("%s: %w", name, err)
	}
	key, err := cose.NewKey(public)
	if err != nil {
		return cose.Key{}, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// openWorld opens the introduction. One that is not the appliance's is a reason to reject: no world then, and no error.
func openWorld(c *cobra.Command, v *verdict, appliance *introduction.Flags) (*introduction.Appliance, error) {
	w, err := appliance.Open(c.InOrStdin())
	if code, _ := cli.Judge(err); err != nil && code == cli.ExitVerify {
		v.reject(pathcheck.Reason{Code: codeIntroduction, Words: err.Error()})
		return nil, nil
	}
	return w, err
}

// spooled is a bundle or response on this machine's disk, decrypted if it was sealed.
type spooled struct {
	*media.File
	dir string
}

// addSealed adds the flags for sealed files; the function spools one. The caller closes it.
func addSealed(c *cobra.Command) func(c *cobra.Command, name string) (*spooled, error) {
	var keyName string
	c.Flags().StringVar(&keyName, "key", "", "`file` with the receiver's private key, where the file is sealed")
	secret := cli.AddSecret(c, "passphrase", "passphrase of the receiver's key", true)
	return func(c *cobra.Command, name string) (*spooled, error) {
		dir, err := os.MkdirTemp("", "coldseal-verify-")
		if err != nil {
			return nil, fmt.Errorf("make spool: %w", err)
		}
		f, err := spoolFile(c, name, dir, keyName, secret)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		return &spooled{f, dir}, nil
	}
}

func (s *spooled) close() error { return errors.Join(s.File.Close(), os.RemoveAll(s.dir)) }

func spoolFile(c *cobra.Command, name, dir, keyName string, secret *cli.Secret) (*media.File, error) {
	spool, err := media.NewSpool(dir, 0)
	if err != nil {
		return nil, err
	}
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	file, err := spool.Write(media.MaxBundleBytes, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	sealed, err := begins(file, ageIntro)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if !sealed {
		return file, nil
	}
	plain, err := decrypt(c, spool, file, keyName, secret)
	return plain, errors.Join(err, file.Close())
}

func decrypt(c *cobra.Command, spool *media.Spool, file *media.File, keyName string, secret *cli.Secret) (*media.File, error) {
	if keyName == "" {
		return nil, cli.Usage("the file is sealed: --key names the receiver's private key")
	}
	signer, err := readKey(keyName, secret)
	if err != nil {
		return nil, err
	}
	private, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is of type %s; receiver keys are on P-256", keyName, show.KeyType(signer.Public()))
	}
	scalar, err := private.ECDH()
	if err != nil {
		return nil, fmt.Errorf("receiver key %s: %w", keyName, err)
	}
	key, err := media.NewSoftwareKey(scalar)
	if err != nil {
		return nil, err
	}
	return spool.Decrypt(c.Context(), file, key)
}
