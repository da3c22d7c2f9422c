package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
	"coldseal/protocol/show"
)

func backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup",
		Short: "keep a copy of the appliance that any k of n people can open together",
		Long: "A backup holds the ledger with the log and all bodies, and the key store, which stays under its own passphrase or secret\n" +
			"file. It is encrypted to a key that is split among people and kept by nobody. It counts only when it was checked: every\n" +
			"share read back, and the backup opened once for trial.",
	}
	c.AddCommand(backupCreateCommand(), backupCheckCommand(), backupListCommand())
	return c
}

func backupCreateCommand() *cobra.Command {
	var medium, out, token string
	var shares appliance.Shares
	var screen, withoutKeys, yes, asJSON bool
	c := &cobra.Command{
		Use:   "create --state DIR --media DIR (--out DIR | --show | --card LOCATOR …)",
		Short: "write a backup to a medium and hand out the shares that open it",
		Long: "Each share goes to one person. With --card it is written to that person's card, and is read from there with the card's PIN\n" +
			"only; the others are for paper. With --out they are written to two files each, words and a QR code, which are to be carried\n" +
			"away and removed; with --show they are shown on the screen, one after the other, to be written down. Interrupted, the\n" +
			"backup does not count: begin again; a card keeps the share it had beside the new one. backup check comes next.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	f := c.Flags()
	f.StringVar(&medium, "media", "", "`directory` of the medium")
	f.IntVar(&shares.All, "shares", 3, "`number` of shares")
	f.IntVar(&shares.Needed, "needed", 2, "`number` of shares that open the backup, at least one fewer than there are")
	f.StringVar(&out, "out", "", "`directory` to write the shares to; made if it is not there")
	f.BoolVar(&screen, "show", false, "show the shares, one after the other")
	f.BoolVar(&withoutKeys, "without-keys", false, "leave the key store out: its keys are kept in another way, or must not be copied")
	f.StringVar(&token, "token", "", "`directory` of a PKCS#11 token that keeps its keys in files, wrapped, such as SoftHSM's")
	f.BoolVar(&yes, "yes", false, "do not wait for the holders of shares; for rehearsals")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cli.Require(c, "media")
	cards := addCards(c, d, true)
	c.MarkFlagsOneRequired("out", "show", "card")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := shares.Check(); err != nil {
			return cli.Usage("%w", err)
		}
		if err := cards.check(); err != nil {
			return err
		}
		switch n := len(cards.all); {
		case n > shares.All:
			return cli.Usage("%d cards for %d shares", n, shares.All)
		case n < shares.All && out == "" && !screen:
			return cli.Usage("%d cards for %d shares: give --out or --show for the others", n, shares.All)
		}
		if within(out, medium) {
			return cli.Usage("--out %s is on the medium: whoever finds it would have the backup and what opens it", out)
		}
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			files, err := keyFiles(d.state, token, withoutKeys)
			if err != nil {
				return err
			}
			m, err := media.OpenMedium(medium)
			if err != nil {
				return err
			}
			defer m.Close()
			var names []string
			b, err := e.Backup(m, shares, files, func(b *appliance.Backup, split []shamir.Share) (err error) {
				if err := cards.write(cmd.Context(), cmd.ErrOrStderr(), split); err != nil {
					return err
				}
				split = split[len(cards.all):]
				if out != "" {
					if names, err = writeShares(out, b, split); err != nil {
						return err
					}
				}
				if screen {
					return showShares(cmd.OutOrStdout(), b, split, yes)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return printBackup(cmd, b, names, asJSON)
		})
	}
	return c
}

// within tells whether a path, which need not be there yet, lies in a folder.
func within(path, folder string) bool {
	whole, err := filepath.Abs(folder)
	if resolved, bad := filepath.EvalSymlinks(whole); bad == nil {
		whole = resolved
	}
	at, bad := filepath.Abs(path)
	if path == "" || err != nil || bad != nil {
		return false
	}
	for rest := ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		if resolved, err := filepath.EvalSymlinks(at); err == nil { // of what is there already
			below, err := filepath.Rel(whole, filepath.Join(resolved, rest))
			return err == nil && filepath.IsLocal(below)
		}
		if at == filepath.Dir(at) {
			return false
		}
	}
}

// keyFiles lists the files that keep keys: those of the key store, and of a token that is named.
func keyFiles(state, token string, withoutStore bool) (files []appliance.KeyFile, err error) {
	folders := map[string]string{appliance.KeysDir: filepath.Join(state, appliance.KeysDir), appliance.TokenDir: token}
	if withoutStore {
		folders[appliance.KeysDir] = ""
	}
	for _, name := range []string{appliance.KeysDir, appliance.TokenDir} {
		if folders[name] == "" {
			continue
		}
		err := filepath.WalkDir(folders[name], func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".new") { // left by a write that was interrupted
				return err
			}
			below, err := filepath.Rel(folders[name], path)
			files = append(files, appliance.KeyFile{Name: name + "/" + filepath.ToSlash(below), Path: path})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list keys in %s: %w", folders[name], err)
		}
	}
	return files, nil
}

