package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coldseal/protocol/cose"
)

// The operations of the worker that this test binary becomes when started as `wire.test worker MODE`.
const (
	opEcho = iota + 1
	opRefuse
	opFail
	opPanic
	opSleep // body: milliseconds
	opRunning
	opEnvironment
	opExtra
	opDescriptors
)

type text struct {
	Value string `cbor:"1,keyasint"`
}

type number struct {
	Value uint64 `cbor:"1,keyasint"`
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		os.Exit(worker(os.Args[2]))
	}
	os.Exit(m.Run())
}

func worker(mode string) int {
	var err error
	switch mode {
	case "honest":
		err = honest(1)
	case "pool":
		err = honest(4)
	default:
		err = lie(mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		return 1
	}
	return 0
}

func honest(inFlight int) error {
	var mu sync.Mutex
	var running, most uint64
	return Serve(Descriptor, inFlight, func(op uint64, body []byte) (any, error) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		switch op {
		case opEcho:
			var t text
			if err := cose.Unmarshal(body, &t); err != nil {
				return nil, err
			}
			return t, nil
		case opRefuse:
			return nil, fmt.Errorf("wrapped: %w", &Refused{Code: "no-key", Message: "no such key"})
		case opFail:
			return nil, errors.New("disk on fire")
		case opPanic:
			panic("bug")
		case opSleep:
			var n number
			if err := cose.Unmarshal(body, &n); err != nil {
				return nil, err
			}
			time.Sleep(time.Duration(n.Value) * time.Millisecond)
			return struct{}{}, nil
		case opRunning:
			return number{most}, nil
		case opEnvironment:
			return text{strings.Join(os.Environ(), "\n")}, nil
		case opExtra:
			content, err := io.ReadAll(os.NewFile(Descriptor+1, "extra"))
			if err != nil {
				return nil, err
			}
			return text{string(content)}, nil
		case opDescriptors:
			open, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				return nil, err
			}
			var found []string
			for _, d := range open {
				// One that closes on exec was opened by this process.
				descriptor, err := strconv.Atoi(d.Name())
				if err != nil {
					return nil, err
				}
				flags, err := unix.FcntlInt(uintptr(descriptor), unix.F_GETFD, 0)
				if err == nil && flags&unix.FD_CLOEXEC == 0 {
					found = append(found, d.Name())
				}
			}
			return text{strings.Join(found, " ")}, nil
		}
		return nil, &Refused{Code: "unknown-operation"}
	})
}

