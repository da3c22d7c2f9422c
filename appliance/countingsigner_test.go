package appliance_test

import (
	"crypto/x509"
	"errors"
	"flag"
	"os"

	"coldseal/appliance/signer"
	"coldseal/appliance/softkey"
	"coldseal/appliance/wire"
	"coldseal/protocol"
)

// countingSigner is the name under which this test's program is the signer process: the real one, but for a file in
// which it writes down every digest that it signs with a CA's key, before it signs it.
const countingSigner = "counting-signer"

func runCountingSigner() error {
	flags := flag.NewFlagSet(countingSigner, flag.ContinueOnError)
	flags.String("backend", "", "as of the real one")
	dir := flags.String("dir", "", "")
	secretFile := flags.String("secret-file", "", "")
	count := flags.String("count", "", "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	secret, err := softkey.ReadSecretFile(*secretFile)
	if err != nil {
		return err
	}
	keys, err := softkey.Open(*dir, secret)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(*count, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(signer.Serve(wire.Descriptor, counting{keys, file}, signer.Hello{Backend: "softkey", Capabilities: map[string]string{"counter": "file"}}), file.Close())
}

type counting struct {
	*softkey.Store
	file *os.File
}

func (c counting) Sign(id [32]byte, scheme signer.Scheme, input []byte) ([]byte, error) {
	keys, err := c.Keys()
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if key.ID() != id || key.Purpose != signer.CA {
			continue
		}
		if _, err := c.file.Write(input); err != nil {
			return nil, err
		}
	}
	return c.Store.Sign(id, scheme, input)
}

// signed are the digests that the counting signer signed with CA keys, in no order. CAs of these tests are on P-256: what
// is signed is a SHA-256.
func (w *world) signed() (digests []protocol.Digest) {
	w.t.Helper()
	data := must[[]byte](w.t)(os.ReadFile(w.counted))
	if len(data)%len(protocol.Digest{}) != 0 {
		w.t.Fatalf("%d bytes of digests", len(data))
	}
	for ; len(data) > 0; data = data[32:] {
		digests = append(digests, protocol.Digest(data))
	}
	return digests
}

// tbsOf is the digest that was signed for a certificate.
func (w *world) tbsOf(certificate []byte) protocol.Digest {
	w.t.Helper()
	return protocol.DigestOf(must[*x509.Certificate](w.t)(x509.ParseCertificate(certificate)).RawTBSCertificate)
}
