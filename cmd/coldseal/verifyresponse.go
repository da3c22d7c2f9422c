package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyResponseCommand() *cobra.Command {
	return verifyVerb("response --introduction FILE --digest DIGEST --agent NAME [--key KEY] FILE", "decide about a response: seal, answers, log, certificates, CRLs",
		"response accepts FILE if the appliance sealed it for the agent, its leaves make the tree of its checkpoint, each answer is what its\n"+
			"leaf records, and each certificate, CRL and receipt is by the key it must be by. Whether it answers what was asked, and\n"+
			"continues the log that the agent knows, is known to the agent alone (coldseal-agent import).",
		func(c *cobra.Command) verification {
			var agent string
			appliance := introduction.Add(c)
			c.Flags().StringVar(&agent, "agent", "", "`name` of the agent that it is for")
			open := addSealed(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				if agent == "" {
					return cli.Usage("--agent says for whom it has to be")
				}
				if err := stdinOnce(file, appliance.File); err != nil {
					return err
				}
				w, err := openWorld(c, v, appliance)
				if w == nil {
					return err
				}
				spool, err := open(c, file)
				if err != nil {
					return err
				}
				r := &responseCheck{v: v, world: w}
				err = r.run(spool, agent)
				if closed := spool.close(); err == nil {
					err = closed
				}
				return err
			}
		})
}

// recorded is what the leaf of an answer has to hold.
type recorded struct {
	index  uint64
	answer uint64
	kind   auditlog.Kind
	status auditlog.Status
	issuer protocol.Digest
	serial []byte
	body   [32]byte
}

// responseCheck goes through a response. Memory is some 150 bytes for each answer, and the largest CRL.
type responseCheck struct {
	v          *verdict
	world      *introduction.Appliance
	keys       *protocol.Keys // with the handovers that the response brought
	header     protocol.ResponseHeader
	checkpoint auditlog.Checkpoint
	extension  *auditlog.Extension
	expected   []recorded // of answers whose leaves are to come; sorted before the first leaf
	outcomes   [protocol.OutcomeRefused + 1]uint64
	answers    uint64
	leaves     uint64
	crls       uint64
	unproved   uint64 // answers whose leaves are in an earlier response
}

func (r *responseCheck) run(spool protocol.Spool, agent string) error {
	response, refusal, err := protocol.OpenResponse(spool, r.world.Keys, agent)
	if err != nil {
		return err
	}
	if refusal != nil {
		r.v.refuse("", refusal)
		return nil
	}
	r.header, r.keys = response.Header, response.Keys
	if err := r.begin(); err != nil {
		r.v.fail(pathcheck.Form, "", err)
		return nil
	}
	for {
		part, data, err := response.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			r.v.fail(pathcheck.Form, "", err)
			return nil
		}
		switch part {
		case protocol.PartAnswer:
			r.answer(data)
		case protocol.PartLeaf:
			if err := r.leaf(data); err != nil {
				r.v.fail(pathcheck.Form, "", err) // what follows it proves nothing
				return nil
			}
		case protocol.PartCRL:
			r.crl(data)
		}
	}
	r.end()
	return nil
}

// begin verifies the checkpoint, and the tree that the leaves continue as far as it can be known here.
func (r *responseCheck) begin() error {
	h := &r.header
	var err error
	if r.checkpoint, err = auditlog.OpenCheckpoint(h.Checkpoint, r.keys); err != nil {
		return err
	}
	edge, err := auditlog.NewRange(int64(h.FirstLeaf), h.Range)
	if err != nil {
		return fmt.Errorf("%w: %w", auditlog.ErrProof, err)
	}
	from := auditlog.Checkpoint{Origin: r.checkpoint.Origin, Size: int64(h.FirstLeaf), Root: edge.Root()}
	if r.extension, err = auditlog.NewExtension(from, h.Range); err != nil {
		return err
	}
	return auditlog.CheckConsistency(h.Consistency, from, r.checkpoint)
}

func (r *responseCheck) contradiction(code pathcheck.Code, format string, args ...any) {
	r.v.reject(pathcheck.Reason{Code: code, Words: fmt.Sprintf("answer %d: ", r.answers) + fmt.Sprintf(format, args...)})
}

func (r *responseCheck) answer(data []byte) {
	r.answers++
	a, result, err := protocol.ParseAnswer(data)
	if err != nil {
		r.v.fail(pathcheck.Form, fmt.Sprintf("answer %d: ", r.answers), err)
		return
	}
	r.outcomes[result.Outcome]++
	switch result.Outcome {
	case protocol.OutcomeIssued:
		r.certificate(&result)
	case protocol.OutcomeRevoked, protocol.OutcomeHeld:
		r.receipt(&result)
	}
	if len(a.Salt) == 0 {
		if result.Outcome != protocol.OutcomeRefused {
			r.contradiction(codeAnswer, "the log does not record it")
		}
		return
	}
	if a.Index < r.header.FirstLeaf {
		r.unproved++
		return
	}
	want := recorded{index: a.Index, answer: r.answers, body: auditlog.BodyDigest([16]byte(a.Salt), a.Body)}
	switch result.Outcome {
	case protocol.OutcomeIssued:
		want.kind, want.status = auditlog.Issued, auditlog.Active
	case protocol.OutcomeRevoked:
		want.kind, want.status = auditlog.Changed, auditlog.Revoked
	case protocol.OutcomeHeld:
		want.kind, want.status = auditlog.Changed, auditlog.Held
	case protocol.OutcomeReleased:
		want.kind, want.status = auditlog.Changed, auditlog.Active
	case protocol.OutcomeWithdrawn:
		want.kind = auditlog.Withdrawn
	case protocol.OutcomeDone:
		want.kind = auditlog.Order
	case protocol.OutcomeRefused:
		want.kind = auditlog.Refused
	}
	if want.status != auditlog.None {
		want.issuer, want.serial = result.Issuer, result.Serial
	}
	r.expected = append(r.expected, want)
}

