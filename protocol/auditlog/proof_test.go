package auditlog

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func checkpointOf(t testing.TB, size int64, reader HashReader) Checkpoint {
	return Checkpoint{Origin: origin, Size: size, Root: rootOf(t, size, reader)}
}

// extend runs a whole extension.
func extend(known Checkpoint, proof, leaves [][]byte, next Checkpoint) error {
	e, err := NewExtension(known, proof)
	if err != nil {
		return err
	}
	for _, leaf := range leaves {
		if _, err := e.Append(leaf); err != nil {
			return err
		}
	}
	return e.Done(next)
}

// broken gives every proof that differs from a good one by a bit of one hash, a hash less, a hash more or a hash cut.
func broken(proof [][]byte) (out [][][]byte) {
	for i := range proof {
		flipped := slices.Clone(proof)
		flipped[i] = slices.Clone(proof[i])
		flipped[i][i%32] ^= 1
		cut := slices.Clone(proof)
		cut[i] = proof[i][:31]
		out = append(out, flipped, cut, slices.Delete(slices.Clone(proof), i, i+1))
	}
	return append(out, append(slices.Clone(proof), make([]byte, 32)), slices.Repeat([][]byte{make([]byte, 32)}, 1000))
}

// checkPair verifies all proofs between two sizes of a log, and that every broken one is refused.
func checkPair(t testing.TB, leaves [][]byte, hashes stored, m, n int64) {
	older, newer := checkpointOf(t, m, hashes), checkpointOf(t, n, hashes)
	consistency, err := ProveConsistency(m, n, hashes)
	if err != nil {
		t.Fatalf("prove %d begins %d: %v", m, n, err)
	}
	if err := CheckConsistency(consistency, older, newer); err != nil {
		t.Fatal(err)
	}
	for i, proof := range broken(consistency) {
		if err := CheckConsistency(proof, older, newer); !errors.Is(err, ErrProof) {
			t.Fatalf("%d begins %d: broken proof %d: got error %v", m, n, i, err)
		}
	}
	edge, err := ProveRange(m, hashes)
	if err != nil {
		t.Fatal(err)
	}
	err = extend(older, edge, leaves[m:n], newer)
	if endsInGenesis := m == 0 && n == 1; endsInGenesis != (err != nil) {
		t.Fatalf("extend %d to %d: %v", m, n, err)
	}
	for i, proof := range broken(edge) {
		if err := extend(older, proof, leaves[m:n], newer); !errors.Is(err, ErrProof) {
			t.Fatalf("extend %d to %d: broken proof %d: got error %v", m, n, i, err)
		}
	}
	if m == n {
		return
	}
	if err := CheckConsistency(consistency, newer, older); !errors.Is(err, ErrProof) {
		t.Fatalf("%d after %d: got error %v", m, n, err)
	}
	inclusion, err := ProveInclusion(n, m, hashes)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckInclusion(inclusion, newer, m, leaves[m]); err != nil {
		t.Fatal(err)
	}
	for i, proof := range broken(inclusion) {
		if _, err := CheckInclusion(proof, newer, m, leaves[m]); !errors.Is(err, ErrProof) {
			t.Fatalf("leaf %d in %d: broken proof %d: got error %v", m, n, i, err)
		}
	}
	if other := (m + 1) % n; other != m {
		if _, err := CheckInclusion(inclusion, newer, other, leaves[m]); !errors.Is(err, ErrProof) {
			t.Fatalf("leaf %d in %d at another index: got error %v", m, n, err)
		}
		if _, err := CheckInclusion(inclusion, newer, m, leaves[other]); !errors.Is(err, ErrProof) {
			t.Fatalf("another leaf %d in %d: got error %v", m, n, err)
		}
	}
}

func TestProofsOfSmallTrees(t *testing.T) {
	leaves, hashes := judged(t, 70)
	for n := range int64(71) {
		for m := range n + 1 {
			checkPair(t, leaves, hashes, m, n)
		}
	}
}

