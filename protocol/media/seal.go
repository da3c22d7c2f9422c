package media

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

const (
	// StanzaType names the KEM, so that a hybrid one can be added beside it.
	StanzaType = "coldseal/p256"

	// MaxHeaderBytes bounds what is read before anything is decided; ours has 263.
	MaxHeaderBytes = 4096

	hpkeInfo    = "coldseal/media/v1"
	fileKeySize = 16
	wrappedSize = fileKeySize + 16 // with the tag of ChaCha20-Poly1305
)

// Key is the private half of a receiver's P-256 key, wherever it is held: all that is asked of it is one
// multiplication.
type Key interface {
	PublicKey() *ecdh.PublicKey

	// ECDH multiplies peerPoint (uncompressed, 65 bytes, already known to be on the curve) by the private key and
	// returns the x coordinate, 32 bytes (RFC 9180 section 4.1).
	ECDH(ctx context.Context, peerPoint []byte) (sharedX []byte, err error)
}

type softwareKey struct{ *ecdh.PrivateKey }

// NewSoftwareKey returns a Key whose private half is in this process's memory. It refuses curves other than P-256.
func NewSoftwareKey(private *ecdh.PrivateKey) (Key, error) {
	if private.Curve() != ecdh.P256() {
		return nil, fmt.Errorf("receiver key on curve %v, want P-256", private.Curve())
	}
	return softwareKey{private}, nil
}

func (k softwareKey) ECDH(_ context.Context, peerPoint []byte) ([]byte, error) {
	peer, err := ecdh.P256().NewPublicKey(peerPoint)
	if err != nil {
		return nil, err
	}
	return k.PrivateKey.ECDH(peer)
}

// KeyID is how a receiver finds itself in a header: SHA-256 of its SubjectPublicKeyInfo in DER. Curves other than
// P-256 are refused.
func KeyID(receiver *ecdh.PublicKey) ([32]byte, error) {
	if receiver.Curve() != ecdh.P256() {
		return [32]byte{}, fmt.Errorf("receiver key on curve %v, want P-256", receiver.Curve())
	}
	spki, err := x509.MarshalPKIXPublicKey(receiver)
	if err != nil {
		return [32]byte{}, fmt.Errorf("receiver key: %w", err)
	}
	return sha256.Sum256(spki), nil
}

// Encrypt returns a writer whose plaintext only the holder of receiver's private half can read from w. The caller must
// Close it: an unclosed file is refused as truncated. It authenticates nobody; that is the work of the seal inside.
func Encrypt(w io.Writer, receiver *ecdh.PublicKey) (io.WriteCloser, error) {
	return age.Encrypt(w, recipient{receiver})
}

type recipient struct{ public *ecdh.PublicKey }

func (r recipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	id, err := KeyID(r.public)
	if err != nil {
		return nil, err
	}
	public, err := hpke.NewDHKEMPublicKey(r.public)
	if err != nil {
		return nil, err
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return nil, err
	}
	wrapped, err := sender.Seal(nil, fileKey)
	if err != nil {
		return nil, err
	}
	args := []string{base64.RawStdEncoding.EncodeToString(id[:]), base64.RawStdEncoding.EncodeToString(enc)}
	return []*age.Stanza{{Type: StanzaType, Args: args, Body: wrapped}}, nil
}

// Receiver returns the key id that an encrypted file claims to be for, for lookup and display only. The error is an
// *Error of kind ErrSealed if the header is not ours, or r's own error.
func Receiver(r io.Reader) ([32]byte, error) {
	var id identity
	if _, err := open(r, &id); !errors.Is(err, errOnlyHeader) {
		return [32]byte{}, err
	}
	return id.receiver, nil
}

// decrypt is not exported because its result must not be used before its end was seen: truncation shows only there.
// Spool.Decrypt is the way in.
func decrypt(ctx context.Context, r io.Reader, key Key) (io.Reader, error) {
	return open(r, &identity{ctx: ctx, key: key})
}

