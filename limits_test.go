package coldseal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
	"coldseal/protocol/x690"
)

// Whatever a decoder is given, it takes at most 256 MiB, and a second for 16 MiB. Memory is counted as all that is
// allocated, freed or not, which is never less than what is held; only where that is too much, as what lies there. A
// second is not the same everywhere, and other tests run beside this one: it is processor time against that of hashing
// the same bytes.
const (
	mostBytes  = 256 << 20
	mostHashes = 1000 // times what SHA-256 takes: 100 are a second where the processor has instructions for it, and what grows with the square takes far more than 1000
	whole      = 16 << 20
)

// most is the size of inputs that no decoder refuses for their size: a quarter in a usual run, which may take a quarter.
func most() int {
	if os.Getenv("FIRE_ALL") == "1" {
		return whole
	}
	return whole / 4
}

// decoder takes inputs of at most limit bytes.
type decoder struct {
	name  string
	limit int
	like  string // sorts of bombs
	run   func(data []byte)
}

// Sorts of bombs. What people prepare, one file at a time, is not measured by what 16 MiB of such files would take.
const (
	cbor  = "c"
	der   = "d"
	text  = "t"
	age   = "a"
	alone = "1"
)

// processor is what this thread took so far.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	const thread = 1 // RUSAGE_THREAD
	if err := syscall.Getrusage(thread, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs f and gives its processor time and what it allocated.
func measure(t *testing.T, f func()) (time.Duration, uint64) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := processor(t)
	f()
	took := processor(t) - start
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc
}

// held runs f and gives the most that lay in memory meanwhile, garbage that was not collected yet included.
func held(f func()) uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before, most := read(), uint64(0)
	done, looked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looked)
		for {
			most = max(most, read())
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	f()
	close(done)
	<-looked
	return max(most, before) - before
}

func TestDecodersAreBounded(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hashed := make([]byte, whole)
	hash := time.Duration(1 << 60)
	for range 5 {
		took, _ := measure(t, func() { sha256.Sum256(hashed) })
		hash = min(hash, took)
	}
	type worst struct {
		hashes float64
		bytes  uint64
		by     string
	}
	all := map[string]worst{}
	for name, bomb := range bombs(t) {
		sort, name, _ := strings.Cut(name, " ")
		made := map[int][]byte{}
		for _, d := range decoders(t) {
			if !strings.Contains(d.like, sort) {
				continue
			}
			data, found := made[d.limit]
			if !found {
				data = bomb(d.limit)
				made[d.limit] = data
			}
			if len(data) < d.limit/2 {
				continue // it can't be made so small
			}
			// Of a decoder of small things a part of 16 MiB is enough to tell: one thing does not slow the next one.
			times := max(1, whole/16/d.limit)
			took, allocated := measure(t, func() {
				for range times {
					d.run(data)
				}
			})
			size := max(1, len(data)) * times
			hashes, each := float64(took)/float64(hash)*whole/float64(size), allocated/uint64(times)
			if strings.Contains(d.like, alone) {
				hashes = float64(took) / float64(hash) / float64(times)
			}
			bound := uint64(mostBytes)
			if d.limit == most() {
				bound = mostBytes / whole * uint64(most())
			}
			if each > bound { // that is more than what was held
				each = held(func() { d.run(data) })
			}
			if each > bound {
				t.Errorf("%s: %s of %d bytes takes %d MiB, at most %d", d.name, name, len(data), each>>20, bound>>20)
			}
			if took > 10*time.Millisecond && hashes > mostHashes {
				t.Errorf("%s: %s of %d bytes takes %.0f times as long as hashing, at most %d", d.name, name, len(data), hashes, mostHashes)
			}
			w := all[d.name]
			if w.bytes = max(w.bytes, each); hashes > w.hashes {
				w.hashes, w.by = hashes, name
			}
			all[d.name] = w
		}
	}
	for name, w := range all {
		t.Logf("%6.1f times hashing, %4d MiB: %s, by %s", w.hashes, w.bytes>>20, name, w.by)
	}
}

