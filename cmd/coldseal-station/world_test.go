//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// TestMain runs the tests where there are virtual readers, and is the command when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("STATION") == "run" {
		main()
	}
	if os.Getenv("PIVTEST") != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("go", append([]string{"run", "coldseal/agent/station/pivtest", "--readers", "8"}, os.Args...)...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tell does something with the readers (agent/station/pivtest/control.go).
func tell(t testing.TB, format string, a ...any) string {
	t.Helper()
	conn, err := net.Dial("unix", os.Getenv("PIVTEST"))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	fmt.Fprintf(conn, format+"\n", a...)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "ok") {
		t.Errorf(format+": %s %v", append(a, answer, err)...)
	}
	return strings.TrimSpace(strings.TrimPrefix(answer, "ok"))
}

func readerName(i int) string { return fmt.Sprintf("Yubico Yubikey %c 00 %02d", 'A'+i/2, i%2) }

// desk is a folder with an appliance's introduction, whose officers are to hold the cards.
type desk struct {
	*testing.T
	dir     string
	digest  protocol.Digest
	genesis []byte
	seal    *ecdsa.PrivateKey
	log     ed25519.PrivateKey
	ca      *ecdsa.PrivateKey
	caCert  *x509.Certificate
	state   protocol.State
	policy  *policy.Policy
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ecKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32)))
}

func spkiOf(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	return must[[]byte](t)(x509.MarshalPKIXPublicKey(public))
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) write(name string, data []byte) {
	d.Helper()
	if err := os.WriteFile(d.path(name), data, 0o600); err != nil {
		d.Fatal(err)
	}
}

// newDesk has an officer for each key.
func newDesk(t *testing.T, officers ...crypto.PublicKey) *desk {
	t.Helper()
	d := &desk{T: t, dir: t.TempDir(), seal: ecKey(t, 8), log: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)), ca: ecKey(t, 20)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	d.caCert = must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, d.ca.Public(), d.ca))))
	roster := &policy.Roster{Version: 1}
	for n, key := range append(officers, ecKey(t, 91).Public(), ecKey(t, 92).Public()) {
		roster.Officers = append(roster.Officers, policy.Officer{Person: fmt.Sprintf("it:OFFICER%d", n+1), Name: "Officer", Keys: [][]byte{spkiOf(t, key)},
			Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}}})
	}
	for kind := protocol.KindCreateKey; kind <= protocol.KindCRL; kind++ {
		roster.Orders = append(roster.Orders, policy.OrderRule{Kind: kind, Persons: 2, Role: "security-officer"})
	}
	d.write("main.yaml", []byte("policy: test\nclock_ahead: 100 days\n"))
	d.policy = must[*policy.Policy](t)(cli.LoadPolicy([]string{d.path("main.yaml"), "library:all"}))
	d.state = protocol.State{Policy: must[[]byte](t)(policy.Encode(d.policy)), Roster: must[[]byte](t)(policy.EncodeRoster(roster)), CAs: [][]byte{d.caCert.Raw}, Labels: []string{"issuing"}}
	d.genesis = must[[]byte](t)(cose.Marshal(protocol.Genesis{Version: 1, Name: "vault", Nonce: [16]byte{7}, Created: 1800000000, Log: spkiOf(t, d.log.Public()),
		Receiver: spkiOf(t, ecKey(t, 7).Public()), Seal: spkiOf(t, d.seal.Public()), Roster: d.state.Roster, Policy: d.state.Policy}))
	d.digest = protocol.DigestOf(d.genesis)
	d.write("introduction", must[[]byte](t)(protocol.MakeIntroduction(d.genesis, nil, d.state, d.seal)))
	d.write("pin", []byte("123456\n"))
	return d
}

// request writes a request; profile approver is approved alone.
func (d *desk) request(name, profile, subject string) {
	d.Helper()
	p := must[*policy.Compiled](d)(policy.Compile(d.policy))
	compiled, found := p.Profile(profile)
	if !found {
		d.Fatalf("no profile %s", profile)
	}
	now := time.Now().Unix()
	r := protocol.Request{Version: 1, Appliance: d.digest, Kind: protocol.KindIssue, Issuer: protocol.DigestOf(spkiOf(d, d.ca.Public())), Profile: profile,
		ProfileDigest: compiled.Digest, Body: "it/058091", Subject: subject, Created: now, Expires: now + 86400}
	copy(r.Nonce[:], subject)
	c := protocol.Issuance{CSR: must[[]byte](d)(person.MakeCSR(must[*ecdsa.PrivateKey](d)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "")), Origin: protocol.OriginHolder}
	if profile == "approver" {
		c.Fields, c.Scopes = map[string]string{"name": "Carla Fittizia"}, []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}
	} else {
		c.Fields = map[string]string{"number": subject[len(subject)-4:]}
	}
	r.Content = must[[]byte](d)(cose.Marshal(c))
	d.write(name, must[[]byte](d)(cose.Marshal(r)))
}

