package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol/media"
	"coldseal/protocol/show"
)

func mediaCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "media",
		Short: "list, read and write the files of a medium",
		Long: "MEDIUM is the folder where a stick or disc is mounted, or a folder standing for one. Images of media are not read yet.\n" +
			"Links are never followed, and what is written is read back.",
	}
	c.AddCommand(mediaListCommand(), mediaGetCommand(), mediaPutCommand())
	return c
}

func withMedium(dir string, f func(*media.Medium) error) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return cli.Usage("%s is not a folder; images of media are not read yet: mount it, and name the folder", dir)
	}
	m, err := media.OpenMedium(dir)
	if err != nil {
		return err
	}
	return errors.Join(f(m), m.Close())
}

// places are the folders of a medium that have something in them, as bundles, responses and public files are named.
func places(dir string) ([]string, error) {
	var found []string
	appliances, err := folders(dir, "coldseal")
	if err != nil {
		return nil, err
	}
	for _, a := range appliances {
		found = append(found, a+"/to-appliance", a+"/clear")
		agents, err := folders(dir, a+"/to-agent")
		if err != nil {
			return nil, err
		}
		found = append(found, agents...)
	}
	return found, nil
}

func folders(dir, below string) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(below)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(media.MaxDirEntries)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, path.Join(below, e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

func mediaListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ls MEDIUM",
		Short: "list the files on a medium that are ours, by what they are",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object a line")
	c.RunE = func(c *cobra.Command, args []string) error {
		return withMedium(args[0], func(m *media.Medium) error {
			dirs, err := places(args[0])
			if err != nil {
				return err
			}
			for _, dir := range dirs {
				names, err := m.List(dir)
				if err != nil {
					return err
				}
				for _, name := range names {
					if err := listOne(c, dir+"/"+name, asJSON); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return c
}

func listOne(c *cobra.Command, name string, asJSON bool) error {
	n, err := media.ParseName(name)
	if err != nil {
		_, err := fmt.Fprintf(c.ErrOrStderr(), "not ours: %s\n", show.Text(name))
		return err
	}
	kind := map[media.Kind]string{media.Bundle: "bundle", media.Response: "response", media.Clear: "public"}[n.Kind]
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), struct {
			Name      string `json:"name"`
			Kind      string `json:"kind"`
			Appliance string `json:"appliance"`
			Agent     string `json:"agent,omitempty"`
			Sequence  uint64 `json:"sequence,omitempty"`
		}{name, kind, n.Appliance, n.Agent, n.Sequence})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%-9s %s\n", kind, name)
	return err
}

func mediaGetCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "get MEDIUM NAME --out FILE",
		Short: "copy a file from a medium",
		Args:  cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.RunE = func(c *cobra.Command, args []string) error {
		if out == "" {
			return cli.Usage("--out says which file it goes to")
		}
		if out == "-" {
			return withMedium(args[0], func(m *media.Medium) error {
				data, err := m.ReadFile(args[1], media.MaxClearBytes)
				if err != nil {
					return err
				}
				_, err = c.OutOrStdout().Write(data)
				return err
			})
		}
		return withMedium(args[0], func(m *media.Medium) error { return take(m, args[1], out) })
	}
	return c
}

// take copies by way of a spool, because a medium may answer differently the second time.
func take(m *media.Medium, name, out string) error {
	dir, err := os.MkdirTemp("", "coldseal-media-")
	if err != nil {
		return fmt.Errorf("make spool: %w", err)
	}
	spool, err := media.NewSpool(dir, 0)
	if err == nil {
		var f *media.File
		if f, err = spool.Take(m, name, media.MaxBundleBytes); err == nil {
			err = media.WriteFile(out, media.WriteOptions{}, func(w io.Writer) error {
				_, err := io.Copy(w, f.Reader())
				return err
			})
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, os.RemoveAll(dir))
}

func mediaPutCommand() *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use:   "put MEDIUM FILE NAME",
		Short: "copy a file to a medium, durably",
		Long:  "NAME is the place on the medium, such as coldseal/8f3a91c0/to-appliance/desk-0000000007.bundle. A different file of that\nname is replaced with --replace only.",
		Args:  cobra.ExactArgs(3),
	}
	c.Flags().BoolVar(&replace, "replace", false, "replace a different file of the same name")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if strings.HasSuffix(args[2], "/") {
			return cli.Usage("%s is not the name of a file", args[2])
		}
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > media.MaxBundleBytes {
			return fmt.Errorf("%s is not a regular file of at most %d bytes", args[1], int64(media.MaxBundleBytes))
		}
		return withMedium(args[0], func(m *media.Medium) error {
			return m.Write(args[2], media.WriteOptions{Replace: replace}, func(w io.Writer) error {
				_, err := io.Copy(w, io.NewSectionReader(f, 0, info.Size()))
				return err
			})
		})
	}
	return c
}
