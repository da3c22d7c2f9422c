//go:build cgo

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-piv/piv-go/v2/piv"
	"golang.org/x/sys/unix"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/keyfile"
)

func TestApprove(t *testing.T) {
	p384 := p256()
	p384.Algorithm, p384.PINPolicy = piv.AlgorithmEC384, piv.PINPolicyOnce
	first := newCard(t, 0, "first", "5.4.3", piv.SlotSignature, p256())
	second := newCard(t, 1, "second", "5.7.1", piv.SlotAuthentication, p384)
	rsa := p256()
	rsa.Algorithm = piv.AlgorithmRSA2048
	third := newCard(t, 2, "third", "5.4.3", piv.SlotSignature, rsa)
	d := newDesk(t, first, second, third)
	d.request("a.request", "approver", "it:FTTCRL84C52H501V")
	d.request("b.request", "approver", "it:SMPBRN79S03F205N")
	d.request("pc.request", "it-workstation", "058091-PC-0020")

	stdout, stderr := d.ok("approve $KNOWN --reader A_00_00 --pin-file @pin --request @pc.request --statement fingerprint --yes --out @pc.approval")
	a := d.approval("pc.approval", first)
	if stdout != d.path("pc.approval")+"\n" || len(a.Entries) != 1 || !a.Entries[0].States(protocol.StatementFingerprint) || !strings.Contains(stderr, "CN") && !strings.Contains(stderr, "058091-PC-0020") {
		t.Errorf("approved %+v, said %s%s", a, stdout, stderr)
	}
	// The digest stands there as hexadecimal and as groups of five digits.
	id := a.Entries[0].ID
	if !strings.Contains(stderr, id.String()) || !strings.Contains(stderr, id.Groups()) {
		t.Errorf("the digest is not shown:\n%s", stderr)
	}
	// Each is approved alone, with the PIN again: a key that wants it always signs twice.
	before := tell(t, "count 0")
	stdout, _ = d.ok("approve $KNOWN --reader A_00_00 --pin-file @pin --request @a.request --request @b.request --statement presence,fingerprint --yes --json --out @both")
	var j struct {
		Schema    int
		Approvals []struct{ File string }
	}
	if err := json.Unmarshal([]byte(stdout), &j); err != nil || j.Schema != 1 || len(j.Approvals) != 2 || before == tell(t, "count 0") {
		t.Errorf("%s, %v", stdout, err)
	}
	d.ok("approve $KNOWN --reader A_00_01 --slot 9a --pin-file @pin --request @pc.request --statement fingerprint --yes --out @second.approval")
	d.approval("second.approval", second)
	d.ok("approve $KNOWN --reader B_00_00 --pin-file @pin --request @a.request --request @b.request --statement presence,fingerprint --yes --out @third")
	for _, file := range must[[]os.DirEntry](t)(os.ReadDir(d.path("third"))) {
		d.approval("third/"+file.Name(), third)
	}
	d.ok("card csr --reader B_00_00 --pin-file @pin --out @csr")
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(d.path("csr"))))
	if r, err := csr.Check(block.Bytes); err != nil || string(r.SPKI) != string(spkiOf(t, third)) {
		t.Errorf("request %v", err)
	}
	tell(t, "remove 2")

	// A dry run shows and asks for no PIN.
	code, stdout, stderr := d.run("approve $KNOWN --reader A_00_00 --request @pc.request --statement fingerprint --dry-run")
	if code != 0 || stdout != "" || !strings.Contains(stderr, "058091-PC-0020") {
		t.Errorf("dry run: exit %d, %s%s", code, stdout, stderr)
	}
	// An order is approved with the console's challenge.
	if _, stderr := d.ok("approve $KNOWN --reader A_00_00 --pin-file @pin --request @pc.request --statement fingerprint --yes --challenge abababababababababababababababab --out @again"); strings.Contains(stderr, "warning") {
		t.Errorf("%s", stderr)
	}
	d.fails("approve $KNOWN --reader A_00_00 --request @pc.request --yes --pin 123456 --out @x", 64, "unknown flag: --pin")
}