// run runs coldseal-station; @NAME is a file of the desk, $KNOWN the two flags; in
// the name of a reader _ is a space.
func (d *desk) run(line string) (code int, stdout, stderr string) {
	d.Helper()
	var out, words bytes.Buffer
	c := exec.Command(os.Args[0], d.args(line)...)
	c.Env = append(os.Environ(), "STATION=run")
	c.Stdout, c.Stderr = &out, &words
	err := c.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return exit.ExitCode(), out.String(), words.String()
	}
	if err != nil {
		d.Fatal(err)
	}
	return 0, out.String(), words.String()
}

func (d *desk) args(line string) []string {
	line = strings.ReplaceAll(line, "$KNOWN", "--introduction @introduction --digest "+d.digest.String())
	args := strings.Fields(line)
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "@", d.dir+"/")
		if i > 0 && args[i-1] == "--reader" {
			args[i] = strings.ReplaceAll(a, "_", " ")
		}
	}
	return args
}

func (d *desk) ok(line string) (stdout, stderr string) {
	d.Helper()
	code, stdout, stderr := d.run(line)
	if code != 0 {
		d.Fatalf("%s: exit %d\n%s%s", line, code, stdout, stderr)
	}
	return stdout, stderr
}

// fails wants a code, words, and that there is a hint and no approval.
func (d *desk) fails(line string, code int, words string) {
	d.Helper()
	got, stdout, stderr := d.run(line)
	if got != code || !strings.Contains(stderr, words) || !strings.Contains(stderr, "\nhint: ") {
		d.Errorf("%s: exit %d, want %d with %q and a hint\n%s%s", line, got, code, words, stdout, stderr)
	}
	if strings.Contains(stderr, "123456") || strings.Contains(stderr, "000000") {
		d.Errorf("%s tells the PIN\n%s", line, stderr)
	}
	if _, err := os.Stat(d.path("x")); !errors.Is(err, os.ErrNotExist) {
		d.Errorf("%s leaves an approval: %v", line, err)
	}
}

// newCard puts a card into a reader and makes a key on it.
func newCard(t testing.TB, reader int, name, version string, slot piv.Slot, key piv.Key) crypto.PublicKey {
	t.Helper()
	tell(t, "new %d %s %s", reader, name, version)
	var public crypto.PublicKey
	with(t, reader, func(card *piv.YubiKey) error {
		management := piv.DefaultManagementKey
		var err error
		public, err = card.GenerateKey(management, slot, key)
		return err
	})
	return public
}

func with(t testing.TB, reader int, do func(*piv.YubiKey) error) {
	t.Helper()
	card := must[*piv.YubiKey](t)(piv.Open(readerName(reader)))
	if err := errors.Join(do(card), card.Close()); err != nil {
		t.Fatal(err)
	}
}

func p256() piv.Key {
	return piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyAlways, TouchPolicy: piv.TouchPolicyNever}
}

// approval opens an approval that a key signed.
func (d *desk) approval(name string, key crypto.PublicKey) protocol.Approval {
	d.Helper()
	a, refusal := protocol.OpenApproval(must[[]byte](d)(os.ReadFile(d.path(name))), must[cose.Key](d)(cose.NewKey(key)))
	if refusal != nil {
		d.Fatal(refusal.Words())
	}
	return a
}

// certificate makes a certificate for a key by the desk's CA.
func (d *desk) certificate(key crypto.PublicKey, issuer *ecdsa.PrivateKey, from, to time.Time, extensions ...pkix.Extension) *x509.Certificate {
	d.Helper()
	parent := *d.caCert
	parent.PublicKey = nil // whoever issues says so
	template := &x509.Certificate{SerialNumber: big.NewInt(0x4f17), Subject: pkix.Name{CommonName: "Carla Fittizia"}, NotBefore: from, NotAfter: to, ExtraExtensions: extensions}
	return must[*x509.Certificate](d)(x509.ParseCertificate(must[[]byte](d)(x509.CreateCertificate(rand.Reader, template, &parent, key, issuer))))
}
