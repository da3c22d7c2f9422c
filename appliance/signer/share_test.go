package signer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"coldseal/appliance/wire"
	"coldseal/protocol/cose"
	"coldseal/protocol/shamir"
)

var someShare = bytes.Repeat([]byte{7}, shamir.ShareSize)

// lieAboutShares is a process with a card that is honest but for one thing.
func lieAboutShares(mode string, r *shareRequest) shareReply {
	switch mode {
	case "share-none":
		return shareReply{}
	case "share-many":
		return shareReply{Shares: [][]byte{r.Share, r.Share, r.Share, r.Share}}
	case "share-short":
		return shareReply{Shares: [][]byte{r.Share[1:]}}
	}
	return shareReply{Shares: [][]byte{bytes.Repeat([]byte{8}, shamir.ShareSize)}} // share-other
}

func TestLiesAboutShares(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{
		"version": "speaks version 2", "share-none": "0 shares on a card", "share-many": "4 shares on a card", "share-short": "a share of 63 bytes", "share-other": "another share is on the card",
	} {
		shares, _, err := Share(context.Background(), self, []string{"liar", mode}, Options{}, someShare)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %x, %v", mode, shares, err)
		}
		if _, is := AsTrouble(err); is {
			t.Errorf("%s: it counts as a trouble with the card: %v", mode, err)
		}
	}
}

// A process that has a card has no keys, and one that has keys has no card.
func TestCardAlone(t *testing.T) {
	l, err := ParseLocator("piv:reader=x")
	if err != nil {
		t.Fatal(err)
	}
	trouble := NewTrouble(ShareMissing, l, "here")
	card := func([]byte) ([][]byte, bool, error) { return nil, false, trouble }
	for op, body := range examples(t) {
		reply, err := serveCard(l, card, op, marshalled(t, body))
		switch op {
		case opHello:
			if hello, is := reply.(Hello); err != nil || !is || hello.Version != Version {
				t.Errorf("hello: %+v, %v", reply, err)
			}
		case opShare:
			if !errors.Is(err, trouble) {
				t.Errorf("share: %+v, %v", reply, err)
			}
		default:
			if err == nil || !strings.Contains(err.Error(), "for a signer with keys") {
				t.Errorf("operation %d: %+v, %v", op, reply, err)
			}
		}
	}
	if _, err := serveCard(l, card, opShare, marshalled(t, shareRequest{someShare[1:]})); !isRefused(err, RefusedInput) {
		t.Errorf("63 bytes: %v", err)
	}
	if _, err := newMemory(t).server(t).handle(opShare, marshalled(t, shareRequest{someShare})); !isRefused(err, RefusedDevice) {
		t.Errorf("of a signer with keys: %v", err)
	}
}

func marshalled(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cose.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func isRefused(err error, code string) bool {
	refused, is := errors.AsType[*wire.Refused](err)
	return is && refused.Code == code
}

// What is wrong with the card is its trouble, on the other side of the socket, too. This program is built without PC/SC.
func TestCardTrouble(t *testing.T) {
	pin, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("123456"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	defer pin.Close()
	_, _, err = Share(context.Background(), program, []string{"--card", "piv:serial=1", "--pin-fd", "4"}, Options{Files: []*os.File{pin}}, nil)
	if trouble, is := AsTrouble(err); !is || trouble.Code != NotBuilt || trouble.Mend == "" {
		t.Errorf("%v", err)
	}
}
