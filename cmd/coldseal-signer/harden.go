package main

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// checkSocket tells whether descriptor fd is a Unix socket before any key is opened. Somebody who starts this program by
// hand is told who starts it.
func checkSocket(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err == nil && kind == unix.SOCK_STREAM {
		var domain int
		if domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_UNIX {
			return nil
		}
	}
	return fmt.Errorf("descriptor %d is not the appliance's socket\nhint: this program is not run by hand; coldseal-appliance starts it", fd)
}

// harden keeps keys out of core dumps, debuggers and, where it may, out of swap; it says which: "locked" or "swappable".
func harden() (memory string, err error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return "", fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return "", fmt.Errorf("forbid tracing: %w", err)
	}
	if mayLockAll() && unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT) == nil {
		return "locked", nil
	}
	return "swappable", nil
}

// mayLockAll tells whether no limit applies to locked memory. Under a limit, locking might succeed now and let a later
// allocation fail, which ends a Go program.
func mayLockAll() bool {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur == math.MaxUint64 {
		return true
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
