package softtoken

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed testdata/faulty.c
var faultySource []byte

// The functions of PKCS#11 that faults are aimed at, by their place in CK_FUNCTION_LIST.
const (
	Any             = 0xffffffff
	GetSlotList     = 4
	GetTokenInfo    = 6
	OpenSession     = 12
	Login           = 18
	DestroyObject   = 22
	FindObjectsInit = 26
	SignInit        = 42
	Sign            = 43
	GenerateKeyPair = 59
	DeriveKey       = 62
)

// What a fault is.
const (
	Return          = 1 // the function does nothing and returns a value
	Alter           = 2 // a signature comes back with a bit turned around
	Hang            = 3 // the function never comes back
	ReturnFromNowOn = 4 // as Return, and so at every later call
	LateFromNowOn   = 5 // the function takes as many microseconds longer, now and at every later call
)

// Faults is how a test tells the library between a program and SoftHSM which fault to have (faulty.c).
type Faults struct {
	memory []byte
	plan   *plan
}

type plan struct {
	left, function, action, value, fired, calls, gone atomic.Uint32
}

// Faulty puts that library before a token. The token is used through the locator of what it returns.
func Faulty(dir string, token Token) (Token, *Faults, error) {
	source, library, file := filepath.Join(dir, "faulty.c"), filepath.Join(dir, "faulty.so"), filepath.Join(dir, "faulty.plan")
	if err := os.WriteFile(source, faultySource, 0o600); err != nil {
		return token, nil, err
	}
	if said, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl").CombinedOutput(); err != nil {
		return token, nil, fmt.Errorf("gcc: %w: %s", err, said)
	}
	if err := os.WriteFile(file, make([]byte, unsafe.Sizeof(plan{})), 0o600); err != nil {
		return token, nil, err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return token, nil, err
	}
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, int(unsafe.Sizeof(plan{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return token, nil, err
	}
	token.Environment += ",FAULTY_PLAN=" + file + ",FAULTY_LIBRARY=" + token.Module
	token.Module = library
	return token, &Faults{memory, (*plan)(unsafe.Pointer(&memory[0]))}, nil
}

// Arm has the nth call of a function from now on, counted from 1, fail.
func (f *Faults) Arm(function, n, action, value uint32) {
	f.plan.left.Store(0)
	f.plan.function.Store(function)
	f.plan.action.Store(action)
	f.plan.value.Store(value)
	f.plan.left.Store(n)
}

// Disarm takes back what did not happen yet.
func (f *Faults) Disarm() { f.plan.left.Store(0) }

// Fired is how many faults there were.
func (f *Faults) Fired() uint32 { return f.plan.fired.Load() }

// Calls is how many calls there were.
func (f *Faults) Calls() uint32 { return f.plan.calls.Load() }

// Unplug takes the token out, or puts it back.
func (f *Faults) Unplug(gone bool) {
	n := uint32(0)
	if gone {
		n = 1
	}
	f.plan.gone.Store(n)
}

// Close lets go of the plan.
func (f *Faults) Close() error { return unix.Munmap(f.memory) }
