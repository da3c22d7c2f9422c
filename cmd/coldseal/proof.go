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
	c := &cobra.Command{
		Use:   "prove --log FILE --digest DIGEST --index N --out FILE",
		Short: "Prove one entry to somebody who has the digest and not the log",
		Long:  "prove verifies the whole log first. The proof is checked by coldseal verify proof. It holds the entry itself, which has no\npersonal data, and not its body.",
		Args:  cobra.NoArgs,
	}
	l := addLog(c)
	c.Flags().Uint64Var(&index, "index", 0, "`number` of the entry, from 0")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if out == "" || !c.Flags().Changed("index") {
			return cli.Usage("--index says which entry, --out which file the proof goes to")
		}
		data, err := l.prove(c, index)
		if err != nil {
			return err
		}
		return cli.WriteOutput(out, c.OutOrStdout(), data, false)
	}
	return c
}

func (l *logFlags) prove(c *cobra.Command, index uint64) ([]byte, error) {
	hashes, err := newHashFile()
	if err != nil {
		return nil, err
	}
	var leaf []byte
	appender := auditlog.NewAppender(auditlog.Range{})
	r, err := l.replay(c, func(_ *replay, e *entry) error {
		if e.index == index {
			leaf = e.raw
		}
		return hashes.put(appender.Append(e.raw))
	})
	if err != nil {
		return nil, errors.Join(err, hashes.Close())
	}
	if leaf == nil {
		return nil, errors.Join(cli.Fail(cli.ExitNotFound, "", "the log has %d entries, from 0 on", r.edge.Size()), hashes.Close())
	}
	p := auditlog.InclusionProof{Checkpoint: r.note, Index: index, Leaf: leaf}
	if p.Proof, err = auditlog.ProveInclusion(r.checkpoint.Size, int64(index), hashes); err != nil {
		return nil, errors.Join(err, hashes.Close())
	}
	if err := hashes.Close(); err != nil {
		return nil, fmt.Errorf("close hashes: %w", err)
	}
	return p.Encode()
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
