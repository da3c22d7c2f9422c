// Command coldseal-signer is the only process that holds keys. coldseal-appliance starts it and speaks to it over a
// socket pair (appliance/signer/signer.md); it ends when the appliance does. It parses no medium and opens no IP socket.
//
// Its flags say which devices keep the keys; there is nothing to type. PINs and the secret that opens the key store come
// from files and descriptors, never from the command line or the environment.
//
// With --card it has no keys: it puts a share of a backup's key on a person's card, or reads it, and ends.
//
// A device that can't be used does not end it: it tells the appliance which trouble it is, and nothing else.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
)

// Exit codes of the product that this command has.
const (
	exitFailure = 1
	exitDevice  = 6 // keys don't open
	exitUsage   = 64
)

type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }

func main() {
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "coldseal-signer:", err)
	if f, ok := errors.AsType[failure](err); ok {
		os.Exit(f.code)
	}
	os.Exit(exitFailure)
}

type options struct {
	dir        string
	secretFile string
	passphrase int
	fd         int
	places     []place
	card       bool // one place, a card that holds a share
	management int  // descriptor of its management key, -1 if there is none
}

// place is a device and the descriptor its PIN is read from, -1 if there is none.
type place struct {
	signer.Locator
	text string
	pin  int
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("coldseal-signer", flag.ContinueOnError)
	flags.Func("keys", "`locator` of a device that keeps keys, such as pkcs11:token=prod?module-path=/usr/lib/softhsm/libsofthsm2.so; again for each", func(text string) error {
		o.places = append(o.places, place{text: text, pin: -1})
		return nil
	})
	flags.Func("pin-fd", "`descriptor` to read the PIN of the device before it from", func(text string) error {
		fd, err := strconv.Atoi(text)
		switch {
		case err != nil || fd < 0:
			return errors.New("not a descriptor")
		case len(o.places) == 0 || o.places[len(o.places)-1].pin >= 0:
			return errors.New("it belongs behind the --keys or --card whose PIN it is")
		}
		o.places[len(o.places)-1].pin = fd
		return nil
	})
	flags.Func("card", "`locator` of a person's card that holds a share, such as piv:serial=12345678; no keys are opened then", func(text string) error {
		o.card = true
		o.places = append(o.places, place{text: text, pin: -1})
		return nil
	})
	flags.IntVar(&o.management, "management-key-fd", -1, "`descriptor` to read that card's management key from, to write to it")
	flags.StringVar(&o.dir, "dir", "", "`directory` of the key store and of what devices leave with us; made if there is none")
	flags.StringVar(&o.secretFile, "secret-file", "", "`file` of 32 bytes the key store is encrypted under")
	flags.IntVar(&o.passphrase, "passphrase-fd", -1, "`descriptor` to read the key store's passphrase from")
	flags.IntVar(&o.fd, "fd", wire.Descriptor, "`descriptor` of the appliance's socket")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for i := range o.places { // not while flags are parsed: package flag repeats what is wrong, and it might be a PIN
		var err error
		if o.places[i].Locator, err = signer.ParseLocator(o.places[i].text); err != nil {
			return o, err
		}
	}
	used := map[int]string{o.fd: "--fd"}
	if o.passphrase >= 0 {
		if other := used[o.passphrase]; other != "" {
			return o, fmt.Errorf("--passphrase-fd and %s are both %d", other, o.passphrase)
		}
		used[o.passphrase] = "--passphrase-fd"
	}
	seen := map[string]bool{}
	for _, p := range o.places {
		if seen[p.String()] {
			return o, fmt.Errorf("--keys %s is there twice", p)
		}
		seen[p.String()] = true
		if other := used[p.pin]; other != "" {
			return o, fmt.Errorf("--pin-fd and %s are both %d", other, p.pin)
		}
		if p.pin >= 0 {
			used[p.pin] = "another --pin-fd"
		}
	}
	if o.management >= 0 {
		if other := used[o.management]; other != "" {
			return o, fmt.Errorf("--management-key-fd and %s are both %d", other, o.management)
		}
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.card && (len(o.places) != 1 || o.dir != "" || o.secretFile != "" || o.passphrase >= 0):
		return o, errors.New("--card goes with --pin-fd and --management-key-fd alone")
	case o.card && (o.places[0].Scheme() != signer.PIV || o.places[0].pin < 0):
		return o, errors.New("--card is a PIV card, and --pin-fd has its PIN")
	case o.card:
		return o, nil
	case o.management >= 0:
		return o, errors.New("--management-key-fd belongs to --card")
	case o.dir == "":
		return o, errors.New("--dir is missing")
	case (o.secretFile == "") == (o.passphrase < 0):
		return o, errors.New("give one of --secret-file and --passphrase-fd")
	}
	return o, nil
}

func run(args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return failure{exitUsage, err}
	}
	if err := checkSocket(o.fd); err != nil {
		return failure{exitUsage, err}
	}
	// Most of what a batch allocates is garbage at its end; the appliance's memory is better spent elsewhere.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(48 << 20)
	memory, err := harden()
	if err != nil {
		return err
	}
	if o.card {
		return serveCard(o)
	}
	backend, hello, err := assemble(o)
	if trouble, ok := errors.AsType[*signer.Trouble](err); ok {
		return signer.Fail(uintptr(o.fd), trouble)
	}
	if err != nil {
		return failure{exitDevice, err}
	}
	defer backend.Close()
	debug.FreeOSMemory() // of deriving the key from a passphrase
	hello.Capabilities["memory"] = memory
	return signer.Serve(uintptr(o.fd), backend, hello)
}
