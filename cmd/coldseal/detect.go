package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/media"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// source is a file that can be read again.
type source = io.ReaderAt

// file finds out what it is and shows it. Only bundles, responses and logs may be longer than what fits in memory.
func (in *inspection) file(f source, size int64) error {
	head := make([]byte, 1)
	if n, err := f.ReadAt(head, 0); n == 0 {
		return fmt.Errorf("inspect: an empty file, or one that can't be read: %w", err)
	}
	if first, found := sequenceHead(f, size); found {
		return in.sequence(f, size, first)
	}
	if size > media.MaxClearBytes {
		return fmt.Errorf("inspect: %d bytes, at most %d for a file of this sort", size, media.MaxClearBytes)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && err != io.EOF {
		return fmt.Errorf("inspect: %w", err)
	}
	switch {
	case head[0] == 0x30: // a DER sequence
		return in.der(data)
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return in.pem(data)
	case bytes.HasPrefix(data, []byte("coldseal/")):
		return in.one(data, func() (show.Sheet, error) { return show.Checkpoint(data) })
	case head[0] == 0xd2: // COSE_Sign1
		return in.signed(data)
	case head[0] == 0x83: // an array of three
		return in.introduction(data)
	case head[0] == 0x88:
		return in.one(data, func() (show.Sheet, error) {
			l, err := auditlog.ParseLeaf(data)
			return append(show.Sheet{{Name: "type", Value: "log entry"}}, show.Leaf(0, l)[1:]...), err
		})
	case head[0]>>5 == 5:
		return in.mapping(data)
	}
	return unknownFile()
}

func unknownFile() error {
	return cli.Fail(cli.ExitFailure, "coldseal inspect --help lists what it knows", "inspect: this is no file that crosses the gap")
}

// one shows one thing, with the digest of the file at its end.
func (in *inspection) one(data []byte, sheet func() (show.Sheet, error)) error {
	s, err := sheet()
	if err != nil {
		return err
	}
	return in.emit(append(s, fileDigest(protocol.DigestOf(data))))
}

func fileDigest(d protocol.Digest) show.Row {
	return show.Row{Name: "file", Value: d.String(), Groups: d.Groups()}
}

// first shows the first that succeeds. If none does, the error is that of the last: it is the one to be told about.
func (in *inspection) first(data []byte, attempts ...func() (show.Sheet, error)) error {
	var failed error
	for _, attempt := range attempts {
		var s show.Sheet
		if s, failed = attempt(); failed == nil {
			return in.emit(append(s, fileDigest(protocol.DigestOf(data))))
		}
	}
	return fmt.Errorf("inspect: it is not one of the messages that we know, whole; of what it looks like most: %w", failed)
}

func (in *inspection) der(data []byte) error {
	if len(data) <= pathcheck.MaxCertificate {
		if _, err := x509.ParseCertificate(data); err == nil {
			return in.one(data, func() (show.Sheet, error) { return show.Certificate(data) })
		}
		if _, err := x509.ParsePKIXPublicKey(data); err == nil {
			return in.one(data, func() (show.Sheet, error) { return show.PublicKey(data) })
		}
	}
	if sheet, err := show.CRL(data, in.full); err == nil {
		return in.one(data, func() (show.Sheet, error) { return sheet, nil })
	}
	if len(data) > csr.MaxSize {
		return unknownFile()
	}
	return in.one(data, func() (show.Sheet, error) { return show.CSR(data), nil })
}

// pem shows each block of a file.
func (in *inspection) pem(data []byte) error {
	found := false
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if !found {
				return errors.New("inspect: the PEM block is damaged")
			}
			return nil
		}
		found, data = true, rest
		var err error
		switch block.Type {
		case "CERTIFICATE", "X509 CRL", "PUBLIC KEY", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
			err = in.der(block.Bytes)
		case "PRIVATE KEY", "AGE ENCRYPTED FILE":
			err = cli.Fail(cli.ExitFailure, "coldseal key public --key FILE shows its public half", "inspect: this is a private key")
		default:
			err = fmt.Errorf("inspect: a PEM block %q is not one that we know", block.Type)
		}
		if err != nil {
			return err
		}
	}
}

