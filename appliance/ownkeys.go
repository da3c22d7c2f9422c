package appliance

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"

	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// The appliance's own keys: which of them stand, by the log, and how an order puts a new one in the place of an old one.

// own says what the signer calls a key for a use, and of what kind genesis and orders make it.
var own = [...]struct {
	purpose   signer.Purpose
	algorithm signer.Algorithm
}{
	protocol.UseLog:      {signer.Log, signer.Ed25519},
	protocol.UseReceiver: {signer.Receiver, signer.P256},
	protocol.UseSeal:     {signer.Seal, signer.P256},
}

// ownLabel is what the signer calls the n-th key for a use, counted from 1. A CA's label has no dot, so that none of them
// is in the way.
func ownLabel(use protocol.Use, n int) string {
	if n == 1 {
		return use.String()
	}
	return fmt.Sprintf("%s.%d", use, n)
}

// nextLabel is that of the key that replaces the one that stands.
func nextLabel(keys *protocol.Keys, use protocol.Use) string {
	n := 1
	keys.Each(use, func([]byte) { n++ })
	return ownLabel(use, n)
}

// keys finds the appliance's own keys in the signer, those that stand by the log.
func (e *Engine) keys() error {
	now := e.state.Own.Now()
	keys := [...]**signer.Key{protocol.UseLog: &e.log, protocol.UseReceiver: &e.receiver, protocol.UseSeal: &e.seal}
	for _, use := range protocol.Uses() {
		key, err := e.Signer.Key(now.ID(use), own[use].purpose)
		if err != nil {
			return fmt.Errorf("find %s key: %w", use, err)
		}
		*keys[use] = key
	}
	return nil
}

// recorded tells whether the log knows a key of this label.
func recorded(s *auditlog.State, label string) bool {
	_, _, found := s.ByLabel(label)
	for _, use := range protocol.Uses() {
		n := 0
		s.Own.Each(use, func([]byte) {
			n++
			found = found || ownLabel(use, n) == label
		})
	}
	return found
}

// rotateKey has the signer make a new key of the appliance's own, and the seal key that stands hand over to it. One that
// this order, or one like it, had made when it was interrupted is taken over, as with a CA's.
func (r *run) rotateKey(it *item, approvals [][]byte, challenge []byte, now int64) (*protocol.Refusal, error) {
	c, _ := it.req.Rotation()
	key, refusal, err := r.newOwnKey(c.Use)
	if refusal != nil || err != nil {
		return refusal, err
	}
	it.result.Key, it.result.Attestation = key.Info().SPKI, key.Attestation()
	return nil, r.step(now, func(rec *recorder) (err error) {
		if it.result.Handover, err = r.handOver(c, key, rec); err != nil {
			return err
		}
		return r.recordOrder(rec, it, approvals, challenge, nil)
	}, nil)
}

// newOwnKey makes the key that is going to replace the one which stands for a use, or finds it where it was made already.
func (e *Engine) newOwnKey(use protocol.Use) (*signer.Key, *protocol.Refusal, error) {
	kind, label := own[use], nextLabel(e.state.Own, use)
	if slices.ContainsFunc(e.Signer.Keys(), func(k signer.KeyInfo) bool { return k.Label == label }) {
		making, err := e.making()
		if err != nil {
			return nil, nil, err
		}
		key, err := e.Signer.KeyLabelled(label, kind.purpose)
		if err != nil || making != label {
			return nil, protocol.Refuse(protocol.CodeKeyExists, "label", label), nil
		}
		return key, nil, nil
	}
	if err := e.setMaking(label); err != nil {
		return nil, nil, err
	}
	key, err := e.Signer.CreateKey(label, kind.purpose, kind.algorithm)
	if refused, is := errors.AsType[*wire.Refused](err); is && refused.Code == signer.RefusedDevice {
		return nil, protocol.Refuse(protocol.CodeNoDevice, "algorithm", string(kind.algorithm)), e.setMaking("")
	}
	if err != nil {
		return nil, nil, fault("create key "+label, err)
	}
	return key, nil, nil
}

// handOver signs that a key stands from the next leaf on, which is the order's.
func (e *Engine) handOver(c protocol.Rotation, key *signer.Key, rec *recorder) ([]byte, error) {
	h := protocol.Handover{
		Appliance: e.appliance, Use: c.Use, Replaces: c.Replaces, Key: key.Info().SPKI, Index: rec.size, Time: rec.now, Previous: e.state.Own.Last(),
	}
	if c.Use == protocol.UseSeal {
		return protocol.SignHandover(h, e.seal, key)
	}
	return protocol.SignHandover(h, e.seal, nil)
}

// receiverKey opens bundles: the signer process multiplies one point.
type receiverKey struct {
	client *signer.Client
	id     protocol.Digest
	public *ecdh.PublicKey
}

func (k receiverKey) PublicKey() *ecdh.PublicKey { return k.public }

func (k receiverKey) ECDH(_ context.Context, point []byte) ([]byte, error) {
	if _, err := k.client.Key(k.id, signer.Receiver); err != nil {
		return nil, errReceiverGone
	}
	x, err := k.client.ECDH(k.id, point)
	return x[:], err
}

// errReceiverGone is why a file can't be opened that is encrypted to a receiver key which was replaced, and then destroyed
// or taken away with its device.
var errReceiverGone = errors.New("the receiver key was replaced and is not here any more")

// toReceivers opens a file with the receiver key that it is encrypted to, the one that stands or one that did, and says
// which.
func (e *Engine) toReceivers(open func(media.Key) (*media.File, error)) (file *media.File, id protocol.Digest, err error) {
	var all [][]byte
	e.state.Own.Each(protocol.UseReceiver, func(spki []byte) { all = append(all, spki) })
	var first error // of the key that stands: what is for none of them is told of that one
	for _, spki := range slices.Backward(all) {
		public, err := protocol.ReceiverKey(spki)
		if err != nil {
			return nil, id, fault("receiver key", err)
		}
		id = protocol.DigestOf(spki)
		if file, err = open(receiverKey{e.Signer, id, public}); !errors.Is(err, media.ErrReceiver) {
			return file, id, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, id, first
}
