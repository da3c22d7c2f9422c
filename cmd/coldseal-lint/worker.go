package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"coldseal/appliance/lint"
	"coldseal/appliance/wire"
	"coldseal/protocol/cose"
)

const (
	// batchesInFlight lets one batch be read while another is linted.
	batchesInFlight = 2
	// The live heap is a few MiB; these keep the garbage of parsing from adding a multiple of it. The limit is soft: a
	// CRL of a quarter million entries may pass it, slowly.
	gcPercent   = 150
	memoryLimit = 24 << 20
)

// work serves the appliance until it closes the socket.
func work() error {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if err := confine(); err != nil {
		return err
	}
	return wire.Serve(wire.Descriptor, batchesInFlight, answer)
}

// confine takes from this process the means to open any more files or sockets. It is a belt against what zlint's many
// imports might do; code run by an attacker is for the sandbox that starts this program to hold.
func confine() error {
	// Making a pipe makes the runtime's poller, which needs descriptors of its own, while there still are any.
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	r.Close()
	w.Close()
	const last = wire.Descriptor + 1
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: last, Max: last}); err != nil {
		return fmt.Errorf("confine: limit of files: %w", err)
	}
	return nil
}

// answer is the wire.Handler.
func answer(op uint64, body []byte) (any, error) {
	var examine examination
	switch op {
	case lint.OpCertificates:
		examine = examineCertificate
	case lint.OpCRLs:
		examine = examineCRL
	default:
		return nil, &wire.Refused{Code: lint.CodeMalformed, Message: fmt.Sprintf("no operation %d", op)}
	}
	var batch lint.Batch
	if err := cose.Unmarshal(body, &batch); err != nil {
		return nil, &wire.Refused{Code: lint.CodeMalformed, Message: err.Error()}
	}
	if len(batch.Items) > lint.MaxItems {
		return nil, &wire.Refused{Code: lint.CodeMalformed, Message: fmt.Sprintf("%d items, at most %d", len(batch.Items), lint.MaxItems)}
	}
	if batch.Threshold < lint.Warn || batch.Threshold > lint.Fatal {
		return nil, &wire.Refused{Code: lint.CodeMalformed, Message: fmt.Sprintf("threshold %d", batch.Threshold)}
	}
	selection, refused := choose(lint.Config{Sets: batch.Sets, Ignore: batch.Ignore, Threshold: batch.Threshold})
	if refused != nil {
		return nil, refused
	}
	return lint.Report{Findings: selection.checkAll(examine, batch.Items)}, nil
}

// checkAll checks the items on all processors.
func (s *selection) checkAll(examine examination, items [][]byte) [][]lint.Finding {
	findings := make([][]lint.Finding, len(items))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(items)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(items); i = int(next.Add(1)) - 1 {
				findings[i] = s.check(examine, items[i])
			}
		})
	}
	workers.Wait()
	return findings
}