// lie answers the first request wrongly and then stays alive, so that only the lie can be the fault.
func lie(mode string) error {
	file := os.NewFile(Descriptor, "parent")
	request, err := readFrame(file)
	if err != nil {
		return err
	}
	good, err := cose.Marshal(text{"x"})
	if err != nil {
		return err
	}
	answer := frame{id: request.id, word: wordReply, body: good}
	var raw []byte
	switch mode {
	case "wrong-id":
		answer.id++
	case "wrong-word":
		answer.word = 2
	case "wrong-type":
		answer.body = []byte{0x01}
	case "not-shortest":
		answer.body = append([]byte{0xa1, 0x01, 0x78, 0x01}, 'x')
	case "trailing":
		answer.body = append(good, 0x00)
	case "unknown-field":
		answer.body = []byte{0xa2, 0x01, 0x61, 'x', 0x02, 0x01}
	case "bad-refusal":
		answer.word = wordRefusal
	case "empty":
		raw = []byte{0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	case "huge":
		raw = []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	case "torn":
		if raw, err = answer.encode(); err != nil {
			return err
		}
		raw = raw[:len(raw)-1]
	case "twice":
		if raw, err = answer.encode(); err != nil {
			return err
		}
		raw = append(raw, raw...)
	default:
		return fmt.Errorf("no such lie %q", mode)
	}
	if raw == nil {
		if raw, err = answer.encode(); err != nil {
			return err
		}
	}
	if _, err := file.Write(raw); err != nil {
		return err
	}
	if mode == "torn" {
		return nil
	}
	_, err = io.Copy(io.Discard, file)
	return err
}

func start(t *testing.T, mode string, files ...*os.File) *Conn {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Start(t.Context(), path, []string{"worker", mode}, files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantFault(t *testing.T, c *Conn, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, ErrFault) {
		t.Fatalf("got %v, want a fault", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("fault %q does not say %q", err, word)
		}
	}
	var got text
	if err := c.Call(t.Context(), time.Minute, opEcho, text{"again"}, &got); !errors.Is(err, ErrFault) {
		t.Errorf("call after a fault: got %v, want a fault", err)
	}
	if !errors.Is(c.Err(), ErrFault) {
		t.Errorf("Err after a fault: %v", c.Err())
	}
	deadline := time.Now().Add(5 * time.Second)
	for syscall.Kill(c.Pid(), 0) == nil {
		if time.Now().After(deadline) {
			t.Fatal("the worker outlives its fault")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCall(t *testing.T) {
	c := start(t, "honest")
	var got text
	for _, want := range []string{"", "x", strings.Repeat("long ", 1_000_000)} {
		if err := c.Call(t.Context(), time.Minute, opEcho, text{want}, &got); err != nil {
			t.Fatal(err)
		}
		if got.Value != want {
			t.Fatalf("got %d bytes back, want %d", len(got.Value), len(want))
		}
	}
	if err := c.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if state := c.child.cmd.ProcessState; !state.Success() {
		t.Errorf("worker ended with %v", state)
	}
	if err := c.Call(t.Context(), time.Minute, opEcho, text{}, &got); !errors.Is(err, ErrFault) {
		t.Errorf("call after Close: %v", err)
	}
}

func TestRefusalLeavesTheWorkerAlive(t *testing.T) {
	c := start(t, "honest")
	err := c.Call(t.Context(), time.Minute, opRefuse, text{}, new(struct{}))
	refused, ok := errors.AsType[*Refused](err)
	if !ok || refused.Code != "no-key" || refused.Message != "no such key" || errors.Is(err, ErrFault) {
		t.Fatalf("got %v, want the refusal no-key", err)
	}
	var got text
	if err := c.Call(t.Context(), time.Minute, opEcho, text{"after"}, &got); err != nil || got.Value != "after" {
		t.Fatalf("after a refusal: %q, %v", got.Value, err)
	}
}

func TestTooLargeIsNotSent(t *testing.T) {
	c := start(t, "honest")
	var got text
	err := c.Call(t.Context(), time.Minute, opEcho, text{strings.Repeat("x", MaxFrame)}, &got)
	if err == nil || errors.Is(err, ErrFault) {
		t.Fatalf("got %v, want an error that is no fault", err)
	}
	if err := c.Call(t.Context(), time.Minute, opEcho, text{"small"}, &got); err != nil {
		t.Fatal(err)
	}
}

func TestFaults(t *testing.T) {
	t.Run("error of the handler", func(t *testing.T) {
		c := start(t, "honest")
		wantFault(t, c, c.Call(t.Context(), time.Minute, opFail, text{}, new(struct{})), "exit status 1", "disk on fire")
	})
	t.Run("panic", func(t *testing.T) {
		c := start(t, "honest")
		wantFault(t, c, c.Call(t.Context(), time.Minute, opPanic, text{}, new(struct{})), "exit status 2", "panic: bug")
	})
	t.Run("request that can't be decoded", func(t *testing.T) {
		c := start(t, "honest")
		wantFault(t, c, c.Call(t.Context(), time.Minute, opEcho, 1, new(text)), "exit status 1")
	})
	t.Run("killed in mid-call", func(t *testing.T) {
		c := start(t, "honest")
		time.AfterFunc(50*time.Millisecond, func() { syscall.Kill(c.Pid(), syscall.SIGKILL) })
		wantFault(t, c, c.Call(t.Context(), time.Minute, opSleep, number{60_000}, new(struct{})), "signal: killed")
	})
	t.Run("stopped", func(t *testing.T) {
		c := start(t, "honest")
		syscall.Kill(c.Pid(), syscall.SIGSTOP)
		began := time.Now()
		err := c.Call(t.Context(), 200*time.Millisecond, opEcho, text{}, new(text))
		if took := time.Since(began); took < 200*time.Millisecond || took > 5*time.Second {
			t.Errorf("fault after %v", took)
		}
		wantFault(t, c, err, "no answer to operation 1 within 200ms")
	})
	t.Run("stopped, with more to write than the socket holds", func(t *testing.T) {
		c := start(t, "honest")
		syscall.Kill(c.Pid(), syscall.SIGSTOP)
		big := text{strings.Repeat("x", 8<<20)}
		wantFault(t, c, c.Call(t.Context(), 200*time.Millisecond, opEcho, big, new(text)), "within 200ms")
	})
	t.Run("context of Start ends", func(t *testing.T) {
		path, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		c, err := Start(ctx, path, []string{"worker", "honest"})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, cancel)
		wantFault(t, c, c.Call(t.Context(), time.Minute, opSleep, number{60_000}, new(struct{})), "context canceled")
	})
	t.Run("declared by the client", func(t *testing.T) {
		c := start(t, "honest")
		wantFault(t, c, c.Fail(errors.New("two results for three requests")), "two results for three requests")
	})
	for _, mode := range []string{"wrong-id", "wrong-word", "wrong-type", "not-shortest", "trailing", "unknown-field",
		"bad-refusal", "empty", "huge", "torn"} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode)
			wantFault(t, c, c.Call(t.Context(), 10*time.Second, opEcho, text{"x"}, new(text)))
		})
	}
	t.Run("an answer too many", func(t *testing.T) {
		c := start(t, "twice")
		if err := c.Call(t.Context(), 10*time.Second, opEcho, text{"x"}, new(text)); err != nil && !errors.Is(err, ErrFault) {
			t.Fatal(err)
		}
		<-c.Dead()
		wantFault(t, c, c.Err(), "never made")
	})
}

