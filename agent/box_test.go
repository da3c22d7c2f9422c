package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/media"
	"coldseal/protocol/policy"
)

// box stands for the appliance: it speaks the real wire and decides nothing. Tests make it lie.
type box struct {
	t         testing.TB
	now       func() time.Time
	genesis   []byte
	id        protocol.Digest
	log       ed25519.PrivateKey
	seal      *ecdsa.PrivateKey
	receiver  *ecdsa.PrivateKey
	officers  []*ecdsa.PrivateKey
	policy    *policy.Compiled
	state     protocol.State
	rootKey   *ecdsa.PrivateKey
	root      *x509.Certificate
	caKey     *ecdsa.PrivateKey
	ca        *x509.Certificate
	caID      protocol.Digest
	tree      auditlog.Range
	leaves    [][]byte
	edges     []auditlog.Range // before each leaf
	serial    uint64
	crlNumber int64
	revoked   []x509.RevocationListEntry
	done      map[protocol.Digest]protocol.Answer
	pending   map[uint64][]byte // plaintext of responses
	used      map[uint64]protocol.Digest
	agent     protocol.Party
	lie       fable
}

// fable changes what the box says; nil functions change nothing.
type fable struct {
	refuse      map[string]*protocol.Refusal // by subject
	certificate func(template *x509.Certificate, public *crypto.PublicKey)
	result      func(r *protocol.Result)
	leaf        func(l *auditlog.Leaf)
	answers     func(all [][]byte) [][]byte
	header      func(h *protocol.ResponseHeader)
	crlNumber   int64
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func spki(t testing.TB, key crypto.PublicKey) []byte {
	return must[[]byte](t)(x509.MarshalPKIXPublicKey(key))
}

// firstCRL is the number of the first CRL.
const firstCRL = 6

func newBox(t testing.TB, now func() time.Time) *box {
	b := &box{
		t: t, now: now, seal: newECDSA(t), receiver: newECDSA(t), rootKey: newECDSA(t), caKey: newECDSA(t),
		done: map[protocol.Digest]protocol.Answer{}, pending: map[uint64][]byte{}, used: map[uint64]protocol.Digest{}, crlNumber: firstCRL - 1,
	}
	_, log, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.log = log
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	files = append(files, policy.File{Name: "test.yaml", Data: []byte("policy: test\nclock_ahead: 100 days\n")})
	p := must[*policy.Policy](t)(policy.Load(files...))
	b.policy = must[*policy.Compiled](t)(policy.Compile(p))
	b.state.Policy = must[[]byte](t)(policy.Encode(p))
	b.state.Roster = must[[]byte](t)(policy.EncodeRoster(b.roster()))
	b.root = b.makeCA("Test Root", nil, b.rootKey)
	b.ca = b.makeCA("Test Issuing", b.root, b.caKey)
	b.caID = protocol.DigestOf(b.ca.RawSubjectPublicKeyInfo)
	b.state.CAs, b.state.Labels = [][]byte{b.root.Raw, b.ca.Raw}, []string{"root", "issuing"}
	g := protocol.Genesis{
		Version: protocol.Version, Name: "box", Created: now().Unix(), Log: spki(t, log.Public()), Receiver: spki(t, b.receiver.Public()),
		Seal: spki(t, b.seal.Public()), Roster: b.state.Roster, Policy: b.state.Policy,
	}
	b.genesis = must[[]byte](t)(cose.Marshal(g))
	b.id = protocol.DigestOf(b.genesis)
	b.append(auditlog.Leaf{Kind: auditlog.Genesis}, b.genesis)
	b.append(auditlog.Leaf{Kind: auditlog.Step, Number: 1}, nil)
	return b
}

// People of SYSTEMS.md, as officers.
func officer(i int) string {
	return []string{"it:FTTCRL84C52H501V", "it:SMPBRN79S03F205N", "it:PRVLCU91M67L736T"}[i]
}

func (b *box) roster() *policy.Roster {
	r := &policy.Roster{Version: 1}
	for i := range 3 {
		b.officers = append(b.officers, newECDSA(b.t))
		r.Officers = append(r.Officers, policy.Officer{
			Person: officer(i), Name: "Officer", Keys: [][]byte{spki(b.t, b.officers[i].Public())}, Roles: []string{"security-officer"},
			Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	slices.SortFunc(r.Officers, func(a, c policy.Officer) int { return bytes.Compare([]byte(a.Person), []byte(c.Person)) })
	for _, k := range protocol.RuledOrders() {
		r.Orders = append(r.Orders, policy.OrderRule{Kind: k, Persons: 2, Role: "security-officer"})
	}
	return r
}

func (b *box) makeCA(name string, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, NotBefore: b.now().Add(-time.Hour),
		NotAfter: b.now().Add(10 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer := b.rootKey
	if parent == nil {
		parent = template
	}
	der := must[[]byte](b.t)(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))
	return must[*x509.Certificate](b.t)(x509.ParseCertificate(der))
}

func (b *box) introduction() []byte {
	return must[[]byte](b.t)(protocol.MakeIntroduction(b.genesis, nil, b.state, b.seal))
}

// append logs a leaf and returns its index and salt.
func (b *box) append(l auditlog.Leaf, body []byte) (uint64, []byte) {
	var salt []byte
	l.Time = b.now().Unix()
	if l.Kind != auditlog.Step {
		salt = make([]byte, 16)
		if _, err := rand.Read(salt); err != nil {
			b.t.Fatal(err)
		}
		l.Body = auditlog.BodyDigest([16]byte(salt), body)
	}
	if b.lie.leaf != nil {
		b.lie.leaf(&l)
	}
	data := must[[]byte](b.t)(l.Encode())
	b.edges = append(b.edges, b.tree)
	b.tree.Append(auditlog.LeafHash(data))
	b.leaves = append(b.leaves, data)
	return uint64(len(b.leaves) - 1), salt
}

// ReadHashes answers proofs from the leaves (auditlog.HashReader); slow, and right.
func (b *box) ReadHashes(indexes []int64) ([]auditlog.Hash, error) {
	var all []auditlog.Hash
	a := auditlog.NewAppender(auditlog.Range{})
	for _, l := range b.leaves {
		_, hashes := a.Append(l)
		all = append(all, hashes...)
	}
	out := make([]auditlog.Hash, len(indexes))
	for i, n := range indexes {
		out[i] = all[n]
	}
	return out, nil
}

// approve signs an approval of requests by a key.
func (b *box) approve(key crypto.Signer, ids []protocol.Digest, counts []protocol.Count, statements ...protocol.Statement) []byte {
	slices.SortFunc(ids, func(a, c protocol.Digest) int { return bytes.Compare(a[:], c[:]) })
	a := protocol.Approval{Version: protocol.Version, Appliance: b.id, Created: b.now().Unix(), Expires: b.now().Add(30 * 24 * time.Hour).Unix(), Manifest: counts}
	for _, id := range ids {
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: id, Statements: statements})
	}
	payload := must[[]byte](b.t)(a.Encode())
	return must[[]byte](b.t)(cose.Sign(key, protocol.ContextApproval, payload))
}

// process answers the bundles on a medium and writes all responses that were not acknowledged.
func (b *box) process(medium string) {
	b.t.Helper()
	m := must[*media.Medium](b.t)(media.OpenMedium(medium))
	defer m.Close()
	dir := must[string](b.t)(media.Name{Kind: media.Bundle, Appliance: media.Tag(b.id)}.Dir())
	key := must[media.Key](b.t)(media.NewSoftwareKey(must2(b.receiver.ECDH())))
	spool := must[*media.Spool](b.t)(media.NewSpool(filepath.Join(b.t.TempDir(), "spool"), 0))
	for _, f := range must[[]string](b.t)(m.List(dir)) {
		sealed := must[*media.File](b.t)(spool.Take(m, dir+"/"+f, media.MaxBundleBytes))
		plain := must[*media.File](b.t)(spool.Decrypt(context.Background(), sealed, key))
		bundle, refusal, err := protocol.OpenBundle(plain, b.id, func(seal protocol.Digest) (protocol.Party, bool) { return b.agent, true })
		if refusal != nil || err != nil {
			b.t.Fatalf("open bundle: %v, %v", refusal, err)
		}
		b.answer(bundle)
		if err := plain.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
	b.release(m, b.agent, b.agent.Name)
}

// release writes the pending responses, encrypted to a party, into the folder of an agent.
func (b *box) release(m *media.Medium, to protocol.Party, folder string) {
	b.t.Helper()
	receiver := must2(protocol.ReceiverKey(to.Receiver))
	for sequence, plain := range b.pending {
		path := must[string](b.t)(media.Name{Kind: media.Response, Appliance: media.Tag(b.id), Agent: folder, Sequence: sequence}.Path())
		err := m.Write(path, media.WriteOptions{Replace: true}, func(w io.Writer) error {
			sealed, err := media.Encrypt(w, receiver)
			if err != nil {
				return err
			}
			if _, err := sealed.Write(plain); err != nil {
				return err
			}
			return sealed.Close()
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// answer makes the response to a bundle.
func (b *box) answer(bundle *protocol.Bundle) {
	h := bundle.Header
	for _, n := range h.Acknowledged {
		delete(b.pending, n)
	}
	if digest, used := b.used[h.Sequence]; used {
		if digest == bundle.Digest {
			return // the same bytes, the same response
		}
		last := slices.Max(slices.Collect(keys(b.used)))
		b.respond(h, bundle.Digest, nil, nil, protocol.Refuse(protocol.CodeSequenceReused, "sequence", "1", "last", "2"), last)
		return
	}
	b.used[h.Sequence] = bundle.Digest
	b.append(auditlog.Leaf{Kind: auditlog.Bundle, Number: h.Sequence}, bundle.Digest[:])
	var answers [][]byte
	var changed bool
	for {
		g, refusal, err := bundle.Next()
		if err == io.EOF {
			break
		}
		if refusal != nil || err != nil {
			b.t.Fatalf("read bundle: %v, %v", refusal, err)
		}
		for _, data := range g.Items {
			item, refusal := protocol.ParseItem(data)
			if refusal != nil {
				b.t.Fatal(refusal.Words())
			}
			a := b.one(item.Request)
			answers = append(answers, must[[]byte](b.t)(cose.Marshal(a)))
			changed = changed || g.Section == protocol.SectionTakeAway
		}
	}
	if b.lie.answers != nil {
		answers = b.lie.answers(answers)
	}
	var crls [][]byte
	if changed || b.crlNumber < firstCRL || b.lie.crlNumber != 0 {
		crls = append(crls, b.crl())
	}
	b.respond(h, bundle.Digest, answers, crls, nil, slices.Max(slices.Collect(keys(b.used))))
}

func keys[K comparable, V any](m map[K]V) func(yield func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (b *box) respond(h protocol.BundleHeader, digest protocol.Digest, answers, crls [][]byte, refusal *protocol.Refusal, last uint64) {
	b.append(auditlog.Leaf{Kind: auditlog.Step, Number: uint64(len(b.leaves))}, nil)
	known := h.KnownSize
	if known > uint64(len(b.leaves)) || known != 0 && protocol.Digest(b.edges[known].Root()) != h.KnownRoot {
		known = 0
	}
	header := protocol.ResponseHeader{
		Version: protocol.Version, From: b.id, To: b.agent.Name, Answers: h.Sequence, Bundle: digest, Created: b.now().Unix(), Last: last,
		Refusal: refusal, Results: uint64(len(answers)), FirstLeaf: known, Leaves: uint64(len(b.leaves)) - known, CRLs: uint64(len(crls)), State: b.state,
	}
	for n := range b.pending {
		header.Pending = append(header.Pending, n)
	}
	slices.Sort(header.Pending)
	origin := auditlog.Origin(b.id)
	size := int64(len(b.leaves))
	header.Checkpoint = must[[]byte](b.t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, size, b.tree.Root()), origin, b.log))
	header.Range = b.edges[known].Hashes()
	header.Consistency = must[[][]byte](b.t)(auditlog.ProveConsistency(int64(known), size, b))
	var rest bytes.Buffer
	for _, part := range slices.Concat(answers, b.leaves[known:], crls) {
		if err := protocol.WriteString(&rest, part); err != nil {
			b.t.Fatal(err)
		}
	}
	header.Rest = sha256.Sum256(rest.Bytes())
	if b.lie.header != nil {
		b.lie.header(&header)
	}
	var whole bytes.Buffer
	if err := protocol.WriteResponseHeader(&whole, header, nil, b.seal); err != nil {
		b.t.Fatal(err)
	}
	whole.Write(rest.Bytes())
	b.pending[h.Sequence] = whole.Bytes()
}

// one does what a request asks.
func (b *box) one(data []byte) protocol.Answer {
	id := protocol.ID(data)
	if a, done := b.done[id]; done {
		return a
	}
	req, refusal := protocol.ParseRequest(data)
	if refusal != nil {
		b.t.Fatal(refusal.Words())
	}
	r := protocol.Result{ID: id, Issuer: req.Issuer}
	leaf := auditlog.Leaf{Issuer: req.Issuer[:]}
	if r.Refusal = b.lie.refuse[req.Subject]; r.Refusal != nil {
		r.Outcome, r.Issuer = protocol.OutcomeRefused, protocol.Digest{}
		leaf = auditlog.Leaf{Kind: auditlog.Refused}
		if r.Refusal.Open() {
			return protocol.Answer{Body: must[[]byte](b.t)(cose.Marshal(r))}
		}
	} else {
		switch req.Kind {
		case protocol.KindIssue, protocol.KindRenew:
			b.issue(&req, &r)
			leaf.Kind, leaf.Status, leaf.Profile = auditlog.Issued, auditlog.Active, req.Profile
		case protocol.KindRevoke, protocol.KindHold:
			c, _ := req.Revocation()
			r.Serial, r.Outcome = c.Serial, protocol.OutcomeRevoked
			leaf.Kind, leaf.Status = auditlog.Changed, auditlog.Revoked
			if req.Kind == protocol.KindHold {
				r.Outcome, leaf.Status = protocol.OutcomeHeld, auditlog.Held
			}
			receipt := protocol.Receipt{Appliance: b.id, Request: id, Outcome: r.Outcome, Issuer: r.Issuer, Serial: r.Serial, Time: b.now().Unix()}
			r.Receipt = must[[]byte](b.t)(cose.Sign(b.seal, protocol.ContextReceipt, must[[]byte](b.t)(cose.Marshal(receipt))))
			b.revoked = append(b.revoked, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(c.Serial), RevocationTime: b.now()})
		case protocol.KindRelease:
			c, _ := req.Release()
			r.Serial, r.Outcome = c.Serial, protocol.OutcomeReleased
			leaf.Kind, leaf.Status = auditlog.Changed, auditlog.Active
		case protocol.KindWithdraw:
			r.Outcome, r.Issuer = protocol.OutcomeWithdrawn, protocol.Digest{}
			leaf = auditlog.Leaf{Kind: auditlog.Withdrawn}
		}
		leaf.Serial = r.Serial
	}
	if b.lie.result != nil {
		b.lie.result(&r)
	}
	a := protocol.Answer{Body: must[[]byte](b.t)(cose.Marshal(r))}
	a.Index, a.Salt = b.append(leaf, a.Body)
	b.done[id] = a
	return a
}

func (b *box) issue(req *protocol.Request, r *protocol.Result) {
	content, refusal := req.Issuance()
	if refusal != nil {
		b.t.Fatal(refusal.Words())
	}
	c := must[*csr.Request](b.t)(csr.Check(content.CSR))
	profile, _ := b.policy.Profile(req.Profile)
	names, refusal := profile.Names(req, content.Fields)
	if refusal != nil {
		b.t.Fatal(refusal.Words())
	}
	b.serial++
	r.Outcome = protocol.OutcomeIssued
	r.Serial = binary.BigEndian.AppendUint64([]byte{0x40}, b.serial)
	from := b.now().UTC().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(r.Serial), RawSubject: b.name(names.Subject), NotBefore: from,
		NotAfter: from.Add(time.Duration(profile.Days)*24*time.Hour - time.Second), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, n := range names.Alt {
		template.DNSNames = append(template.DNSNames, n.Value)
	}
	if len(content.Scopes) > 0 {
		value := must[[]byte](b.t)(protocol.ApproverScope{Person: req.Subject, Scopes: content.Scopes}.Encode())
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 1}, Value: value})
	}
	var public crypto.PublicKey = c.PublicKey
	if b.lie.certificate != nil {
		b.lie.certificate(template, &public)
	}
	r.Certificate = must[[]byte](b.t)(x509.CreateCertificate(rand.Reader, template, b.ca, public, b.caKey))
}

func (b *box) name(subject []policy.Attribute) []byte {
	oids := map[string]asn1.ObjectIdentifier{"C": {2, 5, 4, 6}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "CN": {2, 5, 4, 3}, "serialNumber": {2, 5, 4, 5}}
	var rdns pkix.RDNSequence
	for _, a := range subject {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: oids[a.Type], Value: a.Value}})
	}
	return must[[]byte](b.t)(asn1.Marshal(rdns))
}

func (b *box) crl() []byte {
	b.crlNumber++
	number := b.crlNumber
	if b.lie.crlNumber != 0 {
		number = b.lie.crlNumber
	}
	der := must[[]byte](b.t)(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(number), ThisUpdate: b.now(), NextUpdate: b.now().Add(30 * 24 * time.Hour), RevokedCertificateEntries: b.revoked,
	}, b.ca, b.caKey))
	b.append(auditlog.Leaf{Kind: auditlog.CRL, Issuer: b.caID[:], Number: uint64(number)}, der)
	return der
}

// writeFile writes a file of a test.
func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
