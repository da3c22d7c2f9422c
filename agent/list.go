package agent

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"coldseal/agent/store"
	"coldseal/protocol"
)

// Row is a request as lists show it.
type Row struct {
	store.Request
	Standing Standing
	number   uint64
}

// Filter says which requests are looked for; empty fields are for all.
type Filter struct {
	State  State
	Body   string // and all below it
	Person string // part of the subject or of a field, without regard to case and accents
}

func (f Filter) takes(r *Row) bool {
	return (f.State == "" || r.Standing.State == f.State) && (f.Body == "" || protocol.BodyContains(f.Body, r.Body)) &&
		(f.Person == "" || strings.Contains(fold(r.Text), fold(f.Person)))
}

// fold takes away case and accents.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		if r == 'ς' { // the form at the end of words
			return 'σ'
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(text))
}

// List calls f for the requests that the filter takes, oldest first.
func (s *Service) List(filter Filter, f func(Row) error) error {
	return s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		return v.each(func(r Row) error {
			if !filter.takes(&r) {
				return nil
			}
			return f(r)
		})
	})
}

func (v *view) each(f func(Row) error) error {
	return v.tx.EachRequest(1, func(n uint64, r store.Request) error {
		st, err := v.standing(n, r)
		if err != nil {
			return err
		}
		return f(Row{Request: r, Standing: st, number: n})
	})
}

// ParseID finds a request by its id or the beginning of it, at least eight hexadecimal digits.
func (s *Service) ParseID(text string) (id protocol.Digest, err error) {
	prefix, err := hex.DecodeString(text[:len(text)&^1])
	if err != nil || len(prefix) < 4 || len(text) > 64 {
		return id, &Error{Kind: ErrInput, What: fmt.Sprintf("%q is not an id: 64 hexadecimal digits, or the first eight or more", text)}
	}
	err = s.store.View(func(tx *store.Tx) error {
		var found []protocol.Digest
		for _, n := range tx.RequestsLike(prefix) {
			r, err := tx.Request(n)
			if err != nil {
				return err
			}
			if strings.HasPrefix(r.ID.String(), strings.ToLower(text)) {
				found = append(found, r.ID)
			}
		}
		switch len(found) {
		case 0:
			return &Error{Kind: ErrNotFound, What: "there is no request " + text + " here", Hint: "coldseal-agent list shows those that are"}
		case 1:
			id = found[0]
			return nil
		}
		return &Error{Kind: ErrInput, What: text + " begins more than one id", Hint: "give more digits"}
	})
	return id, err
}

// Event is one line of the history.
type Event struct {
	Number uint64
	store.Line
}

// Detail is all that is known of a request.
type Detail struct {
	Row
	Raw       []byte          // the request's bytes; its id is their SHA-256
	Result    protocol.Result // of its newest answer; zero if there is none
	Index     uint64          // of its leaf in the log; zero if there is none
	Approvals []ApprovalInfo
	History   []Event
}

// ApprovalInfo is one attached approval.
type ApprovalInfo struct {
	Key        protocol.Digest
	Person     string // empty if the key is not known here
	Statements []protocol.Statement
	Discount   *protocol.Refusal // why it will not count; nil if it may
}

// Show returns all that is known of a request.
func (s *Service) Show(id protocol.Digest) (d Detail, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		n, r, err := requestOf(tx, id)
		if err != nil {
			return err
		}
		d, err = v.detail(n, r)
		return err
	})
	return d, err
}

// requestOf finds a request by its id.
func requestOf(tx *store.Tx, id protocol.Digest) (n uint64, r store.Request, err error) {
	if n = tx.RequestNumber(id); n == 0 {
		return 0, r, &Error{Kind: ErrNotFound, What: fmt.Sprintf("there is no request %s here", id), Hint: "coldseal-agent list shows those that are"}
	}
	r, err = tx.Request(n)
	return n, r, err
}

func (v *view) detail(n uint64, r store.Request) (d Detail, err error) {
	d = Detail{Row: Row{Request: r, number: n}}
	if d.Standing, err = v.standing(n, r); err != nil {
		return d, err
	}
	data, err := v.tx.Item(n)
	if err != nil {
		return d, err
	}
	item, refusal := protocol.ParseItem(data)
	if refusal != nil {
		return d, errors.New("stored item: " + refusal.Words())
	}
	d.Raw = item.Request
	for _, c := range r.Covers {
		a, err := v.approval(c.Approval)
		if err != nil {
			return d, err
		}
		d.Approvals = append(d.Approvals, ApprovalInfo{Key: a.key, Person: a.approver.Person, Statements: c.Statements, Discount: a.discount})
	}
	o, answer, found, err := v.answer(n)
	if err != nil {
		return d, err
	}
	if found {
		d.Result, d.Index = o.result, answer.Index
	}
	return d, v.history(&d)
}

// history gathers the lines about a request: its own, those of its bundles, and those of the imports that answer it.
func (v *view) history(d *Detail) error {
	lines := slices.Clone(d.Lines)
	imports := slices.Clone(d.Imports)
	for _, sequence := range d.Bundles {
		b := v.bundles[sequence]
		lines = append(lines, b.Writes...)
		imports = append(imports, b.Imports...)
	}
	for _, i := range imports {
		if _, found := v.tx.Result(i, d.number); found || v.imports[i].Refusal != nil {
			lines = append(lines, v.imports[i].Line)
		}
	}
	slices.Sort(lines)
	for _, n := range slices.Compact(lines) {
		line, found, err := v.tx.Line(n)
		if err != nil {
			return err
		}
		if found {
			d.History = append(d.History, Event{n, line})
		}
	}
	return nil
}

// History calls f for the lines of all commands from a number on, oldest first.
func (s *Service) History(from uint64, f func(Event) error) error {
	return s.store.View(func(tx *store.Tx) error {
		return tx.EachLine(from, func(n uint64, l store.Line) error { return f(Event{n, l}) })
	})
}

// Outcome is one line of the table that an import ends with.
type Outcome struct {
	ID      protocol.Digest
	Kind    protocol.Kind // zero if the request is not known here, as profile, body and subject
	Profile string
	Body    string
	Subject string
	Outcome protocol.Outcome
	Serial  []byte
	Refusal *protocol.Refusal
}

// Outcomes calls f for the results of an import.
func (s *Service) Outcomes(number uint64, f func(Outcome) error) error {
	return s.store.View(func(tx *store.Tx) error {
		return tx.EachResult(number, func(n uint64, stored store.Result) error {
			o, err := outcome(tx, n, stored)
			if err != nil {
				return err
			}
			return f(o)
		})
	})
}

// outcome puts a result beside what was asked. An answer is decoded only where it says more than that.
func outcome(tx *store.Tx, n uint64, stored store.Result) (Outcome, error) {
	o := Outcome{Outcome: stored.Outcome, Serial: stored.Serial}
	if n != 0 {
		asked, err := tx.Asked(n)
		if err != nil {
			return o, err
		}
		o.ID, o.Kind, o.Profile, o.Body, o.Subject = asked.ID, asked.Kind, asked.Profile, asked.Body, asked.Subject
	}
	if n != 0 && o.Outcome != protocol.OutcomeRefused {
		return o, nil
	}
	_, result, err := protocol.ParseAnswer(stored.Answer)
	if err != nil {
		return o, fmt.Errorf("stored answer: %w", err)
	}
	o.ID, o.Refusal = result.ID, result.Refusal
	return o, nil
}
