package protocol

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"

	"coldseal/protocol/cose"
)

// The appliance's own keys may be replaced by order. Whoever has the genesis digest walks from the keys of the genesis to
// those that stand now by handovers: each is signed by the seal key that stood before it (response.md).

// Use is what one of the appliance's own keys is for.
type Use uint64

// The uses of own keys.
const (
	UseLog      Use = 1 // signs checkpoints
	UseReceiver Use = 2 // bundles are encrypted to it
	UseSeal     Use = 3 // signs responses, receipts, introductions and handovers
)

var useNames = [...]string{UseLog: "log", UseReceiver: "receiver", UseSeal: "seal"}

// Uses lists the uses of own keys.
func Uses() []Use { return []Use{UseLog, UseReceiver, UseSeal} }

// String is the use's name in commands and listings.
func (u Use) String() string {
	if u >= 1 && int(u) < len(useNames) {
		return useNames[u]
	}
	return fmt.Sprintf("use-%d", uint64(u))
}

// ParseUse is the inverse of String.
func ParseUse(name string) (Use, bool) {
	for _, u := range Uses() {
		if u.String() == name {
			return u, true
		}
	}
	return 0, false
}

// MaxHandovers bounds the handovers of an appliance: three keys, each replaced once a year for forty years. MaxHandover
// bounds one in bytes, maxHandoverList all of them.
const (
	MaxHandovers    = 128
	MaxHandover     = 1024
	maxHandoverList = MaxHandovers*(MaxHandover+3) + 8
)

// Handover says that one of the appliance's own keys took the place of another.
type Handover struct {
	Appliance Digest `cbor:"1,keyasint"`
	Use       Use    `cbor:"2,keyasint"`
	Replaces  Digest `cbor:"3,keyasint"`          // id of the key that stood
	Key       []byte `cbor:"4,keyasint"`          // SubjectPublicKeyInfo of the one that stands
	Index     uint64 `cbor:"5,keyasint"`          // of the order's leaf: the key stands in a log of more leaves than that
	Time      int64  `cbor:"6,keyasint"`          // of that leaf, unix seconds
	Previous  Digest `cbor:"7,keyasint,omitzero"` // SHA-256 of the handover before this one; absent in the first
}

// handover is one as it travels.
type handover struct {
	_          struct{} `cbor:",toarray"`
	Statement  []byte   // COSE_Sign1 of a Handover by the seal key that stood before
	Possession []byte   // of a seal key: COSE_Sign1 by it over the SHA-256 of that Handover; empty otherwise
}

// SignHandover makes a handover. The seal key is the one that stands; possessor is the new one where it is a seal key, and
// nil otherwise.
func SignHandover(h Handover, seal, possessor crypto.Signer) ([]byte, error) {
	payload, err := cose.Marshal(h)
	if err != nil {
		return nil, err
	}
	var made handover
	if made.Statement, err = cose.Sign(seal, ContextHandover, payload); err != nil {
		return nil, fmt.Errorf("sign handover of the %s key: %w", h.Use, err)
	}
	if possessor != nil {
		digest := DigestOf(payload)
		if made.Possession, err = cose.Sign(possessor, ContextPossession, digest[:]); err != nil {
			return nil, fmt.Errorf("prove to hold the new %s key: %w", h.Use, err)
		}
	}
	return cose.Marshal(made)
}

// OwnKeys are the appliance's own keys that stand at one size of its log.
type OwnKeys struct {
	Log      ed25519.PublicKey
	Receiver *ecdh.PublicKey
	Seal     cose.Key

	spki  [UseSeal + 1][]byte
	index uint64 // of the leaf whose order made them stand; 0 is the genesis
}

// SPKI is the SubjectPublicKeyInfo of the key for a use.
func (o *OwnKeys) SPKI(u Use) []byte { return o.spki[u] }

// ID is the id of the key for a use.
func (o *OwnKeys) ID(u Use) Digest { return DigestOf(o.spki[u]) }

// take puts a key in its place, if it is of a kind that its use has.
func (o *OwnKeys) take(u Use, spki []byte) (err error) {
	switch u {
	case UseLog:
		var k cose.Key
		if k, err = cose.ParseKey(spki); err == nil {
			var is bool
			if o.Log, is = k.Public().(ed25519.PublicKey); !is {
				err = errors.New("not Ed25519")
			}
		}
	case UseReceiver:
		o.Receiver, err = ReceiverKey(spki)
	case UseSeal:
		o.Seal, err = sealKey(spki)
	default:
		return fmt.Errorf("use %d is not known", uint64(u))
	}
	if err != nil {
		return fmt.Errorf("%s key: %w", u, err)
	}
	o.spki[u] = bytes.Clone(spki)
	return nil
}

