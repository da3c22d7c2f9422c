package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
	"coldseal/protocol/show"
)

// Shares of a backup's key reach people as files, on the screen, words to write down and a QR code of the same, or on cards
// (card.go).

// shareFlags say which backup is meant, and where shares of it are.
type shareFlags struct {
	medium string
	set    string
	files  []string
	ask    bool
	cards  *cardFlags
}

func addShares(c *cobra.Command, d *devices) *shareFlags {
	s := &shareFlags{cards: addCards(c, d, false)}
	c.Flags().StringVar(&s.medium, "media", "", "`directory` of the medium")
	c.Flags().StringVar(&s.set, "set", "", "`name` of the backup's set of shares, if there are several backups; else the newest")
	c.Flags().StringArrayVar(&s.files, "share", nil, "`file` of a share, as words, as the text of its QR code, or its bytes; give one for each")
	c.Flags().BoolVar(&s.ask, "ask", false, "ask for shares at the terminal, a line each, until an empty one")
	c.MarkFlagsOneRequired("share", "card", "ask")
	return s
}

// use finds the backup and reads the shares.
func (s *shareFlags) use(cmd *cobra.Command, digest protocol.Digest, f func(*media.Medium, appliance.Found, []appliance.NamedShare) error) error {
	m, err := media.OpenMedium(s.medium)
	if err != nil {
		return err
	}
	defer m.Close()
	b, err := chooseBackup(cmd.ErrOrStderr(), m, digest, s.set)
	if err != nil {
		return err
	}
	shares, err := s.read(cmd, b.Set.ID)
	if err != nil {
		return err
	}
	return f(m, b, shares)
}

// read gets the shares of a set. What is none is named.
func (s *shareFlags) read(cmd *cobra.Command, set shamir.ID) (all []appliance.NamedShare, err error) {
	if err := s.cards.check(); err != nil {
		return nil, err
	}
	add := func(name string, data []byte) error {
		share, err := parseShare(data)
		if err != nil {
			return cli.Fail(cli.ExitDevice, "read it again from its source, or take another share", "%s: %w", name, err)
		}
		all = append(all, appliance.NamedShare{Name: name, Share: share})
		return nil
	}
	for _, file := range s.files {
		data, err := cli.ReadInput(file, cmd.InOrStdin(), shamir.MaxText)
		if err == nil {
			err = add(file, data)
		}
		clear(data)
		if err != nil {
			return nil, err
		}
	}
	cards, err := s.cards.read(cmd.Context(), cmd.ErrOrStderr(), set)
	if err != nil {
		return nil, err
	}
	all = append(all, cards...)
	for s.ask {
		name := fmt.Sprintf("typed share %d", len(all)-len(s.files)-len(cards)+1)
		line, err := cli.Ask(name + ", all words on one line (nothing: no more)")
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		if err := add(name, []byte(line)); err != nil { // whoever mistyped it has it at hand
			fmt.Fprintln(cmd.ErrOrStderr(), show.Lines(err.Error())+"; type it again")
		}
	}
	return all, nil
}

func parseShare(data []byte) (shamir.Share, error) {
	if len(data) == shamir.ShareSize {
		if s, err := shamir.Parse(data); err == nil {
			return s, nil
		}
	}
	return shamir.ParseText(string(data))
}

// sheet is a share as it is written down.
func sheet(b *appliance.Backup, s shamir.Share) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# share %d of %d, set %s\n", s.Index, s.Count, s.Set)
	fmt.Fprintf(&text, "# any %d of them open the backup of the appliance %s, %s\n", s.Threshold, b.Name, media.Tag(b.Appliance))
	n := 0
	for line := range slices.Chunk(s.Words(), 4) {
		var columns strings.Builder
		for _, word := range line {
			n++
			fmt.Fprintf(&columns, "%2d %-10s", n, word)
		}
		text.WriteString(strings.TrimRight(columns.String(), " ") + "\n")
	}
	return text.String()
}

func code(s shamir.Share) (*qr.Code, error) {
	c, err := qr.Encode(s.Text(), qr.M)
	if err != nil {
		return nil, fmt.Errorf("make QR code: %w", err)
	}
	return c, nil
}

// writeShares writes each share to two files: words, and the QR code as PNG. Their names begin with that of the set, so that
// what an interrupted backup left is in nobody's way.
func writeShares(dir string, b *appliance.Backup, shares []shamir.Share) ([]string, error) {
	if err := media.MakeFolder(dir); err != nil {
		return nil, err
	}
	var names []string
	for _, s := range shares {
		c, err := code(s)
		if err != nil {
			return names, err
		}
		name := filepath.Join(dir, fmt.Sprintf("%s-share-%d", s.Set, s.Index))
		for suffix, data := range map[string][]byte{".txt": []byte(sheet(b, s)), ".png": c.PNG()} {
			err := media.WriteFile(name+suffix, media.WriteOptions{Private: true}, media.Contents(data))
			if err != nil {
				return names, err
			}
		}
		names = append(names, name+".txt")
	}
	return names, nil
}

// showShares shows one share after the other, each until its holder is done.
func showShares(w io.Writer, b *appliance.Backup, shares []shamir.Share, yes bool) error {
	const wipe = "\x1b[2J\x1b[3J\x1b[H" // the screen, what scrolled off it, and home
	for _, s := range shares {
		c, err := code(s)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n%s", sheet(b, s), blocks(c)); err != nil {
			return fmt.Errorf("show share %d: %w", s.Index, err)
		}
		for sure := yes; !sure; {
			if sure, err = cli.Confirm(fmt.Sprintf("Has the holder of share %d written it down?", s.Index), yes); err != nil {
				return err
			}
		}
		if f, isFile := w.(*os.File); isFile && !yes && cli.IsTerminal(f) {
			if _, err := io.WriteString(w, wipe); err != nil {
				return fmt.Errorf("wipe the screen: %w", err)
			}
		}
	}
	return nil
}

// blocks draws a code in half blocks, two rows a line, black on white whatever the terminal's colours are.
func blocks(c *qr.Code) string {
	const margin = 4 // modules, as ISO/IEC 18004 asks for
	var b strings.Builder
	for y := -margin; y < c.Size+margin; y += 2 {
		b.WriteString("\x1b[38;5;16;48;5;231m")
		for x := -margin; x < c.Size+margin; x++ {
			switch [2]bool{c.Black(x, y), c.Black(x, y+1)} {
			case [2]bool{true, true}:
				b.WriteString("█")
			case [2]bool{true, false}:
				b.WriteString("▀")
			case [2]bool{false, true}:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String()
}
