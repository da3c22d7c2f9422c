package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol/auditlog"
)

func logProveCommand() *cobra.Command {
	var index uint64
	var out string
	var withBody bool
	c := &cobra.Command{
		Use:   "prove --log FILE --digest DIGEST --index N --out FILE",
		Short: "prove one entry to somebody who has the digest and not the log",
		Long:  "prove verifies the whole log first. The proof is checked by coldseal verify proof. It holds the entry itself, which has no\npersonal data; its body is in it with --body only.",
		Args:  cobra.NoArgs,
	}
	l := addLog(c)
	c.Flags().Uint64Var(&index, "index", 0, "`number` of the entry, from 0")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.Flags().BoolVar(&withBody, "body", false, "put the entry's body into the proof")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if out == "" || !c.Flags().Changed("index") {
			return cli.Usage("--index says which entry, --out which file the proof goes to")
		}
		data, err := l.prove(c, index, withBody)
		if err != nil {
			return err
		}
		return cli.WriteOutput(out, c.OutOrStdout(), data, false)
	}
	return c
}

func (l *logFlags) prove(c *cobra.Command, index uint64, withBody bool) ([]byte, error) {
	hashes, err := newHashFile()
	if err != nil {
		return nil, err
	}
	p := auditlog.InclusionProof{Index: index}
	appender := auditlog.NewAppender(auditlog.Range{})
	r, err := l.replay(c, func(_ *replay, e *entry) error {
		if e.index == index {
			p.Leaf = e.raw
			if withBody && e.body != nil {
				p.Salted = append(e.salt[:], e.body...)
			}
		}
		return hashes.put(appender.Append(e.raw))
	})
	if err == nil && p.Leaf == nil {
		err = cli.Fail(cli.ExitNotFound, "", "the log has %d entries, from 0 on", r.edge.Size())
	}
	if err == nil {
		p.Checkpoint, p.Genesis, p.Handovers = r.note, r.genesis, r.state.Own.Handovers()
		p.Proof, err = auditlog.ProveInclusion(r.checkpoint.Size, int64(index), hashes)
	}
	if err := errors.Join(err, hashes.Close()); err != nil {
		return nil, err
	}
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := auditlog.OpenInclusionProof(data, l.digest); err != nil {
		return nil, fmt.Errorf("the proof that was made does not verify: %w", err)
	}
	return data, nil
}

// hashFile keeps the nodes of the tree on disk, without a name: a log has millions.
type hashFile struct{ *os.File }

func newHashFile() (hashFile, error) {
	f, err := os.CreateTemp("", "coldseal-hashes-")
	if err != nil {
		return hashFile{}, fmt.Errorf("make file for hashes: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return hashFile{}, errors.Join(fmt.Errorf("make file for hashes: %w", err), f.Close())
	}
	return hashFile{f}, nil
}

const hashSize = int64(len(auditlog.Hash{}))

func (f hashFile) put(first int64, hashes []auditlog.Hash) error {
	for i, h := range hashes {
		if _, err := f.WriteAt(h[:], (first+int64(i))*hashSize); err != nil {
			return fmt.Errorf("keep hashes: %w", err)
		}
	}
	return nil
}

// ReadHashes makes it an auditlog.HashReader.
func (f hashFile) ReadHashes(indexes []int64) ([]auditlog.Hash, error) {
	hashes := make([]auditlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := f.ReadAt(hashes[i][:], index*hashSize); err != nil {
			return nil, fmt.Errorf("read hash %d: %w", index, err)
		}
	}
	return hashes, nil
}
