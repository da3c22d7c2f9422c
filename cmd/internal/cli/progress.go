package cli

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Progress tells how far a long command is: a line that is written over on a terminal, a JSON object a line elsewhere.
// A progress that can't be written is no reason to fail, so its errors are dropped.
type Progress struct {
	w     io.Writer
	what  string
	total uint64 // 0 where it is not known
	tty   bool
	begin time.Time
	last  time.Time
}

// NewProgress begins to count total things, such as "items"; what is a plural noun.
func NewProgress(w io.Writer, what string, total uint64) *Progress {
	f, isFile := w.(*os.File)
	now := time.Now()
	return &Progress{w: w, what: what, total: total, tty: isFile && term.IsTerminal(int(f.Fd())), begin: now, last: now}
}

// At says that n of them are done; most calls only look at the clock.
func (p *Progress) At(n uint64) {
	now := time.Now()
	every := 10 * time.Second
	if p.tty {
		every = time.Second / 5
	}
	if now.Sub(p.last) >= every {
		p.last = now
		p.write(n, now)
	}
}

// Done writes the last line.
func (p *Progress) Done(n uint64) {
	p.write(n, time.Now())
	if p.tty {
		_, _ = fmt.Fprintln(p.w)
	}
}

func (p *Progress) write(n uint64, now time.Time) {
	seconds := now.Sub(p.begin).Seconds()
	rate, left := 0.0, 0.0
	if seconds > 0 {
		rate = float64(n) / seconds
	}
	if rate > 0 && p.total > n {
		left = float64(p.total-n) / rate
	}
	if p.tty {
		_, _ = fmt.Fprintf(p.w, "\r\x1b[K%d of %d %s, %.0f/s, %s left", n, p.total, p.what, rate, (time.Duration(left) * time.Second).String())
		return
	}
	_, _ = fmt.Fprintf(p.w, `{"schema":%d,"progress":%q,"done":%d,"total":%d,"per_second":%.1f,"seconds_left":%.0f}`+"\n", Schema, p.what, n, p.total, rate, left)
}
