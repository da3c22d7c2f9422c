package policy

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed library/*.yaml
var library embed.FS

// Library is the profiles we ship, one file each: root.yaml, issuing-ca.yaml, it-workstation.yaml and so on. They want
// one more file, with policy and clock_ahead, and officers of role security-officer.
func Library() fs.FS {
	sub, err := fs.Sub(library, "library")
	if err != nil {
		panic(err) // the name above is not a path: found by any test
	}
	return sub
}

// Files reads all YAML files of a directory, in the order of their names.
func Files(directory fs.FS) ([]File, error) {
	names, err := fs.Glob(directory, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list policy files: %w", err)
	}
	var files []File
	for _, name := range names {
		data, err := fs.ReadFile(directory, name)
		if err != nil {
			return nil, fmt.Errorf("read policy file: %w", err)
		}
		files = append(files, File{Name: name, Data: data})
	}
	return files, nil
}