func TestCard(t *testing.T) {
	public := newCard(t, 0, "card", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t, public)
	stdout, _ := d.ok("card show --reader A_00_00")
	id := protocol.DigestOf(spkiOf(t, public))
	if !strings.Contains(stdout, id.String()) || !strings.Contains(stdout, id.Groups()) || !strings.Contains(stdout, "pin tries left 3") {
		t.Errorf("shown %s", stdout)
	}
	stdout, _ = d.ok("card show --reader A_00_00 --json")
	if !strings.Contains(stdout, `"pin_tries_left":3`) {
		t.Errorf("shown %s", stdout)
	}
	d.ok("card public --reader A_00_00 --out @public")
	if key, err := keyfile.DecodePublic(must[[]byte](t)(os.ReadFile(d.path("public")))); err != nil || !public.(*ecdsa.PublicKey).Equal(key) {
		t.Errorf("public key %v, %v", key, err)
	}
	d.ok("card csr --reader A_00_00 --pin-file @pin --out @csr")
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(d.path("csr"))))
	if r, err := csr.Check(block.Bytes); err != nil || string(r.SPKI) != string(spkiOf(t, public)) {
		t.Errorf("request %v", err)
	}
	roster := protocol.DigestOf(d.state.Roster)
	d.ok("card possess --reader A_00_00 --pin-file @pin --digest " + roster.String() + " --out @proof")
	proof := must[[]byte](t)(os.ReadFile(d.path("proof")))
	key := must[[]byte](t)(os.ReadFile(d.path("public")))
	if err := protocol.VerifyID(proof, protocol.ContextPossession, coseKey(t, key), roster); err != nil {
		t.Error(err)
	}
}