// Keys are the appliance's own keys as a function of the size of its log: those of the genesis, then what handovers
// changed. It is not changed once it was made.
type Keys struct {
	appliance Digest
	stood     []OwnKeys // of the genesis, and after each handover
	handovers [][]byte
}

// Keys gives the keys that stand from the beginning, of the genesis with that digest.
func (g Genesis) Keys(appliance Digest) (*Keys, error) {
	var first OwnKeys
	spki := [...][]byte{UseLog: g.Log, UseReceiver: g.Receiver, UseSeal: g.Seal}
	for _, u := range Uses() {
		if err := first.take(u, spki[u]); err != nil {
			return nil, err
		}
	}
	return &Keys{appliance: appliance, stood: []OwnKeys{first}}, nil
}

// Appliance is the genesis digest.
func (k *Keys) Appliance() Digest { return k.appliance }

// Handovers are all that were walked, oldest first.
func (k *Keys) Handovers() [][]byte { return k.handovers }

// Last is the SHA-256 of the newest handover, which the next one names; zero if there is none.
func (k *Keys) Last() Digest {
	if len(k.handovers) == 0 {
		return Digest{}
	}
	return DigestOf(k.handovers[len(k.handovers)-1])
}

// At gives the keys that stand in a log of size leaves.
func (k *Keys) At(size uint64) *OwnKeys {
	i := len(k.stood) - 1
	for i > 0 && k.stood[i].index >= size {
		i--
	}
	return &k.stood[i]
}

// Now gives the newest keys.
func (k *Keys) Now() *OwnKeys { return &k.stood[len(k.stood)-1] }

// Each calls f for every key that ever stood for a use, oldest first; the last one stands now.
func (k *Keys) Each(u Use, f func(spki []byte)) {
	for i := range k.stood {
		if i == 0 || !bytes.Equal(k.stood[i].spki[u], k.stood[i-1].spki[u]) {
			f(k.stood[i].spki[u])
		}
	}
}

// Find tells for what one of the keys is that ever stood, and whether it stands now.
func (k *Keys) Find(id Digest) (use Use, current, found bool) {
	for i := range k.stood {
		for _, u := range Uses() {
			if k.stood[i].ID(u) == id {
				return u, k.Now().ID(u) == id, true
			}
		}
	}
	return 0, false, false
}

// Seal finds a seal key that ever stood. Whether it was the one to sign something, At says.
func (k *Keys) Seal(id Digest) (cose.Key, bool) {
	for i := range k.stood {
		if k.stood[i].ID(UseSeal) == id {
			return k.stood[i].Seal, true
		}
	}
	return cose.Key{}, false
}

// ErrHandover is wrapped by errors about a handover that leads nowhere.
var ErrHandover = errors.New("the appliance's keys were not handed over so")

// Next walks one handover on.
func (k *Keys) Next(data []byte) (*Keys, Handover, error) {
	next, h, err := k.next(data)
	if err != nil {
		return nil, Handover{}, fmt.Errorf("handover %d: %w: %w", len(k.handovers)+1, ErrHandover, err)
	}
	return next, h, nil
}

func (k *Keys) next(data []byte) (*Keys, Handover, error) {
	now := k.Now()
	h, err := openHandover(data, now.Seal)
	if err != nil {
		return nil, h, err
	}
	switch {
	case len(k.handovers) >= MaxHandovers:
		return nil, h, fmt.Errorf("more than %d", MaxHandovers)
	case h.Appliance != k.appliance:
		return nil, h, fmt.Errorf("it is of the appliance %s", h.Appliance)
	case h.Previous != k.Last():
		return nil, h, errors.New("it does not follow the one before it")
	case h.Index <= now.index || h.Index >= MaxLeaves:
		return nil, h, fmt.Errorf("leaf %d does not come after leaf %d", h.Index, now.index)
	case h.Time <= 0 || h.Time > MaxTime:
		return nil, h, fmt.Errorf("time %d is not one", h.Time)
	}
	own := *now
	own.index = h.Index
	if err := own.take(h.Use, h.Key); err != nil {
		return nil, h, err
	}
	if now.ID(h.Use) != h.Replaces {
		return nil, h, fmt.Errorf("the %s key that it replaces is not the one that stood", h.Use)
	}
	if _, _, known := k.Find(DigestOf(h.Key)); known {
		return nil, h, fmt.Errorf("the new %s key was one of the appliance's before", h.Use)
	}
	return &Keys{
		appliance: k.appliance, stood: append(k.stood[:len(k.stood):len(k.stood)], own),
		handovers: append(k.handovers[:len(k.handovers):len(k.handovers)], bytes.Clone(data)),
	}, h, nil
}

