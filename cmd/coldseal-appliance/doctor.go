package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
)

// finding is one line of the doctor's.
type finding struct {
	Level string `json:"level"` // ok, note, trouble
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
	Code  string `json:"code,omitempty"` // of a trouble with a device (signer.Troubles)
}

// findings are what the doctor found so far.
type findings []finding

func (f *findings) ok(what string) { *f = append(*f, finding{Level: "ok", What: what}) }
func (f *findings) note(what, hint string) {
	*f = append(*f, finding{Level: "note", What: what, Hint: hint})
}
func (f *findings) trouble(what, hint string) {
	*f = append(*f, finding{Level: "trouble", What: what, Hint: hint})
}

// fault adds what ended the examination.
func (f *findings) fault(err error) {
	_, hint := cli.Judge(err)
	found := finding{Level: "trouble", What: err.Error(), Hint: hint}
	if trouble, device := signer.AsTrouble(err); device {
		found.Code = string(trouble.Code)
	}
	*f = append(*f, found)
}

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor --state DIR",
		Short: "look for trouble and say what mends it",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object a finding")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var found findings
		found.disk(d)
		err := d.engine(cmd.Context(), func(e *appliance.Engine, config appliance.Config) error {
			found.ok("log, ledger, checkpoint and counter agree")
			if err := found.standing(e, config); err != nil {
				return err
			}
			return found.devices(e, config.Signer)
		})
		if err != nil {
			found.fault(err)
		}
		return found.print(cmd, err, *asJSON)
	}
	return c
}

func (f findings) print(cmd *cobra.Command, err error, asJSON bool) error {
	troubles := 0
	for _, one := range f {
		if one.Level == "trouble" {
			troubles++
		}
		if asJSON {
			if err := cli.PrintJSON(cmd.OutOrStdout(), one); err != nil {
				return err
			}
			continue
		}
		code := ""
		if one.Code != "" {
			code = " (" + one.Code + ")"
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%-8s %s%s\n", one.Level, one.What, code)
		if one.Hint != "" {
			fmt.Fprintf(cmd.OutOrStdout(), "         %s\n", one.Hint)
		}
	}
	if troubles > 0 {
		code, _ := cli.Judge(err)
		if code == cli.ExitUsage { // such as a PIN that could not be asked for: that is one of the findings
			code = cli.ExitDevice
		}
		return cli.Fail(max(code, cli.ExitFailure), "", "%s mending", cli.Count(troubles, "thing needs", "things need"))
	}
	return nil
}

// standing looks at what the appliance says of itself.
func (f *findings) standing(e *appliance.Engine, config appliance.Config) error {
	s, err := e.Status()
	if err != nil {
		return err
	}
	if s.Waits {
		f.trouble(appliance.ErrRestoring.Error(), "restore leaves, restore order, console order: see coldseal-appliance restore")
	}
	if s.Gate != nil {
		f.trouble(s.Gate.Words(), s.Gate.Hint())
	}
	if config.Signer.Hello().Capabilities["counter"] == "file" {
		f.note("the counter is a file: who can write the disk can wind it back", "a TPM would make a rollback impossible to hide; it is chosen at genesis")
	}
	if config.Signer.Hello().Capabilities["memory"] == "swappable" {
		f.note("the signer's memory can be swapped out", "switch swap off, or raise the memory-lock limit")
	}
	held, err := config.Reserve()
	if err != nil {
		return err
	}
	if !s.Waits && held < appliance.SpoolReserve { // while it waits nothing is reserved yet
		f.trouble(fmt.Sprintf("%d of %d MiB are reserved for revocations", held>>20, int64(appliance.SpoolReserve)>>20), "make room on the disk of the state directory")
	}
	if s.Waiting != nil {
		f.note("a recovery was announced: from "+protocol.Date(s.Waiting.From)+" the roster "+s.Waiting.New+" may replace the one that stands", "if nobody lost their keys, order a roster: that ends it")
	}
	for _, ca := range s.CAs {
		if ca.CRL > 0 && ca.Days < 3 && ca.State != "key destroyed" {
			f.trouble(fmt.Sprintf("the CRL of %s ends on %s", ca.Label, protocol.Date(ca.NextUpdate)), "process a bundle, or order a CRL at the console")
		}
	}
	return nil
}

// devices says what each device holds, and what on them is not as the ledger knows it.
func (f *findings) devices(e *appliance.Engine, client *signer.Client) error {
	devices := client.Hello().Devices
	for _, d := range devices {
		store := strings.HasPrefix(d.Locator, signer.Softkey+":")
		if store && (len(devices) == 1 || len(d.Holds) == 0) {
			continue
		}
		if store {
			f.note("what no device holds is in the key store, in a file under its passphrase: "+strings.Join(d.Holds, ", "), "")
			continue
		}
		if strings.HasPrefix(d.Locator, signer.TPM+":device=/dev/tpm") && !strings.HasPrefix(d.Locator, signer.TPM+":device=/dev/tpmrm") {
			*f = append(*f, finding{"trouble", d.Locator + ": the TPM is used without its resource manager", "use the resource manager's device in the locator: tpm:device=/dev/tpmrm0", string(signer.ManagerMissing)})
		}
		if len(d.Holds) == 0 {
			*f = append(*f, finding{"note", d.Locator + " takes no new keys: it has no mechanism for those that it is to hold, or others come before it", "compare its use= with what it can: pkcs11-tool --list-mechanisms, tpm2_getcap ecc-curves", string(signer.MechanismMissing)})
			continue
		}
		f.ok(d.Locator + " takes new keys: " + strings.Join(d.Holds, ", "))
	}
	objects, err := client.Objects()
	if err != nil {
		return err
	}
	known, err := e.KnownKeys()
	if err != nil {
		return err
	}
	for _, h := range compare(known, client.Keys(), objects) {
		what := strings.TrimSpace(fmt.Sprintf("%s: %s %s in %s", h.State, h.Class, h.Label, strings.Join(h.Devices, ", ")))
		switch {
		case h.trouble():
			f.trouble("key "+what, "this compares devices and ledger: coldseal-appliance keys")
		case h.State != stateOK:
			f.note(what, "")
		}
	}
	return nil
}

// disk looks at the disk before anything is opened.
func (f *findings) disk(d *devices) {
	info, err := os.Stat(d.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.trouble("there is no state directory "+d.state, "mount its disk, or hold genesis")
		return
	case err != nil:
		f.trouble(err.Error(), "check the disk")
		return
	case info.Mode().Perm()&0o077 != 0:
		f.trouble(fmt.Sprintf("the state directory is open to others (mode %o)", info.Mode().Perm()), "chmod 700 "+d.state)
	}
	if _, err := os.Stat(filepath.Join(d.state, "ledger.db")); errors.Is(err, fs.ErrNotExist) {
		f.trouble("there is no ledger", "hold genesis: coldseal-appliance genesis")
	}
	var space syscall.Statfs_t
	if err := syscall.Statfs(d.state, &space); err == nil {
		free := int64(space.Bavail) * space.Bsize
		if what := fmt.Sprintf("%d MiB free for the state directory", free>>20); free < 4*appliance.SpoolReserve {
			f.trouble(what, "free space: bundles are refused below "+fmt.Sprint(appliance.SpoolReserve>>20)+" MiB, revocations are not")
		} else {
			f.ok(what)
		}
	}
}
