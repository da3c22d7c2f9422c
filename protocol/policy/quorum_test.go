package policy

import (
	"fmt"
	"os"
	"testing"

	"coldseal/protocol"
)

// TestQuorumInAnyOrder has up to five persons, in a soak six, do all that they can do, each of them anything, in that
// order, and asks for every number of persons: as many are enough as did what counts. That what is said here of keys,
// certificates and roster is found out rightly is shown where they are (appliance: TestQuorumExhaustively).
func TestQuorumInAnyOrder(t *testing.T) {
	most := 5
	if os.Getenv("FIRE_ALL") == "1" {
		most = 6
	}
	rule := Rule{Roles: []string{RoleApprover, "ra"}, Statements: presence}
	beside := protocol.Scope{Profile: workstations.Profile, Body: "it/0580912"}
	choices := func(person string) [][]Approved {
		good := approval(person, "ra", workstations, presence, 1)
		discounted := func(code protocol.Code) []Approved {
			a := good
			a.Discount = protocol.Refuse(code, "person", person, "status", "x", "from", "x", "to", "x", "expires", "x")
			return []Approved{a}
		}
		return [][]Approved{
			{good}, {good, good}, {good, approval(person, RoleApprover, workstations, presence, 1)}, // these count
			nil,
			discounted(protocol.CodeApproverRevoked), discounted(protocol.CodeApproverExpired), discounted(protocol.CodeApproverSuspended),
			discounted(protocol.CodeApprovalExpired), {{Discount: protocol.Refuse(protocol.CodeApproverUnknown, "key", "x")}},
			{approval(person, "ra", beside, presence, 1)}, {approval(person, "ra", workstations, nil, 1)},
			{approval("it:ASKS", "ra", workstations, presence, 1)}, {approval("it:SUBJECT", "ra", workstations, presence, 1)},
		}
	}
	var all [][][]Approved
	for i := range most {
		all = append(all, choices(fmt.Sprintf("it:P%d", i)))
	}
	decided := 0
	var vote func(i, persons int, cast []Approved)
	vote = func(i, persons int, cast []Approved) {
		if i == most {
			for k := 1; k <= most; k++ {
				rule.Persons = uint64(k)
				decided++
				if refusal := rule.Decide(workstations, "it:SUBJECT", "it:ASKS", cast); (refusal == nil) != (persons >= k) {
					t.Fatalf("%d of %+v: %v", k, cast, refusal)
				}
			}
			return
		}
		for c, more := range all[i] {
			counts := 0
			if c < 3 {
				counts = 1
			}
			vote(i+1, persons+counts, append(cast[:len(cast):len(cast)], more...))
		}
	}
	vote(0, 0, nil)
	t.Logf("%d decisions", decided)
}
