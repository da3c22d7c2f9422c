package appliance_test

// choice is what one of n persons did about a request.
type choice int

const (
	absent choice = iota
	approved
	approvedTwice     // the same person, by the same key
	approvedByTwoKeys // of theirs
	revoked           // approved by a key whose certificate was revoked since
	expired           // or ended
	suspended         // an officer who is
	outOfScope        // of a person who may approve something else
	otherProfile      // approved the same request under another version of the profile
	old               // an approval that could be used until yesterday
	unstated          // did not state what the rule asks for
	asked             // approved what they themselves asked for
	madeByOne         // approved by the key of a certificate that one officer alone, or too few, wanted made
	choices
)

// quorate is what the law says: k different persons, each of whom may, and did so now, and properly.
func quorate(k int, did []choice) bool {
	persons := 0
	for _, c := range did {
		if [choices]bool{approved: true, approvedTwice: true, approvedByTwoKeys: true}[c] {
			persons++
		}
	}
	return persons >= k
}
