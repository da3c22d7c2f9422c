package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"coldseal/appliance/piv"
	"coldseal/appliance/signer"
)

// maxManagement is the length of the longest management key in hexadecimal, AES-256.
const maxManagement = 64

// serveCard answers for one card that holds a share.
func serveCard(o options) error {
	card := o.places[0]
	pin, err := card.readPIN()
	if err != nil {
		return failure{exitDevice, err}
	}
	defer clear(pin)
	management, err := readManagement(o.management)
	if err != nil {
		return failure{exitDevice, err}
	}
	defer clear(management)
	return signer.ServeCard(uintptr(o.fd), card.Locator, func(share []byte) ([][]byte, bool, error) {
		return piv.Share(card.Locator, pin, management, share)
	})
}

// readManagement reads a management key, hexadecimal; nil without a descriptor.
func readManagement(fd int) ([]byte, error) {
	if fd < 0 {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "management key")
	if f == nil {
		return nil, fmt.Errorf("no descriptor %d to read the management key from", fd)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManagement+1))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("read management key: %w", err)
	}
	key := make([]byte, len(text)/2)
	if _, err := hex.Decode(key, text); err != nil || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return nil, fmt.Errorf("read management key: want 32, 48 or 64 hexadecimal digits") // and nothing of what it is
	}
	return key, nil
}
