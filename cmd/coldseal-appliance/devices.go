package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol/media"
)

// devices are the flags that say where things are.
type devices struct {
	state   string
	libexec string
	secret  string
	pass    *cli.Secret
	keys    []*place
	now     string
	begins  bool // genesis: what opens things is chosen now, and typed twice
}

// place is a device that keeps keys, and where its PIN comes from; it is asked for if nothing is said.
type place struct {
	text    string
	locator signer.Locator
	pinFile string
	pinFD   int
}

func addDevices(c *cobra.Command) *devices {
	d := &devices{}
	f := c.Flags()
	f.StringVar(&d.state, "state", "", "state `directory`: ledger, responses, keys")
	f.StringVar(&d.libexec, "libexec", "", "`directory` of coldseal-signer and coldseal-lint (default: beside this program)")
	f.StringVar(&d.secret, "secret-file", "", "`file` of 32 bytes that opens the key store, for unattended use; instead of a passphrase")
	d.pass = cli.AddSecret(c, "passphrase", "passphrase of the key store", false)
	f.Var(&flagFunc{"locator", func(text string) error {
		d.keys = append(d.keys, &place{text: text, pinFD: -1})
		return nil
	}}, "keys", "`locator` of a device that keeps keys, such as tpm:device=/dev/tpmrm0; again for each (docs/devices.md)")
	f.Var(&flagFunc{"file", func(file string) error {
		p, err := d.lastWithoutPIN()
		if err == nil {
			p.pinFile = file
		}
		return err
	}}, "pin-file", "read the PIN of the device before it from this `file`, instead of asking")
	f.Var(&flagFunc{"descriptor", func(text string) error {
		p, err := d.lastWithoutPIN()
		if err == nil {
			if p.pinFD, err = strconv.Atoi(text); err != nil || p.pinFD < 0 {
				err = errors.New("not a descriptor")
			}
		}
		return err
	}}, "pin-fd", "read the PIN of the device before it from this file `descriptor`")
	f.StringVar(&d.now, "clock", "", "use this `time` (RFC 3339) instead of the system's clock; for tests and rehearsals")
	cli.Require(c, "state")
	cli.Hide(c, "clock")
	return d
}

// lastWithoutPIN is the device that a flag about a PIN belongs to: the one before it.
func (d *devices) lastWithoutPIN() (*place, error) {
	if len(d.keys) == 0 || d.keys[len(d.keys)-1].pinFile != "" || d.keys[len(d.keys)-1].pinFD >= 0 {
		return nil, errors.New("it belongs behind the --keys whose PIN it is, once")
	}
	return d.keys[len(d.keys)-1], nil
}

// flagFunc is a flag that may be given several times, whose order among others counts.
type flagFunc struct {
	kind string
	set  func(string) error
}

func (f *flagFunc) String() string         { return "" }
func (f *flagFunc) Type() string           { return f.kind }
func (f *flagFunc) Set(value string) error { return f.set(value) }

// workers starts the signer and the lint worker.
func (d *devices) workers(ctx context.Context) (appliance.Config, func() error, error) {
	c := appliance.Config{Dir: d.state, Now: time.Now, Rand: rand.Reader}
	stop := func() error { return nil }
	if d.now != "" {
		fixed, err := time.Parse(time.RFC3339, d.now)
		if err != nil {
			return c, stop, cli.Usage("--clock: %w", err)
		}
		c.Now = func() time.Time { return fixed }
	}
	var seconds int64
	if _, err := fmt.Sscan(built, &seconds); err != nil {
		return c, stop, fmt.Errorf("read build time %q: %w", built, err)
	}
	c.Built = time.Unix(seconds, 0)
	signerPath, err := d.program("coldseal-signer")
	if err != nil {
		return c, stop, err
	}
	lintPath, err := d.program("coldseal-lint")
	if err != nil {
		return c, stop, err
	}
	if err := media.MakeFolder(d.state); err != nil {
		return c, stop, err
	}
	if c.Signer, err = d.signer(ctx, signerPath); err != nil {
		return c, stop, err
	}
	if c.Lint, err = lint.Start(ctx, lintPath); err != nil {
		return c, stop, errors.Join(fmt.Errorf("start lint worker: %w", err), c.Signer.Close())
	}
	return c, func() error { return errors.Join(c.Lint.Close(), c.Signer.Close()) }, nil
}

// signer starts the signer on the key store and the devices. Secrets go to it through pipes: they are in no argument list,
// file or environment of its own.
func (d *devices) signer(ctx context.Context, path string) (*signer.Client, error) {
	args := []string{"--dir", filepath.Join(d.state, "keys")}
	var opts signer.Options
	defer func() {
		for _, f := range opts.Files {
			f.Close() // the signer has its own copy
		}
	}()
	give := func(flag string, secret []byte, err error) error {
		if err != nil {
			return err
		}
		pipe, err := pipe(secret)
		if err != nil {
			return err
		}
		args = append(args, flag, strconv.Itoa(wire.Descriptor+1+len(opts.Files)))
		opts.Files = append(opts.Files, pipe)
		return nil
	}
	if d.secret != "" {
		args = append(args, "--secret-file", d.secret)
	} else {
		read := d.pass.Read
		if d.begins {
			read = d.pass.ReadNew
		}
		secret, err := read()
		if err := give("--passphrase-fd", secret, err); err != nil {
			return nil, err
		}
	}
	for _, p := range d.keys {
		var err error
		if p.locator, err = signer.ParseLocator(p.text); err != nil {
			return nil, cli.Usage("--keys: %w", err)
		}
		args = append(args, "--keys", p.text)
		if !p.locator.NeedsPIN() {
			continue
		}
		asked := cli.NewSecret("pin", "PIN of "+p.text, p.pinFile, p.pinFD)
		read := asked.Read
		if d.begins && p.locator.Scheme() == signer.TPM { // the others have theirs
			read = asked.ReadNew
		}
		pin, err := read()
		if err := give("--pin-fd", pin, err); err != nil {
			return nil, err
		}
	}
	client, err := signer.Start(ctx, path, args, opts)
	if trouble, found := signer.AsTrouble(err); found {
		return nil, cli.Fail(cli.ExitDevice, trouble.Mend, "%w", trouble)
	}
	if err != nil {
		return nil, cli.Fail(cli.ExitDevice, "run the same command again", "start signer: %w", err)
	}
	return client, nil
}

// unattended tells whether nothing has to be asked for, however often the signer is started.
func (d *devices) unattended() error {
	if d.secret == "" {
		return cli.Usage("serve needs --secret-file: after a fault it opens the key store again by itself")
	}
	for _, p := range d.keys {
		if l, err := signer.ParseLocator(p.text); err == nil && l.NeedsPIN() && p.pinFile == "" {
			return cli.Usage("serve needs --pin-file after --keys %s: after a fault it opens the device again by itself", p.text)
		}
	}
	return nil
}

// pipe gives the reading end of a pipe that holds a secret of at most cli.MaxSecret bytes, less than a pipe takes.
func pipe(secret []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe for a secret: %w", err)
	}
	_, err = w.Write(secret)
	clear(secret)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write secret to pipe: %w", err), r.Close())
	}
	return r, nil
}
