package protocol

import (
	"sort"
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

// The codes. Each has one row in the table below.
const (
	CodeBadSeal           Code = "bad-seal"
	CodeWrongAppliance    Code = "wrong-appliance"
	CodeUnknownSender     Code = "unknown-sender"
	CodeRetiredSender     Code = "retired-sender"
	CodeSequenceReused    Code = "sequence-reused"
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
	CodeKeyUnknown        Code = "key-unknown"
	CodeRosterInvalid     Code = "roster-invalid"
	CodePolicyInvalid     Code = "policy-invalid"
	CodeTimeOutside       Code = "time-outside"
	CodeNotForAgent       Code = "not-for-agent"
)

// RefusalRow describes one code: whether the same request may be tried again, what happened, and what to do next. The
// words are English; {name} stands for a parameter. Other languages are catalogues with the same codes.
type RefusalRow struct {
	Code  Code
	Open  bool // may be tried again, unchanged, until the request expires
	Words string
	Hint  string
}

// Refusals is the one table of refusals; docs/refusals.md is made from it.
func Refusals() []RefusalRow {
	return []RefusalRow{
		{CodeBadSeal, true, "the file is not sealed for this appliance, or it was damaged on its way: {reason}", "copy the file again; if it fails again, export it again"},
		{CodeWrongAppliance, false, "it is addressed to the appliance {appliance}", "carry it to the appliance it is for, or make it again for this one"},
		{CodeUnknownSender, true, "no agent with this key is enrolled here", "enrol the agent by an order at the console; only what takes away was looked at"},
		{CodeRetiredSender, true, "the agent {name} was retired", "send the requests through an agent that is enrolled; only what takes away was looked at"},
		{CodeSequenceReused, false, "number {sequence} of this agent was used for another bundle; the last one used is {last}", "import the response, then export again: the agent goes on from the last number"},
		{CodeBundleExpired, true, "the bundle could be used until {expires}", "export the same requests again"},
		{CodeMalformed, false, "the {thing} cannot be read: {reason}", "make it again with the tools of this release; do not edit it"},
		{CodeTooLarge, false, "the {thing} is larger than the limit of {limit}", "split it into smaller ones"},
		{CodeQuota, true, "the agent may bring {limit} {thing} a day", "bring the rest tomorrow, or have the limit raised by an order"},
		{CodeNoSpace, true, "the appliance has too little room: {free} free, {need} needed", "free space on the appliance, then bring the same bundle again; revocations were done"},
		{CodeClock, true, "the appliance's clock shows {now}, which cannot be right: {reason}", "set the time by an order at the console, then bring the same bundle again; revocations were done"},
		{CodeFault, true, "the appliance had a fault and did nothing", "bring the same bundle again when the operator has mended it"},
		{CodeRequestExpired, false, "the request could be used until {expires}", "make a new request and have it approved"},
		{CodeRequestEarly, true, "the request was made at {created}, later than the appliance's clock", "set the clock of the agent right, or that of the appliance"},
		{CodeSenderScope, false, "the agent may not bring requests of {body}", "send it through the agent of that body, or have the agent's bodies changed by an order"},
		{CodeIssuerUnknown, false, "no CA here has the key {issuer}", "import the newest response, then make the request again"},
		{CodeProfileUnknown, false, "there is no profile {profile} for this CA and kind of request", "choose one of the policy's profiles"},
		{CodeProfileChanged, false, "the profile {profile} has changed since the request was made", "make the request again under the new policy and have it approved"},
		{CodeBodyNotAllowed, false, "the profile {profile} is not for {body}", "choose a profile that is for this body"},
		{CodeApprovalsMissing, true, "{have} of {need} persons approved", "needs {missing} more: {who}"},
		{CodeApprovalInvalid, true, "an approval is not valid: {reason}", "have it approved again"},
		{CodeApprovalExpired, true, "the approval of {person} could be used until {expires}", "have it approved again"},
		{CodeApproverUnknown, true, "an approval was made with a key that may not approve here: {key}", "have it approved by somebody who may"},
		{CodeApproverRevoked, true, "the certificate of the approver {person} is {status}", "have it approved by somebody else"},
		{CodeApproverExpired, true, "the certificate of the approver {person} is valid from {from} to {to}", "have it approved by somebody with a valid certificate"},
		{CodeApproverSuspended, true, "the officer {person} is suspended", "have it approved by another officer"},
		{CodeApproverRole, true, "{person} does not have the role that the rule asks for: {who}", "have it approved by somebody with that role"},
		{CodeOutOfScope, true, "{person} may not approve {profile} for {body}", "have it approved by somebody whose scope covers it"},
		{CodeSamePerson, true, "{person} approved more than once, which counts as one; {have} of {need} persons approved", "needs {missing} more: {who}"},
		{CodeOwnRequest, true, "{person} asked for it and may not approve it", "have it approved by somebody else"},
		{CodeOwnCertificate, true, "{person} would be its holder and may not approve it", "have it approved by somebody else"},
		{CodeStatementMissing, true, "{person} did not state: {statement}", "have it approved again with the statement"},
		{CodeOneAtATime, true, "{person} approved {count} requests at once; this one is approved alone", "have it approved by itself"},
		{CodeManifestMismatch, true, "what {person} was shown is not what is here", "have it approved again"},
		{CodeConsoleRequired, true, "orders are approved at the appliance's console", "hold a ceremony: coldseal-appliance console"},
		{CodeEscalation, true, "{person} cannot give what they do not have: {profile} for {body}", "have it approved by persons who may approve that themselves"},
		{CodeOriginNotAllowed, false, "the profile {profile} does not allow a key of origin {origin}", "make the request again with a key made as the profile says: {allowed}"},
		{CodeKeyNotVouched, false, "nobody vouches for the key: {reason}", "make the request again with what the origin {origin} needs"},
		{CodeBadCSR, false, "the CSR is not valid: {reason}", "make the CSR again with a standard tool"},
		{CodePossession, false, "the CSR's signature is not by its key", "make the CSR again with the key that is to be certified"},
		{CodeWeakKey, false, "the key is weak: {reason}", "make a new key and a new CSR"},
		{CodeKeyType, false, "the profile {profile} does not allow keys of type {type}", "make a key of one of these types: {allowed}"},
		{CodeCSRExtra, false, "the CSR asks for what the profile {profile} does not give: {reason}", "make the CSR again without it"},
		{CodeKeyKnown, false, "the key was used before, for another subject", "make a new key: one key has one subject"},
		{CodeKeyCompromised, false, "the key was reported compromised", "make a new key; this one is never certified again"},
		{CodeSubjectMismatch, false, "the field {field} does not fit the profile {profile}: {reason}", "make the request again with the right value"},
		{CodeNameActive, true, "{name} has an active certificate: serial {serial}", "renew or revoke that one first"},
		{CodeValidityTooLong, false, "{days} days were asked for; the profile {profile} gives at most {limit}", "make the request again with a shorter term"},
		{CodeValidityOutside, false, "the term asked for is not within that of the issuing CA: {reason}", "make the request again with a term that ends by {limit}"},
		{CodeLint, false, "the certificate would break rules: {lints}", "make the request again; if it was right, report the profile {profile}"},
		{CodeNotOurs, false, "no certificate with serial {serial} was issued by this CA", "check the serial and the issuer"},
		{CodeNotActive, false, "the certificate {serial} is {status}", "ask for a new certificate"},
		{CodeAlreadyRevoked, false, "the certificate {serial} was revoked on {date}", "nothing is left to do: it stands on the CRL"},
		{CodeAlreadyHeld, false, "the certificate {serial} is on hold since {date}", "nothing is left to do: it stands on the CRL"},
		{CodeNotHeld, false, "the certificate {serial} is not on hold", "nothing is left to do"},
		{CodeSuperseded, false, "something else was decided in between: {reason}", "look at what stands now, then ask again"},
		{CodeRenewalWindow, true, "the certificate {serial} can be renewed from {from} to {to}", "bring the request again then"},
		{CodeRenewalTooOld, true, "persons last approved this name on {date}; the key alone may renew for {limit} days", "have the renewal approved"},
		{CodeAlreadyRenewed, false, "the certificate {serial} was renewed already", "renew its successor"},
		{CodeWithdrawn, false, "the request was withdrawn", "make a new request"},
		{CodeAlreadyDone, false, "the request was done already and cannot be withdrawn", "revoke the certificate"},
		{CodeKeyExists, false, "there is a key {label} already", "choose another label"},
		{CodeKeyUnknown, false, "there is no CA key {key}", "make it first: order create-key"},
		{CodeRosterInvalid, false, "the roster cannot be used: {reason}", "mend it and order it again"},
		{CodePolicyInvalid, false, "the policy cannot be used: {reason}", "mend it; coldseal policy check says where"},
		{CodeTimeOutside, false, "the time {time} is not possible: {reason}", "read a clock that is right and order it again"},
		{CodeNotForAgent, false, "the response is for the agent {name}", "carry it to that agent"},
	}
}

// row finds a code's row. An unknown code is of a newer release and counts as final.
func row(code Code) RefusalRow {
	for _, r := range Refusals() {
		if r.Code == code {
			return r
		}
	}
	return RefusalRow{Code: code, Words: "refused: " + string(code), Hint: "update this program; it does not know the reason"}
}

// Open tells whether the same request may be tried again until it expires (law 8).
func (r *Refusal) Open() bool { return row(r.Code).Open }

// Words renders what happened, in English.
func (r *Refusal) Words() string { return r.fill(row(r.Code).Words) }

// Hint renders what to do next, in English.
func (r *Refusal) Hint() string { return r.fill(row(r.Code).Hint) }

// Fill replaces {name} in a catalogue's words by the refusal's parameters, in one pass: a value is never read as words.
func (r *Refusal) fill(words string) string {
	pairs := make([]string, 0, 2*len(r.Params))
	names := make([]string, 0, len(r.Params))
	for name := range r.Params {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		pairs = append(pairs, "{"+name+"}", r.Params[name])
	}
	return strings.NewReplacer(pairs...).Replace(words)
}