func TestImpatientCallerLeavesTheWorkerAlive(t *testing.T) {
	c := start(t, "honest")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := c.Call(ctx, time.Minute, opSleep, number{200}, new(struct{}))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrFault) {
		t.Fatalf("got %v, want the error of the context", err)
	}
	var got text
	if err := c.Call(t.Context(), time.Minute, opEcho, text{"next"}, &got); err != nil || got.Value != "next" {
		t.Fatalf("next call: %q, %v", got.Value, err)
	}
}

func TestConcurrency(t *testing.T) {
	for mode, want := range map[string]uint64{"honest": 1, "pool": 4} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode)
			var calls sync.WaitGroup
			for i := range 32 {
				calls.Go(func() {
					if err := c.Call(t.Context(), time.Minute, opSleep, number{20}, new(struct{})); err != nil {
						t.Error(err)
					}
					var got text
					want := fmt.Sprint(i)
					if err := c.Call(t.Context(), time.Minute, opEcho, text{want}, &got); err != nil || got.Value != want {
						t.Errorf("got %q, %v, want %q", got.Value, err, want)
					}
				})
			}
			calls.Wait()
			var most number
			if err := c.Call(t.Context(), time.Minute, opRunning, struct{}{}, &most); err != nil {
				t.Fatal(err)
			}
			if most.Value != want {
				t.Errorf("%d handlers ran at once, want %d", most.Value, want)
			}
		})
	}
}

func TestChildGetsFilesAndNoEnvironment(t *testing.T) {
	t.Setenv("COLDSEAL_SECRET", "leaked")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, "honest", r)
	r.Close()
	if _, err := w.WriteString("through descriptor 4"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var got text
	if err := c.Call(t.Context(), time.Minute, opExtra, struct{}{}, &got); err != nil || got.Value != "through descriptor 4" {
		t.Fatalf("got %q, %v", got.Value, err)
	}
	if err := c.Call(t.Context(), time.Minute, opEnvironment, struct{}{}, &got); err != nil || got.Value != "" {
		t.Fatalf("environment %q, %v", got.Value, err)
	}
}

func TestChildInheritsNothingElse(t *testing.T) {
	careless, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(careless)
	c := start(t, "honest")
	var got text
	if err := c.Call(t.Context(), time.Minute, opDescriptors, struct{}{}, &got); err != nil {
		t.Fatal(err)
	}
	if got.Value != "0 1 2" { // 3 is marked by Serve
		t.Errorf("inherited descriptors %s, want 0 1 2", got.Value)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, path := range []string{"true", "/nonexistent/worker", "."} {
		if c, err := Start(t.Context(), path, nil); err == nil {
			c.Close()
			t.Errorf("started %q", path)
		}
	}
}

func TestServeWithoutParent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Serve(r.Fd(), 1, nil); err == nil || !strings.Contains(err.Error(), "not the socket of a parent") {
		t.Fatalf("got %v", err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		start(t, "honest").Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func TestRing(t *testing.T) {
	var r ring
	var all []byte
	for i := range 3000 {
		line := fmt.Appendf(nil, "line %d\n", i)
		all = append(all, line...)
		if n, err := r.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := string(all[len(all)-ringSize:]); r.String() != want {
		t.Errorf("kept %d bytes, not the last %d", len(r.String()), ringSize)
	}
	r.Write(all)
	if want := string(all[len(all)-ringSize:]); r.String() != want {
		t.Error("one long write is not kept by its end")
	}
}

func FuzzReadFrame(f *testing.F) {
	example, err := frame{id: 1, word: 2, body: []byte{0xa1, 0x01, 0x41, 0x00}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add(example[:len(example)-1])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		got, err := readFrame(r)
		if err != nil {
			return
		}
		again, err := got.encode()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		if read := data[:len(data)-r.Len()]; !bytes.Equal(again, read) {
			t.Fatalf("read %x, wrote %x", read, again)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	c, err := Start(b.Context(), path, []string{"worker", "honest"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for b.Loop() {
		if err := c.Call(b.Context(), time.Minute, opEcho, text{"x"}, new(text)); err != nil {
			b.Fatal(err)
		}
	}
}