func (in *inspection) signed(data []byte) error {
	return in.first(data,
		func() (show.Sheet, error) { return show.Receipt(data, in.known) },
		func() (show.Sheet, error) { return show.Approval(data, in.known, in.full) })
}

func (in *inspection) introduction(data []byte) error {
	if in.appliance.Digest.IsZero() {
		return &cli.ExitError{Code: cli.ExitUsage, Err: errors.New("an introduction is believed only under the digest that was typed"), Hint: "give --digest with --introduction, both of this file"}
	}
	return in.one(data, func() (show.Sheet, error) { return show.Introduction(data, in.appliance.Digest) })
}

func (in *inspection) mapping(data []byte) error {
	if _, refusal := protocol.ParseRequest(data); refusal == nil {
		return in.one(data, func() (show.Sheet, error) { return show.Request(data) })
	}
	return in.first(data,
		func() (show.Sheet, error) { return show.Party(data) },
		func() (show.Sheet, error) { return show.Result(data) },
		func() (show.Sheet, error) { return show.Item(data) },
		func() (show.Sheet, error) {
			// Its own digest, for comparing with the minutes: nothing is believed of it here.
			return show.Genesis(data, protocol.DigestOf(data))
		},
		func() (show.Sheet, error) { return policyOrRoster(data) },
		func() (show.Sheet, error) { return show.Proof(data) },
		func() (show.Sheet, error) { return show.Request(data) })
}

func policyOrRoster(data []byte) (show.Sheet, error) {
	if _, err := policy.DecodeRoster(data); err == nil {
		return show.Roster(data)
	}
	return show.Policy(data)
}

// sequenceHead returns the header of a bundle or response, or the checkpoint of an exported log. Text may begin like one: it
// counts only if it holds what these begin with.
func sequenceHead(f source, size int64) ([]byte, bool) {
	r := bufio.NewReader(io.NewSectionReader(f, 0, size))
	head, err := protocol.ReadString(r, protocol.MaxResponseHeader)
	if err != nil {
		return nil, false
	}
	if _, err = cose.KeyID(head); err != nil && !bytes.HasPrefix(head, []byte("coldseal/")) {
		// The handovers of a response come before its header.
		if head, err = protocol.ReadString(r, protocol.MaxResponseHeader); err == nil {
			_, err = cose.KeyID(head)
		}
		return head, err == nil
	}
	return head, true
}

// sequence shows a bundle, a response or an exported log.
func (in *inspection) sequence(f source, size int64, head []byte) error {
	reader := func() io.Reader { return io.NewSectionReader(f, 0, size) }
	if bytes.HasPrefix(head, []byte("coldseal/")) {
		s, err := show.Checkpoint(head)
		if err != nil {
			return err
		}
		return in.emit(append(show.Sheet{{Name: "type", Value: "log"}, {Name: "next", Value: "coldseal log verify --log FILE --digest DIGEST"}}, s[1:]...))
	}
	h := sha256.New()
	if _, err := io.Copy(h, reader()); err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	whole := fileDigest(protocol.Digest(h.Sum(nil)))
	first := true
	emit := func(s show.Sheet) error {
		if first {
			s, first = append(s, whole), false
		}
		return in.emit(s)
	}
	if _, err := show.BundleHeader(head, nil); err == nil {
		return show.Bundle(reader(), in.known, in.full, emit)
	}
	return show.Response(reader(), in.known, in.full, emit)
}

// onlyPEM returns the content of a file that is one PEM block.
func onlyPEM(data []byte) ([]byte, bool) {
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, false
	}
	return block.Bytes, true
}
