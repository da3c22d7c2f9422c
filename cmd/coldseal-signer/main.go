// Command coldseal-signer is the only process that holds keys. coldseal-appliance starts it and speaks to it over a
// socket pair (appliance/signer/signer.md); it ends when the appliance does. It parses no medium and opens no IP socket.
//
// Its flags say which keys; there is nothing to type. The secret that opens the keys comes from a file or a descriptor,
// never from the command line or the environment.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"coldseal/appliance/signer"
	"coldseal/appliance/softkey"
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
	backend    string
	dir        string
	secretFile string
	passphrase int
	fd         int
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("coldseal-signer", flag.ContinueOnError)
	flags.StringVar(&o.backend, "backend", "softkey", "what keeps the keys: softkey")
	flags.StringVar(&o.dir, "dir", "", "softkey: the `directory` of the keystore; made if there is none")
	flags.StringVar(&o.secretFile, "secret-file", "", "softkey: `file` of 32 bytes the keystore is encrypted under")
	flags.IntVar(&o.passphrase, "passphrase-fd", -1, "softkey: `descriptor` to read the passphrase from")
	flags.IntVar(&o.fd, "fd", wire.Descriptor, "`descriptor` of the appliance's socket")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.backend != "softkey":
		return o, fmt.Errorf("no backend %q; there is softkey", o.backend)
	case o.dir == "":
		return o, errors.New("--dir is missing")
	case (o.secretFile == "") == (o.passphrase < 0):
		return o, errors.New("give one of --secret-file and --passphrase-fd")
	case o.passphrase == o.fd:
		return o, fmt.Errorf("--passphrase-fd and --fd are both %d", o.fd)
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
	store, err := openStore(o)
	if err != nil {
		return failure{exitDevice, err}
	}
	defer store.Close()
	debug.FreeOSMemory() // of deriving the key from a passphrase
	hello := signer.Hello{Backend: o.backend, Capabilities: store.Capabilities()}
	hello.Capabilities["memory"] = memory
	return signer.Serve(uintptr(o.fd), store, hello)
}

func openStore(o options) (*softkey.Store, error) {
	secret, err := readSecret(o)
	if err != nil {
		return nil, err
	}
	defer secret.Clear()
	return softkey.Open(o.dir, secret)
}

func readSecret(o options) (softkey.Secret, error) {
	if o.secretFile != "" {
		return softkey.ReadSecretFile(o.secretFile)
	}
	f := os.NewFile(uintptr(o.passphrase), "passphrase")
	if f == nil {
		return softkey.Secret{}, fmt.Errorf("no descriptor %d to read the passphrase from", o.passphrase)
	}
	defer f.Close()
	return softkey.ReadPassphrase(f)
}
