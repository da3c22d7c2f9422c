package signer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestKilledInMidBatch(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	key := create(t, c, "ca", CA, P256)
	var batches atomic.Int64
	result := make(chan error)
	go func() {
		for {
			signatures, err := c.SignBatch(key.ID(), CA, ECDSASHA256, digests(MaxBatch))
			if err != nil {
				if signatures != nil {
					err = errors.New("signatures with an error")
				}
				result <- err
				return
			}
			batches.Add(1)
		}
	}()
	for batches.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c, <-result, "signal: killed")
}

func TestStoppedInMidBatch(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{Timeout: 300 * time.Millisecond})
	key := create(t, c, "ca", CA, P256)
	if err := syscall.Kill(c.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for stopped := false; !stopped; time.Sleep(time.Millisecond) { // it stops when its threads get to it
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(stat), ") ")
		stopped = strings.HasPrefix(state, "T")
	}
	began := time.Now()
	_, err := c.SignBatch(key.ID(), CA, ECDSASHA256, digests(10))
	if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("fault after %v", took)
	}
	wantFault(t, c, err, "no answer")
	// Its keys are free at once for the next.
	if _, err := start(t, args, Options{}).KeyLabelled("ca", CA); err != nil {
		t.Error(err)
	}
}

func TestSecondSignerOnTheSameKeys(t *testing.T) {
	_, args := home(t)
	start(t, args, Options{})
	if c, err := Start(t.Context(), program, args, Options{}); err == nil {
		c.Close()
		t.Fatal("two signers on one directory")
	} else if trouble, found := AsTrouble(err); !found || trouble.Code != StoreBusy || !strings.Contains(trouble.Mend, "wait until it has ended") {
		t.Fatal(err)
	}
}

// raw starts the signer with a socket of our own, to send what no client would.
func raw(t *testing.T) (*os.File, *exec.Cmd, *strings.Builder) {
	t.Helper()
	_, args := home(t)
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	t.Cleanup(func() { ours.Close() })
	said := new(strings.Builder)
	cmd := exec.Command(program, args...)
	cmd.Stderr, cmd.ExtraFiles = said, []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return ours, cmd, said
}

func TestMalformedRequestsEndTheProcess(t *testing.T) {
	frame := func(op uint64, body ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(16+len(body)))
		b = binary.BigEndian.AppendUint64(b, 1)
		return append(binary.BigEndian.AppendUint64(b, op), body...)
	}
	for name, sent := range map[string][]byte{
		"oversized":         {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1},
		"empty":             make([]byte, 20),
		"cut":               frame(opHello, 0xa1, 0x01, 0x01)[:21],
		"unknown operation": frame(99, 0xa0),
		"no CBOR":           frame(opHello, 0xff),
		"non-shortest":      frame(opHello, 0xa1, 0x01, 0x18, 0x01),
		"trailing byte":     frame(opHello, 0xa1, 0x01, 0x01, 0x00),
		"unknown field":     frame(opHello, 0xa2, 0x01, 0x01, 0x02, 0x01),
		"missing field":     frame(opHello, 0xa0),
		"unsorted":          frame(opCreate, 0xa3, 0x02, 0x60, 0x01, 0x60, 0x03, 0x60),
		"short key id":      frame(opECDH, 0xa2, 0x01, 0x41, 0x00, 0x02, 0x40),
		"deeply nested":     frame(opSign, []byte(strings.Repeat("\x81", 4000))...),
	} {
		t.Run(name, func(t *testing.T) {
			ours, cmd, said := raw(t)
			if _, err := ours.Write(sent); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Shutdown(int(ours.Fd()), syscall.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(ours); len(answer) != 0 {
				t.Errorf("answered %x, %v", answer, err)
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "coldseal-signer: ") {
				t.Errorf("%v, said %q", err, said)
			}
		})
	}
}

func TestEndsWithItsSocket(t *testing.T) {
	ours, cmd, said := raw(t)
	if err := ours.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || said.String() != "" {
		t.Errorf("%v, said %q", err, said)
	}
}

func TestProcessIsClosedToOthers(t *testing.T) {
	dir, args := home(t)
	t.Setenv("COLDSEAL_TEST", "leaked")
	c := start(t, args, Options{})
	create(t, c, "ca", CA, P256)
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.Pid(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if environment := read("environ"); environment != "" {
		t.Errorf("environment %q", environment)
	}
	for line := range strings.Lines(read("limits")) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (f[4] != "0" || f[5] != "0") {
			t.Errorf("core dumps: %s", line)
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // closed meanwhile
		}
		if strings.HasPrefix(target, "socket:") {
			sockets++
		}
	}
	if sockets != 1 {
		t.Errorf("%d sockets, want the appliance's only", sockets)
	}
	for _, name := range []string{"keystore", "counter"} {
		if about, err := os.Stat(filepath.Join(dir, name)); err != nil || about.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, about.Mode(), err)
		}
	}
}
