package auditlog

import "coldseal/protocol"

// Intent is one signature that is going to be made, with what it is made for.
type Intent struct {
	_       struct{} `cbor:",toarray"`
	Request []byte   // as it was approved; empty for a CRL
	Issuer  protocol.Digest
	Serial  []byte          // empty for a CRL
	TBS     protocol.Digest // SHA-256 of the TBSCertificate or TBSCertList
}

// IntentsBody is the body of an intents leaf: an auditor finds here the requests and every approval they came with.
type IntentsBody struct {
	Intents   []Intent `cbor:"1,keyasint"`
	Approvals [][]byte `cbor:"2,keyasint,omitempty"`
}

// CRLBody is the body of a CRL's leaf.
type CRLBody struct {
	CRL   protocol.Digest `cbor:"1,keyasint"` // SHA-256 of the DER
	Shard uint64          `cbor:"2,keyasint,omitempty"`
}

// BundleBody is the body of a bundle's leaf.
type BundleBody struct {
	From     string          `cbor:"1,keyasint"` // the agent's name
	Sequence uint64          `cbor:"2,keyasint"`
	Bundle   protocol.Digest `cbor:"3,keyasint"` // SHA-256 of the bundle
}
