package protocol

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Code names a reason for refusing, for ever.
type Code string

// Refusal says why something was not done. It is data: it travels in responses and is rendered in the reader's language.
type Refusal struct {
	Code   Code              `cbor:"1,keyasint"`
	Params map[string]string `cbor:"2,keyasint,omitempty"`
}

// Refuse makes a refusal; the parameters come as name, value pairs. A value is cut to MaxText bytes: it may come from
// hostile input.
func Refuse(code Code, params ...string) *Refusal {
	r := &Refusal{Code: code}
	for i := 0; i+1 < len(params); i += 2 {
		if r.Params == nil {
			r.Params = make(map[string]string, len(params)/2)
		}
		r.Params[params[i]] = cut(params[i+1])
	}
	return r
}

func cut(text string) string {
	if len(text) > MaxText {
		text = text[:MaxText]
	}
	return strings.ToValidUTF8(text, "?")
}

// Malformed refuses something that is not the encoding of a thing.
func Malformed(thing string, err error) *Refusal {
	return Refuse(CodeMalformed, "thing", thing, "reason", err.Error())
}

// The codes. Each has one row in the table of catalogue.go.
const (
	CodeBadSeal           Code = "bad-seal"
	CodeWrongAppliance    Code = "wrong-appliance"
	CodeUnknownSender     Code = "unknown-sender"
	CodeRetiredSender     Code = "retired-sender"
	CodeSequenceReused    Code = "sequence-reused"
	CodeOlderLog          Code = "older-log"
	CodeBundleExpired     Code = "bundle-expired"
	CodeMalformed         Code = "malformed"
	CodeTooLarge          Code = "too-large"
	CodeQuota             Code = "quota"
	CodeNoSpace           Code = "no-space"
	CodeClock             Code = "clock"
	CodeFault             Code = "fault"
	CodeRequestExpired    Code = "request-expired"
	CodeRequestEarly      Code = "request-early"
	CodeSenderScope       Code = "sender-scope"
	CodeIssuerUnknown     Code = "issuer-unknown"
	CodeProfileUnknown    Code = "profile-unknown"
	CodeProfileChanged    Code = "profile-changed"
	CodeBodyNotAllowed    Code = "body-not-allowed"
	CodeApprovalsMissing  Code = "approvals-missing"
	CodeApprovalInvalid   Code = "approval-invalid"
	CodeApprovalExpired   Code = "approval-expired"
	CodeApprovalVoid      Code = "approval-void"
	CodeApproverUnknown   Code = "approver-unknown"
	CodeApproverRevoked   Code = "approver-revoked"
	CodeApproverExpired   Code = "approver-expired"
	CodeApproverSuspended Code = "approver-suspended"
	CodeApproverRole      Code = "approver-role"
	CodeOutOfScope        Code = "out-of-scope"
	CodeSamePerson        Code = "same-person"
	CodeOwnRequest        Code = "own-request"
	CodeOwnCertificate    Code = "own-certificate"
	CodeStatementMissing  Code = "statement-missing"
	CodeOneAtATime        Code = "one-at-a-time"
	CodeManifestMismatch  Code = "manifest-mismatch"
	CodeConsoleRequired   Code = "console-required"
	CodeEscalation        Code = "escalation"
	CodeOriginNotAllowed  Code = "origin-not-allowed"
	CodeKeyNotVouched     Code = "key-not-vouched"
	CodeBadCSR            Code = "bad-csr"
	CodePossession        Code = "possession"
	CodeWeakKey           Code = "weak-key"
	CodeKeyType           Code = "key-type"
	CodeCSRExtra          Code = "csr-extra"
	CodeKeyKnown          Code = "key-known"
	CodeKeyCompromised    Code = "key-compromised"
	CodeSubjectMismatch   Code = "subject-mismatch"
	CodeNameActive        Code = "name-active"
	CodeValidityTooLong   Code = "validity-too-long"
	CodeValidityOutside   Code = "validity-outside"
	CodeLint              Code = "lint"
	CodeNotOurs           Code = "not-ours"
	CodeNotActive         Code = "not-active"
	CodeAlreadyRevoked    Code = "already-revoked"
	CodeAlreadyHeld       Code = "already-held"
	CodeNotHeld           Code = "not-held"
	CodeSuperseded        Code = "superseded"
	CodeRenewalWindow     Code = "renewal-window"
	CodeRenewalTooOld     Code = "renewal-too-old"
	CodeAlreadyRenewed    Code = "already-renewed"
	CodeWithdrawn         Code = "withdrawn"
	CodeAlreadyDone       Code = "already-done"
	CodeKeyExists         Code = "key-exists"
	CodeNoDevice          Code = "no-device"
	CodeKeyUnknown        Code = "key-unknown"
	CodeKeyInUse          Code = "key-in-use"
	CodeKeyCurrent        Code = "key-current"
	CodeReceiverGone      Code = "receiver-gone"
	CodeCAInvalid         Code = "ca-invalid"
	CodeCARevoked         Code = "ca-revoked"
	CodeRecoveryWaits     Code = "recovery-waits"
	CodeRosterInvalid     Code = "roster-invalid"
	CodePolicyInvalid     Code = "policy-invalid"
	CodeTimeOutside       Code = "time-outside"
	CodeRepeated          Code = "repeated"
	CodeNotForAgent       Code = "not-for-agent"
	CodeNotRestoring      Code = "not-restoring"
)

// Text is what is said about a refusal: what happened, and what to do next. {name} stands for a parameter.
type Text struct {
	Words string
	Hint  string
}

var parameter = regexp.MustCompile(`\{[a-z]+\}`)

// Params lists the parameters that the text names, each once, in the order of their first use.
func (t Text) Params() []string {
	var names []string
	for _, p := range parameter.FindAllString(t.Words+t.Hint, -1) {
		if name := p[1 : len(p)-1]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Catalogue is the table's texts in one language.
type Catalogue map[Code]Text

// Open tells whether the same request may be tried again until it expires (law 8).
func (r *Refusal) Open() bool { return row(r.Code).Open }

// Render says a refusal in the catalogue's language; in English where the catalogue has no words. Values of parameters
// may come from hostile input: whoever shows the text neutralises controls.
func (r *Refusal) Render(c Catalogue) Text {
	text, found := c[r.Code]
	if !found {
		text = row(r.Code).Text
	}
	return Text{Words: r.fill(text.Words), Hint: r.fill(text.Hint)}
}

// Words renders what happened, in English.
func (r *Refusal) Words() string { return r.fill(row(r.Code).Words) }

// Hint renders what to do next, in English.
func (r *Refusal) Hint() string { return r.fill(row(r.Code).Hint) }

// fill replaces {name} by the refusal's parameters, in one pass: a value is never read as words. A parameter that an
// older release did not give shows as a question mark.
func (r *Refusal) fill(words string) string {
	return parameter.ReplaceAllStringFunc(words, func(p string) string {
		if value, given := r.Params[p[1:len(p)-1]]; given {
			return value
		}
		return "?"
	})
}

// maxParams bounds the parameters of a refusal; the table has at most four.
const maxParams = 16

// check is for refusals that were received: their code may be of a newer release.
func (r *Refusal) check() error {
	if !ValidName(string(r.Code)) || len(r.Params) > maxParams {
		return fmt.Errorf("refusal: code %q is not one, or it has %d parameters", cut(string(r.Code)), len(r.Params))
	}
	for name, value := range r.Params {
		if !ValidName(name) || len(value) > MaxText {
			return fmt.Errorf("refusal %s: parameter %q is not valid", r.Code, cut(name))
		}
	}
	return nil
}