// certificate decides about a certificate that was issued, at the response's time or when it begins to be valid.
func (r *responseCheck) certificate(result *protocol.Result) {
	c, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		r.contradiction(pathcheck.Form, "the certificate cannot be read: %v", err)
		return
	}
	in := pathcheck.Input{Leaf: result.Certificate, Time: max(r.header.Created, c.NotBefore.Unix())}
	for _, der := range r.header.State.CAs {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			r.contradiction(pathcheck.Form, "a CA's certificate cannot be read: %v", err)
			return
		}
		if bytes.Equal(ca.RawSubject, ca.RawIssuer) {
			in.Anchors = append(in.Anchors, der)
		} else {
			in.Intermediates = append(in.Intermediates, der)
		}
	}
	decided := pathcheck.Chain(in)
	for _, reason := range decided.Reasons {
		r.contradiction(reason.Code, "%s", reason.Words)
	}
	if !decided.Accept {
		return
	}
	issuer, err := x509.ParseCertificate(decided.Chain[min(1, len(decided.Chain)-1)])
	if err != nil {
		r.contradiction(pathcheck.Form, "the CA's certificate cannot be read: %v", err)
		return
	}
	if protocol.DigestOf(issuer.RawSubjectPublicKeyInfo) != result.Issuer || !bytes.Equal(c.SerialNumber.Bytes(), result.Serial) {
		r.contradiction(codeAnswer, "the certificate is not the one that it names")
	}
}

func (r *responseCheck) receipt(result *protocol.Result) {
	receipt, err := protocol.OpenReceipt(result.Receipt, r.keys)
	switch {
	case err != nil:
		r.contradiction(codeReceipt, "%v", err)
	case receipt.Appliance != r.world.Digest || receipt.Request != result.ID || receipt.Outcome != result.Outcome ||
		receipt.Issuer != result.Issuer || !bytes.Equal(receipt.Serial, result.Serial):
		r.contradiction(codeReceipt, "the receipt is about something else")
	}
}

func (r *responseCheck) leaf(data []byte) error {
	if r.leaves == 0 {
		slices.SortFunc(r.expected, func(a, b recorded) int {
			if a.index < b.index {
				return -1
			}
			return 1
		})
	}
	index := r.header.FirstLeaf + r.leaves
	r.leaves++
	leaf, err := r.extension.Append(data)
	if err != nil {
		return err
	}
	for len(r.expected) > 0 && r.expected[0].index == index {
		want := r.expected[0]
		r.expected = r.expected[1:]
		var issuer []byte
		if want.status != auditlog.None {
			issuer = want.issuer[:]
		}
		if leaf.Kind != want.kind || leaf.Status != want.status || leaf.Body != want.body ||
			!bytes.Equal(leaf.Issuer, issuer) || !bytes.Equal(leaf.Serial, want.serial) {
			r.v.reject(pathcheck.Reason{Code: codeAnswer, Words: fmt.Sprintf("answer %d: leaf %d of the log does not record it", want.answer, index)})
		}
	}
	return nil
}

// crl decides about a CRL by the CA of its issuer's name; of several, one has to accept it.
func (r *responseCheck) crl(der []byte) {
	r.crls++
	reasons := []pathcheck.Reason{{Code: pathcheck.CRLIssuer, Words: "no CA is there"}}
	for _, ca := range r.header.State.CAs {
		var decided []pathcheck.Reason
		if _, decided = pathcheck.CRL(der, ca, r.header.Created); len(decided) == 0 {
			return
		}
		if !slices.ContainsFunc(decided, func(x pathcheck.Reason) bool { return x.Code == pathcheck.CRLIssuer }) || reasons[0].Words == "no CA is there" {
			reasons = decided
		}
	}
	for _, reason := range reasons {
		r.v.reject(pathcheck.Reason{Code: reason.Code, Words: fmt.Sprintf("CRL %d: %s", r.crls, reason.Words)})
	}
}

func (r *responseCheck) end() {
	if err := r.extension.Done(r.checkpoint); err != nil {
		r.v.fail(pathcheck.Form, "", err)
	}
	for _, want := range r.expected {
		r.v.reject(pathcheck.Reason{Code: codeAnswer, Words: fmt.Sprintf("answer %d: leaf %d of the log is not there", want.answer, want.index)})
	}
	h := &r.header
	facts := show.Sheet{
		{Name: "from", Value: r.world.Genesis.Name}, {Name: "to", Value: h.To}, {Name: "answers", Value: h.Answers},
		{Name: "created", Value: protocol.Date(h.Created)}, {Name: "results", Value: r.answers},
	}
	for o := protocol.OutcomeIssued; o <= protocol.OutcomeRefused; o++ {
		if r.outcomes[o] > 0 {
			facts = append(facts, show.Row{Name: o.String(), Value: r.outcomes[o]})
		}
	}
	facts = append(facts, show.Row{Name: "leaves", Value: r.leaves}, show.Row{Name: "crls", Value: r.crls}, show.Row{Name: "log size", Value: r.checkpoint.Size})
	if r.unproved > 0 {
		facts = append(facts, show.Row{Name: "recorded in earlier leaves", Value: r.unproved})
	}
	if h.Refusal != nil {
		facts = append(facts, show.Row{Name: "bundle refused", Value: h.Refusal.Words()})
	}
	r.v.Facts = facts
}
