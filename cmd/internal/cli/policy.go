package cli

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"coldseal/protocol/policy"
)

// LoadPolicy reads a policy from files of YAML. A name library:NAME is a profile that we ship, and library:all is all
// of them.
func LoadPolicy(names []string) (*policy.Policy, error) {
	var files []policy.File
	for _, name := range names {
		shipped, isShipped := strings.CutPrefix(name, "library:")
		switch {
		case isShipped && shipped == "all":
			all, err := policy.Files(policy.Library())
			if err != nil {
				return nil, err
			}
			files = append(files, all...)
		case isShipped:
			data, err := fs.ReadFile(policy.Library(), shipped+".yaml")
			if err != nil {
				return nil, Fail(ExitNotFound, "coldseal policy library lists those that we ship", "there is no profile %s in the library", shipped)
			}
			files = append(files, policy.File{Name: name, Data: data})
		default:
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("read policy: %w", err)
			}
			files = append(files, policy.File{Name: name, Data: data})
		}
	}
	return policy.Load(files...)
}
