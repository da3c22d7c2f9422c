package fire

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"coldseal/appliance"
	"coldseal/protocol"
)

// diskSize is more than enough for the appliances of these tests.
const diskSize = 1 << 30

// TestNoSpace fills the disk of an appliance, a real one. Nothing is signed then, but a revocation goes through; and with
// room again the same bundle finishes.
func TestNoSpace(t *testing.T) {
	apart(t, func(t *testing.T) {
		t.Run("before", full)
		t.Run("amid signing", fullAmidSigning)
		t.Run("huge bundle", fullForAll)
	})
}

const apartVariable = "FIRE_APART"

// apart runs a test once more, in a process with mounts of its own. It needs no rights where user namespaces are allowed,
// and root elsewhere.
func apart(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(apartVariable) != "" {
		test(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), apartVariable+"="+home.libexec)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if o, err := execute(cmd); err != nil || o.code != 0 || !strings.Contains(o.out, "--- PASS: "+t.Name()) {
		t.Fatalf("with mounts of its own (needs root or user namespaces): %v: exit %d\n%s%s", err, o.code, o.out, o.words)
	}
}

// small gives a world whose appliance has a small disk of its own.
func small(t *testing.T) *world {
	t.Helper()
	w := laden(t, faultItems).copy(t)
	kept := t.TempDir()
	copyTree(t, w.path("appliance"), kept)
	if err := unix.Mount("tmpfs", w.path("appliance"), "tmpfs", 0, fmt.Sprintf("mode=700,size=%d", diskSize)); err != nil {
		t.Fatalf("mount a disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(w.path("appliance"), 0); err != nil {
			t.Error(err)
		}
	})
	copyTree(t, kept, w.path("appliance"))
	w.must(t, "appliance", "status") // which takes the reserve
	return w
}

// fill leaves that much room on the appliance's disk, as if others had filled it.
func (w *world) fill(left int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(w.path("appliance"), &disk); err != nil {
		return err
	}
	used := int64(disk.Blocks-disk.Bfree) * disk.Bsize
	return unix.Mount("", w.path("appliance"), "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", used+left))
}

// free makes room again.
func (w *world) free(t *testing.T) {
	t.Helper()
	if err := unix.Mount("", w.path("appliance"), "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Fatal(err)
	}
}

// refused processes the stick, on which nothing may be signed but a CRL.
func (w *world) refused(t *testing.T) {
	t.Helper()
	before := len(w.asked(t))
	o := w.try(t, journey[1]...)
	if o.code != 1 || !strings.Contains(o.words, "hint: free space on the appliance, then bring the same bundle again; revocations were done") {
		t.Fatalf("exit %d\n%s%s", o.code, o.out, o.words)
	}
	if n := len(w.asked(t)) - before; n > 1 {
		t.Errorf("the signer was asked for %d signatures", n)
	}
	w.reserved(t, appliance.SpoolReserve*3/4) // what was not needed, before others take it
}

// listed reads the CRL that lies in clear on the stick.
func (w *world) listed(t *testing.T) map[string]bool {
	t.Helper()
	files := w.glob(t, "stick/coldseal/*/clear/issuing.crl")
	if len(files) != 1 {
		t.Fatalf("%d CRLs are on the stick", len(files))
	}
	crl, err := x509.ParseRevocationList(readAll(t, files[0]))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, e := range crl.RevokedCertificateEntries {
		listed[hex.EncodeToString(e.SerialNumber.Bytes())] = true
	}
	return listed
}

