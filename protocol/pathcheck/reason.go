package pathcheck

import (
	"fmt"
	"time"
)

// Code names a reason for rejecting, for ever.
type Code string

// The codes. Those of certificates say which one in their words.
const (
	Form                Code = "form"                    // not one strictly encoded certificate
	Version             Code = "version"                 // not version 3
	Serial              Code = "serial"                  // not positive, or longer than 20 octets
	Algorithm           Code = "signature-algorithm"     // one that is not accepted
	AlgorithmMismatch   Code = "algorithm-mismatch"      // the algorithm that is signed differs from the one beside the signature
	Key                 Code = "key"                     // of a kind or size that is not accepted
	Signature           Code = "signature"               // not by the issuer's key
	NotYetValid         Code = "not-yet-valid"           //
	Expired             Code = "expired"                 //
	DuplicateExtension  Code = "duplicate-extension"     //
	CriticalExtension   Code = "critical-extension"      // critical and not understood
	Criticality         Code = "extension-criticality"   // critical where it must not be, or the other way round
	NameConstraints     Code = "name-constraints"        // not supported
	EmptyName           Code = "empty-name"              // no subject where there must be one
	KeyIdentifier       Code = "key-identifier"          // missing
	KeyIdentifierDiffer Code = "key-identifier-mismatch" // the issuer named is another
	NotCA               Code = "not-ca"                  // issued a certificate and is none
	PathLength          Code = "path-length"             // more CAs below than allowed
	KeyUsage            Code = "key-usage"               // does not allow what the key did
	Purpose             Code = "purpose"                 // extended key usage does not allow what is wanted
	Anchor              Code = "anchor"                  // a trust anchor that is not self-signed
	NoPath              Code = "no-path"                 // no way from the leaf to a trust anchor
	Limit               Code = "limit"                   // more than is looked at

	NoCRL             Code = "no-crl"                   // none covers the certificate
	CRLForm           Code = "crl-form"                 // not one strictly encoded CRL of version 2
	CRLAlgorithm      Code = "crl-signature-algorithm"  //
	CRLMismatch       Code = "crl-algorithm-mismatch"   //
	CRLIssuer         Code = "crl-issuer"               // of another CA
	CRLSignature      Code = "crl-signature"            //
	CRLKeyUsage       Code = "crl-key-usage"            // the CA may not sign CRLs
	CRLNumber         Code = "crl-number"               // missing
	CRLKeyIdentifier  Code = "crl-key-identifier"       // missing
	CRLNotYetValid    Code = "crl-not-yet-valid"        //
	CRLExpired        Code = "crl-expired"              //
	CRLExtension      Code = "crl-critical-extension"   // critical and not understood
	CRLCriticality    Code = "crl-criticality"          // not critical where it must be, or the other way round
	CRLDuplicate      Code = "crl-duplicate-extension"  //
	CRLDelta          Code = "crl-delta"                // not supported
	CRLScope          Code = "crl-scope"                // indirect, of some reasons, or of attribute certificates: not supported
	CRLEntryExtension Code = "crl-entry-extension"      // an entry has a critical extension that is not understood
	Revoked           Code = "revoked"                  //
	OnHold            Code = "on-hold"                  //
	OCSPForm          Code = "ocsp-form"                // not one strictly encoded basic response
	OCSPStatus        Code = "ocsp-status"              // the responder reports an error
	OCSPAlgorithm     Code = "ocsp-signature-algorithm" //
	OCSPSignature     Code = "ocsp-signature"           //
	OCSPResponder     Code = "ocsp-responder"           // neither the CA nor delegated by it
	OCSPCertificateID Code = "ocsp-certificate-id"      // about a certificate of another CA
	OCSPNotYetValid   Code = "ocsp-not-yet-valid"       //
	OCSPExpired       Code = "ocsp-expired"             // or without an end
	OCSPExtension     Code = "ocsp-critical-extension"  // critical and not understood
)

// Reason says why something is rejected.
type Reason struct {
	Code  Code   `json:"code"`
	Words string `json:"words"` // one English line; never text taken from the input
}

func refuse(code Code, format string, args ...any) Reason {
	return Reason{Code: code, Words: fmt.Sprintf(format, args...)}
}

// date shows a time to the second, as validity is compared.
func date(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02 15:04:05 UTC") }
