// Command forge writes the certificate requests that no tool will make: keys with known weaknesses, and requests that
// differ from a good one in exactly one thing. It takes the directory to write to. Signatures are genuine wherever
// mathematics allows, so that a request is refused for the one reason it was forged for. It shares no code with
// protocol/csr, which its files test.
package main

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: forge DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "forge:", err)
		os.Exit(1)
	}
}

func write(directory string) error {
	good, err := newRequest()
	if err != nil {
		return err
	}
	keys, err := forgedKeys(good)
	if err != nil {
		return err
	}
	for _, group := range []map[string]request{forgedForms(good), forgedSignatures(good), keys} {
		for name, r := range group {
			der, err := r.der()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
			if err := os.WriteFile(filepath.Join(directory, "forge-"+name+".csr"), text, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
