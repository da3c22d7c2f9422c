package agent

import (
	"errors"
	"fmt"

	"coldseal/protocol"
)

// Kinds of failure; compare with errors.Is. Whoever calls decides by them how to end.
var (
	ErrFailed       = errors.New("failed")
	ErrNotFound     = errors.New("not found")
	ErrRefused      = errors.New("refused")           // by policy, before it was sent
	ErrApprovals    = errors.New("approvals missing") // nothing can be sent yet
	ErrVerification = errors.New("verification failed")
	ErrInput        = errors.New("wrong input") // of the command
)

// Error is a failure with a hint for a person.
type Error struct {
	Kind error
	What string // what was tried, with what, and what happened
	Hint string // what to do next; may be empty
	Err  error  // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.What
	}
	if refusal, is := e.Err.(*RefusalError); is {
		return e.What + " (" + refusal.Error() + ")"
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap lets errors.Is find the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// refused turns a refusal into a failure of a command.
func refused(what string, r *protocol.Refusal) *Error {
	return &Error{Kind: ErrRefused, What: what + ": " + r.Words(), Hint: r.Hint(), Err: &RefusalError{r}}
}

// RefusalError carries the refusal that made a command fail.
type RefusalError struct{ Refusal *protocol.Refusal }

func (e *RefusalError) Error() string { return string(e.Refusal.Code) }

// lie is an answer of the appliance that is not true.
func lie(format string, args ...any) error {
	return &Error{
		Kind: ErrVerification, What: fmt.Sprintf(format, args...),
		Hint: "nothing was imported; keep the medium and tell the officers and auditors of the appliance",
	}
}
