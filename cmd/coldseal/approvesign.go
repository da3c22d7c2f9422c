package main

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// signed is an approval with what it covers.
type signed struct {
	message []byte
	covers  []wanted
}

func (a *approving) sign(key crypto.Signer, all []wanted, challenge []byte, lifetime time.Duration) ([]signed, error) {
	var groups [][]wanted
	var together []wanted
	for _, w := range all {
		if w.alone {
			groups = append(groups, []wanted{w})
		} else {
			together = append(together, w)
		}
	}
	groups = slices.AppendSeq(groups, slices.Chunk(together, protocol.MaxGroupItems))
	var approvals []signed
	for _, group := range groups {
		created := a.now.Unix()
		if t, refusal := group[0].req.SetTime(); refusal == nil {
			created = t.Time // this clock may be wrong as well: the time that was read is the one that counts
		}
		ap := protocol.Approval{Version: protocol.Version, Appliance: a.world.digest, Created: created, Expires: created + int64(lifetime/time.Second)}
		if group[0].req.Kind.IsOrder() {
			ap.Challenge = challenge
		}
		var parsed []protocol.Request
		for _, w := range group {
			parsed = append(parsed, w.req)
			ap.Entries = append(ap.Entries, protocol.ApprovalEntry{ID: w.id, Statements: a.stmts})
		}
		slices.SortFunc(ap.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
		ap.Manifest = protocol.ManifestOf(parsed)
		payload, err := ap.Encode()
		if err != nil {
			return nil, err
		}
		message, err := cose.Sign(key, protocol.ContextApproval, payload)
		if err != nil {
			return nil, err
		}
		approvals = append(approvals, signed{message, group})
	}
	return approvals, nil
}

// write writes approvals and prints the names of their files.
func (a *approving) write(stdout io.Writer, approvals []signed, key crypto.Signer) error {
	verifier, err := cose.NewKey(key.Public())
	if err != nil {
		return err
	}
	id := protocol.Digest(verifier.ID())
	info, err := os.Stat(a.out)
	folder := len(approvals) > 1 || strings.HasSuffix(a.out, "/") || err == nil && info.IsDir()
	if folder {
		if err := os.MkdirAll(a.out, 0o755); err != nil {
			return fmt.Errorf("make folder for approvals: %w", err)
		}
	}
	type written struct {
		File     string   `json:"file"`
		Requests []string `json:"requests"`
	}
	var files []written
	for _, s := range approvals {
		name := a.out
		if folder {
			// The approver's key is in the name, so that several may approve into one folder.
			name = filepath.Join(a.out, fmt.Sprintf("%s-%s.approval", s.covers[0].id.String()[:16], id.String()[:8]))
		}
		if err := cli.WriteOutput(name, stdout, s.message, false); err != nil {
			return err
		}
		w := written{File: name}
		for _, c := range s.covers {
			w.Requests = append(w.Requests, c.id.String())
		}
		files = append(files, w)
	}
	if a.out == "-" {
		return nil
	}
	if a.json {
		return cli.PrintJSON(stdout, struct {
			Key       string    `json:"key"`
			Approvals []written `json:"approvals"`
		}{id.String(), files})
	}
	for _, f := range files {
		if _, err := fmt.Fprintln(stdout, f.File); err != nil {
			return err
		}
	}
	return nil
}
