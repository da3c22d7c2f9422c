package policy

import (
	"regexp/syntax"
	"slices"
	"unicode"
)

// automaton accepts what a template can make, case apart, whatever a request gives. Each character it reads is labelled
// with what it belongs to, so that two readings of one name can be compared: were they made of the same body?
type automaton struct {
	states   []state
	start    int
	closures [][]int // by state: reading states and the end, reached without reading
}

// state reads one character of ranges and goes to next; without ranges it goes to next and other without reading.
type state struct {
	label       int    // ref of the part; fields and literals are alike
	ranges      []rune // pairs, ascending
	next, other int    // -1 is nowhere
	end         bool
}

// maxStates bounds an automaton, and maxWork the pairs of states that one proof explores in all of them: a policy may come
// from an agent, which nobody trusts, so a check must not take longer than a second or so.
const (
	maxStates = 4096
	maxWork   = 1 << 19
)

// newAutomaton makes the automaton of a template whose patterns were compiled; false is that it is too large.
func newAutomaton(t template, fields []Field) (*automaton, bool) {
	a := &automaton{}
	for _, p := range t {
		label, expression := p.ref, ""
		switch p.ref {
		case literal:
			expression = quote(p.text)
		case refBody:
			expression = "[a-z0-9-]+"
		case refPath:
			expression = "[a-z0-9-]+(?:/[a-z0-9-]+)*"
		case refPerson:
			expression = "[A-Z0-9.-]+"
		case refScheme:
			expression = "[a-z0-9-]+"
		default:
			label, expression = literal, fields[p.ref].Pattern
		}
		// Maximum lengths are left out: the automaton may accept more than is made, never less.
		parsed, err := syntax.Parse(expression, syntax.Perl|syntax.FoldCase)
		if err != nil {
			return nil, false
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil || len(a.states)+len(program.Inst) >= maxStates {
			return nil, false
		}
		a.add(program, label)
	}
	a.states = append(a.states, state{end: true, next: -1, other: -1})
	a.closures = make([][]int, len(a.states))
	return a, true
}

// add appends a program; its end is where the next one begins.
func (a *automaton) add(program *syntax.Prog, label int) {
	offset := len(a.states)
	// A program's start is anywhere in it, and the part before goes to its first state: an extra one leads there.
	a.states = append(a.states, state{label: label, next: offset + 1 + program.Start, other: -1})
	after := offset + 1 + len(program.Inst)
	for _, inst := range program.Inst {
		s := state{label: label, next: offset + 1 + int(inst.Out), other: -1}
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			s.other = offset + 1 + int(inst.Arg)
		case syntax.InstMatch:
			s.next = after
		case syntax.InstFail:
			s.next = -1
		case syntax.InstRune, syntax.InstRune1:
			s.ranges = inst.Rune
			if len(inst.Rune) == 1 {
				s.ranges = nil
				for _, r := range orbit(inst.Rune[0]) {
					s.ranges = append(s.ranges, r, r)
				}
			}
			if len(s.ranges) == 0 { // a class of nothing
				s.next = -1
			}
		case syntax.InstRuneAny:
			s.ranges = []rune{0, unicode.MaxRune}
		case syntax.InstRuneAnyNotNL:
			s.ranges = []rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
		}
		a.states = append(a.states, s)
	}
}

func quote(text string) string {
	var b []rune
	for _, r := range text {
		if r < 0x80 && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			b = append(b, '\\')
		}
		b = append(b, r)
	}
	return string(b)
}

// closure is where reading can go on from a state.
func (a *automaton) closure(from int) []int {
	if from < 0 {
		return nil
	}
	if a.closures[from] == nil {
		found, todo, seen := []int{}, []int{from}, map[int]bool{}
		for len(todo) > 0 {
			i := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if i < 0 || seen[i] {
				continue
			}
			seen[i] = true
			if s := &a.states[i]; s.end || s.ranges != nil {
				found = append(found, i)
			} else {
				todo = append(todo, s.next, s.other)
			}
		}
		slices.Sort(found)
		a.closures[from] = found
	}
	return a.closures[from]
}

// pair is one state in each of two automata that read the same name, and whether some character was labelled otherwise.
type pair struct {
	a, b   int
	differ bool
}

type step struct {
	pair
	from int // index of the step before; -1 is the beginning
	read rune
}

// common looks for a name that both accept. Unless any will do, it is one that they read otherwise: some character
// belongs to a body, say, in one reading and not in the other. If there is none, then in every name that both accept the
// same characters are the body's, since a body's parts never touch (template), so it is the same body. Work is
// what may still be explored; none left is that the search was given up.
func common(a, b *automaton, any bool, work *int) (name string, found bool) {
	var steps []step
	known := map[pair]bool{}
	enter := func(p pair, from int, read rune) {
		if !known[p] && *work > 0 {
			*work--
			known[p] = true
			steps = append(steps, step{p, from, read})
		}
	}
	for _, i := range a.closure(a.start) {
		for _, j := range b.closure(b.start) {
			enter(pair{i, j, any}, -1, 0)
		}
	}
	for at := 0; at < len(steps); at++ {
		s := steps[at]
		p, q := &a.states[s.a], &b.states[s.b]
		if p.end && q.end {
			if s.differ {
				return spell(steps, at), true
			}
			continue
		}
		if p.end || q.end {
			continue
		}
		read, ok := meet(p.ranges, q.ranges)
		if !ok {
			continue
		}
		differ := s.differ || p.label != q.label
		for _, i := range a.closure(p.next) {
			for _, j := range b.closure(q.next) {
				enter(pair{i, j, differ}, at, read)
			}
		}
	}
	return "", false
}

// meet finds a character in both, one that can be shown if it is easily found.
func meet(a, b []rune) (rune, bool) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		low, high := max(a[i], b[j]), min(a[i+1], b[j+1])
		if low <= high {
			for _, nice := range []rune{'0', 'a', 'A', '-'} {
				if low <= nice && nice <= high {
					return nice, true
				}
			}
			if low < ' ' && high >= ' ' {
				return ' ', true
			}
			return low, true
		}
		if a[i+1] < b[j+1] {
			i += 2
		} else {
			j += 2
		}
	}
	return 0, false
}

func spell(steps []step, at int) string {
	var name []rune
	for ; steps[at].from >= 0; at = steps[at].from {
		name = append(name, steps[at].read)
	}
	slices.Reverse(name)
	return string(name)
}
