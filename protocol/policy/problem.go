package policy

import "fmt"

// Problem is something in a policy or roster that breaks a law or can't work.
type Problem struct {
	Where string // such as "profile it-workstation, subject CN", or "roster, orders of kind policy"
	Law   int    // of DESIGN section 3; 0 is none of them
	Words string // what is wrong
	Hint  string // what to do
}

// Error is the problem in one line.
func (p Problem) Error() string {
	law := ""
	if p.Law != 0 {
		law = fmt.Sprintf(" (law %d)", p.Law)
	}
	return fmt.Sprintf("%s: %s%s; %s", p.Where, p.Words, law, p.Hint)
}

// report collects problems.
type report []Problem

func (r *report) add(law int, where, hint, format string, a ...any) {
	*r = append(*r, Problem{Where: where, Law: law, Words: fmt.Sprintf(format, a...), Hint: hint})
}
