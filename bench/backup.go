package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// backUp has coldseal-appliance, as run starts it, make a backup on a medium of its own and check it. It gives the medium
// and the files of the shares, of which any two open it.
func (w *world) backUp(name string, run func(args ...string) error) (medium string, shares []string, err error) {
	medium, out := w.path(name), w.path(name+"-shares")
	if err := os.Mkdir(medium, 0o700); err != nil {
		return "", nil, err
	}
	if err := run("backup", "create", "--media", medium, "--out", out); err != nil {
		return "", nil, err
	}
	if shares, err = filepath.Glob(filepath.Join(out, "*.txt")); err != nil || len(shares) != 3 {
		return "", nil, fmt.Errorf("%d shares were made: %w", len(shares), err)
	}
	check := []string{"backup", "check", "--media", medium}
	for _, share := range shares {
		check = append(check, "--share", share)
	}
	return medium, shares, run(check...)
}

// reportBackup measures making and checking a backup of what was processed, and prints a line each.
func (w *world) reportBackup(start func(args ...string) (usage, error)) error {
	_, _, err := w.backUp("vault", func(args ...string) error {
		u, err := start(args...)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(line{Name: args[0] + "-" + args[1], N: w.n, Seconds: u.seconds, CPU: u.cpu * 1e6 / float64(w.n), Peak: u.peak})
	})
	return err
}