// bombs make inputs of a size that are as bad as we know. Their names begin with their sort.
func bombs(t *testing.T) map[string]func(size int) []byte {
	fill := func(head, unit, tail string) func(int) []byte {
		return func(size int) []byte {
			n := max(0, size-len(head)-len(tail)) / len(unit)
			return slices.Concat([]byte(head), bytes.Repeat([]byte(unit), n), []byte(tail))
		}
	}
	counted := func(major byte, unit string, perUnit int) func(int) []byte {
		return func(size int) []byte {
			n := max(0, size-5) / len(unit)
			head := binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n/perUnit))
			return append(head, bytes.Repeat([]byte(unit), n/perUnit*perUnit)...)
		}
	}
	return map[string]func(int) []byte{
		"c nothing":                   fill("", "\x00", ""),
		"c ones":                      fill("", "\xff", ""),
		"c nested arrays":             fill("", "\x81", "\x00"),
		"c nested maps":               fill("", "\xa1\x01", "\x00"),
		"c an array of numbers":       counted(4, "\x01", 1),
		"c an array of empty arrays":  counted(4, "\x80", 1),
		"c an array of empty strings": counted(4, "\x40", 1),
		"c a map of one key":          counted(5, "\x01\x01", 2),
		"c a map of arrays":           counted(5, "\x80\x80", 2),
		"c a byte string":             counted(2, "\x00", 1),
		"c a text":                    counted(3, "a", 1),
		"c a request of many fields":  manyFields,
		"c intents": func(size int) []byte {
			body := auditlog.IntentsBody{Intents: make([]auditlog.Intent, min(1<<17-1, size/80))}
			for i := range body.Intents {
				body.Intents[i] = auditlog.Intent{Issuer: protocol.Digest{1}, Serial: []byte{1}, TBS: protocol.Digest{1}}
			}
			data, err := cose.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			return data
		},
		"c groups of empty items":      groupsOf(nil, 0),
		"c groups of approvals":        groupsOf([]byte{0}, protocol.MaxGroupApprovals),
		"c groups of large items":      groupsOf(bytes.Repeat([]byte{0x81}, 4000), 0),
		"c an array that is too short": fill("\x9a\xff\xff\xff\xff", "\x80", ""),
		"c a map that is too short":    fill("\xba\xff\xff\xff\xff", "\x01", ""),
		"c a string that is too short": fill("\x5a\xff\xff\xff\xff", "a", ""),
		"c a huge array":               fill("\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "\x80", ""),
		"c strings of one byte":        fill("", "\x41a", ""),
		"c empty strings":              fill("", "\x40", ""),
		"c signed":                     func(size int) []byte { return wrapped(t, counted(4, "\x80", 1)(max(8, size-200))) },
		"d nested sequences":           nestedDER,
		"d empty sequences":            inDER(asn1.SEQUENCE, "\x30\x00"),
		"d small sets":                 inDER(asn1.SEQUENCE, "\x31\x00"),
		"d a huge integer":             inDER(asn1.INTEGER, "\x7f"),
		"d a huge OID":                 inDER(asn1.OBJECT_IDENTIFIER, "\xff"),
		"d an RSA key":                 hugeRSA,
		"d a CSR of a huge key":        hugeCSR,
		"d a certificate of names":     manyNames,
		"d a CRL of entries":           manyEntries,
		"t PEM that begins":            fill("", "-----BEGIN CERTIFICATE-----\n", ""),
		"t PEM that begins and ends":   fill("", "-----BEGIN A-----\n-----END A-----\n", ""),
		"t PEM of headers":             fill("-----BEGIN CERTIFICATE REQUEST-----\n", "a: b\n", "-----END CERTIFICATE REQUEST-----\n"),
		"t PEM that is long":           fill("-----BEGIN CERTIFICATE REQUEST-----\n", "AAAA", "\n-----END CERTIFICATE REQUEST-----\n"),
		"t dashes":                     fill("", "-", ""),
		"t empty lines":                fill("", "\n", ""),
		"t lines":                      fill("", "a: b\n", ""),
		"t lines of a checkpoint":      fill("coldseal/0123456789abcdef\n5\nAAAA\n\n", "\u2014 w AAAA\n", ""),
		"t YAML nested in brackets":    fill("", "[", ""),
		"t YAML nested in braces":      fill("", "{a: ", ""),
		"t YAML of nested lists":       fill("", "- ", ""),
		"t YAML of a list":             fill("", "- a\n", ""),
		"t YAML of braces in a list":   fill("a: [", "{},", "]\n"),
		"t YAML of quotes":             fill("a: ", "'", "\n"),
		"t YAML of backslashes":        fill("a: \"", "\\\\", "\"\n"),
		"t YAML of a long text":        fill("a: |\n", " a\n", ""),
		"t YAML of anchors":            fill("", "&a *a ", ""),
		"t YAML of aliases": func(size int) []byte {
			var b strings.Builder
			b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
			for i := 1; b.Len() < size-80 && i < 2000; i++ {
				fmt.Fprintf(&b, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
			}
			return []byte(b.String())
		},
		"t YAML of keys": func(size int) []byte {
			var b strings.Builder
			for i := 0; b.Len() < size-12; i++ {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return []byte(b.String())
		},
		"t YAML of a policy of profiles": func(size int) []byte {
			var b strings.Builder
			b.WriteString("policy: a\nclock_ahead: 1 days\nprofiles:\n")
			for i := 0; b.Len() < size-40; i++ {
				fmt.Fprintf(&b, "  p%d: {use: machine, keys: [P-256]}\n", i)
			}
			return []byte(b.String())
		},
		"a age of stanzas": fill("age-encryption.org/v1\n", "-> a b\nAAAA\n", "--- AAAA\n"),
		"a age":            func(size int) []byte { return sealedBomb(t, max(0, size-500)) },
	}
}

// fixed keys, so that what is signed by them is believed.
var (
	bombSeal     = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	bombReceiver = func() *ecdh.PrivateKey {
		k, err := ecdh.P256().NewPrivateKey(bytes.Repeat([]byte{5}, 32))
		if err != nil {
			panic(err) // a scalar below the order
		}
		return k
	}()
)

// wrapped is a payload that an enrolled key signed for each purpose at once: its decoders take it by the first byte.
func wrapped(t *testing.T, payload []byte) []byte {
	t.Helper()
	message, err := cose.Sign(bombSeal, protocol.ContextApproval, payload)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func sealedBomb(t *testing.T, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := media.Encrypt(&b, bombReceiver.PublicKey())
	if err == nil {
		if _, err = w.Write(make([]byte, size)); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func manyFields(size int) []byte {
	var b []byte
	n := max(0, size-200) / 8
	b = append(b, 0xa2, 0x01, 0x41, 0x00, 0x02)
	b = binary.BigEndian.AppendUint32(append(b, 5<<5|26), uint32(n))
	for i := range n {
		b = append(b, 0x64)
		b = binary.BigEndian.AppendUint32(b, 0x41414141+uint32(i))
		b = append(b, 0x62, 'a', 'a')
	}
	return b
}

// element puts a tag and a length before content.
func element(tag asn1.Tag, content []byte) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(content)+8))
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(content) })
	return b.BytesOrPanic()
}

