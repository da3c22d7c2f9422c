package main

import (
	"errors"
	"fmt"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/signer"
)

// TestStartsAgain asks what serve goes on after by itself. A PIN that was refused is never tried by it again.
func TestStartsAgain(t *testing.T) {
	token, err := signer.ParseLocator("piv:serial=1")
	if err != nil {
		t.Fatal(err)
	}
	fault := func(err error) error {
		return explain(fmt.Errorf("sign with CA key root: %w: %w", appliance.ErrFault, err))
	}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a worker died":   {fault(errors.New("killed")), true},
		"pulled":          {fault(signer.NewTrouble(signer.DeviceGone, token, "sign")), true},
		"wrong PIN":       {fault(signer.NewTrouble(signer.PINWrong, token, "2 tries are left")), false},
		"locked":          {fault(signer.NewTrouble(signer.PINLocked, token, "the last try")), false},
		"a rollback":      {explain(appliance.ErrRollback), false},
		"wrong PIN first": {explain(signer.NewTrouble(signer.PINWrong, token, "2 tries are left")), false},
	} {
		if got := startsAgain(c.err); got != c.want {
			t.Errorf("%s: starts again is %v: %v", name, got, c.err)
		}
	}
}
