package csr

import (
	"bytes"
	"encoding/pem"
)

// maxPEMSize leaves room for the base64 of a largest request and the description that some tools write before it.
const maxPEMSize = 4 * MaxSize

// DecodePEM takes the one request out of a PEM file (RFC 7468 section 7), for people and agents; what crosses the gap is
// DER. Text may stand before the block, as certtool and certutil write it; after it only white space. The error is
// always an *Error of reason Form. The result is not yet checked.
func DecodePEM(text []byte) ([]byte, error) {
	if len(text) > maxPEMSize {
		return nil, refuse(Form, "PEM of %d bytes, at most %d are accepted", len(text), maxPEMSize)
	}
	if n := bytes.Count(text, []byte("-----BEGIN ")); n != 1 {
		return nil, refuse(Form, "%d PEM blocks where one is expected", n)
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, refuse(Form, "the PEM block is damaged")
	}
	// "NEW" is what keytool, certutil and certreq write.
	if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, refuse(Form, "the PEM block is not a certificate request")
	}
	if len(block.Headers) > 0 {
		return nil, refuse(Form, "the PEM block has headers")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, refuse(Form, "text after the PEM block")
	}
	return block.Bytes, nil
}