// openHandover returns what the seal key signed, and a new seal key too.
func openHandover(data []byte, seal cose.Key) (h Handover, err error) {
	if len(data) > MaxHandover {
		return h, fmt.Errorf("%d bytes, at most %d", len(data), MaxHandover)
	}
	var signed handover
	if err := cose.Unmarshal(data, &signed); err != nil {
		return h, err
	}
	payload, err := cose.Verify(signed.Statement, ContextHandover, seal)
	if err != nil {
		return h, err
	}
	var told Handover
	if err := cose.Unmarshal(payload, &told); err != nil {
		return h, err
	}
	if told.Use != UseSeal {
		if len(signed.Possession) != 0 {
			return h, fmt.Errorf("a proof of possession is out of place: the %s key signs none", told.Use)
		}
		return told, nil
	}
	next, err := sealKey(told.Key)
	if err != nil {
		return h, fmt.Errorf("new seal key: %w", err)
	}
	if err := VerifyID(signed.Possession, ContextPossession, next, DigestOf(payload)); err != nil {
		return h, fmt.Errorf("nobody proved to hold the new seal key: %w", err)
	}
	return told, nil
}

// Walk goes on by handovers that begin at the genesis. One of the two, those known and those given, has to begin the
// other; what is returned is the longer.
func (k *Keys) Walk(handovers [][]byte) (*Keys, error) {
	for i, data := range handovers {
		if i < len(k.handovers) {
			if !bytes.Equal(data, k.handovers[i]) {
				return nil, fmt.Errorf("handover %d: %w: another one is known", i+1, ErrHandover)
			}
			continue
		}
		next, _, err := k.Next(data)
		if err != nil {
			return nil, err
		}
		k = next
	}
	return k, nil
}

// open returns the payload of a message that one of the seal keys signed, and that key's id. Whether it stood then is for
// stood to say, once the payload told the size of the log.
func (k *Keys) open(message []byte, context string) ([]byte, Digest, error) {
	id, err := cose.KeyID(message)
	if err != nil {
		return nil, id, err
	}
	seal, found := k.Seal(id)
	if !found {
		return nil, id, fmt.Errorf("verify %s: the key %s is no seal key of the appliance that is known here: %w", context, Digest(id), cose.ErrSignature)
	}
	payload, err := cose.Verify(message, context, seal)
	return payload, id, err
}

// stoodAt refuses a message of a seal key that was not the one to sign in a log of size leaves.
func (k *Keys) stoodAt(seal Digest, size uint64) error {
	if k.At(size).ID(UseSeal) != seal {
		return fmt.Errorf("the seal key %s did not stand in a log of %d entries: %w", seal, size, cose.ErrSignature)
	}
	return nil
}

// encodeHandovers makes one byte string of a list; of none, the empty one.
func encodeHandovers(handovers [][]byte) ([]byte, error) {
	if len(handovers) == 0 {
		return nil, nil
	}
	return cose.Marshal(handovers)
}

// ReadHandovers reads what a response begins with. Nothing in it is to be believed before Walk. Errors wrap ErrSequence where
// the bytes are wrong, and the reader's own otherwise.
func ReadHandovers(r *bufio.Reader) ([][]byte, error) {
	data, err := ReadString(r, maxHandoverList)
	if err != nil {
		return nil, truncated(err)
	}
	if len(data) == 0 {
		return nil, nil
	}
	var handovers [][]byte
	err = cose.Unmarshal(data, &handovers)
	if err == nil && (len(handovers) == 0 || len(handovers) > MaxHandovers) {
		err = fmt.Errorf("%d handovers, from 1 to %d, or no bytes", len(handovers), MaxHandovers)
	}
	if err != nil {
		return nil, fmt.Errorf("handovers: %w: %w", ErrSequence, err)
	}
	return handovers, nil
}
