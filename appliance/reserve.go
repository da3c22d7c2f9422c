package appliance

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The reserve is a file that holds room on the disk of the state directory, whoever fills the rest of it: without room
// nothing is signed, but what takes away goes on (law 6). It is given up when there is too little room to spool a bundle,
// or to burn serials at start, and taken again, as far as there is room, when that is over.

// SpoolReserve is how many bytes of the disk the reserve holds; and beside it, what spooling leaves free.
const SpoolReserve = 64 << 20

func (c *Config) reservePath() string { return filepath.Join(c.Dir, "reserve") }

// room is how many bytes are free beside the reserve. Where others filled the disk it is below zero while the reserve is
// spent.
func (c *Config) room() (int64, error) {
	measure := c.Free
	if measure == nil {
		measure = diskFree
	}
	free, err := measure(c.Dir)
	if err != nil {
		return 0, fmt.Errorf("measure free space: %w", err)
	}
	held, err := c.Reserve()
	return free + held - SpoolReserve, err
}

func diskFree(dir string) (int64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	return int64(fs.Bavail) * fs.Bsize, err
}

// Reserve is how many bytes the reserve holds now.
func (c *Config) Reserve() (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(c.reservePath(), &st); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("measure reserve: %w", err)
	}
	return st.Blocks * 512, nil
}

// keepReserve fills the reserve up with what room there is. That there is none, or that the disk can't promise any, is no
// fault: the doctor tells.
func (e *Engine) keepReserve() error {
	held, err := e.Reserve()
	if err != nil || held >= SpoolReserve {
		return err
	}
	room, err := e.room()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(e.reservePath(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, max(1, SpoolReserve+min(0, room))), f.Close())
	}
	if err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return fault("keep reserve", err)
	}
	return nil
}

// spendReserve gives the room to whoever needs it.
func (e *Engine) spendReserve() error {
	if err := os.Remove(e.reservePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault("spend reserve", err)
	}
	return nil
}
