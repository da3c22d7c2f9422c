package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

// TestTakeHead keeps beginnings of all lengths. What follows is kept nowhere and authenticated all the same: cut or
// changed anywhere, nothing is given.
func TestTakeHead(t *testing.T) {
	k, dir := newKey(t), t.TempDir()
	m, spool, key := openMedium(t, dir), newSpool(t, 0), software(t, k)
	plaintext := pattern(200_000)
	data := sealed(t, k.PublicKey(), plaintext)
	put(t, dir, "file", string(data))
	size := int64(len(plaintext))
	for _, keep := range []int64{0, 1, 65536, size - 1, size, size + 1} {
		f, all, err := spool.TakeHead(t.Context(), m, "file", MaxBundleBytes, keep, key)
		if err != nil {
			t.Fatalf("%d bytes: %v", keep, err)
		}
		want := plaintext[:min(keep, size)]
		if got, err := io.ReadAll(f.Reader()); err != nil || !bytes.Equal(got, want) || f.Size() != int64(len(want)) || all != size {
			t.Errorf("%d bytes: kept %d of %d, %v", keep, len(got), all, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	take := func(name string, limit int64, key Key) error {
		f, _, err := spool.TakeHead(t.Context(), m, name, limit, 100, key)
		if err == nil {
			err = f.Close()
		}
		return err
	}
	for _, n := range []int{0, 100, len(data) / 2, len(data) - 1} {
		put(t, dir, "torn", string(data[:n]))
		changed := bytes.Clone(data)
		changed[n] ^= 1
		put(t, dir, "changed", string(changed))
		if err := take("torn", MaxBundleBytes, key); !errors.Is(err, ErrSealed) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
		if err := take("changed", MaxBundleBytes, key); !errors.Is(err, ErrSealed) {
			t.Errorf("changed at %d: %v", n, err)
		}
	}
	if err := take("file", size, key); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the cap: %v", err)
	}
	if err := take("none", size, key); !errors.Is(err, ErrGone) {
		t.Errorf("not there: %v", err)
	}
	if err := take("file", MaxBundleBytes, software(t, newKey(t))); !errors.Is(err, ErrReceiver) {
		t.Errorf("another receiver: %v", err)
	}
	// A file that grows while it is read is no longer than it said.
	grows := &growing{Key: key, file: dir + "/file"}
	if err := take("file", MaxBundleBytes, grows); err != nil || grows.err != nil {
		t.Errorf("it grew: %v, %v", err, grows.err)
	}
}

// growing is a key whose holder makes the file longer before it answers.
type growing struct {
	Key
	file string
	err  error
}

func (g *growing) ECDH(ctx context.Context, point []byte) ([]byte, error) {
	f, err := os.OpenFile(g.file, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("more")
		err = errors.Join(err, f.Close())
	}
	g.err = err
	return g.Key.ECDH(ctx, point)
}

// A medium that is pulled out says so, and is not taken for a file that was changed.
func TestTakeHeadOfAFailingMedium(t *testing.T) {
	err := mediumError("read", "file", os.NewSyscallError("read", unix.EIO))
	source := &source{r: iotest.ErrReader(err)}
	_, read := source.Read(make([]byte, 1))
	if blamed := source.blame(read); !errors.Is(blamed, ErrGone) || blamed.(*Error).Hint() == "" {
		t.Errorf("%v", blamed)
	}
}