func open(r io.Reader, id *identity) (io.Reader, error) {
	source := &source{r: r}
	buffered := bufio.NewReaderSize(source, MaxHeaderBytes)
	// Parsing age headers may take 2 MiB; this bounds it before it begins. Base64 has no hyphen, so that the parser
	// cannot go past the first line beginning with three of them.
	head, err := buffered.Peek(MaxHeaderBytes)
	if err != nil && err != io.EOF {
		return nil, source.blame(err)
	}
	if _, rest, found := bytes.Cut(head, []byte("\n---")); !found || !bytes.Contains(rest, []byte("\n")) {
		return nil, source.blame(fmt.Errorf("no age header in the first %d bytes", len(head)))
	}
	plaintext, err := age.Decrypt(buffered, id)
	if id.fault != nil {
		return nil, id.fault
	}
	if err != nil {
		return nil, source.blame(err)
	}
	return &opened{plaintext, source}, nil
}

var errOnlyHeader = errors.New("only the header was asked for")

// identity is one attempt to open one file. What it finds out about whom to blame it keeps apart, because age does not
// promise to hand errors through.
type identity struct {
	ctx      context.Context
	key      Key // nil: read the header and stop
	receiver [32]byte
	fault    error // the key holder's failure, or another receiver's file
}

func (i *identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	if len(stanzas) != 1 {
		return nil, fmt.Errorf("%d stanzas, want exactly one", len(stanzas))
	}
	s := stanzas[0]
	if s.Type != StanzaType || len(s.Args) != 2 || len(s.Body) != wrappedSize {
		return nil, fmt.Errorf("stanza %q with %d arguments and %d bytes, want %q, 2 and %d", s.Type, len(s.Args), len(s.Body), StanzaType, wrappedSize)
	}
	receiver, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[0])
	if err != nil || len(receiver) != len(i.receiver) {
		return nil, fmt.Errorf("receiver key id %q is not 32 bytes", s.Args[0])
	}
	enc, err := base64.RawStdEncoding.Strict().DecodeString(s.Args[1])
	if err != nil {
		return nil, fmt.Errorf("encapsulated key %q: %w", s.Args[1], err)
	}
	i.receiver = [32]byte(receiver)
	if i.key == nil {
		i.fault = errOnlyHeader
		return nil, errOnlyHeader
	}
	return i.unwrap(enc, s.Body)
}

func (i *identity) unwrap(enc, wrapped []byte) ([]byte, error) {
	ours, err := KeyID(i.key.PublicKey())
	if err != nil {
		i.fault = &Error{Op: "decrypt", Kind: ErrKey, Err: err}
		return nil, i.fault
	}
	if i.receiver != ours {
		i.fault = &Error{Op: "decrypt", Kind: ErrReceiver, Err: fmt.Errorf("key id %x, ours is %x", i.receiver, ours)}
		return nil, i.fault
	}
	private, err := hpke.NewDHKEMPrivateKey(exchanger{i})
	if err != nil {
		return nil, err
	}
	opener, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(hpkeInfo))
	if err != nil {
		return nil, err
	}
	return opener.Open(nil, wrapped)
}

// exchanger is the caller's key in the form crypto/hpke asks for, which checks the point before it comes here.
type exchanger struct{ *identity }

func (e exchanger) PublicKey() *ecdh.PublicKey { return e.key.PublicKey() }
func (e exchanger) Curve() ecdh.Curve          { return ecdh.P256() }
func (e exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	x, err := e.key.ECDH(e.ctx, peer.Bytes())
	if err == nil && len(x) != 32 {
		err = fmt.Errorf("shared x coordinate of %d bytes, want 32", len(x))
	}
	if err != nil {
		e.fault = &Error{Op: "decrypt", Kind: ErrKey, Err: err}
		return nil, e.fault
	}
	return x, nil
}

// source remembers that reading failed: of a file, that says nothing about whether its encryption is intact; of a plaintext,
// whoever read it may tell something else.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) blame(err error) error {
	if known := new(Error); errors.As(s.err, &known) {
		return known
	}
	if s.err != nil {
		return &Error{Op: "read", Err: s.err}
	}
	return &Error{Op: "decrypt", Kind: ErrSealed, Err: err}
}

type opened struct {
	plaintext io.Reader
	source    *source
}

func (o *opened) Read(p []byte) (int, error) {
	n, err := o.plaintext.Read(p)
	if err != nil && err != io.EOF {
		err = o.source.blame(err)
	}
	return n, err
}
