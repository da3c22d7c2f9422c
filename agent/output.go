package agent

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"coldseal/agent/store"
	"coldseal/protocol"
)

// Naming says how files of certificates are named.
type Naming int

// The namings. By subject, an older certificate for the same subject has its serial added.
const (
	BySubject Naming = iota
	BySerial
)

// folder writes many files into one folder and makes them durable together.
type folder struct {
	path  string
	mode  os.FileMode
	names map[string]bool // that were written
}

func openFolder(path string, mode os.FileMode) (*folder, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	return &folder{path: path, mode: mode, names: map[string]bool{}}, nil
}

// write replaces a file, whole or not at all, unless it holds the same.
func (f *folder) write(name string, data []byte) (err error) {
	f.names[name] = true
	target := filepath.Join(f.path, name)
	if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, data) {
		return nil
	}
	part, err := os.CreateTemp(f.path, ".part-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	_, err = part.Write(data)
	if err == nil {
		err = part.Chmod(f.mode)
	}
	if err = errors.Join(err, part.Close()); err == nil {
		err = os.Rename(part.Name(), target)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", target, err), os.Remove(part.Name()))
	}
	return nil
}

// sync makes all of it durable at once: a hundred thousand files are not waited for one by one.
func (f *folder) sync() error {
	d, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync folder %s: %w", f.path, err)
	}
	return nil
}

// WriteCertificates writes all certificates that were imported into a folder, PEM, and returns how many. The requests
// are published from then on.
func (s *Service) WriteCertificates(path string, naming Naming) (int, error) {
	f, err := openFolder(path, 0o644)
	if err != nil {
		return 0, err
	}
	var imports uint64
	err = s.store.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		imports = m.Imports
		if err != nil {
			return err
		}
		newest := map[string][]byte{} // serial of the newest certificate with a name
		if naming == BySubject {
			err = eachCertificate(tx, imports, func(subject string, r protocol.Result) error {
				newest[subject] = r.Serial
				return nil
			})
			if err != nil {
				return err
			}
		}
		return eachCertificate(tx, imports, func(subject string, r protocol.Result) error {
			name := fmt.Sprintf("%x", r.Serial)
			if naming == BySubject && subject != "" {
				if name = subject; !bytes.Equal(newest[subject], r.Serial) {
					name += fmt.Sprintf("-%x", r.Serial)
				}
			}
			return f.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}))
		})
	})
	if err != nil {
		return 0, err
	}
	if err := f.sync(); err != nil {
		return 0, err
	}
	return len(f.names), s.published(path, imports, len(f.names))
}

// eachCertificate calls f for all certificates of the imports, oldest import first; one that came twice is told twice.
// The subject is as it may stand in a file name; it is empty if nothing is left of it or the request is not known here.
func eachCertificate(tx *store.Tx, imports uint64, f func(subject string, r protocol.Result) error) error {
	for i := uint64(1); i <= imports; i++ {
		err := tx.EachResult(i, func(n uint64, stored store.Result) error {
			if stored.Outcome != protocol.OutcomeIssued {
				return nil
			}
			_, result, err := protocol.ParseAnswer(stored.Answer)
			if err != nil {
				return fmt.Errorf("stored answer: %w", err)
			}
			subject := ""
			if n != 0 {
				asked, err := tx.Asked(n)
				if err != nil {
					return err
				}
				subject = fileName(asked.Subject)
			}
			return f(subject, result)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fileName keeps of a subject what may stand in file names everywhere.
func fileName(subject string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, subject)
	return strings.TrimLeft(name[:min(len(name), 100)], ".-")
}

func (s *Service) published(path string, imports uint64, count int) error {
	return s.store.Update(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		now := s.unix()
		var changed bool
		for n := uint64(1); n <= imports; n++ {
			i, err := tx.Import(n)
			if err != nil {
				return err
			}
			if i.Published != 0 {
				continue
			}
			i.Published, changed = now, true
			if err := tx.PutImport(n, i); err != nil {
				return err
			}
		}
		if !changed {
			return nil
		}
		if _, err := tx.AddLine(&m, store.Line{Time: now, Code: "published", Text: fmt.Sprintf("%d certificates to %s", count, path)}); err != nil {
			return err
		}
		return tx.PutMeta(m)
	})
}

// WriteCRLs writes the newest CRLs into a folder, DER, as LABEL.crl, and returns how many.
func (s *Service) WriteCRLs(path string) (int, error) {
	f, err := openFolder(path, 0o644)
	if err != nil {
		return 0, err
	}
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		return tx.EachCRL(func(issuer protocol.Digest, c store.CRL) error {
			return f.write(v.known.label(issuer)+".crl", c.DER)
		})
	})
	if err != nil {
		return 0, err
	}
	return len(f.names), f.sync()
}

// wholeChain is the file with the certificates of all CAs.
const wholeChain = "chain.pem"

// WriteChain writes the certificates of all CAs into a folder, PEM: each as LABEL.pem, and all in chain.pem, the roots
// last. A CA with the label chain stands in that file only.
func (s *Service) WriteChain(path string) (int, error) {
	f, err := openFolder(path, 0o644)
	if err != nil {
		return 0, err
	}
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		var chain []byte
		for i := range v.known.cas {
			c := v.known.cas[len(v.known.cas)-1-i]
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
			chain = append(chain, text...)
			if name := c.label + ".pem"; name != wholeChain {
				if err := f.write(name, text); err != nil {
					return err
				}
			}
		}
		if len(chain) == 0 {
			return &Error{Kind: ErrNotFound, What: "the appliance had no CA yet when it was last heard of", Hint: "import its newest response"}
		}
		return f.write(wholeChain, chain)
	})
	if err != nil {
		return 0, err
	}
	return len(f.names), f.sync()
}

// WritePending writes the requests that wait for approvals into a folder, as <id>.request, and returns how many. Beside
// each is <id>.proof, which proves the certificate that it is about, or the last one of its subject, where there is one.
func (s *Service) WritePending(path string, filter Filter) (int, error) {
	f, err := openFolder(path, 0o644)
	if err != nil {
		return 0, err
	}
	filter.State = StateRequested
	proofs := 0
	err = s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		before, err := v.lasts()
		if err != nil {
			return err
		}
		return v.each(func(r Row) error {
			if !filter.takes(&r) {
				return nil
			}
			proof, err := before.of(r.number, r.Request)
			if err != nil {
				return err
			}
			if proof != nil {
				if err := f.write(r.ID.String()+".proof", proof); err != nil {
					return err
				}
				proofs++
			}
			data, err := tx.Item(r.number)
			if err != nil {
				return err
			}
			item, refusal := protocol.ParseItem(data)
			if refusal != nil {
				return fmt.Errorf("stored item %d: %s", r.number, refusal.Words())
			}
			return f.write(r.ID.String()+".request", item.Request)
		})
	})
	if err != nil {
		return 0, err
	}
	return len(f.names) - proofs, f.sync()
}

// Key returns the private key, PEM of PKCS#8, that was made here for a request.
func (s *Service) Key(id protocol.Digest) (text []byte, err error) {
	err = s.store.View(func(tx *store.Tx) error {
		_, r, err := requestOf(tx, id)
		if err != nil {
			return err
		}
		pkcs8 := tx.Key(r.Key)
		if r.Key.IsZero() || pkcs8 == nil {
			return &Error{Kind: ErrNotFound, What: "the key of this request was not made here", Hint: "it is where its CSR was made"}
		}
		text = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
		return nil
	})
	return text, err
}
