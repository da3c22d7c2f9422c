package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyCheckpointCommand() *cobra.Command {
	return verifyVerb("checkpoint --introduction FILE --digest DIGEST FILE", "decide whether an appliance's log key signed a checkpoint",
		"checkpoint accepts FILE if it is a checkpoint of this appliance's log. Cosignatures of witnesses are not judged.",
		func(c *cobra.Command) verification {
			appliance := introduction.Add(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				if err := stdinOnce(file, appliance.File); err != nil {
					return err
				}
				w, err := openWorld(c, v, appliance)
				if w == nil {
					return err
				}
				data, err := cli.ReadInput(file, c.InOrStdin(), auditlog.MaxCheckpoint)
				if err != nil {
					return err
				}
				checkpoint, err := auditlog.OpenCheckpoint(data, w.Keys)
				if err != nil {
					v.fail(pathcheck.Form, "", err)
					return nil
				}
				v.Facts = checkpointFacts(checkpoint)
				return nil
			}
		})
}

func verifyProofCommand() *cobra.Command {
	return verifyVerb("proof --digest DIGEST FILE", "decide whether an entry is in an appliance's log",
		"proof accepts FILE, made by coldseal log prove, if the entry in it is in this appliance's log under the checkpoint in it.",
		func(c *cobra.Command) verification {
			var digest protocol.Digest
			cli.DigestVar(c.Flags(), &digest, "digest", "genesis digest of the appliance, typed from the minutes")
			return func(c *cobra.Command, v *verdict, file string) error {
				if digest.IsZero() {
					return cli.Usage("--digest says of which appliance it has to be")
				}
				data, err := cli.ReadInput(file, c.InOrStdin(), auditlog.MaxInclusionProof)
				if err != nil {
					return err
				}
				proved, err := auditlog.OpenInclusionProof(data, digest)
				if err != nil {
					v.fail(pathcheck.Form, "", err)
					return nil
				}
				v.Facts = append(show.Leaf(uint64(proved.Index), proved.Leaf), checkpointFacts(proved.Checkpoint)...)
				if proved.Body != nil {
					v.Facts = append(v.Facts, show.Row{Name: "body in proof", Value: fmt.Sprintf("%x", proved.Body)})
				}
				return nil
			}
		})
}

func checkpointFacts(c auditlog.Checkpoint) show.Sheet {
	return show.Sheet{{Name: "log", Value: c.Origin}, {Name: "size", Value: c.Size}, {Name: "root", Value: fmt.Sprint(protocol.Digest(c.Root))}}
}
