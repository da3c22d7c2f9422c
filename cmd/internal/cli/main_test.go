package cli

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// TestNoCoreDumps has a program say how large a core dump of it may be.
func TestNoCoreDumps(t *testing.T) {
	if os.Getenv("CORE") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestNoCoreDumps$")
		c.Env = append(os.Environ(), "CORE=1")
		if out, err := c.CombinedOutput(); err != nil || string(out) != "0 of 0\n" {
			t.Errorf("%s%v", out, err)
		}
		return
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	os.Args = os.Args[:1]
	Main(&cobra.Command{Use: "program", RunE: func(c *cobra.Command, _ []string) error {
		err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		fmt.Fprintf(c.OutOrStdout(), "%d of %d\n", limit.Cur, limit.Max)
		return err
	}})
}