func TestProofsOfSizesTo300(t *testing.T) {
	leaves, hashes := judged(t, 300)
	for n := range int64(301) {
		for _, m := range []int64{0, n / 3, n - 1, n} {
			if m >= 0 {
				checkPair(t, leaves, hashes, m, n)
			}
		}
	}
}

func TestProofsOfLargerTrees(t *testing.T) {
	leaves, hashes := judged(t, 3000)
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.Int64Range(0, int64(len(leaves))).Draw(r, "n")
		checkPair(t, leaves, hashes, rapid.Int64Range(0, n).Draw(r, "m"), n)
	})
}

func TestProveRefusals(t *testing.T) {
	_, hashes := judged(t, 5)
	for _, sizes := range [][2]int64{{-1, 3}, {4, 3}, {1, 6}, {1, MaxSize + 1}, {1, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1}} {
		if _, err := ProveConsistency(sizes[0], sizes[1], hashes); err == nil {
			t.Errorf("prove %d begins %d: accepted", sizes[0], sizes[1])
		}
	}
	for _, at := range [][2]int64{{0, 0}, {3, 3}, {3, -1}, {6, 1}, {-1, 0}, {MaxSize + 1, 0}, {1<<63 - 1, 0}} {
		if _, err := ProveInclusion(at[0], at[1], hashes); err == nil {
			t.Errorf("prove leaf %d in %d: accepted", at[1], at[0])
		}
	}
	for _, size := range []int64{-1, 6, 1<<63 - 1} {
		if _, err := ProveRange(size, hashes); err == nil {
			t.Errorf("prove range from %d: accepted", size)
		}
	}
}

func TestCheckRefusals(t *testing.T) {
	leaves, hashes := judged(t, 8)
	at := func(size int64, change func(*Checkpoint)) Checkpoint {
		c := checkpointOf(t, size, hashes)
		if change != nil {
			change(&c)
		}
		return c
	}
	foreign := func(c *Checkpoint) { c.Origin = "coldseal/0000000000000000" }
	rootless := func(c *Checkpoint) { c.Root = Hash{} }
	sized := func(size int64) func(*Checkpoint) { return func(c *Checkpoint) { c.Size = size } }
	for name, test := range map[string]struct {
		older, newer Checkpoint
		m, n         int64 // of the proof
		want         string
	}{
		"origins":            {at(3, nil), at(8, foreign), 3, 8, "origins differ"},
		"older root":         {at(3, rootless), at(8, nil), 3, 8, "both roots"},
		"newer root":         {at(3, nil), at(8, rootless), 3, 8, "both roots"},
		"same size, forked":  {at(8, nil), at(8, rootless), 8, 8, "both roots"},
		"shrunk":             {at(8, nil), at(3, nil), 3, 8, "shrank"},
		"negative":           {at(3, sized(-1)), at(8, nil), 3, 8, "out of range"},
		"huge":               {at(3, nil), at(8, sized(1<<63-1)), 3, 8, "out of range"},
		"both huge":          {at(3, sized(1<<63-2)), at(8, sized(1<<63-1)), 3, 8, "out of range"},
		"other older size":   {at(3, sized(4)), at(8, nil), 3, 8, "both roots"},
		"other newer size":   {at(3, nil), at(8, sized(9)), 3, 8, "both roots"},
		"proof of others":    {at(3, nil), at(8, nil), 4, 8, "both roots"},
		"root of size 0":     {at(0, rootless), at(8, nil), 0, 8, "size 0"},
		"newer of size 0":    {at(0, nil), at(0, rootless), 0, 0, "size 0"},
		"proof for size 0":   {at(0, nil), at(8, nil), 3, 8, "size 0"},
		"empty proof":        {at(3, nil), at(8, nil), 0, 8, "both roots"},
		"proof, equal sizes": {at(8, nil), at(8, nil), 3, 8, "both roots"},
	} {
		proof, err := ProveConsistency(test.m, test.n, hashes)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckConsistency(proof, test.older, test.newer); !errors.Is(err, ErrProof) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("consistency, %s: got error %v, want %q", name, err, test.want)
		}
	}
	inclusion, err := ProveInclusion(8, 2, hashes)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		under Checkpoint
		index int64
	}{
		"negative index":    {at(8, nil), -1},
		"index of the size": {at(8, nil), 8},
		"empty tree":        {at(0, nil), 0},
		"negative size":     {at(8, sized(-1)), -2},
		"huge size":         {at(8, sized(1<<63-1)), 2},
		"other size":        {at(8, sized(16)), 2},
		"other root":        {at(8, rootless), 2},
	} {
		if _, err := CheckInclusion(inclusion, test.under, test.index, leaves[2]); !errors.Is(err, ErrProof) {
			t.Errorf("inclusion, %s: got error %v", name, err)
		}
	}
	// Bytes that are no leaf, in a tree that holds them.
	junk := Checkpoint{Origin: origin, Size: 1, Root: LeafHash([]byte("junk"))}
	if l, err := CheckInclusion(nil, junk, 0, []byte("junk")); err == nil || !strings.Contains(err.Error(), "parse leaf") {
		t.Errorf("inclusion of junk: got %+v, error %v", l, err)
	}
	// A node of the tree is no leaf, though its hash is in the tree.
	node := append(append([]byte{}, hashes[0][:]...), hashes[1][:]...)
	if _, err := CheckInclusion(encodeProof([]Hash{hashes[tlog.StoredHashIndex(1, 1)]}), at(4, nil), 0, node); !errors.Is(err, ErrProof) {
		t.Errorf("inclusion, node as leaf: got error %v", err)
	}
}

