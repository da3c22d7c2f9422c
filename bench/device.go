package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
	"coldseal/appliance/tpm/swtpm"
	"coldseal/protocol"
)

// kind is a kind of device that keeps the keys of CAs.
type kind struct {
	name  string
	made  string        // what it is made of
	waits time.Duration // what a signature takes longer, as in a device that has a processor of its own
}

const (
	softkey = "softkey"
	softhsm = "softhsm"
	tpm     = "tpm"
)

// kinds are measured in this order.
var kinds = []kind{
	{name: softkey, made: softkey}, {name: softhsm, made: softhsm}, {name: tpm, made: tpm},
	{"hsm-paced", softhsm, 2 * time.Millisecond}, {"tpm-paced", tpm, time.Millisecond},
}

const tokenLabel = "bench"

// running is a device on what lies in a directory, which may be a copy.
type running struct {
	locator string // empty: the key store alone
	stop    func() error
}

// startDevice starts the device, slowed down if it is to be.
func (w *world) startDevice(waits time.Duration) (running, error) {
	dir := w.path(deviceDir)
	r := running{stop: func() error { return nil }}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	switch w.kind.made {
	case softhsm:
		make := softtoken.SoftHSM
		if _, err := os.Stat(filepath.Join(dir, "tokens")); err == nil {
			make = softtoken.OpenSoftHSM
		}
		token, err := make(dir, tokenLabel)
		if err == nil && waits != 0 {
			var faults *softtoken.Faults
			if token, faults, err = softtoken.Faulty(dir, token); err == nil {
				faults.Arm(softtoken.Sign, 1, softtoken.LateFromNowOn, uint32(waits.Microseconds()))
				r.stop = faults.Close
			}
		}
		r.locator = token.Locator("")
		return r, err
	case tpm:
		machine, err := swtpm.Start(dir)
		if err != nil {
			return r, err
		}
		r.locator, r.stop = "tpm:socket="+machine.Socket, machine.Stop
		if waits != 0 {
			proxy, err := machine.NewProxy()
			if err != nil {
				return r, errors.Join(err, machine.Stop())
			}
			proxy.ArmFromNowOn(swtpm.DelaySign(waits))
			r.locator, r.stop = "tpm:socket="+proxy.Socket, func() error { return errors.Join(proxy.Close(), machine.Stop()) }
		}
	}
	return r, nil
}

// signer starts the signer on the key store and the device.
func (w *world) signer(ctx context.Context, r running) (*signer.Client, error) {
	args := []string{"--dir", filepath.Join(w.path(applianceDir), "keys"), "--secret-file", w.path(secretFile)}
	var opts signer.Options
	if r.locator != "" {
		pin, err := os.Open(w.path(pinFile))
		if err != nil {
			return nil, err
		}
		defer pin.Close()
		args, opts.Files = append(args, "--keys", r.locator, "--pin-fd", "4"), []*os.File{pin}
	}
	return signer.Start(ctx, filepath.Join(w.bin, "coldseal-signer"), args, opts)
}

// flags are those of coldseal-appliance.
func (w *world) flags(r running) []string {
	flags := []string{"--state", w.path(applianceDir), "--secret-file", w.path(secretFile)}
	if r.locator != "" {
		flags = append(flags, "--keys", r.locator, "--pin-file", w.path(pinFile))
	}
	return flags
}

// alone has the device sign n digests with the issuing key, as the engine asks for it, and nothing else.
func (w *world) alone(ctx context.Context, r running, n int) (took time.Duration, err error) {
	client, err := w.signer(ctx, r)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	key, err := client.KeyLabelled("issuing", signer.CA)
	if err != nil {
		return 0, err
	}
	digests := make([][]byte, protocol.MaxGroupItems)
	for i := range digests {
		digest := sha256.Sum256([]byte(fmt.Sprint(i)))
		digests[i] = digest[:]
	}
	start := time.Now()
	for left := n; left > 0 && err == nil; left -= len(digests) {
		_, err = client.SignBatch(key.ID(), signer.CA, signer.ECDSASHA256, digests[:min(left, len(digests))])
	}
	return time.Since(start), err
}

// deviceLimit is what issuing takes at least where a device signs: it signs, and beside it the rest of the work is done.
func (w *world) deviceLimit(ctx context.Context, r running, csrs [][]byte, certificate []byte) error {
	var device error
	var signing sync.WaitGroup
	signing.Go(func() { _, device = w.alone(ctx, r, len(csrs)) })
	rest := issueLimit(csrs, certificate, false)
	signing.Wait()
	return errors.Join(device, rest)
}
