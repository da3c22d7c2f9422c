package protocol

import (
	"fmt"
	"slices"
)

// RefusalRow describes one code: whether the same request may be tried again, what happened, and what to do next. The
// words are English.
type RefusalRow struct {
	Code Code
	Open bool // may be tried again, unchanged, until the request expires
	Text
}

// Refusals lists the one table of refusals, in its order; docs/refusals.md is made from it.
func Refusals() []RefusalRow { return slices.Clone(refusals[:]) }

// English is the catalogue that every other one is a translation of.
func English() Catalogue {
	c := make(Catalogue, len(refusals))
	for _, r := range refusals {
		c[r.Code] = r.Text
	}
	return c
}

// Check tells whether a catalogue has words for every code, none for others, and in each only parameters that the
// English words have too.
func (c Catalogue) Check() error {
	for _, r := range refusals {
		text, found := c[r.Code]
		if !found || text.Words == "" || text.Hint == "" {
			return fmt.Errorf("catalogue: no words or no hint for %s", r.Code)
		}
		for _, name := range text.Params() {
			if !slices.Contains(r.Params(), name) {
				return fmt.Errorf("catalogue: %s has no parameter {%s}", r.Code, name)
			}
		}
	}
	for code := range c {
		if _, known := rowOf[code]; !known {
			return fmt.Errorf("catalogue: no refusal has the code %q", code)
		}
	}
	return nil
}

// row finds a code's row. An unknown code is of a newer release and counts as final.
func row(code Code) RefusalRow {
	if i, known := rowOf[code]; known {
		return refusals[i]
	}
	return RefusalRow{Code: code, Text: Text{"refused: " + cut(string(code)), "update this program; it does not know the reason"}}
}

var rowOf = func() map[Code]int {
	index := make(map[Code]int, len(refusals))
	for i, r := range refusals {
		index[r.Code] = i
	}
	return index
}()

