package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

func attachCommand() *cobra.Command {
	var current, requester bool
	c := &cobra.Command{
		Use:   "attach --state DIR FILE…",
		Short: "attach approvals to the requests they cover",
		Long: "attach stores approval files. Which requests they cover is in them. An approval by a key that is not known here is stored\n" +
			"with a warning: the appliance may know it.",
		Args: cobra.MinimumNArgs(1),
	}
	o := addCommon(c)
	c.Flags().BoolVar(&current, "current", false, "the files are signatures of the keys of certificates that are renewed")
	c.Flags().BoolVar(&requester, "requester", false, "the files are signatures of the persons who ask")
	c.MarkFlagsMutuallyExclusive("current", "requester")
	c.RunE = func(cmd *cobra.Command, files []string) error {
		return o.with(func(s *agent.Service) error {
			for _, name := range files {
				data, err := cli.ReadInput(name, cmd.InOrStdin(), protocol.MaxApproval)
				if err != nil {
					return err
				}
				if current || requester {
					err = o.attachID(cmd, s, data, requester)
				} else {
					err = o.attach(cmd, s, name, data)
				}
				if err != nil {
					return fmt.Errorf("attach %s: %w", name, err)
				}
			}
			return nil
		})
	}
	return c
}

func (o *common) attachID(cmd *cobra.Command, s *agent.Service, data []byte, requester bool) error {
	context := protocol.ContextCurrentKey
	if requester {
		context = protocol.ContextRequester
	}
	id, err := s.AttachID(data, context)
	if err != nil {
		return err
	}
	return o.printMade(cmd, []agent.Made{{ID: id, New: true}})
}

func (o *common) attach(cmd *cobra.Command, s *agent.Service, name string, data []byte) error {
	a, err := s.Attach(data)
	if err != nil {
		return err
	}
	if a.Person == "" {
		say(cmd, "warning: %s is signed with a key that is not known here (%s); it was not verified", name, a.Key)
	}
	if a.Foreign > 0 {
		say(cmd, "%s also covers %d requests that are not here", name, a.Foreign)
	}
	if o.json {
		ids := make([]string, len(a.Requests))
		for i, id := range a.Requests {
			ids[i] = id.String()
		}
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			File     string   `json:"file"`
			Person   string   `json:"person,omitempty"`
			Key      string   `json:"key"`
			Requests []string `json:"requests"`
			Foreign  int      `json:"foreign"`
			New      bool     `json:"new"`
		}{name, a.Person, a.Key.String(), ids, a.Foreign, a.New})
	}
	by := show.Text(a.Person)
	if by == "" {
		by = "unknown key " + a.Key.String()[:16]
	}
	already := ""
	if !a.New {
		already = " (attached before)"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s covers %d requests%s\n", by, len(a.Requests), already)
	return err
}

func pendingCommand() *cobra.Command {
	var filter agent.Filter
	var out string
	c := &cobra.Command{
		Use:   "pending --state DIR --out DIR",
		Short: "write the requests that wait for approvals, for those who approve",
		Long: "pending writes each request as <id>.request. Beside it is <id>.proof where there is a certificate already: the one that\n" +
			"is renewed or taken away, or the last one of the subject, proved out of the log. Whoever approves sees what differs.",
		Args: cobra.NoArgs,
	}
	o := addCommon(c)
	c.Flags().StringVar(&out, "out", "", "`directory` for the files, <id>.request")
	addFilter(c, &filter)
	cli.Require(c, "out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			n, err := s.WritePending(out, filter)
			return o.printCount(cmd, n, "requests", out, err)
		})
	}
	return c
}

func addFilter(c *cobra.Command, f *agent.Filter) {
	c.Flags().StringVar(&f.Body, "body", "", "only of this `body` and those below it")
	c.Flags().StringVar(&f.Person, "person", "", "only where subject or fields hold this `text`, whatever its case and accents")
}