// TestApproverCard has the card of a local administrator, who is no officer: its certificate is on it, or beside it.
func TestApproverCard(t *testing.T) {
	public := newCard(t, 0, "approver", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t)
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	scope := protocol.ApproverScope{Person: "it:FTTCRL84C52H501V", Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}}
	extension := pkix.Extension{Id: must[asn1.ObjectIdentifier](t)(oid(protocol.ScopeOID)), Value: must[[]byte](t)(scope.Encode())}
	before, after := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	approve := "approve $KNOWN --reader A_00_00 --pin-file @pin --request @pc.request --statement fingerprint --yes --out @x"
	put := func(c *x509.Certificate) {
		t.Helper()
		with(t, 0, func(card *piv.YubiKey) error {
			return card.SetCertificate(piv.DefaultManagementKey, piv.SlotSignature, c)
		})
	}
	d.fails(approve, 6, "it has no certificate")
	put(d.certificate(public, d.ca, before, after))
	d.fails(approve, 6, "lets nobody approve")
	put(d.certificate(public, ecKey(t, 77), before, after, extension))
	d.fails(approve, 6, "not from this appliance")
	put(d.certificate(public, d.ca, before, before.Add(time.Minute), extension))
	d.fails(approve, 6, "is good from")
	put(d.certificate(ecKey(t, 55).Public(), d.ca, before, after, extension))
	d.fails(approve, 6, "is that of another key")
	put(d.certificate(public, d.ca, before, after))
	d.write("other.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.certificate(ecKey(t, 55).Public(), d.ca, before, after, extension).Raw}))
	d.fails(approve+" --certificate @other.pem", 6, "that of another key")
	good := d.certificate(public, d.ca, before, after, extension)
	d.write("good.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Raw}))
	if _, stderr := d.ok(strings.Replace(approve, "@x", "@y", 1) + " --certificate @good.pem"); strings.Contains(stderr, "warning") {
		t.Errorf("said %s", stderr)
	}
	put(good)
	d.ok(strings.Replace(approve, "@x", "@z", 1))
	d.approval("z", public)
}

func TestBadCards(t *testing.T) {
	public := newCard(t, 0, "bad", "5.4.3", piv.SlotSignature, p256())
	with(t, 0, func(card *piv.YubiKey) error {
		never := p256()
		never.PINPolicy = piv.PINPolicyNever
		_, err := card.GenerateKey(piv.DefaultManagementKey, piv.SlotCardAuthentication, never)
		return err
	})
	newCard(t, 1, "ed25519", "5.7.1", piv.SlotSignature, piv.Key{Algorithm: piv.AlgorithmEd25519, PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever})
	tell(t, "new 2 old 5.2.7")
	d := newDesk(t, public)
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	approve := func(flags string) string {
		return "approve $KNOWN --pin-file @pin --request @pc.request --statement fingerprint --yes --out @x " + flags
	}
	d.fails(approve("--reader A_00_01"), 6, "of a kind that approves nothing (ed25519.PublicKey); approvals are signed with P-256, P-384, or RSA")
	d.fails(approve("--reader A_00_00 --slot 9d"), 6, "slot 9d holds no key")
	d.fails(approve("--reader A_00_00 --slot 9e"), 6, "signs without the PIN")
	d.fails(approve("--reader A_00_00 --slot 9b"), 6, `there is no slot "9b"`)
	d.fails(approve("--reader B_00_00"), 6, "holds no certificate, and no key that was made there")
	d.fails(approve("--reader D_00_01"), 6, "there is no card in a reader that is called")
	d.fails(approve("--serial 4711"), 6, "not 4711")
	d.fails(approve(""), 6, "there are several cards")
	card := must[*piv.YubiKey](t)(piv.Open(readerName(0)))
	d.fails(approve("--reader A_00_00"), 6, "another program is using")
	if err := card.Close(); err != nil {
		t.Fatal(err)
	}

	// The firmware before 5.3 does not tell its keys: then the certificate does, or the card's attestation.
	with(t, 2, func(card *piv.YubiKey) error {
		_, err := card.GenerateKey(piv.DefaultManagementKey, piv.SlotSignature, p256())
		return err
	})
	d.fails(approve("--reader B_00_00"), 6, "is the wrong card: its key")
	certificate := d.certificate(ecKey(t, 5).Public(), d.ca, time.Now(), time.Now())
	with(t, 2, func(card *piv.YubiKey) error {
		return errors.Join(card.SetPrivateKeyInsecure(piv.DefaultManagementKey, piv.SlotSignature, ecKey(t, 6), p256()), card.SetCertificate(piv.DefaultManagementKey, piv.SlotSignature, certificate))
	})
	// What it signs is then by another key than its certificate says, which is seen before anything is written.
	old := newDesk(t, certificate.PublicKey)
	old.request("pc.request", "it-workstation", "058091-PC-0020")
	code, _, stderr := old.run(approve("--reader B_00_00"))
	if code != 6 || !strings.Contains(stderr, "does not verify") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	if _, err := os.Stat(old.path("x")); !errors.Is(err, os.ErrNotExist) {
		t.Error("an approval by another key is left")
	}

	// Without pcscd, and without a reader.
	t.Setenv("PCSCLITE_CSOCK_NAME", d.path("nobody"))
	d.fails(approve(""), 6, "pcscd, which speaks to smart cards, is not running")
	out, err := exec.Command("go", append([]string{"run", "coldseal/agent/station/pivtest", "--readers", "0", "env", "STATION=run", os.Args[0]}, d.args(approve(""))...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "there is no smart card reader\nhint: ") {
		t.Errorf("no reader: %v: %s", err, out)
	}
}

func TestPIN(t *testing.T) {
	public := newCard(t, 0, "pin", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t, public)
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	d.write("wrong", []byte("000000\n"))
	d.write("short", []byte("0000\n"))
	approve := "approve $KNOWN --reader A_00_00 --request @pc.request --statement fingerprint --yes --out @x --pin-file "
	d.fails(approve+"@short", 6, "6 to 8 characters")
	d.fails(approve+"@wrong", 6, "is wrong: 2 tries are left")
	d.fails(approve+"@wrong", 6, "is wrong: 1 try is left")
	if _, stderr := d.ok(strings.Replace(approve, "@x", "@y", 1) + "@pin"); !strings.Contains(stderr, "warning: the PIN has one try left") {
		t.Errorf("no warning before the last try: %s", stderr)
	}
	for range 2 {
		d.run(approve + "@wrong")
	}
	d.fails(approve+"@wrong", 6, "is locked")
	before := tell(t, "count 0")
	d.fails(approve+"@pin", 6, "is locked")
	if before == tell(t, "count 0") {
		t.Error("the card was not asked")
	}
	// Nobody is asked for a PIN that is locked: there is no terminal here, and no file.
	d.fails(strings.TrimSuffix(approve, "--pin-file "), 6, "is locked")
	with(t, 0, func(card *piv.YubiKey) error { return card.Unblock(piv.DefaultPUK, "123456") })
	d.ok(strings.Replace(approve, "@x", "@z", 1) + "@pin")
}

// TestPulled pulls the card after each command. Each time the person is told so, and when; no approval is left, and with
// the card back the same command approves.
func TestPulled(t *testing.T) {
	public := newCard(t, 7, "pulled", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t, public)
	d.request("a.request", "approver", "it:FTTCRL84C52H501V")
	d.request("b.request", "approver", "it:SMPBRN79S03F205N")
	tell(t, "copy 7 pulled counted")
	// Two approvals: the card may be pulled between them.
	approve := func(reader int, out string) string {
		return "approve $KNOWN --reader " + strings.ReplaceAll(readerName(reader), " ", "_") + " --pin-file @pin --request @a.request --request @b.request --statement presence,fingerprint --yes --out @" + out
	}
	d.ok(approve(7, "counted"))
	n := must[int](t)(strconv.Atoi(tell(t, "count 7")))
	if n < 11 {
		t.Fatalf("%d commands", n)
	}
	var mu sync.Mutex
	said := map[string]int{}
	at := make(chan int)
	var group sync.WaitGroup
	for reader := range 7 {
		group.Go(func() {
			for at := range at {
				tell(t, "copy %d pulled pulled%d", reader, reader)
				tell(t, "pull %d %d", reader, at)
				out := fmt.Sprintf("out%d", at)
				code, stdout, stderr := d.run(approve(reader, out))
				last := stderr[strings.LastIndex(stderr, "error: ")+1:]
				if code != 6 || stdout != "" || !strings.Contains(last, "was pulled while") || !strings.Contains(last, "hint: put the card in and run the same command again; nothing was approved") {
					t.Errorf("pulled at command %d of %d: exit %d, %s%s", at, n, code, stdout, last)
				}
				if _, err := os.Stat(d.path(out)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("pulled at command %d of %d, it leaves approvals: %v", at, n, err)
				}
				_, step, _ := strings.Cut(last, "was pulled while ")
				step, _, _ = strings.Cut(step, "\n")
				mu.Lock()
				said[step]++
				mu.Unlock()
				tell(t, "insert %d pulled%d", reader, reader)
				if code, _, stderr := d.run(approve(reader, out)); code != 0 {
					t.Errorf("back after command %d: exit %d, %s", at, code, stderr)
				}
			}
		})
	}
	for i := range n {
		at <- i + 1
	}
	close(at)
	group.Wait()
	for _, step := range []string{"it was opened", "its certificate was read", "it was asked which key it holds", "it was asked how many tries the PIN has left", "the PIN was verified", "it signed"} {
		if said[step] == 0 {
			t.Errorf("nobody was told that it was pulled while %s: %v", step, said)
		}
	}
}

// TestModule has a card without Yubico's extensions, through OpenSC.
func TestModule(t *testing.T) {
	const opensc = "--module /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so"
	for i := range 8 {
		tell(t, "remove %d", i)
	}
	tell(t, "new 0 plain 5.4.3")
	var public crypto.PublicKey
	with(t, 0, func(card *piv.YubiKey) (err error) {
		public, err = card.GenerateKey(piv.DefaultManagementKey, piv.SlotSignature, p256())
		return err
	})
	d := newDesk(t, public)
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	d.write("wrong", []byte("000000\n"))
	approve := "approve $KNOWN --request @pc.request --statement fingerprint --yes --pin-file @pin --out @x "
	d.fails(approve+opensc, 6, "holds no certificate")
	with(t, 0, func(card *piv.YubiKey) error {
		return card.SetCertificate(piv.DefaultManagementKey, piv.SlotSignature, d.certificate(public, d.ca, time.Now(), time.Now().Add(time.Hour)))
	})
	const ykcs11 = "--module /usr/lib/x86_64-linux-gnu/libykcs11.so"
	d.ok(strings.Replace(approve, "@x", "@ykcs11", 1) + ykcs11)
	d.approval("ykcs11", public)
	for _, algorithm := range []piv.Algorithm{piv.AlgorithmRSA2048, piv.AlgorithmEC384} {
		var other crypto.PublicKey
		with(t, 0, func(card *piv.YubiKey) (err error) {
			kind := p256()
			kind.Algorithm, kind.PINPolicy = algorithm, piv.PINPolicyOnce // OpenSC takes only 9c for a slot that wants it always
			if other, err = card.GenerateKey(piv.DefaultManagementKey, piv.SlotAuthentication, kind); err != nil {
				return err
			}
			return card.SetCertificate(piv.DefaultManagementKey, piv.SlotAuthentication, d.certificate(other, d.ca, time.Now(), time.Now().Add(time.Hour)))
		})
		both := newDesk(t, other)
		both.request("pc.request", "it-workstation", "058091-PC-0020")
		for n, module := range []string{opensc, ykcs11} {
			both.ok(strings.Replace(approve, "@x", fmt.Sprint("@", n), 1) + "--slot 9a " + module)
			both.approval(fmt.Sprint(n), other)
		}
	}
	tell(t, "insert 0 plain plain")
	d.fails(approve, 6, "has not the extensions of a YubiKey")
	d.fails(approve+"--module /nonexistent.so", 6, "does not load")
	d.fails(strings.Replace(approve, "@pin", "@wrong", 1)+opensc, 6, "is wrong")
	d.ok(strings.Replace(approve, "@x", "@y", 1) + opensc)
	d.approval("y", public)
	d.ok("card show " + opensc)
	for range 3 {
		d.run(strings.Replace(approve, "@pin", "@wrong", 1) + opensc)
	}
	d.fails(approve+opensc, 6, "is locked")
	tell(t, "remove 0")
	d.fails(approve+opensc, 6, "knows no card")
}

// TestTerminal has a person at a terminal: asked, and then for the PIN, which is not echoed.
func TestTerminal(t *testing.T) {
	public := newCard(t, 0, "terminal", "5.4.3", piv.SlotSignature, p256())
	d := newDesk(t, public)
	d.request("pc.request", "it-workstation", "058091-PC-0020")
	terminal, said := d.atTerminal("approve $KNOWN --reader A_00_00 --request @pc.request --statement fingerprint --out @x", []string{"Approve this request as it:OFFICER1 (Officer), stating fingerprint? [yes/no] ", "yes\n", "PIN of the card: ", "123456\n"})
	if terminal != 0 || !strings.Contains(said, "slot 9c signs issue it-workstation 058091-PC-0020") || strings.Contains(said, "123456") {
		t.Errorf("exit %d, %s", terminal, said)
	}
	d.approval("x", public)
	// A wrong PIN for the second of two approvals leaves none, and the card locks in their midst: then nobody is asked.
	d.request("a.request", "approver", "it:FTTCRL84C52H501V")
	d.request("b.request", "approver", "it:SMPBRN79S03F205N")
	const both = "approve $KNOWN --reader A_00_00 --request @a.request --request @b.request --statement presence,fingerprint --out @both"
	code, said := d.atTerminal(both, []string{"[yes/no] ", "yes\n", "PIN of the card: ", "123456\n", "PIN of the card: ", "000000\n"})
	if code != 6 || !strings.Contains(said, "signs approval 2 of 2: ") || !strings.Contains(said, "is wrong: 2 tries are left") {
		t.Errorf("exit %d, %s", code, said)
	}
	for range 2 {
		d.atTerminal(both, []string{"[yes/no] ", "yes\n", "PIN of the card: ", "000000\n"})
	}
	if code, said := d.atTerminal(both, []string{"[yes/no] ", "yes\n"}); code != 6 || !strings.Contains(said, "is locked") || strings.Contains(said, "PIN of the card: ") {
		t.Errorf("exit %d, %s", code, said)
	}
	if _, err := os.Stat(d.path("both")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("approvals are left: %v", err)
	}
	with(t, 0, func(card *piv.YubiKey) error { return card.Unblock(piv.DefaultPUK, "123456") })
	if code, said := d.atTerminal(both, []string{"[yes/no] ", "yes\n", "PIN of the card: ", "123456\n", "PIN of the card: ", "123456\n"}); code != 0 {
		t.Errorf("exit %d, %s", code, said)
	}
	if code, said := d.atTerminal("approve $KNOWN --reader A_00_00 --request @pc.request --statement fingerprint --out @y", []string{"[yes/no] ", "no\n"}); code != 1 || !strings.Contains(said, "nothing was approved") {
		t.Errorf("exit %d, %s", code, said)
	}
}

// atTerminal runs a command at a terminal of its own, and types when it has said something.
func (d *desk) atTerminal(line string, talk []string) (code int, said string) {
	d.Helper()
	master := must[*os.File](d)(os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0))
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		d.Fatal(err)
	}
	number := must[int](d)(unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN))
	slave := must[*os.File](d)(os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0))
	c := exec.Command(os.Args[0], d.args(line)...)
	c.Env = append(os.Environ(), "STATION=run")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := errors.Join(c.Start(), slave.Close()); err != nil {
		d.Fatal(err)
	}
	var all strings.Builder
	heard := ""
	buffer := make([]byte, 4096)
	for {
		n, err := master.Read(buffer)
		all.Write(buffer[:n])
		heard += string(buffer[:n])
		if len(talk) > 0 && strings.Contains(heard, talk[0]) {
			for strings.HasPrefix(talk[0], "PIN") && must[*unix.Termios](d)(unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)).Lflag&unix.ECHO != 0 {
				time.Sleep(time.Millisecond) // nobody types so fast
			}
			if _, err := master.WriteString(talk[1]); err != nil {
				d.Fatal(err)
			}
			heard, talk = "", talk[2:]
		}
		if err != nil { // the other end is gone
			break
		}
	}
	err := c.Wait()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return exit.ExitCode(), all.String()
	}
	if err != nil || len(talk) > 0 {
		d.Fatalf("%v: %s", err, all.String())
	}
	return 0, all.String()
}

func oid(text string) (id asn1.ObjectIdentifier, err error) {
	for arc := range strings.SplitSeq(text, ".") {
		n, errArc := strconv.Atoi(arc)
		id, err = append(id, n), errors.Join(err, errArc)
	}
	return id, err
}

func coseKey(t testing.TB, text []byte) cose.Key {
	t.Helper()
	return must[cose.Key](t)(cose.NewKey(must[crypto.PublicKey](t)(keyfile.DecodePublic(text))))
}
