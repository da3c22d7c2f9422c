package main

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

func consoleCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "console",
		Short: "orders of the officers, approved at the appliance itself",
	}
	c.AddCommand(orderCommand(), challengeCommand())
	return c
}

func challengeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "challenge --state DIR",
		Short: "show what the approvals of the next order have to be made over",
		Long:  "A challenge is good for one order, until the next challenge is asked for. Officers whose keys are on cards approve with\ncoldseal-station approve --challenge, here, and console order --approval takes their files.",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			challenge, err := e.Challenge()
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), hex.EncodeToString(challenge))
			}
			return err
		})
	}
	return c
}

func orderCommand() *cobra.Command {
	var request string
	var officers, approvals []string
	var yes, asJSON bool
	c := &cobra.Command{
		Use:   "order --state DIR --request FILE (--officer KEY … | --approval FILE …)",
		Short: "show an order, have the officers present approve it, and carry it out",
		Long:  "The officers read the order as it is shown here, from the very bytes that they approve; then each opens their key. With\n--approval, approvals made over the challenge of console challenge are brought as files.",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	f := c.Flags()
	f.StringVar(&request, "request", "", "`file` of the order, made by coldseal order")
	f.StringArrayVar(&officers, "officer", nil, "`file` of an officer's key; give one for each officer present")
	f.StringArrayVar(&approvals, "approval", nil, "`file` of an approval made over the challenge")
	f.BoolVar(&yes, "yes", false, "do not ask the officers to confirm; for rehearsals")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	pass := cli.AddSecret(c, "officer-passphrase", "passphrase of the officer's key", true)
	cli.Require(c, "request")
	c.MarkFlagsMutuallyExclusive("officer", "approval")
	c.MarkFlagsOneRequired("officer", "approval")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		raw, err := cli.ReadInput(request, cmd.InOrStdin(), protocol.MaxRequest)
		if err != nil {
			return err
		}
		sheet, err := show.Request(raw)
		if err != nil {
			return cli.Fail(cli.ExitFailure, "give the file that coldseal order wrote", "%s: %w", request, err)
		}
		if err := sheet.Write(cmd.ErrOrStderr()); err != nil {
			return err
		}
		return d.engine(cmd.Context(), func(e *appliance.Engine, c appliance.Config) error {
			if err := showChanges(cmd.ErrOrStderr(), raw, e.State()); err != nil {
				return err
			}
			sure, err := cli.Confirm("Is this what the officers present order?", yes)
			if err != nil {
				return err
			}
			if !sure {
				return cli.Fail(cli.ExitFailure, "", "the officers did not confirm; nothing was done")
			}
			var messages [][]byte
			for _, file := range approvals {
				message, err := cli.ReadInput(file, cmd.InOrStdin(), protocol.MaxApproval)
				if err != nil {
					return err
				}
				messages = append(messages, message)
			}
			if len(officers) > 0 {
				challenge, err := e.Challenge()
				if err != nil {
					return err
				}
				for _, file := range officers {
					message, known, err := approveOrder(raw, challenge, file, pass, c, e.State())
					if err != nil {
						return err
					}
					if !known {
						fmt.Fprintf(cmd.ErrOrStderr(), "attention      %s: no officer of the roster has this key\n", show.Text(file))
					}
					messages = append(messages, message)
				}
			}
			result, err := e.Order(raw, messages)
			if err != nil {
				return err
			}
			return printOrder(cmd, result, asJSON)
		})
	}
	return c
}

// showChanges says in words what a new policy or roster changes. The order holds all of it, and nobody compares two by
// eye.
func showChanges(w io.Writer, raw []byte, state *auditlog.State) error {
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil || req.Kind != protocol.KindPolicy && req.Kind != protocol.KindRoster {
		return cli.Refused(refusal)
	}
	r, refusal := req.Replacement()
	if refusal != nil {
		return cli.Refused(refusal)
	}
	var changes []string
	if req.Kind == protocol.KindRoster {
		after, err := policy.DecodeRoster(r.New)
		if err != nil {
			return fmt.Errorf("read the new roster: %w", err)
		}
		changes = policy.DiffRoster(state.CurrentRoster(), after)
	} else {
		after, err := policy.Decode(r.New)
		if err != nil {
			return fmt.Errorf("read the new policy: %w", err)
		}
		changes = policy.Diff(state.CurrentPolicy(), after)
	}
	for _, line := range changes {
		if _, err := fmt.Fprintf(w, "changes        %s\n", show.Text(line)); err != nil {
			return fmt.Errorf("show what changes: %w", err)
		}
	}
	return nil
}

