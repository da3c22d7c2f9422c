package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// vpcd is the driver of the virtual readers, from Debian's vsmartcard-vpcd.
const vpcd = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so"

// apart starts this program again with a network and mounts of its own: vpcd listens on all addresses, and pcscd has its
// socket in /run, whatever it is told. Nobody else gets at either, and several such worlds run side by side.
func apart(dir string, readers int) (*world, []string, error) {
	runtime.LockOSThread() // the kernel kills a child with the thread that started it
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	c := exec.Command("/proc/self/exe", "--inside", "--dir", dir, "--readers", strconv.Itoa(readers))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return begin(c)
}

// serve is the program inside: it ends with its standard input.
func serve(dir string, readers int) error {
	runtime.LockOSThread()
	h := &hands{dir: dir}
	for i := range readers {
		h.readers = append(h.readers, newReader(i))
	}
	if err := errors.Join(furnish(dir), start(dir, h.readers)); err != nil {
		return err
	}
	control := filepath.Join(dir, "control")
	if err := os.RemoveAll(control); err != nil {
		return err
	}
	listener, err := net.Listen("unix", control)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- h.serve(listener) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	fmt.Printf("PCSCLITE_CSOCK_NAME=%s\nPIVTEST=%s\n", filepath.Join(dir, "run/pcscd/pcscd.comm"), control)
	return <-ended
}

// furnish gives the new namespaces a loopback interface and a /run that lies in dir.
func furnish(dir string) error {
	run := filepath.Join(dir, "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount(run, "/run", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("put %s in the place of /run: %w", run, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback interface: %w", err)
	}
	return nil
}

// readerName is what pcscd calls a reader. Yubico's programs look at readers whose names begin like this.
func readerName(i int) string { return fmt.Sprintf("Yubico Yubikey %c 00 %02d", 'A'+i/2, i%2) }

// start starts pcscd with the readers, of which vpcd has two to a line of configuration, and waits until it answers.
func start(dir string, readers []*reader) error {
	config := filepath.Join(dir, "reader.conf.d")
	if err := os.MkdirAll(config, 0o755); err != nil {
		return err
	}
	library, err := os.ReadFile(vpcd)
	if err != nil {
		return err
	}
	var text string
	for i := 0; i < len(readers); i += 2 {
		// The driver keeps its two readers in a variable: for more it has to be there more than once.
		driver := filepath.Join(dir, fmt.Sprintf("vpcd%d.so", i/2))
		if err := os.WriteFile(driver, library, 0o755); err != nil {
			return err
		}
		text += fmt.Sprintf("FRIENDLYNAME \"Yubico Yubikey %c\"\nDEVICENAME /dev/null:0x%X\nLIBPATH %s\nCHANNELID 0x%X\n", 'A'+i/2, firstPort+i, driver, firstPort+i)
	}
	if err := os.WriteFile(filepath.Join(config, "readers"), []byte(text), 0o644); err != nil {
		return err
	}
	// It says only on its log when it noticed a card.
	c := exec.Command("pcscd", "--foreground", "--info", "--config", config)
	if c.Err != nil {
		c = exec.Command("/usr/sbin/pcscd", c.Args[1:]...)
	}
	said, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	c.Stderr = c.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, errLog := os.Create(filepath.Join(dir, "pcscd.log"))
	if err := errors.Join(errLog, c.Start()); err != nil {
		return err
	}
	go attend(io.TeeReader(said, log), readers)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", "/run/pcscd/pcscd.comm")
		if err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("pcscd does not answer; it says what it says in %s", log.Name())
}

// attend reads on pcscd's log which cards it noticed.
func attend(log io.Reader, readers []*reader) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		for _, r := range readers {
			switch {
			case strings.Contains(lines.Text(), "Card inserted into "+r.name):
				r.notice(true)
			case strings.Contains(lines.Text(), "Card Removed From "+r.name):
				r.notice(false)
			}
		}
	}
}
