package agent

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// Status is what waits for whom.
type Status struct {
	Name      string
	Appliance protocol.Digest
	States    map[State]uint64 // how many requests
	Waiting   []Waiting        // for approvals
	Bundles   []BundleStatus   // that no response was imported to
	Acks      []uint64         // responses that were imported and the appliance was not told of by a bundle it answered
	Pending   []uint64         // responses that the appliance, at the newest import, knew not to have been imported
	Last      uint64           // number of the last bundle
	Size      uint64           // leaves of the log known here
	Time      int64            // when the newest checkpoint was made; zero before the first response
	CRLs      []CRLStatus
}

// Waiting is requests that wait for the same.
type Waiting struct {
	Kind    protocol.Kind
	Profile string
	Body    string
	Count   uint64
	Have    uint64
	Need    uint64
	Missing string // in words
	Hint    string // whose
}

// BundleStatus is a bundle on its way.
type BundleStatus struct {
	Sequence uint64
	Items    uint64
	Created  int64
	Expires  int64
	Media    []string // where it was written; none if its export was interrupted
}

// CRLStatus is the CRL of a CA. Without one, Number is empty.
type CRLStatus struct {
	Label      string // of the CA
	CA         string // its common name
	Issuer     protocol.Digest
	Number     []byte
	NextUpdate int64
	Days       int64 // until then; negative if it is past
}

// Status tells what waits for whom.
func (s *Service) Status() (st Status, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		m := v.meta
		st = Status{Name: s.party.Name, Appliance: s.id, States: map[State]uint64{}, Acks: m.Acks, Last: m.Last, Size: m.Size, Time: m.Time}
		if err := v.waiting(&st); err != nil {
			return err
		}
		for _, sequence := range slices.Sorted(maps.Keys(v.bundles)) {
			if b := v.bundles[sequence]; !b.Answered {
				st.Bundles = append(st.Bundles, BundleStatus{sequence, b.Items, b.Created, b.Expires, b.Media})
			}
		}
		st.Pending = slices.Clone(v.imports[m.Imports].Pending)
		st.Pending = slices.DeleteFunc(st.Pending, func(n uint64) bool { return slices.Contains(m.Acks, n) })
		return v.crls(&st)
	})
	return st, err
}

func (v *view) waiting(st *Status) error {
	type key struct {
		kind          protocol.Kind
		profile, body string
		have          uint64
		missing       string
	}
	waiting := map[key]*Waiting{}
	err := v.each(func(r Row) error {
		st.States[r.Standing.State]++
		missing := r.Standing.Missing
		if r.Standing.State != StateRequested || missing == nil {
			return nil
		}
		k := key{r.Kind, r.Profile, r.Body, r.Standing.Have, missing.Words()}
		if waiting[k] == nil {
			waiting[k] = &Waiting{
				Kind: r.Kind, Profile: r.Profile, Body: r.Body, Have: r.Standing.Have, Need: r.Standing.Need,
				Missing: missing.Words(), Hint: missing.Hint(),
			}
		}
		waiting[k].Count++
		return nil
	})
	for _, w := range waiting {
		st.Waiting = append(st.Waiting, *w)
	}
	slices.SortFunc(st.Waiting, func(a, b Waiting) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Profile, b.Profile), cmp.Compare(a.Body, b.Body), cmp.Compare(a.Have, b.Have), cmp.Compare(a.Missing, b.Missing))
	})
	return err
}

func (v *view) crls(st *Status) error {
	seen := map[protocol.Digest]bool{}
	for _, c := range v.known.cas {
		if seen[c.id] {
			continue
		}
		seen[c.id] = true
		status := CRLStatus{Label: c.label, CA: c.cert.Subject.CommonName, Issuer: c.id}
		crl, found, err := v.tx.CRL(c.id)
		if err != nil {
			return err
		}
		if found {
			status.Number, status.NextUpdate, status.Days = crl.Number, crl.NextUpdate, (crl.NextUpdate-v.now)/day
			if crl.NextUpdate < v.now {
				status.Days--
			}
		}
		st.CRLs = append(st.CRLs, status)
	}
	return nil
}

// Finding is one thing that the doctor looked at.
type Finding struct {
	What string
	OK   bool
	Hint string // if it is not
}

// clockSlack is how many seconds the clocks of agent and appliance may differ before somebody should look.
const clockSlack = 300

// Doctor looks whether the agent can do its work.
func (s *Service) Doctor() ([]Finding, error) {
	var findings []Finding
	add := func(ok bool, hint, format string, args ...any) {
		findings = append(findings, Finding{What: fmt.Sprintf(format, args...), OK: ok, Hint: hint})
	}
	info, err := os.Stat(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("look at state directory: %w", err)
	}
	add(info.Mode().Perm()&0o077 == 0, "chmod 700 it", "state directory has mode %o", info.Mode().Perm())
	for _, name := range []string{sealFile, receiverFile} {
		_, err := readKey(filepath.Join(s.Dir, name))
		text := "is there and private"
		if err != nil {
			text = err.Error()
		}
		add(err == nil, "restore it from a backup; without it the agent must be enrolled anew", "%s %s", name, text)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(s.Dir, &fs); err != nil {
		return nil, fmt.Errorf("look for free space: %w", err)
	}
	free := uint64(fs.Bavail) * uint64(fs.Bsize)
	add(free > 4*spoolReserve, "make room: a response is spooled before it is read", "%d MiB are free", free>>20)
	st, err := s.Status()
	if err != nil {
		return nil, err
	}
	now := s.unix()
	if st.Time != 0 {
		add(now >= st.Time-clockSlack, "set this machine's clock, or have the appliance's looked at", "this clock shows %s, the newest checkpoint was made %s", protocol.Date(now), protocol.Date(st.Time))
	}
	for _, b := range st.Bundles {
		switch {
		case len(b.Media) == 0:
			add(false, "run coldseal-agent export again", "the export of bundle %d was interrupted", b.Sequence)
		case now >= b.Expires:
			add(false, "import its response if there is one; its requests can be exported anew after that", "bundle %d could be used until %s", b.Sequence, protocol.Date(b.Expires))
		}
	}
	for _, c := range st.CRLs {
		if len(c.Number) != 0 {
			add(c.Days >= 0, "import the newest response", "CRL of %s (%s) ends in %d days", c.Label, c.CA, c.Days)
		}
	}
	return findings, s.stale(add)
}

// stale finds files of bundles whose responses were imported.
func (s *Service) stale(add func(ok bool, hint, format string, args ...any)) error {
	m, err := media.OpenMedium(filepath.Join(s.Dir, bundlesDir))
	if err != nil {
		return err
	}
	defer m.Close()
	files, err := m.List(".")
	if err != nil {
		return err
	}
	add(true, "", "%d bundles are kept for export --again", len(files))
	return nil
}