// approveOrder makes one officer's approval of one order, and tells whether the roster that stands knows the key. An order
// about a roster may be approved by others, too.
func approveOrder(raw, challenge []byte, file string, pass *cli.Secret, c appliance.Config, state *auditlog.State) (message []byte, known bool, err error) {
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		return nil, false, cli.Refused(refusal)
	}
	key, err := openKey(file, pass)
	if err != nil {
		return nil, false, err
	}
	verifier, err := cose.NewKey(key.Public())
	if err != nil {
		return nil, false, fmt.Errorf("open officer's key %s: %w", file, err)
	}
	_, _, known = auditlog.Officer(state.CurrentRoster(), protocol.Digest(verifier.ID()))
	known = known || req.Kind == protocol.KindRoster || req.Kind == protocol.KindRecovery
	now := c.Now().Unix()
	if setTime, refusal := req.SetTime(); refusal == nil {
		now = setTime.Time // the clock is what they are mending
	}
	const hour = 3600
	a := protocol.Approval{
		Version: protocol.Version, Appliance: req.Appliance, Created: now, Expires: now + hour, Challenge: challenge,
		Entries:  []protocol.ApprovalEntry{{ID: protocol.ID(raw)}},
		Manifest: protocol.ManifestOf([]protocol.Request{req}),
	}
	payload, err := a.Encode()
	if err != nil {
		return nil, false, err
	}
	message, err = cose.Sign(key, protocol.ContextApproval, payload)
	return message, known, err
}

// openKey reads an officer's key file; a passphrase is asked for only if it has one.
func openKey(file string, pass *cli.Secret) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read officer's key: %w", err)
	}
	key, err := keyfile.Decode(data, nil)
	if errors.Is(err, keyfile.ErrPassphraseNeeded) {
		secret, err := pass.Read()
		if err != nil {
			return nil, err
		}
		key, err = keyfile.Decode(data, secret)
		clear(secret)
		if err != nil {
			return nil, cli.Fail(cli.ExitDevice, "type the passphrase of this key again", "open officer's key %s: %w", file, err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open officer's key %s: %w", file, err)
	}
	return key, nil
}

func printOrder(cmd *cobra.Command, r protocol.Result, asJSON bool) error {
	if asJSON {
		j := struct {
			ID          string            `json:"id"`
			Outcome     string            `json:"outcome"`
			Key         string            `json:"key,omitempty"`
			KeyID       string            `json:"key_id,omitempty"`
			Serial      string            `json:"serial,omitempty"`
			Certificate string            `json:"certificate,omitempty"`
			Code        protocol.Code     `json:"code,omitempty"`
			Params      map[string]string `json:"params,omitempty"`
		}{ID: r.ID.String(), Outcome: r.Outcome.String(), Key: hex.EncodeToString(r.Key), Serial: hex.EncodeToString(r.Serial), Certificate: hex.EncodeToString(r.Certificate)}
		if len(r.Key) > 0 {
			j.KeyID = protocol.DigestOf(r.Key).String()
		}
		if r.Refusal != nil {
			j.Code, j.Params = r.Refusal.Code, r.Refusal.Params
		}
		if err := cli.PrintJSON(cmd.OutOrStdout(), j); err != nil {
			return err
		}
		return cli.Refused(r.Refusal)
	}
	if r.Refusal != nil {
		return cli.Refused(r.Refusal)
	}
	switch {
	case len(r.Handover) > 0:
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n", protocol.DigestOf(r.Key))
		fmt.Fprintln(cmd.ErrOrStderr(), "done: the key was replaced; the line above is the id of the new one\nmake a backup now: an older one can't go on where anybody has heard of the new key")
	case len(r.Key) > 0:
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n", protocol.DigestOf(r.Key))
		fmt.Fprintln(cmd.ErrOrStderr(), "done: the key was made; the line above is its id")
	case r.Outcome == protocol.OutcomeRevoked:
		fmt.Fprintf(cmd.OutOrStdout(), "%x\n", r.Serial)
		fmt.Fprintln(cmd.ErrOrStderr(), "done: the certificate with the serial above was revoked; the CRL that says so is on the next medium")
	case len(r.Certificate) > 0:
		fmt.Fprintf(cmd.OutOrStdout(), "%x\n", r.Serial)
		fmt.Fprintln(cmd.ErrOrStderr(), "done: the certificate was issued; the line above is its serial")
	default:
		fmt.Fprintln(cmd.ErrOrStderr(), "done: the order was carried out")
	}
	return nil
}
