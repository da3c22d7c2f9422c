package auditlog

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// stored is a hash storage made by tlog, the judge of our own arithmetic.
type stored []Hash

func (s stored) ReadHashes(indexes []int64) ([]Hash, error) {
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("no hash %d in %d", index, len(s))
		}
		hashes[i] = s[index]
	}
	return hashes, nil
}

// judged is a log of n valid leaves, the first a genesis and all others steps, stored by tlog.
func judged(t testing.TB, n int64) (leaves [][]byte, hashes stored) {
	for i := range n {
		leaf := Leaf{Kind: Step, Time: i, Number: uint64(i)}
		if i == 0 {
			leaf = Leaf{Kind: Genesis, Body: body}
		}
		data, err := leaf.Encode()
		if err != nil {
			t.Fatal(err)
		}
		more, err := tlog.StoredHashes(i, data, hashes)
		if err != nil {
			t.Fatal(err)
		}
		leaves, hashes = append(leaves, data), append(hashes, more...)
	}
	return leaves, hashes
}

func rootOf(t testing.TB, size int64, reader HashReader) Hash {
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAppenderStoresWhatTlogStores(t *testing.T) {
	leaves, want := judged(t, 300)
	for start := range int64(len(leaves) + 1) {
		edge, err := ReadRange(start, want)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := NewRange(edge.Size(), edge.Hashes())
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(want[:tlog.StoredHashCount(start)])
		appender := NewAppender(kept)
		for i := start; ; i++ {
			now := appender.Edge()
			if root := rootOf(t, i, want); now.Size() != i || now.Root() != root {
				t.Fatalf("appended from %d: size %d, root %s; want %d, %s", start, now.Size(), now.Root(), i, root)
			}
			if i == int64(len(leaves)) {
				break
			}
			first, hashes := appender.Append(leaves[i])
			if first != int64(len(got)) {
				t.Fatalf("appended from %d: hashes of leaf %d belong at %d, want %d", start, i, first, len(got))
			}
			got = append(got, hashes...)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("appended from %d: stored hashes differ from tlog's", start)
		}
	}
}

// invented has a hash at every index, for trees too large to build.
func invented(indexes []int64) ([]Hash, error) {
	hashes := make([]Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(index)))
	}
	return hashes, nil
}

func TestLargeTreesAgreeWithTlog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.Int64Range(0, MaxSize), rapid.Custom(func(t *rapid.T) int64 {
			return int64(1)<<rapid.IntRange(0, 53).Draw(t, "power") - 1 // all bits set
		})).Draw(t, "size")
		edge, err := ReadRange(size, tlog.HashReaderFunc(invented))
		if err != nil {
			t.Fatal(err)
		}
		root, err := tlog.TreeHash(size, tlog.HashReaderFunc(invented))
		if err != nil {
			t.Fatal(err)
		}
		if edge.Root() != root {
			t.Fatalf("size %d: root differs from tlog's", size)
		}
		leaf := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "leaf")
		want, err := tlog.StoredHashes(size, leaf, tlog.HashReaderFunc(invented))
		if err != nil {
			t.Fatal(err)
		}
		first, got := NewAppender(edge).Append(leaf)
		if first != tlog.StoredHashIndex(0, size) || !slices.Equal(got, want) {
			t.Fatalf("size %d: stored hashes at %d differ from tlog's at %d", size, first, tlog.StoredHashIndex(0, size))
		}
		again := edge
		again.Append(LeafHash(leaf))
		if edge.Size() != size || edge.Root() != root {
			t.Fatal("appending to a copy changed the original")
		}
	})
}

func TestRangeRefusals(t *testing.T) {
	h := make([]byte, 32)
	for name, test := range map[string]struct {
		size   int64
		hashes [][]byte
	}{
		"negative":        {-1, nil},
		"too large":       {MaxSize + 1, [][]byte{h, h}},
		"empty with hash": {0, [][]byte{h}},
		"one too few":     {3, [][]byte{h}},
		"one too many":    {4, [][]byte{h, h}},
		"short hash":      {1, [][]byte{h[:31]}},
		"long hash":       {1, [][]byte{append(h, 0)}},
		"thousand":        {1, slices.Repeat([][]byte{h}, 1000)},
	} {
		if _, err := NewRange(test.size, test.hashes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	_, hashes := judged(t, 5)
	for _, size := range []int64{-1, 6, MaxSize + 1} {
		if _, err := ReadRange(size, hashes); err == nil {
			t.Errorf("read right edge of size %d from 5 leaves: accepted", size)
		}
	}
	if _, err := ReadRange(3, tlog.HashReaderFunc(func([]int64) ([]Hash, error) { return nil, nil })); err == nil {
		t.Error("reader without hashes: accepted")
	}
}

func BenchmarkAppender(b *testing.B) {
	leaf, err := oneOfEach()[4].Encode()
	if err != nil {
		b.Fatal(err)
	}
	appender := NewAppender(Range{})
	b.ReportAllocs()
	for b.Loop() {
		appender.Append(leaf)
	}
}

func BenchmarkExtension(b *testing.B) {
	leaf, err := oneOfEach()[4].Encode()
	if err != nil {
		b.Fatal(err)
	}
	e, err := NewExtension(Checkpoint{Size: 1, Root: LeafHash(leaf)}, encodeProof([]Hash{LeafHash(leaf)}))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Append(leaf); err != nil {
			b.Fatal(err)
		}
	}
}