func inDER(tag asn1.Tag, unit string) func(int) []byte {
	return func(size int) []byte { return element(tag, bytes.Repeat([]byte(unit), max(0, size-8)/len(unit))) }
}

// nestedDER nests sequences as deep as their lengths leave room.
func nestedDER(size int) []byte {
	var heads [][]byte
	inner := 0
	for {
		var head []byte
		switch {
		case inner < 1<<7:
			head = []byte{0x30, byte(inner)}
		case inner < 1<<8:
			head = []byte{0x30, 0x81, byte(inner)}
		case inner < 1<<16:
			head = []byte{0x30, 0x82, byte(inner >> 8), byte(inner)}
		default:
			head = []byte{0x30, 0x83, byte(inner >> 16), byte(inner >> 8), byte(inner)}
		}
		if inner += len(head); inner > size || inner >= 1<<24 {
			break
		}
		heads = append(heads, head)
	}
	slices.Reverse(heads)
	return slices.Concat(heads...)
}

func hugeRSA(size int) []byte {
	modulus := bytes.Repeat([]byte{0x6d}, max(1, size-80))
	key := element(asn1.SEQUENCE, slices.Concat(element(asn1.INTEGER, modulus), element(asn1.INTEGER, []byte{1, 0, 1})))
	algorithm := element(asn1.SEQUENCE, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"))
	return element(asn1.SEQUENCE, slices.Concat(algorithm, element(asn1.BIT_STRING, append([]byte{0}, key...))))
}

func hugeCSR(size int) []byte {
	info := element(asn1.SEQUENCE, slices.Concat([]byte{2, 1, 0}, []byte{0x30, 0}, hugeRSA(max(100, size/2-100)), []byte{0xa0, 0}))
	algorithm := element(asn1.SEQUENCE, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"))
	return element(asn1.SEQUENCE, slices.Concat(info, algorithm, element(asn1.BIT_STRING, bytes.Repeat([]byte{0}, max(1, size/2-100)))))
}

// manyNames is a certificate of as many names as fit. Nobody signed it.
func manyNames(size int) []byte {
	algorithm, date := []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"), []byte("\x17\x0d000101000000Z")
	key, err := x509.MarshalPKIXPublicKey(bombSeal.Public())
	if err != nil {
		panic(err) // of a type that is known
	}
	names := element(asn1.SEQUENCE, bytes.Repeat([]byte("\x82\x03a.b"), max(1, size-400)/5))
	extension := element(asn1.SEQUENCE, slices.Concat([]byte("\x06\x03\x55\x1d\x11"), element(asn1.OCTET_STRING, names)))
	info := element(asn1.SEQUENCE, slices.Concat([]byte{0xa0, 3, 2, 1, 2, 2, 1, 1}, algorithm, []byte{0x30, 0}, element(asn1.SEQUENCE, slices.Concat(date, date)), []byte{0x30, 0}, key,
		element(asn1.Tag(3).ContextSpecific().Constructed(), element(asn1.SEQUENCE, extension))))
	return element(asn1.SEQUENCE, slices.Concat(info, algorithm, element(asn1.BIT_STRING, make([]byte, 70))))
}

// bombCA is the certificate of a CA.
func bombCA(t *testing.T, now time.Time) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	data, err := x509.CreateCertificate(nil, c, c, bombSeal.Public(), bombSeal)
	if err != nil {
		t.Fatal(err)
	}
	if _, reasons := pathcheck.CRL(nil, data, now.Unix()); len(reasons) != 1 || !strings.HasPrefix(reasons[0].Words, "the CRL") {
		t.Fatalf("the CA is no good: %v", reasons)
	}
	return data
}

// groups are groups of a bundle with as many items as may be, and as many approvals, all of them of one byte.
func groupsOf(item []byte, approvals int) func(int) []byte {
	g := protocol.Group{Section: protocol.SectionTakeAway}
	for range protocol.MaxGroupItems {
		g.Items = append(g.Items, item)
	}
	for range approvals {
		g.Approvals = append(g.Approvals, item)
	}
	return func(size int) []byte {
		var one bytes.Buffer
		if err := protocol.WriteGroup(&one, g); err != nil {
			panic(err) // one that is within all limits
		}
		return bytes.Repeat(one.Bytes(), size/one.Len())
	}
}

// bombKeys are the own keys of an appliance that never was.
func bombKeys(t *testing.T, appliance protocol.Digest) *protocol.Keys {
	t.Helper()
	spki := func(public any) []byte {
		data, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	seal := spki(bombSeal.Public())
	keys, err := protocol.Genesis{Log: seal, Receiver: spki(bombReceiver.PublicKey()), Seal: seal}.Keys(appliance)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// manyEntries is a CRL of as many entries as fit.
func manyEntries(size int) []byte {
	entry := element(asn1.SEQUENCE, []byte("\x02\x01\x01\x17\x0d000101000000Z"))
	entries := element(asn1.SEQUENCE, bytes.Repeat(entry, max(0, size-300)/len(entry)))
	algorithm := []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")
	date, name := []byte("\x17\x0d000101000000Z"), []byte("\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02CA")
	info := element(asn1.SEQUENCE, slices.Concat([]byte{2, 1, 1}, algorithm, name, date, date, entries))
	return element(asn1.SEQUENCE, slices.Concat(info, algorithm, element(asn1.BIT_STRING, make([]byte, 70))))
}

// decoders lists what reads bytes from outside, with what it takes at most.
func decoders(t *testing.T) []decoder {
	key, err := cose.NewKey(bombSeal.Public())
	if err != nil {
		t.Fatal(err)
	}
	appliance := protocol.Digest{1}
	keys := bombKeys(t, appliance)
	const now = 1 << 30
	ca := bombCA(t, time.Unix(now, 0))
	party := protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: key.SPKI(), BundlesPerDay: 1, ItemsPerDay: 1}
	signed := func(context string, payload []byte) []byte {
		message, err := cose.Sign(bombSeal, context, payload)
		if err != nil {
			t.Fatal(err)
		}
		return message
	}
	// sealed gives contents a header that an enrolled party sealed.
	sealed := func(context string, header any, contents []byte) *bytes.Reader {
		encoded, err := cose.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if context == protocol.ContextResponse {
			b.WriteByte(0x40) // no handovers
		}
		if err := protocol.WriteString(&b, signed(context, encoded)); err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(append(b.Bytes(), contents...))
	}
	header := func(data []byte) protocol.BundleHeader {
		return protocol.BundleHeader{Version: 1, From: "desk", To: appliance, Sequence: 1, Created: 1, Expires: 2, Items: protocol.MaxItems, Rest: protocol.DigestOf(data)}
	}
	answers := func(data []byte) protocol.ResponseHeader {
		return protocol.ResponseHeader{Version: 1, From: appliance, To: "desk", Answers: 1, Created: 1, Results: protocol.MaxItems,
			Checkpoint: []byte{1}, State: protocol.State{Policy: []byte{1}, Roster: []byte{1}}, Rest: protocol.DigestOf(data)}
	}
	enrolled := func(protocol.Digest) (protocol.Party, bool) { return party, true }
	groups := func(spool *bytes.Reader, lookup func(protocol.Digest) (protocol.Party, bool)) {
		b, refusal, err := protocol.OpenBundle(spool, appliance, lookup)
		for refusal == nil && err == nil {
			_, refusal, err = b.Next()
		}
	}
	return []decoder{
		{"request", protocol.MaxRequest, cbor, func(data []byte) { _, _ = protocol.ParseRequest(data) }},
		{"content", protocol.MaxRequest, cbor, func(data []byte) {
			(&protocol.Request{Kind: protocol.KindIssue, Content: data}).CheckContent()
		}},
		{"item", protocol.MaxItem, cbor, func(data []byte) { _, _ = protocol.ParseItem(data) }},
		{"approval", protocol.MaxApproval, cbor, func(data []byte) { _, _ = protocol.OpenApproval(data, key) }},
		{"what an approver signed", protocol.MaxApproval, cbor, func(data []byte) { _, _ = protocol.OpenApproval(signed(protocol.ContextApproval, data), key) }},
		{"party", protocol.MaxRequest, cbor, func(data []byte) { _, _ = protocol.ParseParty(data) }},
		{"foreign CA", protocol.MaxRequest, cbor, func(data []byte) { _, _ = protocol.ParseForeignCA(data) }},
		{"genesis", protocol.MaxIntroduction, cbor, func(data []byte) { _, _ = protocol.ParseGenesis(data, protocol.DigestOf(data)) }},
		{"introduction", protocol.MaxIntroduction, cbor, func(data []byte) { _, _ = protocol.OpenIntroduction(data, appliance) }},
		{"bundle of anybody", most(), cbor, func(data []byte) {
			groups(bytes.NewReader(data), func(protocol.Digest) (protocol.Party, bool) { return protocol.Party{}, false })
		}},
		{"bundle of an agent", most(), cbor, func(data []byte) {
			groups(sealed(protocol.ContextBundle, header(data), data), enrolled)
		}},
		{"header of an agent", protocol.MaxHeader - 300, cbor, func(data []byte) {
			var b bytes.Buffer
			if err := protocol.WriteString(&b, signed(protocol.ContextBundle, data)); err != nil {
				t.Fatal(err)
			}
			groups(bytes.NewReader(b.Bytes()), enrolled)
		}},
		{"response", most(), cbor, func(data []byte) {
			r, refusal, err := protocol.OpenResponse(sealed(protocol.ContextResponse, answers(data), data), keys, "desk")
			if refusal != nil {
				t.Fatal(refusal.Words())
			}
			for refusal == nil && err == nil {
				_, _, err = r.Next()
			}
		}},
		{"answer", protocol.MaxAnswer, cbor, func(data []byte) { _, _, _ = protocol.ParseAnswer(data); _, _ = protocol.ParseResult(data) }},
		{"receipt", protocol.MaxAnswer, cbor, func(data []byte) {
			_, _ = protocol.OpenReceipt(data, keys)
			_, _ = protocol.OpenReceipt(signed(protocol.ContextReceipt, data), keys)
		}},
		{"handovers", protocol.MaxHandovers * protocol.MaxHandover, cbor, func(data []byte) {
			var b bytes.Buffer
			if err := protocol.WriteString(&b, data); err != nil {
				t.Fatal(err)
			}
			_, _ = protocol.ReadHandovers(bufio.NewReader(&b))
			_, _ = keys.Walk([][]byte{data})
		}},
		{"byte strings", most(), cbor, func(data []byte) {
			r := bufio.NewReader(bytes.NewReader(data))
			for _, err := protocol.ReadString(r, whole); err == nil; {
				_, err = protocol.ReadString(r, whole)
			}
		}},
		{"leaf", protocol.MaxLeaf, cbor, func(data []byte) { _, _ = auditlog.ParseLeaf(data) }},
		{"intents", auditlog.MaxBody, cbor, func(data []byte) { _, _ = auditlog.ParseIntents(data) }},
		{"proof", auditlog.MaxInclusionProof, cbor, func(data []byte) { _, _ = auditlog.OpenInclusionProof(data, appliance) }},
		{"checkpoint", auditlog.MaxCheckpoint, text, func(data []byte) {
			_, _ = auditlog.OpenCheckpoint(data, keys)
		}},
		{"signed message", most(), cbor, func(data []byte) { _, _ = cose.Verify(data, protocol.ContextApproval, key); _, _ = cose.KeyID(data) }},
		{"public key", most(), der, func(data []byte) { _, _ = cose.ParseKey(data); _, _ = csr.CheckKey(data) }},
		{"DER", most(), der, func(data []byte) { x690.WellFormed(data) }},
		{"CSR", csr.MaxSize, der, func(data []byte) { _, _ = csr.Check(data) }},
		{"CSR in PEM", 4 * csr.MaxSize, text, func(data []byte) { _, _ = csr.DecodePEM(data) }},
		{"policy", policy.MaxEncoded, cbor, func(data []byte) { _, _ = policy.Decode(data) }},
		{"roster", policy.MaxEncoded, cbor, func(data []byte) { _, _ = policy.DecodeRoster(data) }},
		{"policy in YAML", policy.MaxYAML, text + alone, func(data []byte) { _, _ = policy.Load(policy.File{Name: "x", Data: data}) }},
		{"roster in YAML", policy.MaxYAML, text + alone, func(data []byte) { _, _ = policy.LoadRoster(policy.File{Name: "x", Data: data}) }},
		{"private key", keyfile.MaxSize, text + age, func(data []byte) { _, _ = keyfile.Decode(data, nil) }},
		{"public key in PEM", keyfile.MaxSize, text, func(data []byte) { _, _ = keyfile.DecodePublic(data) }},
		{"certificate", pathcheck.MaxCertificate, der, func(data []byte) {
			pathcheck.Chain(pathcheck.Input{Leaf: data, Anchors: [][]byte{data}, Time: 1 << 30})
		}},
		{"CRL", most(), der, func(data []byte) { pathcheck.CRL(data, ca, now) }},
		{"OCSP", pathcheck.MaxOCSP, der, func(data []byte) { pathcheck.OCSP(data, ca, now) }},
		{"approver's scope", 8192, der, func(data []byte) { _, _ = protocol.ParseScope(data) }},
		{"encrypted file", most(), age, func(data []byte) {
			_, _ = media.Receiver(bytes.NewReader(data))
			opened(t, data)
		}},
		{"bundle for eyes", most(), cbor + alone, func(data []byte) {
			_ = show.Bundle(sealed(protocol.ContextBundle, header(data), data), nobodyKnown, false, func(show.Sheet) error { return nil })
		}},
		{"response for eyes", most(), cbor + alone, func(data []byte) {
			_ = show.Response(sealed(protocol.ContextResponse, answers(data), data), nobodyKnown, false, func(show.Sheet) error { return nil })
		}},
		{"CRL for eyes", most(), der + alone, func(data []byte) { _, _ = show.CRL(data, true) }},
		{"certificate for eyes", pathcheck.MaxCertificate, der, func(data []byte) { _, _ = show.Certificate(data) }},
		{"request for eyes", protocol.MaxRequest, cbor, func(data []byte) { _, _ = show.Request(data) }},
		{"digest", most(), text + alone, func(data []byte) { _, _ = protocol.ParseDigest(string(data)) }},
	}
}

func nobodyKnown(protocol.Digest) (show.Holder, bool) { return show.Holder{}, false }

// opened decrypts a file by way of a spool.
func opened(t *testing.T, data []byte) {
	t.Helper()
	key, err := media.NewSoftwareKey(bombReceiver)
	if err != nil {
		t.Fatal(err)
	}
	spool, err := media.NewSpool(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := spool.Write(int64(len(data)), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := spool.Decrypt(context.Background(), f, key); err == nil {
		_ = plain.Close() // a private copy
	}
	_ = f.Close()
}
