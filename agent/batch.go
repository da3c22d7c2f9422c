package agent

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/csr"
)

// Batch is a folder of CSRs with a table of what is asked for each. The table is CSV with a header: csr (name of the
// file in the folder), body, subject, and fields of the profile; an empty value is an absent one.
type Batch struct {
	Wish   Wish // what is the same for all
	Folder string
	Table  string // file name
}

// RowError is what is wrong in one place of the table.
type RowError struct {
	Line, Column int // from 1; column in bytes
	Name         string
	Err          error
}

func (e *RowError) Error() string {
	return fmt.Sprintf("line %d, column %d (%s): %s", e.Line, e.Column, e.Name, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// maxRowErrors is how many mistakes are told at once.
const maxRowErrors = 50

// maxRow is more than a row of a CSR's name, a body, a subject and all fields takes, and maxColumns is how many those are.
const (
	maxRow     = 64 << 10
	maxColumns = 3 + protocol.MaxFields
)

// table reads a batch row by row.
type table struct {
	batch  *Batch
	file   io.ReadCloser
	start  int64 // where the row begins that is being read
	read   int64 // bytes of the file that the reader of CSV was given
	long   error // a row was too long; CSV would say something else
	folder *os.Root
	csv    *csv.Reader
	header []string
}

func (b *Batch) open() (*table, error) {
	file, err := os.Open(b.Table)
	if err != nil {
		return nil, fmt.Errorf("open table: %w", err)
	}
	folder, err := os.OpenRoot(b.Folder)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open folder: %w", err), file.Close())
	}
	t := &table{batch: b, file: file, folder: folder}
	if err := t.readHeader(); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *table) readHeader() error {
	t.csv = csv.NewReader(readerFunc(t.give))
	header, err := t.record()
	if err != nil {
		return &Error{Kind: ErrInput, What: "the table has no header", Err: err, Hint: "its first line is csr,body,subject and fields of the profile"}
	}
	if len(header) > maxColumns {
		return &Error{Kind: ErrInput, What: fmt.Sprintf("the table has %d columns, at most %d", len(header), maxColumns)}
	}
	t.header = slices.Clone(header)
	t.header[0] = strings.TrimPrefix(t.header[0], "\ufeff") // as spreadsheets write it
	for i, name := range t.header {
		if slices.Contains(t.header[:i], name) || !protocol.ValidName(name) {
			err := t.at(i, fmt.Errorf("the header has %q twice, or it is not a name", name))
			return &Error{Kind: ErrInput, What: "table", Err: err}
		}
	}
	for _, name := range []string{"csr", "body", "subject"} {
		if !slices.Contains(t.header, name) {
			return &Error{Kind: ErrInput, What: fmt.Sprintf("the table's header has no column %s", name)}
		}
	}
	return nil
}

// give hands the file to the reader of CSV, which would hold a row of any length: a quotation mark that is never closed
// makes one of the rest of the file. It reads ahead by a buffer of its own.
func (t *table) give(p []byte) (int, error) {
	const ahead = 8 << 10
	room := t.start + maxRow + ahead - t.read
	if room <= 0 {
		t.long = fmt.Errorf("a row has more than %d bytes", maxRow)
		return 0, t.long
	}
	n, err := t.file.Read(p[:min(int64(len(p)), room)])
	t.read += int64(n)
	return n, err
}

func (t *table) record() ([]string, error) {
	t.start = t.csv.InputOffset()
	record, err := t.csv.Read()
	if t.long != nil {
		return nil, t.long
	}
	return record, err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (t *table) close() error { return errors.Join(t.file.Close(), t.folder.Close()) }

func (t *table) at(column int, err error) *RowError {
	line, position := t.csv.FieldPos(column)
	return &RowError{Line: line, Column: position, Name: t.header[column], Err: err}
}

// row is one line of the table with its places.
type row struct {
	wish   Wish
	line   int
	places map[string]*RowError // by name of the column
	err    error
}

// next reads rows until there are n of them; none are left when it returns fewer.
func (t *table) next(n int) ([]*row, error) {
	var rows []*row
	for len(rows) < n {
		record, err := t.record()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, &Error{Kind: ErrInput, What: "the table cannot be read", Err: err}
		}
		r := &row{wish: t.batch.Wish, places: map[string]*RowError{}}
		r.wish.Fields = map[string]string{}
		for i, value := range record {
			r.places[t.header[i]] = t.at(i, nil)
			switch t.header[i] {
			case "csr":
				r.wish.CSR, r.err = t.readCSR(value)
			case "body":
				r.wish.Body = value
			case "subject":
				r.wish.Subject = value
			default:
				if value != "" {
					r.wish.Fields[t.header[i]] = value
				}
			}
		}
		r.line = r.places["csr"].Line
		rows = append(rows, r)
	}
	return rows, nil
}

func (t *table) readCSR(name string) ([]byte, error) {
	f, err := t.folder.Open(name)
	if err != nil {
		return nil, &Error{Kind: ErrInput, What: "CSR", Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4*csr.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read CSR: %w", err)
	}
	return data, nil
}

// fault says where in the row a mistake is.
func (r *row) fault(err error) *RowError {
	place := "subject"
	var carrier *RefusalError
	if errors.As(err, &carrier) {
		field := carrier.Refusal.Params["field"]
		switch code := carrier.Refusal.Code; {
		case code == protocol.CodeBodyNotAllowed || code == protocol.CodeSenderScope:
			place = "body"
		case r.places[field] != nil && code == protocol.CodeSubjectMismatch:
			place = field
		case code != protocol.CodeSubjectMismatch && code != protocol.CodeMalformed:
			place = "csr"
		}
	} else if r.err != nil {
		place = "csr"
	}
	fault := *r.places[place]
	fault.Err = err
	return &fault
}

// RequestBatch stores a request for each row, or none: all rows are checked before the first is stored. A batch that was
// interrupted is given again; what stands already is not made twice.
func (s *Service) RequestBatch(b Batch, progress func(done uint64)) ([]Made, error) {
	if err := s.checkBatch(b); err != nil {
		return nil, err
	}
	t, err := b.open()
	if err != nil {
		return nil, err
	}
	defer t.close()
	var all []Made
	for {
		rows, err := t.next(batch)
		if err != nil || len(rows) == 0 {
			return all, err
		}
		made, err := s.storeRows(rows, b.Table)
		if err != nil {
			return all, err
		}
		all = append(all, made...)
		if progress != nil {
			progress(uint64(len(all)))
		}
	}
}

// checkBatch prepares all rows and throws the result away.
func (s *Service) checkBatch(b Batch) error {
	t, err := b.open()
	if err != nil {
		return err
	}
	defer t.close()
	type holder struct {
		line          int
		body, subject string
	}
	keys := map[protocol.Digest]holder{}
	var errs []error
	count := 0
	for len(errs) < maxRowErrors {
		rows, err := t.next(batch)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		count += len(rows)
		prepared, err := s.prepareRows(rows)
		if err != nil {
			return err
		}
		for i, r := range rows {
			if r.err != nil {
				errs = append(errs, r.fault(r.err))
				continue
			}
			key := prepared[i].asked.Key
			first, known := keys[key]
			if known && (first.subject != r.wish.Subject || first.body != r.wish.Body) && !r.wish.Unchecked {
				fault := *r.places["csr"]
				fault.Err = fmt.Errorf("the same key as in line %d, for another subject", first.line)
				errs = append(errs, &fault)
			}
			keys[key] = holder{r.line, r.wish.Body, r.wish.Subject}
		}
	}
	switch {
	case len(errs) > 0:
		errs = errs[:min(len(errs), maxRowErrors)]
		return &Error{Kind: ErrRefused, What: fmt.Sprintf("nothing was stored, %d mistakes in the table", len(errs)), Err: errors.Join(errs...), Hint: "mend them and give the same command again"}
	case count == 0:
		return &Error{Kind: ErrInput, What: "the table has no rows"}
	}
	return nil
}

// prepareRows checks rows on all cores.
func (s *Service) prepareRows(rows []*row) ([]*prepared, error) {
	all := make([]*prepared, len(rows))
	err := s.store.View(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		var wait sync.WaitGroup
		workers := runtime.GOMAXPROCS(0)
		for w := range workers {
			wait.Go(func() {
				for i := w; i < len(rows); i += workers {
					if rows[i].err == nil {
						all[i], rows[i].err = v.prepare(rows[i].wish)
					}
				}
			})
		}
		wait.Wait()
		return nil
	})
	return all, err
}

// errUnchanged leaves the store as it was.
var errUnchanged = errors.New("nothing changed")

func (s *Service) storeRows(rows []*row, name string) ([]Made, error) {
	all, err := s.prepareRows(rows)
	if err != nil {
		return nil, err
	}
	made := make([]Made, len(rows))
	err = s.store.Update(func(tx *store.Tx) error {
		v, err := s.view(tx)
		if err != nil {
			return err
		}
		line, err := tx.AddLine(&v.meta, store.Line{Time: v.now, Code: "requested", Text: fmt.Sprintf("%d rows of %s", len(rows), name)})
		if err != nil {
			return err
		}
		var anew bool
		for i, r := range rows {
			if r.err != nil {
				return &Error{Kind: ErrFailed, What: "the table or a CSR changed while it was read", Err: r.fault(r.err), Hint: "give the same command again"}
			}
			if made[i], err = v.add(all[i], line); err != nil {
				return err
			}
			anew = anew || made[i].New
		}
		if !anew {
			return errUnchanged
		}
		return tx.PutMeta(v.meta)
	})
	if errors.Is(err, errUnchanged) {
		err = nil
	}
	return made, err
}
