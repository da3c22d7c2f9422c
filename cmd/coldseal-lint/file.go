package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"coldseal/appliance/lint"
)

// maxFile bounds what is read, in bytes: PEM of the longest CRL fits.
const maxFile = 32 << 20

// target is a kind of file.
type target struct {
	pem     string // type of the PEM block
	examine examination
}

func targetOf(name string) (target, bool) {
	switch name {
	case "cert":
		return target{"CERTIFICATE", examineCertificate}, true
	case "crl":
		return target{"X509 CRL", examineCRL}, true
	case "ocsp":
		return target{"OCSP RESPONSE", examineResponse}, true
	}
	return target{}, false
}

// readDER reads one DER structure from path (- is stdin), out of its PEM if it is in one.
func readDER(path, pemType string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		stdin = file
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: over %d bytes", path, maxFile)
	}
	const sequence = 0x30 // what all DER here begins with
	if len(data) > 0 && data[0] == sequence {
		return data, nil
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return data, nil // neither; that is the parser's to say
	}
	if block.Type != pemType {
		return nil, fmt.Errorf("read %s: PEM block %q, expected %q", path, block.Type, pemType)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("read %s: more than one PEM block; give them one by one", path)
	}
	return block.Bytes, nil
}

// The shape of --json, schema 1.
type report struct {
	Schema   int       `json:"schema"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Lint    string `json:"lint"`
	Status  string `json:"status"`
	Details string `json:"details"`
}

// show writes findings to stdout, a line each or as JSON, and words to stderr. Details are quoted: they come from the
// certificate and go to a terminal.
func show(findings []lint.Finding, asJSON bool, stdout, stderr io.Writer) error {
	if asJSON {
		out := report{Schema: 1, Findings: []finding{}}
		for _, f := range findings {
			out.Findings = append(out.Findings, finding{f.Lint, f.Status.String(), f.Details})
		}
		return json.NewEncoder(stdout).Encode(out)
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintln(stderr, "no findings")
		return err
	}
	for _, f := range findings {
		line := fmt.Sprintf("%-5s  %s", f.Status, f.Lint)
		if f.Details != "" {
			line += fmt.Sprintf("  %q", f.Details)
		}
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return err
		}
	}
	return nil
}
