package appliance

import (
	"fmt"

	"coldseal/protocol"
)

// gate refuses a clock that cannot be right (law 12): before the last log entry, before this release was built, or
// further ahead of the last entry than policy allows.
func (e *Engine) gate(now int64) *protocol.Refusal {
	if refusal := e.behind(now); refusal != nil {
		return refusal
	}
	if ahead := e.state.CurrentPolicy().ClockAhead; now-e.state.Clock > ahead {
		return clock(now, fmt.Sprintf("that is more than %d days after the last log entry", ahead/secondsOfDay))
	}
	return nil
}

// behind refuses a clock that shows a time which is past for sure. It is all that is asked of the clock at a restore: a
// box may be lost for long, and set-time can't be ordered before; officers see in the order when it was made.
func (e *Engine) behind(now int64) *protocol.Refusal {
	switch last := e.state.Clock; {
	case now < last:
		return clock(now, "the last log entry is of "+protocol.Date(last))
	case now < e.Built.Unix():
		return clock(now, "this release was built on "+protocol.Date(e.Built.Unix()))
	}
	return nil
}

func clock(now int64, reason string) *protocol.Refusal {
	return protocol.Refuse(protocol.CodeClock, "now", protocol.Date(now), "reason", reason)
}

// time is what a leaf says. While the gate is shut the clock is not believed: only taking away and set-time go on, at
// the time of the last entry.
func (e *Engine) time() (now int64, shut *protocol.Refusal) {
	now = e.Now().Unix()
	if shut = e.gate(now); shut != nil {
		return e.state.Clock, shut
	}
	return now, nil
}

// jumped refuses a clock that can't be believed any more since the bundle began. It is asked before each batch and
// before CRLs are signed. What goes on, goes on at the time that was believed at the beginning.
func (r *run) jumped() *protocol.Refusal {
	if r.shut != nil {
		return r.shut
	}
	return r.gate(r.Now().Unix())
}
