package appliance_test

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/protocol/csr"
)

// The material of the tests on real input: requests that other people's tools made, and who asks for what.

// source is a key that a tool made, and its requests: a key has one subject for ever, so a world uses one of them.
type source struct {
	tool   string
	plain  []string // files
	asking []string // those that ask for names or extensions
}

// asks tells from a file's name whether the request asks for more than a profile gives. certtool asks for the usage of a
// signature and for no CA whatever its template says: every profile gives that.
func asks(file string) bool {
	what := strings.TrimSuffix(file[strings.LastIndexByte(file, '-')+1:], ".csr")
	return slices.Contains([]string{"san", "usages", "challenge", "emptysubject"}, what)
}

func readCSR(t testing.TB, file string) []byte {
	t.Helper()
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(filepath.Join("..", "testdata", "csr", file))))
	if block == nil {
		t.Fatalf("%s is not PEM", file)
	}
	return block.Bytes
}

// sources lists the keys of testdata/csr by type; what no tool made is not among them.
func sources(t testing.TB) map[string][]source {
	t.Helper()
	byType, place := map[string][]source{}, map[string]int{}
	files := must[[]string](t)(filepath.Glob("../testdata/csr/*.csr"))
	slices.Sort(files)
	for _, path := range files {
		file := filepath.Base(path)
		tool, _, _ := strings.Cut(file, "-")
		if tool == "forge" {
			continue
		}
		c, err := csr.Check(readCSR(t, file))
		if err != nil {
			continue // protocol/csr has the table of what it must refuse
		}
		i, known := place[string(c.SPKI)]
		if !known {
			i = len(byType[c.KeyType])
			place[string(c.SPKI)] = i
			byType[c.KeyType] = append(byType[c.KeyType], source{tool: tool})
		}
		if s := &byType[c.KeyType][i]; asks(file) {
			s.asking = append(s.asking, file)
		} else {
			s.plain = append(s.plain, file)
		}
	}
	return byType
}

// bearer is whose names stand in certificates.
type bearer struct{ given, surname, organization, country string }

func bearers(i int) bearer {
	all := [...]bearer{
		{"Γεώργιος", "Παπαδόπουλος", "Περιφέρεια Κρήτης", "GR"},
		{"Мар’яна", "Дем’яненко-Шевченко", "Міністерство цифрової трансформації", "UA"},
		{"Thị Hồng Nhung", "Nguyễn", "Bộ Tài chính", "VN"},
		{"Niccolò", "D'Ambrosio", "Comune di Cortaccia/Kurtatsch", "IT"},
	}
	return all[i%len(all)]
}

// purpose is what a certificate is for, as each judge calls it.
type purpose struct {
	name, openssl, gnutls string
	nss                   string // SECCertUsage, as vfychain counts them
}

func client() purpose    { return purpose{"client", "sslclient", "1.3.6.1.5.5.7.3.2", "0"} }
func server() purpose    { return purpose{"server", "sslserver", "1.3.6.1.5.5.7.3.1", "1"} }
func mail() purpose      { return purpose{"mail", "smimesign", "1.3.6.1.5.5.7.3.4", "4"} }
func responder() purpose { return purpose{"responder", "ocsphelper", "1.3.6.1.5.5.7.3.9", "10"} }

// approving is unknown to NSS. The usages that it grants to any certificate, it grants to one with a bad signature too:
// they prove nothing, so it is asked for a usage that it has rules for.
func approving() purpose { return purpose{"approving", "any", "2.999.2", "0"} }

// usage is a profile of end entities as these tests ask for it.
type usage struct {
	profile  string
	body     string
	officers bool // two of them approve; otherwise the approver
	subject  func(n int) string
	fields   func(n int, b bearer) map[string]string
	common   func(n int, b bearer) string // name in the certificate
	alt      func(n int) string           // other names, as Go prints DNS names and e-mail addresses
	purposes []purpose
}

// numbered is a machine: its name has its number, which is its only field.
func numbered(profile, body, field, name string, officers bool, purposes ...purpose) usage {
	subject := func(n int) string { return fmt.Sprintf(name, n) }
	return usage{
		profile: profile, body: body, officers: officers, subject: subject,
		fields:   func(n int, _ bearer) map[string]string { return map[string]string{"number": fmt.Sprintf(field, n)} },
		common:   func(n int, _ bearer) string { return subject(n) },
		alt:      func(int) string { return "[] []" },
		purposes: purposes,
	}
}

// usages has the profiles that refuse extras first: they cannot take every request.
func usages() []usage {
	withHost := numbered("it-server", unit, "%04d", "058091-CO-%04d", false, client(), server())
	withHost.alt = func(n int) string { return fmt.Sprintf("[anpr-%d.058091.comune.example] []", n) }
	number := withHost.fields
	withHost.fields = func(n int, b bearer) map[string]string {
		fields := number(n, b)
		fields["host"] = fmt.Sprintf("anpr-%d", n)
		return fields
	}
	return []usage{
		{
			profile: "approver", body: unit, officers: true,
			subject:  func(n int) string { return fmt.Sprintf("it:DMBNCL80A01H%03dX", n) },
			fields:   func(_ int, b bearer) map[string]string { return map[string]string{"name": b.surname + " " + b.given} },
			common:   func(_ int, b bearer) string { return b.surname + " " + b.given },
			alt:      func(int) string { return "[] []" },
			purposes: []purpose{approving()},
		},
		{
			profile: "gr-public-servant", body: "gr/y-psd",
			subject: func(n int) string { return fmt.Sprintf("gr:0%08d", n) },
			fields: func(n int, b bearer) map[string]string {
				return map[string]string{"email": fmt.Sprintf("servant.%d@gov.example", n), "given-name": b.given, "organization": b.organization, "surname": b.surname}
			},
			common:   func(_ int, b bearer) string { return b.given + " " + b.surname },
			alt:      func(n int) string { return fmt.Sprintf("[] [servant.%d@gov.example]", n) },
			purposes: []purpose{client(), mail()},
		},
		withHost,
		numbered("it-workstation", unit, "%04d", "058091-PC-%04d", false, client()),
		numbered("ocsp-responder", "it/pki", "%02d", "OCSP responder %02d of it/pki", true, responder()),
		numbered("station", unit, "%02d", "station %02d of "+unit, true, client()),
	}
}
