package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coldseal/agent/station"
	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
)

// cardFlags are by which a command finds a card and gets its PIN.
type cardFlags struct {
	choice station.Choice
	pin    *cli.Secret
}

func addCard(c *cobra.Command) *cardFlags {
	f := &cardFlags{}
	c.Flags().Uint32Var(&f.choice.Serial, "serial", 0, "`number` of the card, where there are several")
	c.Flags().StringVar(&f.choice.Reader, "reader", "", "a part of the reader's `name`")
	c.Flags().StringVar(&f.choice.Slot, "slot", "9c", "`slot` of the key: 9a, 9c, 9d, 9e, 82 to 95")
	c.Flags().StringVar(&f.choice.Module, "module", "", "PKCS#11 library, a `file`, for cards without the extensions of YubiKeys")
	return f
}

// addPIN is for commands that sign.
func (f *cardFlags) addPIN(c *cobra.Command) *cardFlags {
	f.pin = cli.AddSecret(c, "pin", "PIN of the card", false)
	return f
}

// open opens the card; words is where the person is told what the PIN is wanted for.
func (f *cardFlags) open(words io.Writer) (*cardKey, error) {
	card, err := station.Open(f.choice)
	if err != nil {
		return nil, device(err)
	}
	return &cardKey{card: card, pin: f.pin, words: words}, nil
}

// device gives what is wrong with a card its exit code.
func device(err error) error {
	wrong, is := errors.AsType[*station.Error](err)
	if !is {
		return err
	}
	return &cli.ExitError{Code: cli.ExitDevice, Err: err, Hint: wrong.Mend}
}

// cardKey is a key on a card: an approve.Key.
type cardKey struct {
	card        station.Card
	pin         *cli.Secret
	typed       []byte // the PIN, where it came from a file or descriptor
	words       io.Writer
	certificate *x509.Certificate // that makes the holder an approver, if not the one on the card
	now         time.Time
}

func (k *cardKey) Public() crypto.PublicKey { return k.card.Public() }

func (k *cardKey) Name() string { return k.card.Name() }

func (k *cardKey) Close() error {
	clear(k.typed)
	return device(k.card.Close())
}

func (k *cardKey) For(what string) crypto.Signer { return cardSigner{k, what} }

// Holder wants the card to be that of an approver: its certificate is one of this appliance and says whom it lets approve
// what. Whether it still does is for the appliance.
func (k *cardKey) Holder(a *introduction.Appliance, id protocol.Digest) (string, error) {
	wrong := func(format string, args ...any) (string, error) {
		return "", cli.Fail(cli.ExitDevice, "put the card in that was enrolled, or have the introduction exported again; an approver's card wants its certificate on it, or by --certificate",
			"%s is the wrong card: its key %s is no officer's, and %s", k.Name(), id.String()[:16], fmt.Sprintf(format, args...))
	}
	c := k.certificate
	if c == nil {
		c = k.card.Certificate()
	}
	if c == nil {
		return wrong("it has no certificate")
	}
	if protocol.DigestOf(c.RawSubjectPublicKeyInfo) != id {
		return wrong("the certificate given is that of another key")
	}
	approver, found, err := protocol.ScopeOf(c)
	if err != nil || !found {
		return wrong("its certificate lets nobody approve")
	}
	if !issued(c, a.State.CAs) {
		return wrong("its certificate is not from this appliance")
	}
	if k.now.After(c.NotAfter) || k.now.Before(c.NotBefore) {
		return wrong("its certificate is good from %s to %s", protocol.Date(c.NotBefore.Unix()), protocol.Date(c.NotAfter.Unix()))
	}
	return approver.Person, nil
}

// issued tells whether one of the CAs signed the certificate.
func issued(c *x509.Certificate, cas [][]byte) bool {
	for _, der := range cas {
		if ca, err := x509.ParseCertificate(der); err == nil && c.CheckSignatureFrom(ca) == nil {
			return true
		}
	}
	return false
}

// cardSigner makes one signature.
type cardSigner struct {
	key  *cardKey
	what string
}

func (s cardSigner) Public() crypto.PublicKey { return s.key.Public() }

// Sign asks for the PIN and has the card sign. A PIN that is locked is not asked for.
func (s cardSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	tries, err := s.key.card.Tries()
	if err != nil {
		return nil, device(err)
	}
	if tries == 0 {
		return nil, device(station.Locked(s.key.Name()))
	}
	if tries == 1 {
		fmt.Fprintln(s.key.words, "warning: the PIN has one try left: after one more mistake it is locked")
	}
	pin, err := s.read()
	if err != nil {
		return nil, err
	}
	if s.key.card.Touch() {
		fmt.Fprintln(s.key.words, "touch the card when it blinks")
	}
	signature, err := s.key.card.Sign(pin, digest)
	if !s.key.pin.Given() {
		clear(pin)
	}
	return signature, device(err)
}

// read asks for the PIN, and says what for. One from a file or descriptor is read once.
func (s cardSigner) read() (pin []byte, err error) {
	if s.key.pin.Given() {
		if s.key.typed == nil {
			s.key.typed, err = s.key.pin.Read()
		}
		return s.key.typed, err
	}
	fmt.Fprintf(s.key.words, "%s signs %s\n", s.key.Name(), s.what)
	return s.key.pin.Read()
}

// readCertificate reads a certificate, PEM or DER.
func readCertificate(name string) (*x509.Certificate, error) {
	data, err := cli.ReadInput(name, nil, protocol.MaxItem)
	if err != nil {
		return nil, err
	}
	if block, rest := pem.Decode(data); block != nil && block.Type == "CERTIFICATE" && len(strings.TrimSpace(string(rest))) == 0 {
		data = block.Bytes
	}
	c, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