func TestExtensionRefusals(t *testing.T) {
	leaves, hashes := judged(t, 8)
	at := func(size int64) Checkpoint { return checkpointOf(t, size, hashes) }
	edge, err := ProveRange(3, hashes)
	if err != nil {
		t.Fatal(err)
	}
	foreign, rootless, negative, huge := at(8), at(8), at(3), at(3)
	foreign.Origin, rootless.Root, negative.Size, huge.Size = "coldseal/0000000000000000", Hash{}, -1, 1<<63-1
	swapped := slices.Clone(leaves[3:8])
	swapped[0], swapped[1] = swapped[1], swapped[0]
	tail := func(last Leaf) ([][]byte, Checkpoint) {
		data, err := last.Encode()
		if err != nil {
			t.Fatal(err)
		}
		edge, err := ReadRange(3, hashes)
		if err != nil {
			t.Fatal(err)
		}
		edge.Append(LeafHash(data))
		return [][]byte{data}, Checkpoint{Origin: origin, Size: 4, Root: edge.Root()}
	}
	secondGenesis, afterGenesis := tail(Leaf{Kind: Genesis, Body: body})
	order, afterOrder := tail(Leaf{Kind: Order, Body: body})
	step, afterStep := tail(Leaf{Kind: Step, Number: 1})
	if err := extend(at(3), edge, step, afterStep); err != nil {
		t.Fatalf("the extension that the table below breaks: %v", err)
	}
	for name, test := range map[string]struct {
		known  Checkpoint
		proof  [][]byte
		leaves [][]byte
		next   Checkpoint
		want   string
	}{
		"one leaf left out":     {at(3), edge, slices.Concat(leaves[3:5], leaves[6:8]), at(8), "known tree and leaves make 7"},
		"last leaf left out":    {at(3), edge, leaves[3:7], at(8), "known tree and leaves make 7"},
		"leaf too many":         {at(3), edge, append(leaves[3:8:8], leaves[7]), at(8), "known tree and leaves make 9"},
		"leaf for another":      {at(3), edge, slices.Concat(leaves[3:7], leaves[6:7]), at(8), "do not lead to the root"},
		"leaves swapped":        {at(3), edge, swapped, at(8), "do not lead to the root"},
		"no leaves":             {at(3), edge, nil, at(8), "known tree and leaves make 3"},
		"shrunk":                {at(3), edge, nil, at(2), "known tree and leaves make 3"},
		"other root":            {at(3), edge, leaves[3:8], rootless, "do not lead to the root"},
		"other log":             {at(3), edge, leaves[3:8], foreign, "origins differ"},
		"empty proof":           {at(3), nil, leaves[3:8], at(8), "has 2 hashes, got 0"},
		"edge of another size":  {at(4), edge, leaves[4:8], at(8), "has 1 hashes, got 2"},
		"edge of another tree":  {at(5), edge, leaves[5:8], at(8), "known root"},
		"negative size":         {negative, edge, leaves[3:8], at(8), "not in 0…"},
		"huge size":             {huge, edge, leaves[3:8], at(8), "not in 0…"},
		"size 0 with a root":    {Checkpoint{Origin: origin}, nil, leaves, at(8), "known root"},
		"no leaf at all":        {at(3), edge, [][]byte{{}}, at(8), "leaf 3: parse leaf"},
		"second genesis":        {at(3), edge, append(secondGenesis, step...), afterGenesis, "leaf 3: genesis leaf where"},
		"no genesis":            {EmptyCheckpoint(origin), nil, leaves[1:], at(8), "leaf 0: step leaf where"},
		"last is not a step":    {at(3), edge, order, afterOrder, "last leaf is order"},
		"genesis without steps": {EmptyCheckpoint(origin), nil, leaves[:1], at(1), "last leaf is genesis"},
	} {
		if err := extend(test.known, test.proof, test.leaves, test.next); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want %q", name, err, test.want)
		}
	}
	e, err := NewExtension(at(3), edge)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Append([]byte("no leaf")); err == nil {
		t.Error("a leaf that is none was appended")
	}
	if _, err := e.Append(leaves[3]); err == nil {
		t.Error("a leaf was appended after one that is none")
	}
	if err := e.Done(at(3)); err == nil {
		t.Error("done after a leaf that is none")
	}
}

