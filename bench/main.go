// Command bench measures the main job with the real programs, and in the same run what the machine can do at best.
//
//	process-bundle-softkey   coldseal-appliance process: from the encrypted bundle on a medium to the encrypted response
//	                         on it, start-up of all processes included
//	process-bundle-softhsm   the same with the keys of CAs in SoftHSM
//	process-bundle-tpm       the same with them in swtpm
//	process-bundle-hsm-paced the same as with SoftHSM, each of whose signatures takes 2 ms longer
//	process-bundle-tpm-paced the same as with swtpm, each of whose signatures takes 1 ms longer
//	import-response          coldseal-agent import of that response
//	backup-create            coldseal-appliance backup create of what came of it
//	backup-check             coldseal-appliance backup check: every share read back, opened and replayed for trial
//
// Each line of its output is one JSON object. limit_seconds is how long the library calls that cannot be left out take
// alone on all processors (limit.go), measured right before and after; ratio is seconds over that. What is measured is a
// new appliance with one agent and one approver; each approval covers 1,024 workstations, each of which has its own key.
// Backups have no limit beside them: what they tell is memory, peak_anon_mib, which does not grow with n.
//
// Where a device signs, device_seconds is how long it takes alone to sign as often, and of_device that over seconds. Its
// limit is the device signing beside the library calls: SoftHSM and swtpm take their time from the same processors. Those
// that are paced do most of their work elsewhere, as devices do.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"
)

// sizes are how many requests a bundle has.
var sizes = []int{1000, 10000, 100000}

// mostPaced is how many a slow device is given.
const mostPaced = 10000

// line is what is printed of one measurement.
type line struct {
	Name         string  `json:"name"`
	N            int     `json:"n"`
	Seconds      float64 `json:"seconds"`
	LimitSeconds float64 `json:"limit_seconds,omitzero"`
	Ratio        float64 `json:"ratio,omitzero"`
	Device       float64 `json:"device_seconds,omitzero"`
	OfDevice     float64 `json:"of_device,omitzero"`
	CPU          float64 `json:"cpu_us_per_item"`
	Peak         float64 `json:"peak_anon_mib"`
}

func main() {
	most := flag.Int("max", sizes[len(sizes)-1], "leave out bundles of more than this `number` of requests")
	programs := flag.String("bin", "bin", "`directory` of the programs")
	only := flag.String("only", "", "measure this `kind` of device alone: softkey, softhsm, tpm, hsm-paced or tpm-paced")
	dir := flag.String("dir", "", "`directory` where requests are prepared and kept for the next run; of the same formats (default: a new one, removed at the end)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx, *most, *only, *programs, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, most int, only, programs, dir string) (err error) {
	if programs, err = filepath.Abs(programs); err != nil {
		return err
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "coldseal-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	for _, kind := range kinds {
		for _, n := range sizes {
			if n > most || only != "" && kind.name != only || kind.waits != 0 && n > mostPaced {
				continue
			}
			w := world{dir: filepath.Join(dir, kind.made, fmt.Sprint(n)), bin: programs, kind: kind, n: n}
			if _, err := os.Stat(w.path(ready)); err != nil {
				if err := w.make(ctx); err != nil {
					return fmt.Errorf("prepare %d requests for %s: %w", n, kind.name, err)
				}
			}
			if err := w.measure(ctx); err != nil {
				return fmt.Errorf("%d requests with %s: %w", n, kind.name, err)
			}
		}
	}
	return nil
}

// measure runs both programs on a copy of the world.
func (w *world) measure(ctx context.Context) (err error) {
	run, err := w.copy()
	if err != nil {
		return err
	}
	defer os.RemoveAll(run.dir) // what is left of it is in a directory that is removed or used again
	csrs, certificate, issuer, err := w.sample()
	if err != nil {
		return err
	}
	stick := run.path(stickDir)
	device, err := run.startDevice(w.kind.waits)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.stop()) }()
	limit, alone := func() error { return issueLimit(csrs, certificate, true) }, time.Duration(0)
	if device.locator != "" {
		limit = func() error { return run.deviceLimit(ctx, device, csrs, certificate) }
		if alone, err = run.alone(ctx, device, w.n); err != nil {
			return err
		}
	}
	err = report("process-bundle-"+w.kind.name, w.n, len(csrs), alone, limit, func() (usage, error) {
		return execute(ctx, filepath.Join(w.bin, "coldseal-appliance"), append([]string{"process", "--media", stick}, run.flags(device)...)...)
	})
	if err != nil {
		return err
	}
	imports := func() (usage, error) {
		return execute(ctx, filepath.Join(w.bin, "coldseal-agent"), "import", "--state", run.path(agentDir), "--media", stick)
	}
	if w.kind.made == softkey {
		err = report("import-response", w.n, len(csrs), 0, func() error { return importLimit(certificate, issuer, len(csrs)) }, imports)
	} else {
		_, err = imports() // what a device signed is imported like anything else
	}
	if err != nil {
		return err
	}
	if err := run.check(); err != nil || w.kind.made != softkey {
		return err
	}
	return run.reportBackup(func(args ...string) (usage, error) {
		return execute(ctx, filepath.Join(w.bin, "coldseal-appliance"), append(args, run.flags(device)...)...)
	})
}

// report measures a program between two measurements of the limit over a sample, and prints a line. A device alone took
// some time, or there is none.
func report(name string, n, sample int, alone time.Duration, limit func() error, program func() (usage, error)) error {
	var took time.Duration
	var cpu float64
	measure := func() error {
		runtime.GC()
		before, start := cpuSeconds(), time.Now()
		err := limit()
		took += time.Since(start)
		cpu += cpuSeconds() - before
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	u, err := program()
	if err != nil {
		return err
	}
	if err := measure(); err != nil {
		return err
	}
	l := line{Name: name, N: n, Seconds: u.seconds, LimitSeconds: took.Seconds() / 2 * float64(n) / float64(sample), CPU: u.cpu * 1e6 / float64(n), Peak: u.peak}
	l.Ratio = l.Seconds / l.LimitSeconds
	if l.Device = alone.Seconds(); alone != 0 {
		l.OfDevice = l.Device / l.Seconds
	}
	// On a machine that does other things as well, processor time says more than the clock.
	fmt.Fprintf(os.Stderr, "%s %d: the limit takes %.1f µs of a processor for each item, the program %.1f\n", name, n, cpu/2*1e6/float64(sample), l.CPU)
	return json.NewEncoder(os.Stdout).Encode(l)
}
