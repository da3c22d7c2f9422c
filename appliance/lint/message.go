package lint

import "fmt"

// Operations of the wire.
const (
	OpCertificates = 1
	OpCRLs         = 2
)

const (
	// MaxItems is how many certificates or CRLs one frame carries: the appliance's own batch.
	MaxItems = 1024
	// MaxBytes is how many bytes of certificates share a frame: enough to fill two cores for 10 ms, and so little that
	// of a batch one frame is linted while another is written and read.
	MaxBytes = 128 << 10
	// MaxCertificate is the longest certificate that is linted. Ours are about 1 KiB; a hybrid key may add 4.
	MaxCertificate = 16 << 10
	// MaxCRL is the longest CRL that is linted, about 300,000 entries: a frame (wire.MaxFrame) less its envelope.
	MaxCRL = 16<<20 - 4096
	// MaxDetails is how much a finding says, in bytes: certificates can make some lints talk at length.
	MaxDetails = 512
)

// Findings that are ours and not lints of zlint.
const (
	Unparseable = "unparseable"   // zcrypto can't read it
	Panicked    = "lint-panicked" // a lint, or the parser, panicked over this item
	TooLarge    = "too-large"     // over MaxCertificate or MaxCRL; not looked at
)

// Codes of the worker's refusals.
const (
	CodeMalformed   = "malformed"    // not a Batch, more than MaxItems, or no such operation
	CodeUnknownSet  = "unknown-set"  // Config.Sets names a set that isn't
	CodeUnknownLint = "unknown-lint" // Config.Ignore names a lint that isn't
)

// Status is how bad a finding is; a higher one is worse.
type Status uint8

// The statuses that are ever reported; zlint's lesser ones (pass, info, not applicable, not effective) never are.
const (
	Warn  Status = 1
	Error Status = 2
	Fatal Status = 3
)

func (s Status) String() string {
	switch s {
	case Warn:
		return "warn"
	case Error:
		return "error"
	case Fatal:
		return "fatal"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Config says what to look for, as a profile does.
type Config struct {
	// Sets are "rfc5280" (that and the RFCs around it) and "community"; at least one.
	Sets []string
	// Ignore are names of lints that are not asked.
	Ignore []string
	// Threshold is the least status that is reported; zero is Error.
	Threshold Status
}

// Finding is one lint's complaint. Details come from the certificate and may hold anything but invalid UTF-8.
type Finding struct {
	_       struct{} `cbor:",toarray"`
	Lint    string
	Status  Status
	Details string
}

// Batch is a request of the wire.
type Batch struct {
	Sets      []string `cbor:"1,keyasint"`
	Ignore    []string `cbor:"2,keyasint"`
	Threshold Status   `cbor:"3,keyasint"`
	Items     [][]byte `cbor:"4,keyasint"`
}

// Report answers a Batch: the findings of each item, in the order of the items.
type Report struct {
	Findings [][]Finding `cbor:"1,keyasint"`
}