func TestExtensionGoesOnFromItsEdge(t *testing.T) {
	leaves, hashes := judged(t, 20)
	known, kept := EmptyCheckpoint(origin), [][]byte(nil)
	for _, size := range []int64{2, 3, 3, 11, 20} {
		e, err := NewExtension(known, kept)
		if err != nil {
			t.Fatal(err)
		}
		for i := known.Size; i < size; i++ {
			if l, err := e.Append(leaves[i]); err != nil || l.Time != i && i > 0 {
				t.Fatalf("leaf %d: got %+v, %v", i, l, err)
			}
		}
		next := checkpointOf(t, size, hashes)
		if err := e.Done(next); err != nil {
			t.Fatal(err)
		}
		known, kept = next, e.Edge().Hashes()
	}
}

// FuzzProofs takes data as hashes: only the true ones lead anywhere, and a range that is read is written again as it was.
func FuzzProofs(f *testing.F) {
	leaves, hashes := judged(f, 13)
	older, newer := checkpointOf(f, 5, hashes), checkpointOf(f, 13, hashes)
	consistency, err := ProveConsistency(5, 13, hashes)
	if err != nil {
		f.Fatal(err)
	}
	inclusion, err := ProveInclusion(13, 7, hashes)
	if err != nil {
		f.Fatal(err)
	}
	edge, err := ProveRange(5, hashes)
	if err != nil {
		f.Fatal(err)
	}
	for _, proof := range [][][]byte{consistency, inclusion, edge} {
		f.Add(int64(5), slices.Concat(proof...))
	}
	f.Fuzz(func(t *testing.T, size int64, data []byte) {
		var proof [][]byte
		for chunk := range slices.Chunk(data, 32) {
			proof = append(proof, chunk)
		}
		if CheckConsistency(proof, older, newer) == nil && !bytes.Equal(data, slices.Concat(consistency...)) {
			t.Errorf("consistency is proved by %x", data)
		}
		if _, err := CheckInclusion(proof, newer, 7, leaves[7]); err == nil && !bytes.Equal(data, slices.Concat(inclusion...)) {
			t.Errorf("inclusion is proved by %x", data)
		}
		if extend(older, proof, leaves[5:], newer) == nil && !bytes.Equal(data, slices.Concat(edge...)) {
			t.Errorf("a range is proved by %x", data)
		}
		if r, err := NewRange(size, proof); err == nil && !bytes.Equal(slices.Concat(r.Hashes()...), data) {
			t.Errorf("a range is read from %x as %x", data, slices.Concat(r.Hashes()...))
		}
	})
}
