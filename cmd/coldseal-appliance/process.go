package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// visitJSON is one bundle in JSON.
type visitJSON struct {
	File     string            `json:"file"`
	Agent    string            `json:"agent,omitempty"`
	Sequence uint64            `json:"sequence,omitempty"`
	Items    uint64            `json:"items"`
	Again    bool              `json:"again,omitempty"`
	Missing  []uint64          `json:"missing,omitempty"`
	Code     protocol.Code     `json:"code,omitempty"`
	Params   map[string]string `json:"params,omitempty"`
	Words    string            `json:"words,omitempty"`
	Hint     string            `json:"hint,omitempty"`
	Problem  string            `json:"problem,omitempty"`
}

func processCommand() *cobra.Command {
	var medium string
	c := &cobra.Command{
		Use:   "process --state DIR --media DIR",
		Short: "process the bundles on a medium and write the answers to it",
		Long:  "process answers every bundle on the medium that is for this appliance. A bundle that was answered before gets the same\nanswer again. If the medium fails or the appliance stops in between, run the same command again.",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	c.Flags().StringVar(&medium, "media", "", "`directory` of the medium")
	asJSON := c.Flags().Bool("json", false, "print one JSON object a bundle")
	cli.Require(c, "media")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			e.Report = reporter(cmd.ErrOrStderr())
			visits, err := processMedium(e, medium, nil)
			if len(visits) == 0 && err != nil {
				return err
			}
			return errors.Join(report(cmd, visits, *asJSON), err)
		})
	}
	return c
}

func processMedium(e *appliance.Engine, dir string, fresh func(string) bool) ([]appliance.Visit, error) {
	m, err := media.OpenMedium(dir)
	if err != nil {
		return nil, err
	}
	visits, err := e.Medium(m, fresh)
	return visits, errors.Join(err, m.Close())
}

// reporter shows progress of each bundle that is long enough to need it.
func reporter(w io.Writer) func(appliance.Progress) {
	var p *cli.Progress
	return func(at appliance.Progress) {
		if at.Items <= protocol.MaxGroupItems {
			return
		}
		if p == nil {
			p = cli.NewProgress(w, "items", at.Items)
		}
		p.At(at.Done)
		if at.Done >= at.Items {
			p.Done(at.Done)
			p = nil
		}
	}
}

// report prints what became of the bundles. The first refusal of a whole bundle decides the exit code.
func report(cmd *cobra.Command, visits []appliance.Visit, asJSON bool) error {
	var failed error
	if len(visits) == 0 && !asJSON {
		fmt.Fprintln(cmd.ErrOrStderr(), "No bundle for this appliance is on the medium.")
	}
	for _, v := range visits {
		o := v.Outcome
		j := visitJSON{File: v.File, Agent: o.Sender, Sequence: o.Sequence, Items: o.Items, Again: o.Again, Missing: o.Missing}
		if o.Refusal != nil {
			j.Code, j.Params, j.Words, j.Hint = o.Refusal.Code, o.Refusal.Params, o.Refusal.Words(), o.Refusal.Hint()
			failed = errors.Join(failed, cli.Refused(o.Refusal))
		}
		if v.Problem != nil {
			j.Problem = v.Problem.Error()
			if !errors.Is(v.Problem, appliance.ErrFault) { // which the caller has, and says once
				failed = errors.Join(failed, v.Problem)
			}
		}
		if asJSON {
			if err := cli.PrintJSON(cmd.OutOrStdout(), j); err != nil {
				return err
			}
			continue
		}
		switch {
		case v.Problem != nil:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", v.File, v.Problem)
		case o.Again:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: bundle %d of %s was answered before; the same answer is on the medium\n", v.File, o.Sequence, o.Sender)
		case o.Refusal != nil:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: refused: %s (%s)\n", v.File, o.Refusal.Words(), o.Refusal.Code)
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "%s: bundle %d of %s, %d items answered%s\n", v.File, o.Sequence, o.Sender, o.Items, gap(o.Missing))
		}
	}
	return failed
}

// gap says which bundles have not come, where there are some.
func gap(missing []uint64) string {
	switch len(missing) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; bundle %d has not come yet", missing[0])
	}
	return fmt.Sprintf("; bundles %d have not come yet", missing)
}

func serveCommand() *cobra.Command {
	var medium string
	var every time.Duration
	c := &cobra.Command{
		Use:   "serve --state DIR --media DIR",
		Short: "process bundles whenever a medium brings some",
		Long:  "serve watches a directory where media appear. It goes on when a medium is taken out, and starts its workers anew after a fault.",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	c.Flags().StringVar(&medium, "media", "", "`directory` of the medium")
	c.Flags().DurationVar(&every, "every", time.Second, "`time` between two looks at the medium")
	asJSON := c.Flags().Bool("json", false, "print one JSON object a bundle")
	cli.Require(c, "media")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := d.unattended(); err != nil {
			return err
		}
		for ctx.Err() == nil {
			err := d.engine(context.Background(), func(e *appliance.Engine, _ appliance.Config) error {
				fmt.Fprintf(cmd.ErrOrStderr(), "ready: appliance %s watches %s\n", media.Tag(e.Appliance()), medium)
				return watch(ctx, cmd, e, medium, every, *asJSON)
			})
			if err == nil {
				break
			}
			if !startsAgain(err) {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "fault: %s\nstarting again\n", err)
			wait(ctx, every)
		}
		return nil
	}
	return c
}

// startsAgain tells whether serve starts its workers anew: after a fault, but not where a device refused its PIN, for the
// file would give it the same one until the device locks.
func startsAgain(err error) bool {
	trouble, device := signer.AsTrouble(err)
	refused := device && (trouble.Code == signer.PINWrong || trouble.Code == signer.PINLocked)
	return errors.Is(err, appliance.ErrFault) && !refused
}

// watch processes what is new on the medium until ctx ends or a fault comes. A file is new if its size or date changed,
// or the medium was away.
func watch(ctx context.Context, cmd *cobra.Command, e *appliance.Engine, dir string, every time.Duration, asJSON bool) error {
	seen := map[string]string{}
	var last os.FileInfo
	for ctx.Err() == nil {
		if info, err := os.Stat(dir); err == nil {
			if last != nil && !os.SameFile(last, info) {
				clear(seen) // another medium, however fast it was put in
			}
			last = info
		}
		var looked []string
		fresh := func(name string) bool {
			info, err := os.Stat(dir + "/" + name)
			if err != nil {
				return false
			}
			mark := fmt.Sprint(info.Size(), info.ModTime().UnixNano())
			if seen[name] == mark {
				return false
			}
			seen[name] = mark
			looked = append(looked, name)
			return true
		}
		visits, err := processMedium(e, dir, fresh)
		if len(looked) > 0 || errors.Is(err, appliance.ErrFault) {
			if reported := report(cmd, visits, asJSON); reported != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), reported)
			}
		}
		for _, v := range visits {
			if v.Problem != nil {
				delete(seen, v.File) // the medium failed: the same bundle is tried again
			}
		}
		switch {
		case errors.Is(err, appliance.ErrFault), errors.Is(err, appliance.ErrRestoring):
			return err
		case err != nil:
			clear(seen) // the medium is away; whatever comes next is new
		}
		wait(ctx, every)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
