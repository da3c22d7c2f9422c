package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol/shamir"
)

// Shares lie on people's cards, too. coldseal-signer speaks to the cards, in a process of its own for each; PIN and management
// key go to it through pipes.

// personCard is a card that holds a share, or is to hold one.
type personCard struct {
	place          // with its PIN
	keyFile string // of the management key
	keyFD   int
}

// given tells whether nobody types the PIN.
func (p *personCard) given() bool { return p.pinFile != "" || p.pinFD >= 0 }

// cardFlags are the cards that a command reads or writes, one after the other.
type cardFlags struct {
	d   *devices // says where coldseal-signer is
	all []*personCard
}

// addCards adds --card with its PIN, and for cards that are written to with their management key.
func addCards(c *cobra.Command, d *devices, written bool) *cardFlags {
	f := &cardFlags{d: d}
	what := "`locator` of a person's PIV card that holds a share, such as piv:serial=12345678; again for each"
	if written {
		what = "`locator` of a person's PIV card to write a share to, such as piv:serial=12345678; again for each, in the order of the shares"
	}
	add := func(name, kind, usage string, set func(p *personCard, value string) error) {
		c.Flags().Var(&flagFunc{kind, func(value string) error {
			if len(f.all) == 0 {
				return errors.New("it belongs behind the --card that it is of")
			}
			return set(f.all[len(f.all)-1], value)
		}}, name, usage)
	}
	c.Flags().Var(&flagFunc{"locator", func(text string) error {
		f.all = append(f.all, &personCard{place: place{text: text, pinFD: -1}, keyFD: -1})
		return nil
	}}, "card", what)
	add("card-pin-file", "file", "read the PIN of the card before it from this `file`, instead of asking", func(p *personCard, file string) error {
		p.pinFile = file
		return nil
	})
	add("card-pin-fd", "descriptor", "read the PIN of the card before it from this file `descriptor`", func(p *personCard, text string) error {
		return setDescriptor(&p.pinFD, text)
	})
	if written {
		add("card-key-file", "file", "read the management key of the card before it, hexadecimal, from this `file`; without, it is the one under the PIN", func(p *personCard, file string) error {
			p.keyFile = file
			return nil
		})
		add("card-key-fd", "descriptor", "read the management key of the card before it from this file `descriptor`", func(p *personCard, text string) error {
			return setDescriptor(&p.keyFD, text)
		})
	}
	return f
}

func setDescriptor(fd *int, text string) (err error) {
	if *fd, err = strconv.Atoi(text); err != nil || *fd < 0 {
		return errors.New("not a descriptor")
	}
	return nil
}

// check refuses what names no card, or one twice.
func (f *cardFlags) check() error {
	seen := map[string]bool{}
	for _, p := range f.all {
		l, err := signer.ParseLocator(p.text)
		switch {
		case err != nil:
			return cli.Usage("--card: %w", err)
		case l.Scheme() != signer.PIV:
			return cli.Usage("--card %s: shares lie on PIV cards", l)
		case seen[l.String()]:
			return cli.Usage("--card %s is there twice: each share is for another person", l)
		case p.pinFile != "" && p.pinFD >= 0 || p.keyFile != "" && p.keyFD >= 0:
			return cli.Usage("--card %s: give a file or a descriptor, not both", l)
		}
		seen[l.String()] = true
	}
	return nil
}

// write puts the first shares on the cards, one each.
func (f *cardFlags) write(ctx context.Context, words io.Writer, shares []shamir.Share) error {
	for i, p := range f.all {
		share := shares[i].Encode()
		_, factory, err := f.use(ctx, words, p, share)
		clear(share)
		if err != nil {
			return err
		}
		fmt.Fprintf(words, "share %d of set %s is on the card %s, and was read back\n", shares[i].Index, shares[i].Set, p.text)
		if factory {
			fmt.Fprintf(words, "warning: the management key of the card %s is still the factory's: whoever has the card can wipe the share out, without its PIN\n", p.text)
		}
	}
	return nil
}