func printBackup(cmd *cobra.Command, b appliance.Backup, names []string, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			backupJSON
			Shares []string `json:"files,omitempty"`
		}{backupOf(appliance.Found{Backup: b}), names})
	}
	fmt.Fprintln(cmd.OutOrStdout(), b.Set.ID)
	fmt.Fprintf(cmd.ErrOrStderr(), "The backup of %s is written: %d log entries, %d MiB. It does not count yet: have every share read back with\ncoldseal-appliance backup check.\n",
		protocol.Date(b.Created), b.Size, b.Ledger>>20)
	for _, name := range names {
		fmt.Fprintf(cmd.ErrOrStderr(), "  %s, and its QR code beside it: for one person; carry it away and remove both\n", name)
	}
	return nil
}

// backupJSON is a backup in JSON.
type backupJSON struct {
	Set       string `json:"set"`
	Appliance string `json:"appliance"`
	Created   int64  `json:"created"`
	Entries   uint64 `json:"entries"`
	Root      string `json:"root"`
	Needed    int    `json:"needed"`
	Of        int    `json:"of"`
	Keys      bool   `json:"keys"`
	Checked   bool   `json:"checked"`
}

func backupOf(f appliance.Found) backupJSON {
	return backupJSON{
		Set: f.Set.ID.String(), Appliance: f.Appliance.String(), Created: f.Created, Entries: f.Size, Root: f.Root.String(),
		Needed: int(f.Set.Threshold), Of: len(f.Set.Digests), Keys: len(f.Files) > 0, Checked: f.Checked,
	}
}

func backupListCommand() *cobra.Command {
	var medium string
	var digest protocol.Digest
	c := &cobra.Command{
		Use:   "list --media DIR --digest DIGEST",
		Short: "list the backups of an appliance on a medium, the newest first",
		Args:  cobra.NoArgs,
	}
	c.Flags().StringVar(&medium, "media", "", "`directory` of the medium")
	cli.DigestVar(c.Flags(), &digest, "digest", "genesis digest of the appliance, typed from the minutes")
	asJSON := c.Flags().Bool("json", false, "print one JSON object a backup")
	cli.Require(c, "media", "digest")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		m, err := media.OpenMedium(medium)
		if err != nil {
			return err
		}
		defer m.Close()
		all, bad, err := appliance.Backups(m, digest)
		if err != nil {
			return explain(err)
		}
		if len(all)+len(bad) == 0 {
			return noBackup(m, digest, "")
		}
		for _, b := range all {
			if *asJSON {
				if err := cli.PrintJSON(cmd.OutOrStdout(), backupOf(b)); err != nil {
					return err
				}
				continue
			}
			state := "UNCHECKED"
			if b.Checked {
				state = "checked"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %d log entries, %d of %d shares open it, %s\n", b.Set.ID, protocol.Date(b.Created), b.Size, b.Set.Threshold, len(b.Set.Digests), state)
		}
		return explain(errors.Join(bad...))
	}
	return c
}

func backupCheckCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check --state DIR --media DIR (--share FILE … | --card LOCATOR … | --ask)",
		Short: "read shares back, and open the backup for trial when all have been",
		Long: "Shares may be read back one at a time, by several of these commands; which have been is remembered. When the last one is,\n" +
			"with as many given as are needed, the backup is opened into a folder that is removed again: the whole log is replayed and\n" +
			"compared, and the keys are looked for. Only then the backup counts.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	s := addShares(c, d)
	cli.Require(c, "media")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		digest, err := appliance.Identity(d.state)
		if err != nil {
			return explain(err)
		}
		return s.use(cmd, digest, func(m *media.Medium, b appliance.Found, shares []appliance.NamedShare) error {
			left, err := d.readBack(&b.Backup, shares)
			if err != nil {
				return explain(err)
			}
			for _, share := range shares {
				fmt.Fprintf(cmd.ErrOrStderr(), "share %d of set %s was read back: it is good\n", share.Index, b.Set.ID)
			}
			if len(left) > 0 && b.Checked { // holders look again, years later
				fmt.Fprintf(cmd.ErrOrStderr(), "The backup was checked before, and counts. This time shares %s of %d were not read back yet.\n", numbers(left), len(b.Set.Digests))
				return nil
			}
			if len(left) > 0 {
				return cli.Fail(cli.ExitApprovals, "have the others read back as well", "shares %s of %d were not read back yet", numbers(left), len(b.Set.Digests))
			}
			if err := d.trial(cmd.Context(), m, &b.Backup, shares); err != nil {
				return explain(err)
			}
			if err := b.Backup.Checked(m); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), b.Set.ID)
			fmt.Fprintln(cmd.ErrOrStderr(), "checked: every share was read back, and the backup was opened and replayed. It counts.")
			return os.Remove(d.readBackFile(&b.Backup))
		})
	}
	return c
}

