package signer

import (
	"sync"
	"sync/atomic"
)

// parallel calls f for 0 to n-1, at most width at a time, and gives one of its errors; after an error no further call
// begins.
func parallel(n, width int, f func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	work := func() {
		for failed.Load() == nil {
			i := int(next.Add(1)) - 1
			if i >= n {
				return
			}
			if err := f(i); err != nil {
				failed.Store(&err)
			}
		}
	}
	var others sync.WaitGroup
	for range min(n, width) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
