package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"coldseal/appliance/wire"
	"coldseal/protocol/shamir"
)

// A share of a backup's key lies on a person's card. The program that speaks to cards is this one, in a process that has no
// keys and ends when the card was read or written (signer.md, Shares on cards).

// MaxShares is how many shares a card holds: that of the newest backup and those of two before it.
const MaxShares = 3

type shareRequest struct {
	Share []byte `cbor:"1,keyasint,omitempty"` // to be put on the card; none: only read
}

type shareReply struct {
	Shares  [][]byte `cbor:"1,keyasint"` // on the card, newest first
	Factory bool     `cbor:"2,keyasint,omitempty"`
}

// CardFunc puts a share on a card, if there is one, and reads those that are there, the newest first. Factory tells that it
// was written with the management key of the factory, which everybody knows.
type CardFunc func(share []byte) (shares [][]byte, factory bool, err error)

// patienceForCard is what a card may take for all commands of one share.
const patienceForCard = 2 * Patience

// ServeCard answers on the socket at fd for the card that the locator names.
func ServeCard(fd uintptr, l Locator, card CardFunc) error {
	return wire.Serve(fd, 1, func(op uint64, body []byte) (any, error) {
		reply, err := serveCard(l, card, op, body)
		return reply, told(err)
	})
}

func serveCard(l Locator, card CardFunc, op uint64, body []byte) (any, error) {
	request, err := decodeRequest(op, body)
	if err != nil {
		return nil, err
	}
	switch r := request.(type) {
	case *helloRequest:
		return greet(r, Hello{Backend: "card"})
	case *shareRequest:
		defer clear(r.Share)
		if len(r.Share) != 0 && len(r.Share) != shamir.ShareSize {
			return nil, refuse(RefusedInput, "a share of %d bytes, want %d", len(r.Share), shamir.ShareSize)
		}
		return within(l, patienceForCard, "read or write a share", func() (shareReply, error) {
			var reply shareReply
			var err error
			reply.Shares, reply.Factory, err = card(r.Share)
			return reply, err
		})
	}
	return nil, fmt.Errorf("operation %d is for a signer with keys", op)
}

// Share has the signer at path put a share on the card that args name, if share is not nil, and read the shares on it, the
// newest first. Troubles with the card are told as such (AsTrouble); then the card holds what it held, or the share.
func Share(ctx context.Context, path string, args []string, opts Options, share []byte) (shares [][]byte, factory bool, err error) {
	conn, err := wire.Start(ctx, path, args, opts.Files...)
	if err != nil {
		return nil, false, err
	}
	c := &Client{conn: conn, timeout: opts.Timeout, slots: make(chan struct{}, 1)}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	var reply shareReply
	if err = c.call(opHello, helloRequest{Version}, &c.hello, 0); err == nil && c.hello.Version != Version {
		err = fmt.Errorf("signer speaks version %d, want %d", c.hello.Version, Version)
	}
	if err == nil {
		err = c.call(opShare, shareRequest{share}, &reply, patienceForCard+time.Second)
	}
	if err == nil {
		err = reply.check(share)
	}
	if trouble, is := AsTrouble(err); is { // and nothing is wrong with the process
		return nil, false, errors.Join(trouble, conn.Close())
	}
	return reply.Shares, reply.Factory, errors.Join(err, conn.Close())
}

func (r *shareReply) check(share []byte) error {
	if len(r.Shares) < 1 || len(r.Shares) > MaxShares {
		return fmt.Errorf("signer: %d shares on a card, there may be 1 to %d", len(r.Shares), MaxShares)
	}
	for _, s := range r.Shares {
		if len(s) != shamir.ShareSize {
			return fmt.Errorf("signer: a share of %d bytes", len(s))
		}
	}
	if share != nil && !bytes.Equal(r.Shares[0], share) {
		return errors.New("signer: another share is on the card than the one that was written")
	}
	return nil
}
