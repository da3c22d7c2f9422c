package agent

import (
	"fmt"

	"coldseal/agent/store"
	"coldseal/protocol"
)

// Withdraw takes a request back. One that never left is withdrawn here and now, and made is empty; for any other a
// request to withdraw it is made, which needs its approvals like any.
func (s *Service) Withdraw(id protocol.Digest) (made Made, err error) {
	err = s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		n, r, err := requestOf(tx, id)
		if err != nil {
			return err
		}
		made, err = v.withdraw(n, r)
		if err != nil {
			return err
		}
		return tx.PutMeta(v.meta)
	})
	return made, err
}

func (v *view) withdraw(n uint64, r store.Request) (Made, error) {
	st, err := v.standing(n, r)
	if err != nil {
		return Made{}, err
	}
	switch {
	case st.State == StateWithdrawn:
		return Made{}, nil
	case r.Kind == protocol.KindWithdraw || st.State.Final() && !st.Open:
		return Made{}, refused("withdraw", protocol.Refuse(protocol.CodeAlreadyDone))
	}
	for sequence, b := range v.bundles {
		if len(b.Media) == 0 {
			return Made{}, &Error{Kind: ErrFailed, What: fmt.Sprintf("the export of bundle %d was interrupted", sequence), Hint: "run coldseal-agent export again first"}
		}
	}
	if len(r.Bundles) == 0 && len(r.Imports) == 0 {
		line, err := v.tx.AddLine(&v.meta, store.Line{Time: v.now, Code: "withdrawn", Text: "before it left"})
		if err != nil {
			return Made{}, err
		}
		r.Withdrawn, r.Lines = true, append(r.Lines, line)
		return Made{}, v.tx.PutRequest(n, r)
	}
	p := &prepared{
		req: protocol.Request{
			Version: protocol.Version, Appliance: v.s.id, Kind: protocol.KindWithdraw, Body: r.Body, Created: v.now, Expires: max(r.Expires, v.now+day),
		},
		asked: store.Asked{Kind: protocol.KindWithdraw}, text: r.Text,
	}
	if err := v.finish(p, protocol.Withdrawal{Request: r.ID}, false); err != nil {
		return Made{}, err
	}
	made, err := v.add(p, 0)
	if err != nil || !made.New {
		return made, err
	}
	r.Taker = v.meta.Requests
	return made, v.tx.PutRequest(n, r)
}
