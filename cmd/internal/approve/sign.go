package approve

import (
	"bytes"
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
	"coldseal/protocol/show"
)

// signed is an approval with what it covers.
type signed struct {
	message []byte
	covers  []wanted
}

// sign makes all approvals, and reads each back as the appliance will: a signature of another key is found here.
func (a *approving) sign(key Key, all []wanted, challenge []byte, lifetime time.Duration) ([]signed, error) {
	verifier, err := cose.NewKey(key.Public())
	if err != nil {
		return nil, err
	}
	groups := grouped(all)
	progress := cli.NewProgress(a.words, "approvals", uint64(len(groups)))
	var approvals []signed
	for i, group := range groups {
		approval := a.approval(group, challenge, lifetime)
		payload, err := approval.Encode()
		if err != nil {
			return nil, err
		}
		message, err := cose.Sign(key.For(a.about(group, i, len(groups))), protocol.ContextApproval, payload)
		if err != nil {
			return nil, err
		}
		if _, refusal := protocol.OpenApproval(message, verifier); refusal != nil {
			return nil, cli.Fail(cli.ExitDevice, "", "what %s signed does not verify: %s", key.Name(), refusal.Words())
		}
		approvals = append(approvals, signed{message, group})
		progress.At(uint64(i + 1))
	}
	if len(groups) > 1 {
		progress.Done(uint64(len(groups)))
	}
	return approvals, nil
}

// grouped puts each request that is approved alone into an approval of its own, and the others together.
func grouped(all []wanted) [][]wanted {
	var groups [][]wanted
	var together []wanted
	for _, w := range all {
		if w.alone {
			groups = append(groups, []wanted{w})
		} else {
			together = append(together, w)
		}
	}
	return slices.AppendSeq(groups, slices.Chunk(together, protocol.MaxGroupItems))
}

// about says what one approval of n covers.
func (a *approving) about(group []wanted, i, n int) string {
	text := fmt.Sprintf("%d requests", len(group))
	if len(group) == 1 {
		r := group[0].req
		text = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Kind, r.Profile, r.Subject)) + ", " + group[0].id.String()[:16]
	}
	if n > 1 {
		text = fmt.Sprintf("approval %d of %d: %s", i+1, n, text)
	}
	return show.Text(text)
}

func (a *approving) approval(group []wanted, challenge []byte, lifetime time.Duration) protocol.Approval {
	created := a.now.Unix()
	if t, refusal := group[0].req.SetTime(); refusal == nil {
		created = t.Time // this clock may be wrong as well: the time that was read is the one that counts
	}
	approval := protocol.Approval{Version: protocol.Version, Appliance: a.known.Digest, Created: created, Expires: created + int64(lifetime/time.Second)}
	if group[0].req.Kind.IsOrder() {
		approval.Challenge = challenge
	}
	var parsed []protocol.Request
	for _, w := range group {
		parsed = append(parsed, w.req)
		approval.Entries = append(approval.Entries, protocol.ApprovalEntry{ID: w.id, Statements: a.stmts})
	}
	slices.SortFunc(approval.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	approval.Manifest = protocol.ManifestOf(parsed)
	return approval
}

// write writes approvals and prints the names of their files.
func (a *approving) write(stdout io.Writer, approvals []signed, key Key) error {
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
