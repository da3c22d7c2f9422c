package fire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// The tap stands between the appliance and the real signer and writes down all that the signer is asked, before it is
// asked: whatever it may have signed is in what was written. It is this test's own program under another name.

const (
	realDir  = "real"  // beside the tap: the programs themselves
	askedDir = "asked" // in the world: one file for each time that a signer was started
)

// tap is the program. Its exit code is the signer's.
func tap() int {
	runtime.LockOSThread() // the signer dies with the thread that started it
	code, err := relay(filepath.Join(filepath.Dir(os.Args[0]), realDir, "coldseal-signer"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "tap:", err)
		return 1
	}
	return code
}

func relay(program string) (int, error) {
	if err := os.MkdirAll(askedDir, 0o700); err != nil {
		return 0, err
	}
	asked, err := os.CreateTemp(askedDir, "signer-")
	if err != nil {
		return 0, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	appliance, ours, theirs := os.NewFile(wire.Descriptor, "appliance"), os.NewFile(uintptr(pair[0]), "signer"), os.NewFile(uintptr(pair[1]), "tap")
	syscall.CloseOnExec(wire.Descriptor)
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = []string{}, os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	theirs.Close()
	go func() {
		// What fails here is a signer that died; how it died is seen below.
		_, _ = io.Copy(ours, io.TeeReader(appliance, asked))
		_ = syscall.Shutdown(pair[0], syscall.SHUT_WR)
	}()
	_, _ = io.Copy(appliance, ours)
	err = cmd.Wait()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// signRequest is the body of the signer's operation 4 (signer.md).
type signRequest struct {
	Key     [32]byte       `cbor:"1,keyasint"`
	Purpose signer.Purpose `cbor:"2,keyasint"`
	Scheme  signer.Scheme  `cbor:"3,keyasint"`
	Inputs  [][]byte       `cbor:"4,keyasint"`
}

const opSign = 4

// digests are what it asks to sign with a CA's key.
func (s *signRequest) digests() (digests []protocol.Digest) {
	if s.Purpose != signer.CA {
		return nil
	}
	for _, input := range s.Inputs {
		digests = append(digests, protocol.Digest(input)) // P-256: SHA-256 of what is signed
	}
	return digests
}

// asked lists what the signers of a world were asked to sign with a CA's key: digests of the parts to be signed.
func (w *world) asked(t *testing.T) (digests []protocol.Digest) {
	t.Helper()
	files, err := filepath.Glob(w.path(askedDir, "signer-*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("what the signer was asked: %v, %v", files, err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for r := bufio.NewReader(f); ; {
			word, body, err := readFrame(r)
			if err != nil {
				break // the end, or a frame that was cut when somebody was killed: the signer did not get it either
			}
			if word != opSign {
				continue
			}
			var s signRequest
			if err := cose.Unmarshal(body, &s); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			digests = append(digests, s.digests()...)
		}
		f.Close()
	}
	return digests
}

// readFrame reads one message of wire.md.
func readFrame(r io.Reader) (word uint64, body []byte, err error) {
	var head [20]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[:])-16)
	_, err = io.ReadFull(r, body)
	return binary.BigEndian.Uint64(head[12:]), body, err
}