// full has others fill the disk before a bundle comes.
func full(t *testing.T) {
	for _, left := range []int64{0, 1 << 20, appliance.SpoolReserve + 1<<16} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			w := small(t)
			if err := w.fill(left); err != nil {
				t.Fatal(err)
			}
			w.must(t, journey[0]...)
			for range 2 {
				w.refused(t)
				if listed := w.listed(t); !listed[w.load.listed[0]] || !listed[w.load.listed[1]] {
					t.Errorf("the CRL lists %v, not %v", sorted(listed), w.load.listed)
				}
			}
			// The answer was released: the agent knows.
			w.must(t, journey[2]...)
			outcomes := map[string]int{}
			for _, r := range w.rows(t) {
				outcomes[r.Kind+" "+r.Outcome]++
			}
			if outcomes["revoke revoked"] != 1 || outcomes["issue issued"] != 6 {
				t.Errorf("the agent says %v", outcomes)
			}
			log := w.audit(t)
			if len(log.issued) != 8 || len(log.burned) != 0 {
				t.Errorf("%d certificates, %d serials burned", len(log.issued), len(log.burned))
			}
			o := w.try(t, "appliance", "doctor")
			if o.code != 1 || !strings.Contains(o.out, "trouble") || !strings.Contains(o.out, "revocations are not") {
				t.Errorf("the doctor says nothing: exit %d\n%s", o.code, o.out)
			}
			w.free(t)
			w.arrive(t, 1)
			w.reserved(t, appliance.SpoolReserve)
		})
	}
}

// reserved asks whether the reserve is held again.
func (w *world) reserved(t *testing.T, size int64) {
	t.Helper()
	c := appliance.Config{Dir: w.path("appliance")}
	if held, err := c.Reserve(); err != nil || held < size {
		t.Errorf("%d bytes are reserved, %v", held, err)
	}
}

// fullAmidSigning has others fill the disk between intent and record. The appliance halts; started again it burns what it
// was signing, in the reserve.
func fullAmidSigning(t *testing.T) {
	w := small(t)
	w.must(t, journey[0]...)
	before := len(w.asked(t))
	filled := false
	var failed error
	tr := &tracer{before: func(c call) fate {
		if !filled && c.path == "appliance/ledger.db" && len(w.asked(t)) > before {
			filled, failed = true, w.fill(0)
		}
		return fate{}
	}}
	w.run = tr.run
	o := w.try(t, journey[1]...)
	w.run = nil
	if !filled || failed != nil || o.code != 1 || !strings.Contains(o.words, "no space left on device") || !strings.Contains(o.words, "hint: ") {
		t.Fatalf("filled: %v, %v; exit %d\n%s%s", filled, failed, o.code, o.out, o.words)
	}
	if len(w.glob(t, "stick/coldseal/*/to-agent/desk/0000000004.response")) != 0 {
		t.Error("a response was released")
	}
	w.refused(t)
	w.must(t, "appliance", "log", "export", "--out", "log")
	if log := read(t, w.path("log")); len(log.issued) != 8 || len(log.burned) != faultItems {
		t.Errorf("%d certificates, %d serials burned", len(log.issued), len(log.burned))
	}
	w.free(t)
	w.arrive(t, 1)
	w.reserved(t, appliance.SpoolReserve)
}

// fullForAll brings a bundle which is larger than what room there is, with one revocation and much junk. The revocation
// goes through, and its receipt lies on the stick.
func fullForAll(t *testing.T) {
	for _, left := range []int64{0, 20 << 20} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			w := small(t)
			serial := w.serial(t, "9003")
			revoke := w.forge(t, serial, 70<<20)
			if err := w.fill(left); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				w.refused(t)
				if !w.listed(t)[serial] {
					t.Error("what was revoked is not on the CRL")
				}
				if len(w.glob(t, "stick/coldseal/*/clear/"+revoke.String()+".receipt")) != 1 {
					t.Error("there is no receipt")
				}
			}
			w.audit(t)
			w.free(t)
			w.must(t, journey[1]...)
			if log := w.audit(t); log.outcomes[revoke.String()] != protocol.OutcomeRevoked {
				t.Errorf("the log says %s", log.outcomes[revoke.String()])
			}
			w.reserved(t, appliance.SpoolReserve)
		})
	}
}
