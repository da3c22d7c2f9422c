package media

import (
	"errors"
	"io/fs"
)

// Remove makes name (slash-separated, relative to the medium) be gone, durably. One that is not there is no error; whatever
// is not a regular file is left alone and refused. Kinds as for Write.
func (m *Medium) Remove(name string) error {
	dir, base, err := split(name)
	if err != nil {
		return mediumFailure("remove", name, err)
	}
	folder, err := m.folder(dir, false)
	if err == nil {
		defer folder.Close()
		var f interface{ Close() error }
		if f, _, err = openRegular(folder, base); err == nil {
			err = errors.Join(f.Close(), folder.Remove(base))
		}
		if err == nil {
			err = syncFolder(folder)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return mediumFailure("remove", name, err)
	}
	return m.present("remove", name)
}
