package show

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"coldseal/protocol"
)

// Sheet is what is shown of one thing: named values in their order. It is written as text for people and as JSON for
// programs; both are made from the same rows.
type Sheet []Row

// Row is one named value. Beside Value at most one of the others is set.
type Row struct {
	Name   string   // words in small letters; "_" joins them in JSON
	Value  any      // string, integer, bool, or nil
	Groups string   // of a digest: groups of five digits, on a line of their own
	Rows   Sheet    // what belongs to the value
	List   []string // many values
	Items  []Sheet  // many things
}

// nameWidth is where values begin.
const nameWidth = 15

// Write writes the sheet as text, a line for each value.
func (s Sheet) Write(w io.Writer) error {
	var b bytes.Buffer
	s.write(&b, "", "")
	_, err := w.Write(b.Bytes())
	return err
}

// String is the text of Write.
func (s Sheet) String() string {
	var b bytes.Buffer
	s.write(&b, "", "")
	return b.String()
}

// write puts first before the first line and indent before the others.
func (s Sheet) write(b *bytes.Buffer, first, indent string) {
	for _, r := range s {
		r.write(b, first, indent)
		first = indent
	}
}

func (r Row) write(b *bytes.Buffer, first, indent string) {
	values := r.List
	if r.Value != nil {
		values = append([]string{fmt.Sprint(r.Value)}, values...)
	}
	if r.Groups != "" {
		values = append(values, r.Groups)
	}
	name := first + Text(r.Name)
	blank := strings.Repeat(" ", max(len(indent), nameWidth-1))
	if len(values) == 0 {
		b.WriteString(name + "\n")
	}
	for i, v := range values {
		label := name
		if i > 0 {
			label = blank
		}
		fmt.Fprintf(b, "%-*s %s\n", nameWidth-1, label, Text(v))
	}
	r.Rows.write(b, indent+"  ", indent+"  ")
	for _, item := range r.Items {
		item.write(b, indent+"  - ", indent+"    ")
	}
}

// MarshalJSON writes an object with a member for each row. Rows below a value are a member object of their own, in
// which the value is "value"; groups of digits are the member NAME_groups.
func (s Sheet) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	member := func(name string, v any) error {
		key, err := json.Marshal(strings.ReplaceAll(name, " ", "_"))
		if err != nil {
			return err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("show %s as JSON: %w", name, err)
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, key...), ':'), value...)
		return nil
	}
	for _, r := range s {
		var value any = r.Value
		switch {
		case r.Items != nil:
			value = r.Items
		case r.List != nil:
			value = r.List
		case r.Rows != nil && r.Value == nil:
			value = r.Rows
		case r.Rows != nil:
			value = append(Sheet{{Name: "value", Value: r.Value}}, r.Rows...)
		}
		if err := member(r.Name, value); err != nil {
			return nil, err
		}
		if r.Groups != "" {
			if err := member(r.Name+" groups", r.Groups); err != nil {
				return nil, err
			}
		}
	}
	return append(b, '}'), nil
}

func (s *Sheet) add(name string, value any) { *s = append(*s, Row{Name: name, Value: value}) }

// text leaves out what is empty.
func (s *Sheet) text(name, value string) {
	if value != "" {
		s.add(name, value)
	}
}

func (s *Sheet) list(name string, values []string) {
	if len(values) > 0 {
		*s = append(*s, Row{Name: name, List: values})
	}
}

func (s *Sheet) below(name string, value any, rows Sheet) {
	*s = append(*s, Row{Name: name, Value: value, Rows: rows})
}

func (s *Sheet) items(name string, items []Sheet) {
	if len(items) > 0 {
		*s = append(*s, Row{Name: name, Items: items})
	}
}

// digest shows a digest that people compare: as hexadecimal and as groups of five digits.
func (s *Sheet) digest(name string, d protocol.Digest) {
	*s = append(*s, Row{Name: name, Value: d.String(), Groups: d.Groups()})
}

// time leaves out 0.
func (s *Sheet) time(name string, unix int64) {
	if unix != 0 {
		s.add(name, protocol.Date(unix))
	}
}

// each turns a list into texts.
func each[T any](list []T, text func(T) string) []string {
	var all []string
	for _, v := range list {
		all = append(all, text(v))
	}
	return all
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
