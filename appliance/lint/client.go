// Package lint asks the lint worker (cmd/coldseal-lint) about certificates and CRLs before they are signed, and holds
// the discipline that makes the answer mean something: what is linted is the whole certificate with a dummy signature
// (Dummy), and what is released must equal it byte for byte in all but the signature (Same).
//
// zlint lives in a process of its own because it parses whatever a medium carried and drags net/http in; this package
// imports neither. It does not decide what a finding means: that is the profile's business.
package lint

import (
	"context"
	"fmt"
	"sync"
	"time"

	"coldseal/appliance/wire"
)

const (
	// DefaultDeadline is two hundred times what a full batch takes on a slow machine.
	DefaultDeadline = 30 * time.Second
	inFlight        = 2
)

// Client is the parent's end of a lint worker. Several goroutines may use it.
type Client struct {
	// Deadline is for each frame, waiting behind other frames included; passing it is a fault. Set it before use.
	Deadline time.Duration

	conn *wire.Conn
}

// Start runs the worker at path (not looked up in PATH); it lives until Close, a fault, or the end of ctx.
func Start(ctx context.Context, path string) (*Client, error) {
	conn, err := wire.Start(ctx, path, []string{"worker"})
	if err != nil {
		return nil, fmt.Errorf("lint worker: %w", err)
	}
	return &Client{Deadline: DefaultDeadline, conn: conn}, nil
}

// Certificates lints DER certificates and returns the findings of each, nil for one without. Any number may be given.
//
// An error is a refusal of config (*wire.Refused), the end of ctx, or a fault (wire.ErrFault), after which the Client
// is dead and every further call a fault: start another.
func (c *Client) Certificates(ctx context.Context, config Config, ders [][]byte) ([][]Finding, error) {
	return c.lint(ctx, OpCertificates, MaxCertificate, config, ders)
}

// CRLs lints DER certificate revocation lists, as Certificates does.
func (c *Client) CRLs(ctx context.Context, config Config, ders [][]byte) ([][]Finding, error) {
	return c.lint(ctx, OpCRLs, MaxCRL, config, ders)
}

// Pid is the process id of the worker.
func (c *Client) Pid() int { return c.conn.Pid() }

// Err is nil while the worker is usable, afterwards the fault.
func (c *Client) Err() error { return c.conn.Err() }

// Close ends the worker.
func (c *Client) Close() error { return c.conn.Close() }

// lint splits the items into frames and keeps inFlight of them under way, so that the worker has the next one at hand
// while an answer is read.
func (c *Client) lint(ctx context.Context, op uint64, maxItem int, config Config, items [][]byte) ([][]Finding, error) {
	if config.Threshold == 0 {
		config.Threshold = Error
	}
	frames := split(items, maxItem)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	findings := make([][]Finding, len(items))
	next := make(chan []int, len(frames))
	for _, f := range frames {
		next <- f
	}
	close(next)
	var senders sync.WaitGroup
	for range min(inFlight, len(frames)) {
		senders.Go(func() {
			for indexes := range next {
				if err := c.frame(ctx, op, config, items, indexes, findings); err != nil {
					cancel(err) // the first one counts
				}
			}
		})
	}
	senders.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("lint %d items: %w", len(items), err)
	}
	for i, item := range items {
		if len(item) > maxItem {
			findings[i] = []Finding{{Lint: TooLarge, Status: Fatal,
				Details: fmt.Sprintf("%d bytes, at most %d are linted", len(item), maxItem)}}
		}
	}
	return findings, nil
}

// frame lints the items at indexes and puts what was found at the same indexes of findings.
func (c *Client) frame(ctx context.Context, op uint64, config Config, items [][]byte, indexes []int, findings [][]Finding) error {
	batch := Batch{Sets: config.Sets, Ignore: config.Ignore, Threshold: config.Threshold, Items: make([][]byte, len(indexes))}
	for i, index := range indexes {
		batch.Items[i] = items[index]
	}
	var report Report
	if err := c.conn.Call(ctx, c.Deadline, op, batch, &report); err != nil {
		return err
	}
	if len(report.Findings) != len(indexes) {
		return c.conn.Fail(fmt.Errorf("%d reports for %d items", len(report.Findings), len(indexes)))
	}
	for i, found := range report.Findings {
		for _, finding := range found {
			if finding.Lint == "" || finding.Status < config.Threshold || finding.Status > Fatal {
				return c.conn.Fail(fmt.Errorf("finding %q with %v, asked for %v or worse", finding.Lint, finding.Status, config.Threshold))
			}
		}
		if len(found) > 0 {
			findings[indexes[i]] = found
		}
	}
	return nil
}

// split gives the indexes of the items of each frame: at most MaxItems, at most MaxBytes unless it is one item. Items
// over maxItem are in none.
func split(items [][]byte, maxItem int) [][]int {
	var frames [][]int
	var current []int
	size := 0
	for i, item := range items {
		if len(item) > maxItem {
			continue
		}
		if len(current) > 0 && (len(current) == MaxItems || size+len(item) > MaxBytes) {
			frames, current, size = append(frames, current), nil, 0
		}
		current, size = append(current, i), size+len(item)
	}
	if len(current) > 0 {
		frames = append(frames, current)
	}
	return frames
}
