package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

// The states of what is on a device, or should be.
const (
	stateOK        = "ok"
	stateMissing   = "missing"
	stateDuplicate = "duplicate" // the key, or its label, is there more than once
	stateOdd       = "odd"       // it claims to be ours, and can't be used
	stateReplaced  = "replaced"  // by a newer one, and not destroyed
	stateDestroyed = "destroyed" // by order, and still there
	stateUnordered = "unordered" // left by an interrupted order, or of another appliance
	stateStranger  = "stranger"  // not ours; left alone
)

// holding is one line of the inventory: a key that the ledger knows, or something else on a device.
type holding struct {
	Label     string   `json:"label"`
	Purpose   string   `json:"purpose,omitempty"`
	Algorithm string   `json:"algorithm,omitempty"`
	ID        string   `json:"id,omitempty"`
	Known     bool     `json:"known"` // to the ledger
	State     string   `json:"state"`
	Devices   []string `json:"devices,omitempty"`
	Class     string   `json:"class,omitempty"`
	Handle    string   `json:"handle,omitempty"`
	Note      string   `json:"note,omitempty"`
}

// trouble tells whether somebody has to look.
func (h holding) trouble() bool {
	return h.State == stateMissing || h.State == stateDuplicate || h.State == stateOdd || h.State == stateDestroyed
}

// name is what a key is found by when a device is opened; whether it is the right one its id says.
type name struct {
	label   string
	purpose signer.Purpose
}

// compare lays the inventory of the devices beside what the signer uses and the ledger knows.
func compare(known []appliance.KnownKey, keys []signer.KeyInfo, objects []signer.Object) []holding {
	there := map[protocol.Digest][]signer.Object{} // the parts that matter: private keys, key files
	used, own := map[protocol.Digest]signer.KeyInfo{}, map[protocol.Digest]bool{}
	named, taken := map[name]signer.KeyInfo{}, map[name]bool{} // by the devices, by the ledger
	for _, k := range keys {
		used[k.ID()], named[name{k.Label, k.Purpose}] = k, k
	}
	for _, k := range known {
		taken[name{k.Label, k.Purpose}] = true
	}
	for _, o := range objects {
		if o.Key != [32]byte{} && private(o.Class) {
			there[o.Key] = append(there[o.Key], o)
		}
	}
	var list []holding
	for _, k := range known {
		own[k.ID] = true
		h := holding{Label: k.Label, Purpose: string(k.Purpose), Algorithm: string(k.Algorithm), ID: k.ID.String(), Known: true, State: stateOK}
		for _, o := range there[k.ID] {
			h.Devices = append(h.Devices, o.Device)
		}
		now, usable := used[k.ID]
		switch {
		case k.Destroyed && len(h.Devices) == 0:
			continue
		case k.Destroyed:
			h.State, h.Note = stateDestroyed, "start the appliance once more: it destroys what was ordered"
		case k.Replaced && !usable && len(h.Devices) == 0:
			h.State, h.Note = stateReplaced, "on none of these devices"
		case !usable:
			h.State = stateMissing
			if other, there := named[name{k.Label, k.Purpose}]; there {
				h.Note = fmt.Sprintf("another key has its name on the device, %s", other.Algorithm)
			}
		case now.Label != k.Label || now.Purpose != k.Purpose:
			h.State, h.Note = stateOdd, fmt.Sprintf("on the device it is %s, for %s", now.Label, now.Purpose)
		case len(h.Devices) > 1:
			h.State = stateDuplicate
		case k.Replaced:
			h.State, h.Note = stateReplaced, "order destroy-key ends it"
		}
		list = append(list, h)
	}
	for _, k := range keys {
		if id := protocol.Digest(k.ID()); !own[id] {
			own[id] = true
			h := holding{Label: k.Label, Purpose: string(k.Purpose), Algorithm: string(k.Algorithm), ID: id.String(), State: stateUnordered, Note: "left by an interrupted order, or foreign"}
			if taken[name{k.Label, k.Purpose}] {
				h.State, h.Note = stateOdd, "it has the name of a key of the ledger, and is not that key"
			}
			for _, o := range there[id] {
				h.Devices = append(h.Devices, o.Device)
			}
			list = append(list, h)
		}
	}
	for _, o := range objects {
		h := holding{Label: o.Label, State: stateStranger, Devices: []string{o.Device}, Class: o.Class, Handle: o.Handle, Note: o.Note}
		if o.Key != [32]byte{} {
			h.ID = protocol.Digest(o.Key).String()
		}
		switch {
		case o.Class == signer.ClassCounter:
			continue // ours, by its place
		case o.Note != "" && o.Ours:
			h.State = stateOdd
			if own[o.Key] && o.Key != [32]byte{} {
				h.Note += "; this is the one in the ledger"
			}
		case own[o.Key] && o.Key != [32]byte{}:
			continue
		}
		list = append(list, h)
	}
	return list
}

// private tells whether it is an object of this class that signs.
func private(class string) bool {
	return class == signer.ClassPrivateKey || class == signer.ClassKeyFile
}

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys --state DIR",
		Short: "compare what is on the devices with the ledger: keys that are missing, there twice, or strangers",
		Long: "keys lists every key that the ledger knows and everything else that is on the devices. It ends with 1 if a key is missing, is\n" +
			"there more than once, or can't be used. Strangers are listed and left alone.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object a key or thing")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := d.present(); err != nil {
			return err
		}
		config, stop, err := d.workers(cmd.Context())
		if err != nil {
			return err
		}
		objects, err := config.Signer.Objects()
		keys := config.Signer.Keys()
		if err := explain(errors.Join(err, stop())); err != nil {
			return err
		}
		known, err := appliance.KnownKeys(d.state)
		if err != nil {
			return err
		}
		return printInventory(cmd, compare(known, keys, objects), len(config.Signer.Hello().Devices) > 1, *asJSON)
	}
	return c
}

func printInventory(cmd *cobra.Command, list []holding, several, asJSON bool) error {
	troubles := 0
	for _, h := range list {
		if h.trouble() {
			troubles++
		}
		if asJSON {
			if err := cli.PrintJSON(cmd.OutOrStdout(), h); err != nil {
				return err
			}
			continue
		}
		var notes []string
		if h.State != stateOK {
			notes = append(notes, h.State)
		}
		if h.Class != "" {
			notes = append(notes, strings.TrimSpace(h.Class+" "+h.Handle))
		}
		if h.Note != "" {
			notes = append(notes, h.Note)
		}
		if several || h.State != stateOK {
			for _, device := range h.Devices {
				notes = append(notes, "in "+device)
			}
		}
		note := ""
		if len(notes) > 0 {
			note = "  " + strings.Join(notes, "; ")
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%-12s %-9s %-9s %s%s\n", show.Text(h.Label), h.Purpose, h.Algorithm, h.ID, show.Text(note))
	}
	if troubles > 0 {
		return cli.Fail(cli.ExitFailure, "give every --keys of the genesis, with its device there, or restore the key; of a key that is there twice, remove the one that is not ours with the device's own tools", "%s not as the ledger knows them", cli.Count(troubles, "key is", "keys are"))
	}
	return nil
}
