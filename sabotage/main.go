// Command sabotage shows that the tests can fail. It breaks the product on purpose, by one patch at a time, in a copy of
// the tree, and asks each time that the test which the patch names turns red: by a failure, not because something no longer
// builds. A patch that survives, or does not apply, fails the run.
//
// A patch is a diff with two lines on top:
//
//	why: what the product does wrong now
//	test: ./appliance TestRefusals/the approval expired
//
// It is found by its context alone, so that one which the code has left behind fails loudly. To make one, break something,
// write `git diff -- FILE` below the two lines, and take the change back.
//
// Patches are not run against all tests: which test notices is part of what is claimed (docs/security.md).
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	lanes := flag.Int("j", 2, "patches tried at once, each in a copy of its own")
	flag.Parse()
	os.Exit(run(*lanes, flag.Args()))
}

func run(lanes int, names []string) int {
	patches, err := load("sabotage", names)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "coldseal-sabotage-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		os.RemoveAll(dir)
		os.Exit(1)
	}()
	bad, err := try(dir, lanes, patches, func(r result) { fmt.Println(r) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		return 1
	}
	fmt.Printf("%d patches, %d not found by their tests\n", len(patches), bad)
	return min(bad, 1)
}

// result is what became of one patch.
type result struct {
	patch
	verdict string // "red" is what is wanted
	detail  string // what was printed, where it is not red
	took    time.Duration
}

func (r result) String() string {
	line := fmt.Sprintf("%-9s %-26s %-70s %5.1fs  %s", r.verdict, r.name, r.pkg+" "+r.test, r.took.Seconds(), r.why)
	if r.verdict != "red" {
		line += "\n" + r.detail
	}
	return line
}

// try copies the tree that it is started in, asks that all tests named are green there, and then tries the patches. It
// counts those that are not red.
func try(dir string, lanes int, patches []patch, report func(result)) (bad int, err error) {
	copies := make([]tree, lanes)
	for i := range copies {
		if copies[i], err = newTree(fmt.Sprintf("%s/%d", dir, i)); err != nil {
			return 0, err
		}
	}
	if err := copies[0].green(lanes, patches); err != nil {
		return 0, err
	}
	queue, results := make(chan patch), make(chan result)
	var wait sync.WaitGroup
	for _, c := range copies {
		wait.Go(func() {
			for p := range queue {
				start := time.Now()
				r := result{patch: p}
				r.verdict, r.detail = c.sabotage(p)
				r.took = time.Since(start)
				results <- r
			}
		})
	}
	go func() {
		for _, p := range patches {
			queue <- p
		}
		close(queue)
		wait.Wait()
		close(results)
	}()
	for r := range results {
		if report(r); r.verdict != "red" {
			bad++
		}
	}
	return bad, nil
}
