package agent

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"coldseal/protocol"
)

// FuzzTable reads any bytes as the table of a batch: what is read has the columns of its header, within the limits.
func FuzzTable(f *testing.F) {
	f.Add([]byte("\ufeffcsr,body,subject,number\n0.csr,it/058091,058091-PC-0001,0001\n\"1.csr\",it/058091,\"058091-PC-\"\"0002\",\n"))
	f.Add([]byte("csr,body,subject\r\n,,\r\n\n,\"\n\",\n"))
	f.Add([]byte("csr,body,subject,csr\n"))
	folder, err := os.OpenRoot(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = folder.Close() }) // it was only read
	f.Fuzz(func(t *testing.T, data []byte) {
		tab := &table{batch: &Batch{}, file: io.NopCloser(bytes.NewReader(data)), folder: folder}
		err := tab.readHeader()
		for err == nil {
			var rows []*row
			if rows, err = tab.next(batch); len(rows) == 0 {
				break
			}
			for _, r := range rows {
				if len(r.places) != len(tab.header) || len(r.wish.Fields) > protocol.MaxFields || r.line < 2 && !bytes.Contains(data, []byte("\n")) {
					t.Fatalf("a row of %d places, %d fields, in line %d", len(r.places), len(r.wish.Fields), r.line)
				}
				if r.err != nil && r.fault(r.err).Line < 1 {
					t.Fatalf("no place is told: %v", r.err)
				}
			}
		}
		if mistake := new(Error); err != nil && !errors.As(err, &mistake) {
			t.Fatalf("refused with %T: %v", err, err)
		}
	})
}

// FuzzAttach attaches any bytes as an approval, and as signatures beside a request: they may seem to be enough, for
// approvers may be unknown here, and what comes of the request is another's to decide.
func FuzzAttach(f *testing.F) {
	w := newWorld(f)
	w.enrol()
	id := w.request(w.station(1))
	good := w.box.approve(w.approver, []protocol.Digest{id}, []protocol.Count{{Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058091", N: 1}}, protocol.StatementFingerprint)
	signed, err := protocol.SignID(w.approver, protocol.ContextRequester, id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(w.box.approve(newECDSA(f), []protocol.Digest{id}, []protocol.Count{{Kind: protocol.KindIssue, Profile: "it-workstation", Body: "it/058091", N: 1}}))
	f.Fuzz(func(t *testing.T, message []byte) {
		w.t = t
		defer func() { w.t = f }()
		_, first := w.s.Attach(message)
		_, second := w.s.AttachID(message, protocol.ContextRequester)
		for _, err := range []error{first, second} {
			var mistake *Error
			if err != nil && !errors.As(err, &mistake) {
				t.Fatalf("refused with %T: %v", err, err)
			}
		}
		if st := w.standing(id); st.State.Final() || st.State == StateOnMedium {
			t.Fatalf("the request is %s", st.State)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	data, err := encodeKey(newECDSA(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := ParseKey(data)
		if err != nil {
			return
		}
		again, err := encodeKey(key)
		if err != nil {
			t.Fatalf("%x was read and can't be encoded: %v", data, err)
		}
		if _, err := ParseKey(again); err != nil {
			t.Errorf("%x is not read again: %v", again, err)
		}
	})
}
