package policy

import (
	"fmt"
	"slices"
)

func uses() []string {
	return []string{"machine", "person", "approver", "station", "ocsp", "issuing", "root", "cross"}
}

// String is the use's name in policies.
func (u Use) String() string {
	if names := uses(); u >= 1 && int(u) <= len(names) {
		return names[u-1]
	}
	return fmt.Sprintf("use-%d", uint64(u))
}

// ParseUse is the inverse of String.
func ParseUse(name string) (Use, bool) {
	i := slices.Index(uses(), name)
	return Use(i + 1), i >= 0
}