// read gets the share of the set from each card; of one that has none of it the newest, so that it is named.
func (f *cardFlags) read(ctx context.Context, words io.Writer, set shamir.ID) (all []appliance.NamedShare, err error) {
	for _, p := range f.all {
		encoded, _, err := f.use(ctx, words, p, nil)
		if err != nil {
			return nil, err
		}
		chosen := appliance.NamedShare{Name: "the card " + p.text}
		for i := len(encoded) - 1; i >= 0; i-- {
			share, err := shamir.Parse(encoded[i])
			clear(encoded[i])
			if err != nil {
				return nil, cli.Fail(cli.ExitDevice, "take another share", "%s: %w", chosen.Name, err)
			}
			if i == 0 && chosen.Share.Set != set || share.Set == set {
				chosen.Share = share
			}
		}
		all = append(all, chosen)
	}
	return all, nil
}

// use has coldseal-signer do one thing with a card. Where a person types the PIN, whatever the card refuses can be tried
// again: the other share holders need not begin anew.
func (f *cardFlags) use(ctx context.Context, words io.Writer, p *personCard, share []byte) (shares [][]byte, factory bool, err error) {
	path, err := f.d.program("coldseal-signer")
	if err != nil {
		return nil, false, err
	}
	askKey := false
	for {
		shares, factory, err = p.once(ctx, path, share, askKey)
		trouble, is := signer.AsTrouble(err)
		if !is {
			return shares, factory, err
		}
		err = cli.Fail(cli.ExitDevice, trouble.Mend, "%w", trouble)
		if p.given() {
			return nil, false, err
		}
		fmt.Fprintf(words, "error: %v\nhint: %s\n", trouble, trouble.Mend)
		askKey = trouble.Code == signer.ManagementKey && p.keyFile == "" && p.keyFD < 0
		if again, errAsk := cli.Confirm("Is it to be tried again?", false); errAsk != nil || !again {
			return nil, false, err
		}
	}
}

func (p *personCard) once(ctx context.Context, path string, share []byte, askKey bool) ([][]byte, bool, error) {
	args := []string{"--card", p.text}
	var opts signer.Options
	defer func() {
		for _, f := range opts.Files {
			f.Close() // the signer has its own copy
		}
	}()
	give := func(flag string, secret []byte) error {
		f, err := pipe(secret)
		if err != nil {
			return err
		}
		args = append(args, flag, strconv.Itoa(wire.Descriptor+1+len(opts.Files)))
		opts.Files = append(opts.Files, f)
		return nil
	}
	pin, err := cli.NewSecret("card-pin", "PIN of "+p.text, p.pinFile, p.pinFD).Read()
	if err == nil {
		err = give("--pin-fd", pin)
	}
	if err == nil && (askKey || p.keyFile != "" || p.keyFD >= 0) {
		var key []byte
		if key, err = cli.NewSecret("card-key", "management key of "+p.text+", hexadecimal", p.keyFile, p.keyFD).Read(); err == nil {
			if err = checkManagement(key); err == nil {
				err = give("--management-key-fd", key)
			}
		}
	}
	if err != nil {
		return nil, false, err
	}
	shares, factory, err := signer.Share(ctx, path, args, opts, share)
	if _, is := signer.AsTrouble(err); err != nil && !is {
		err = cli.Fail(cli.ExitDevice, "nothing was written, or the whole share; run the same command again", "start coldseal-signer for the card %s: %w", p.text, err)
	}
	return shares, factory, err
}

// checkManagement refuses what is no management key, without repeating it.
func checkManagement(key []byte) error {
	if _, err := hex.Decode(make([]byte, len(key)), key); err != nil || len(key) != 32 && len(key) != 48 && len(key) != 64 {
		return cli.Fail(cli.ExitDevice, "it is what ykman or yubico-piv-tool set", "the management key of a card has 32, 48 or 64 hexadecimal digits")
	}
	return nil
}