func numbers(all []int) string {
	return strings.Trim(fmt.Sprint(all), "[]")
}

// chooseBackup finds the backup that is meant. Bad ones beside it are named, for one of them may have been newer.
func chooseBackup(words io.Writer, m *media.Medium, digest protocol.Digest, set string) (appliance.Found, error) {
	all, bad, err := appliance.Backups(m, digest)
	if err != nil {
		return appliance.Found{}, explain(err)
	}
	for _, b := range all {
		if set != "" && b.Set.ID.String() != set {
			continue
		}
		for _, err := range bad {
			fmt.Fprintln(words, "warning: passed over, "+show.Lines(err.Error()))
		}
		return b, nil
	}
	if len(bad) > 0 {
		return appliance.Found{}, explain(errors.Join(bad...))
	}
	return appliance.Found{}, noBackup(m, digest, set)
}

// noBackup says that a medium has none of an appliance, or not the one that is meant, and what is there instead.
func noBackup(m *media.Medium, digest protocol.Digest, set string) error {
	what := fmt.Sprintf("there is no whole backup of the appliance %s on this medium", media.Tag(digest))
	if set != "" {
		what = fmt.Sprintf("there is no whole backup of set %s on this medium", set)
	}
	others, err := m.Folders("coldseal")
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(tag string) bool { return tag == media.Tag(digest) })
	hint := "look for another medium; a backup that was interrupted is none"
	if len(others) > 0 {
		hint = "check the digest and the medium: on it is something of the appliance " + strings.Join(others, ", ")
	}
	return cli.Fail(cli.ExitNotFound, hint, "%s", what)
}

func (d *devices) readBackFile(b *appliance.Backup) string {
	return filepath.Join(d.state, "backup-"+b.Set.ID.String())
}

// readBack notes which shares were read back, after each was compared with what the backup says of its set, and lists
// those that were not.
func (d *devices) readBack(b *appliance.Backup, shares []appliance.NamedShare) (left []int, err error) {
	var done []int
	noted, err := os.ReadFile(d.readBackFile(b))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read which shares were read back: %w", err)
	}
	for _, field := range strings.Fields(string(noted)) {
		var n int
		if _, err := fmt.Sscan(field, &n); err != nil {
			return nil, fmt.Errorf("read which shares were read back: %s: %w", d.readBackFile(b), err)
		}
		done = append(done, n)
	}
	var bad []error
	for _, s := range shares {
		if err := b.Set.Check(s.Share); err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", s.Name, err))
		} else if !slices.Contains(done, s.Index) {
			done = append(done, s.Index)
		}
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	slices.Sort(done)
	for i := range b.Set.Digests {
		if !slices.Contains(done, i+1) {
			left = append(left, i+1)
		}
	}
	return left, media.WriteFile(d.readBackFile(b), media.WriteOptions{Replace: true, Private: true}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, numbers(done))
		return err
	})
}

// trial opens a backup into a folder of its own, as a restore does, and removes it again.
func (d *devices) trial(ctx context.Context, m *media.Medium, b *appliance.Backup, shares []appliance.NamedShare) (err error) {
	key, err := b.Key(shares)
	if err != nil {
		return err
	}
	t := *d
	t.state = filepath.Join(d.state, "trial")
	if err := os.RemoveAll(t.state); err != nil { // of one that was interrupted
		return fmt.Errorf("remove trial: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.state)) }()
	if err := appliance.Unpack(ctx, m, b, key, t.state); err != nil {
		return err
	}
	at := &t
	if _, err := os.Stat(filepath.Join(t.state, appliance.KeysDir)); errors.Is(err, fs.ErrNotExist) {
		at = d // the keys are in devices, or kept in another way
	}
	c, stop, err := at.workers(ctx)
	if err != nil {
		return err
	}
	c.Dir, c.Trial = t.state, true
	e, err := appliance.Open(c)
	if err == nil {
		err = e.Close()
	}
	return errors.Join(err, stop())
}

// isShare tells errors about shares from others.
func isShare(err error) bool {
	for _, kind := range []error{shamir.ErrForeign, shamir.ErrAltered, shamir.ErrTwice, shamir.ErrTooFew, shamir.ErrShare} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