var refusals = [...]RefusalRow{
	{CodeBadSeal, true, Text{"the file is not sealed for this appliance, or it was damaged on its way: {reason}", "copy the file again; if it fails again, export it again"}},
	{CodeWrongAppliance, false, Text{"it is addressed to the appliance {appliance}", "carry it to the appliance it is for, or make it again for this one"}},
	{CodeUnknownSender, true, Text{"no agent with this key is enrolled here", "enrol the agent by an order at the console; only what takes away was looked at"}},
	{CodeRetiredSender, true, Text{"the agent {name} was retired", "send the requests through an agent that is enrolled; only what takes away was looked at"}},
	{CodeSequenceReused, false, Text{"number {sequence} of this agent was used for another bundle; the last one used is {last}", "import the response, then export again: the agent goes on from the last number"}},
	{CodeOlderLog, true, Text{"the agent knows {known} entries of the log, which are not those that this appliance has: it is an older one than the agent knows", "stop this appliance and call the officers: another one was restored in its place, or this one with too few entries; revocations were done"}},
	{CodeBundleExpired, true, Text{"the bundle could be used until {expires}", "export the same requests again"}},
	{CodeMalformed, false, Text{"the {thing} cannot be read: {reason}", "make it again with the tools of this release; do not edit it"}},
	{CodeTooLarge, false, Text{"the {thing} is larger than the limit of {limit}", "split it into smaller ones"}},
	{CodeQuota, true, Text{"the agent may bring {limit} {thing} a day", "bring the rest tomorrow, or have the limit raised by an order"}},
	{CodeNoSpace, true, Text{"the appliance has too little room: {free} free, {need} needed", "free space on the appliance, then bring the same bundle again; revocations were done"}},
	{CodeClock, true, Text{"the appliance's clock shows {now}, which cannot be right: {reason}", "set the time by an order at the console, then bring the same bundle again; revocations were done"}},
	{CodeFault, true, Text{"the appliance had a fault and did nothing", "bring the same bundle again when the operator has mended it"}},
	{CodeRequestExpired, false, Text{"the request could be used until {expires}", "make a new request and have it approved"}},
	{CodeRequestEarly, true, Text{"the request was made at {created}, later than the appliance's clock", "set the clock of the agent right, or that of the appliance"}},
	{CodeSenderScope, true, Text{"the agent may not bring requests of {body}", "send it through that body's agent, or have the agent's bodies changed by an order"}},
	{CodeIssuerUnknown, false, Text{"no CA here has the key {issuer}", "import the newest response, then make the request again"}},
	{CodeProfileUnknown, false, Text{"there is no profile {profile} for this CA and kind of request", "choose one of the policy's profiles"}},
	{CodeProfileChanged, false, Text{"the profile {profile} has changed since the request was made", "make the request again under the new policy and have it approved"}},
	{CodeBodyNotAllowed, false, Text{"the profile {profile} is not for {body}", "choose a profile that is for this body"}},
	{CodeApprovalsMissing, true, Text{"{have} of {need} persons approved", "needs {missing} more: {who}"}},
	{CodeApprovalInvalid, true, Text{"an approval is not valid: {reason}", "have it approved again"}},
	{CodeApprovalExpired, true, Text{"the approval of {person} could be used until {expires}", "have it approved again"}},
	{CodeApprovalVoid, true, Text{"the approval of {person} was made before the appliance was restored on {date}", "have it approved again: what was done with it before the restore may be lost"}},
	{CodeApproverUnknown, true, Text{"an approval was made with a key that may not approve here: {key}", "have it approved by somebody who may"}},
	{CodeApproverRevoked, true, Text{"the certificate of the approver {person} is {status}", "have it approved by somebody else"}},
	{CodeApproverExpired, true, Text{"the certificate of the approver {person} is valid from {from} to {to}", "have it approved by somebody with a valid certificate"}},
	{CodeApproverSuspended, true, Text{"the officer {person} is suspended", "have it approved by another officer"}},
	{CodeApproverRole, true, Text{"{person} does not have the role that the rule asks for: {who}", "have it approved by somebody with that role"}},
	{CodeOutOfScope, true, Text{"{person} may not approve {profile} for {body}", "have it approved by somebody whose scope covers it"}},
	{CodeSamePerson, true, Text{"{person} approved more than once, which counts as one; {have} of {need} persons approved", "needs {missing} more: {who}"}},
	{CodeOwnRequest, true, Text{"{person} asked for it and may not approve it", "have it approved by somebody else"}},
	{CodeOwnCertificate, true, Text{"{person} would be its holder and may not approve it", "have it approved by somebody else"}},
	{CodeStatementMissing, true, Text{"{person} did not state: {statement}", "have it approved again with the statement"}},
	{CodeOneAtATime, true, Text{"{person} approved {count} requests at once; this one is approved alone", "have it approved by itself"}},
	{CodeManifestMismatch, true, Text{"what {person} was shown is not what is here", "have it approved again"}},
	{CodeConsoleRequired, true, Text{"orders are approved at the appliance's console", "hold a ceremony: coldseal-appliance console order; with files, approve over what console challenge shows"}},
	{CodeEscalation, true, Text{"{person} cannot give what they do not have: {profile} for {body}", "have it approved by persons who may approve that themselves"}},
	{CodeOriginNotAllowed, false, Text{"the profile {profile} does not allow a key of origin {origin}", "make the request again with a key made as the profile says: {allowed}"}},
	{CodeKeyNotVouched, true, Text{"nobody vouches for the key: {reason}", "bring it again with what the origin {origin} needs, or make it again"}},
	{CodeBadCSR, false, Text{"the CSR is not valid: {reason}", "make the CSR again with a standard tool"}},
	{CodePossession, false, Text{"the CSR's signature is not by its key", "make the CSR again with the key that is to be certified"}},
	{CodeWeakKey, false, Text{"the key is weak: {reason}", "make a new key and a new CSR"}},
	{CodeKeyType, false, Text{"the profile {profile} does not allow keys of type {type}", "make a key of one of these types: {allowed}"}},
	{CodeCSRExtra, false, Text{"the CSR asks for what the profile {profile} does not give: {reason}", "make the CSR again without it"}},
	{CodeKeyKnown, false, Text{"the key was used before, for another subject", "make a new key: one key has one subject"}},
	{CodeKeyCompromised, false, Text{"the key was reported compromised", "make a new key; this one is never certified again"}},
	{CodeSubjectMismatch, false, Text{"the field {field} does not fit the profile {profile}: {reason}", "make the request again with the right value"}},
	{CodeNameActive, true, Text{"{name} has an active certificate: serial {serial}", "renew or revoke that one first"}},
	{CodeValidityTooLong, false, Text{"{days} days were asked for; the profile {profile} gives at most {limit}", "make the request again with a shorter term"}},
	{CodeValidityOutside, false, Text{"the term asked for is not possible: {reason}", "make the request again with a term that ends by {limit}"}},
	{CodeLint, false, Text{"the certificate would break rules: {lints}", "make the request again; if it was right, report the profile {profile}"}},
	{CodeNotOurs, false, Text{"no certificate with serial {serial} was issued by this CA", "check the serial and the issuer"}},
	{CodeNotActive, false, Text{"the certificate {serial} is {status}", "ask for a new certificate"}},
	{CodeAlreadyRevoked, false, Text{"the certificate {serial} was revoked on {date}", "nothing is left to do: it stands on the CRL"}},
	{CodeAlreadyHeld, false, Text{"the certificate {serial} is on hold since {date}", "nothing is left to do: it stands on the CRL"}},
	{CodeNotHeld, false, Text{"the certificate {serial} is not on hold", "nothing is left to do"}},
	{CodeSuperseded, false, Text{"something else was decided in between: {reason}", "look at what stands now, then ask again"}},
	{CodeRenewalWindow, true, Text{"the certificate {serial} can be renewed from {from} to {to}", "bring the request again then"}},
	{CodeRenewalTooOld, true, Text{"persons last approved this name on {date}; the key alone may renew for {limit} days", "have the renewal approved"}},
	{CodeAlreadyRenewed, false, Text{"the certificate {serial} was renewed already", "renew its successor"}},
	{CodeWithdrawn, false, Text{"the request was withdrawn", "make a new request"}},
	{CodeAlreadyDone, false, Text{"the request was done already and cannot be withdrawn", "revoke the certificate"}},
	{CodeKeyExists, false, Text{"there is a key {label} already", "choose another label"}},
	{CodeNoDevice, true, Text{"no device of the appliance holds {algorithm} keys of CAs", "order a key of another algorithm, or start the appliance with a device that does; coldseal-appliance doctor lists what they hold"}},
	{CodeKeyUnknown, false, Text{"there is no CA key {key}", "make it first: order create-key"}},
	{CodeKeyInUse, true, Text{"{count} certificates under the CA {label} are not revoked and live until {date}", "revoke them, or order it again when they have ended"}},
	{CodeKeyCurrent, true, Text{"the {use} key is the one that the appliance uses", "replace it first: order rotate-key"}},
	{CodeReceiverGone, true, Text{"the file is encrypted to the receiver key {key}, which was replaced and is not here any more", "have the agent import the newest response or introduction, then write the same bundle again: export --again"}},
	{CodeCAInvalid, false, Text{"the certificate of the CA cannot be taken: {reason}", "bring the right certificate and order it again"}},
	{CodeCARevoked, false, Text{"the CA {label} was revoked", "make the request again for another CA"}},
	{CodeRecoveryWaits, true, Text{"the recovery was announced and can be carried out from {date}", "bring the same order again then; officers who are still there can order another roster until then"}},
	{CodeRosterInvalid, false, Text{"the roster cannot be used: {reason}", "mend it and order it again"}},
	{CodePolicyInvalid, false, Text{"the policy cannot be used: {reason}", "mend it; coldseal policy check says where"}},
	{CodeTimeOutside, false, Text{"the time {time} is not possible: {reason}", "read a clock that is right and order it again"}},
	{CodeRepeated, true, Text{"the same request is in the bundle more than once", "look at the result of its first occurrence"}},
	{CodeNotForAgent, false, Text{"the response is for the agent {name}", "carry it to that agent"}},
	{CodeNotRestoring, false, Text{"the appliance is not being restored: {reason}", "a restore begins with a backup, opened in an empty state directory: coldseal-appliance restore open"}},
}
