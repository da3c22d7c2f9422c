package protocol_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

const (
	now  = 1_800_000_000 // 2027-01-15T08:00:00Z
	day  = 24 * 3600
	body = "it/058091"
)

// world is what the vectors show: one appliance, one agent, one bundle and its response.
type world struct {
	t         testing.TB
	genesis   []byte
	appliance protocol.Digest
	ca        protocol.Digest // id of its key
	caDER     []byte
	leafDER   []byte // the certificate that the request for issuance leads to
	crl       []byte
	serial    []byte // of the certificate on hold
	state     protocol.State
	agent     []byte // record
	station   []byte
	requests  map[string][]byte
	messages  []signed // all COSE_Sign1 made
	approvals map[string][]byte
	groups    []protocol.Group
	bundle    []byte
	receipt   []byte
	response  []byte
}

// signed is a COSE_Sign1 of the vectors.
type signed struct {
	context, key string
	message      []byte
}

func (w *world) sign(key, context string, payload []byte) []byte {
	m := sign(w.t, key, context, payload)
	w.messages = append(w.messages, signed{context, key, m})
	return m
}

func (w *world) certificates() {
	key := testKey(w.t, "ca")
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Root"}, NotBefore: time.Unix(now-day, 0), NotAfter: time.Unix(now+9000*day-1, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: w.ca[:20],
	}
	var err error
	if w.caDER, err = x509.CreateCertificate(nil, root, root, key.Public(), key); err != nil {
		w.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(w.caDER)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(0x4f0018), Subject: pkix.Name{CommonName: "058091-PC-0001"}, NotBefore: time.Unix(now, 0), NotAfter: time.Unix(now+365*day-1, 0),
	}
	if w.leafDER, err = x509.CreateCertificate(nil, leaf, parsed, testKey(w.t, "machine").Public(), key); err != nil {
		w.t.Fatal(err)
	}
	w.crl, err = x509.CreateRevocationList(nil, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Unix(now+100, 0), NextUpdate: time.Unix(now+7*day, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: new(big.Int).SetBytes(w.serial), RevocationTime: time.Unix(now+100, 0), ReasonCode: 6}},
	}, parsed, key)
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) csr(key, name string) []byte {
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, testKey(w.t, key))
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

// request makes the request of a name; set changes what is not the same for all.
func (w *world) request(name string, kind protocol.Kind, content any, set func(*protocol.Request)) {
	nonce := sha256.Sum256([]byte("nonce of " + name))
	r := protocol.Request{
		Version: 1, Appliance: w.appliance, Kind: kind, Nonce: [16]byte(nonce[:16]), Created: now, Expires: now + 30*day,
		Content: marshal(w.t, content),
	}
	if set != nil {
		set(&r)
	}
	w.requests[name] = marshal(w.t, r)
}

func (w *world) makeRequests() {
	profile := protocol.DigestOf([]byte("compiled profile"))
	about := func(r *protocol.Request) {
		r.Issuer, r.Profile, r.Body, r.Subject = w.ca, "it-workstation", body, "058091-PC-0001"
	}
	made := func(r *protocol.Request) { about(r); r.ProfileDigest = profile }
	approver := func(r *protocol.Request) { made(r); r.Profile, r.Subject = "approver", "it:FTTCRL84C52H501V" }
	order := func(issuer bool) func(*protocol.Request) {
		return func(r *protocol.Request) {
			if issuer {
				r.Issuer = w.ca
			}
		}
	}
	person := publicKey(w.t, "person")
	statement := marshal(w.t, protocol.KeyStatement{Appliance: w.appliance, Key: person.ID(), CardSerial: "0123456789", Subject: "it:FTTCRL84C52H501V"})
	roster := []byte("new roster")
	possession := protocol.DigestOf(roster)
	w.request("issue", protocol.KindIssue, protocol.Issuance{
		CSR: w.csr("machine", "058091-PC-0001"), Fields: map[string]string{"number": "0001"}, NotAfter: now + 365*day - 1, Origin: protocol.OriginAgent,
	}, made)
	w.request("issue-approver", protocol.KindIssue, protocol.Issuance{
		CSR: w.csr("person", "FTTCRL84C52H501V"), Fields: map[string]string{"given": "Carla", "surname": "Fatta"}, NotBefore: now + day, NotAfter: now + 700*day - 1,
		Origin: protocol.OriginStation, Evidence: w.sign("station", protocol.ContextKeyStatement, statement),
		Scopes: []protocol.Scope{{Profile: "it-server", Body: body}, {Profile: "it-workstation", Body: body}},
	}, approver)
	w.request("renew", protocol.KindRenew, protocol.Issuance{
		CSR: w.csr("machine", "058091-PC-0001"), Origin: protocol.OriginCurrent, Renews: &protocol.CertificateID{Issuer: w.ca, Serial: w.serial},
	}, made)
	w.request("revoke", protocol.KindRevoke, protocol.Revocation{Serial: w.serial, Reason: protocol.ReasonKeyCompromise, Since: now - 3*day}, about)
	w.request("hold", protocol.KindHold, protocol.Revocation{Serial: w.serial}, about)
	w.request("release", protocol.KindRelease, protocol.Release{Serial: []byte{0x4f, 0, 0x16}, Hold: 1}, about)
	w.request("withdraw", protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.ID(w.requests["issue"])}, func(r *protocol.Request) { r.Body = body })
	w.request("create-key", protocol.KindCreateKey, protocol.CreateKey{Label: "issuing", Algorithm: "P-384"}, nil)
	w.request("sign-ca", protocol.KindSignCA, protocol.SignCA{
		Key: publicKey(w.t, "new-ca").ID(), Fields: map[string]string{"name": "Issuing CA"}, NotBefore: now, NotAfter: now + 3650*day - 1,
	}, func(r *protocol.Request) { r.Issuer, r.Profile, r.ProfileDigest = w.ca, "issuing", profile })
	w.request("roster", protocol.KindRoster, protocol.Replacement{
		Replaces: protocol.DigestOf(w.state.Roster), New: roster, Possession: [][]byte{w.sign("approver-p384", protocol.ContextPossession, possession[:])},
	}, nil)
	w.request("policy", protocol.KindPolicy, protocol.Replacement{Replaces: protocol.DigestOf(w.state.Policy), New: []byte("new policy")}, nil)
	w.request("agent", protocol.KindAgent, protocol.Enrolment{Party: w.agent}, nil)
	w.request("station", protocol.KindStation, protocol.Enrolment{Replaces: protocol.DigestOf([]byte("record before")), Party: w.station}, nil)
	w.request("set-time", protocol.KindSetTime, protocol.SetTime{Time: now + 60}, nil)
	w.request("crl", protocol.KindCRL, protocol.CRLOrder{Replaces: protocol.DigestOf([]byte("CRL before"))}, order(true))
	w.request("restore", protocol.KindRestore, protocol.Restoration{
		From: 1200, Size: 1345, Root: protocol.DigestOf([]byte("root")), Lost: 1, CRLs: []protocol.CRLFloor{{Issuer: w.ca, Number: 1042}},
	}, nil)
	w.request("destroy-key", protocol.KindDestroyKey, protocol.DestroyKey{Key: publicKey(w.t, "new-ca").ID()}, nil)
	w.request("rotate-key", protocol.KindRotateKey, protocol.Rotation{Use: protocol.UseSeal, Replaces: publicKey(w.t, "seal").ID()}, nil)
	w.request("foreign-ca", protocol.KindForeignCA, protocol.ForeignEnrolment{
		CA: marshal(w.t, protocol.ForeignCA{Version: 1, Name: "ministry", Certificate: w.state.CAs[0]}),
	}, nil)
	w.request("recovery", protocol.KindRecovery, protocol.Recovery{Replaces: protocol.DigestOf(w.state.Roster), New: possession}, nil)
	w.request("cross-certify", protocol.KindCrossCertify, protocol.CrossCertification{Certificate: w.state.CAs[0], NotAfter: now + 365*day - 1},
		func(r *protocol.Request) { r.Issuer, r.Profile, r.ProfileDigest = w.ca, "cross", profile })
	w.request("suspend", protocol.KindSuspend, protocol.Suspension{Replaces: protocol.DigestOf(w.state.Roster), Person: "it:FTTCRL84C52H501V"}, nil)
	w.request("revoke-ca", protocol.KindRevokeCA, protocol.CARevocation{Serial: w.serial, Reason: protocol.ReasonCACompromise, Since: now - day}, order(true))
}

// approve makes an approval of named requests, made with the key of the same name.
func (w *world) approve(key string, challenge []byte, statements []protocol.Statement, names ...string) {
	a := protocol.Approval{Version: 1, Appliance: w.appliance, Created: now + 10, Expires: now + 20*day, Challenge: challenge}
	var requests []protocol.Request
	for _, name := range names {
		r, refusal := protocol.ParseRequest(w.requests[name])
		if refusal != nil {
			w.t.Fatal(name, refusal.Words())
		}
		requests = append(requests, r)
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: protocol.ID(w.requests[name]), Statements: statements})
	}
	if len(a.Entries) == 2 && bytes.Compare(a.Entries[0].ID[:], a.Entries[1].ID[:]) > 0 {
		a.Entries[0], a.Entries[1] = a.Entries[1], a.Entries[0]
	}
	a.Manifest = protocol.ManifestOf(requests)
	payload, err := a.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.approvals[key] = w.sign(key, protocol.ContextApproval, payload)
}

func (w *world) item(name string) []byte {
	return marshal(w.t, protocol.Item{Request: w.requests[name]})
}

func (w *world) signedItem() []byte {
	id := protocol.ID(w.requests["renew"])
	return marshal(w.t, protocol.Item{
		Request: w.requests["renew"],
		Current: w.sign("machine", protocol.ContextCurrentKey, id[:]), Requester: w.sign("approver-p256", protocol.ContextRequester, id[:]),
	})
}

// seal writes groups behind a header, which set may change.
func (w *world) seal(key string, groups []protocol.Group, set func(*protocol.BundleHeader)) []byte {
	var contents, whole bytes.Buffer
	items := 0
	for _, g := range groups {
		items += len(g.Items)
		if err := protocol.WriteGroup(&contents, g); err != nil {
			w.t.Fatal(err)
		}
	}
	h := protocol.BundleHeader{
		Version: 1, From: "registry", To: w.appliance, Sequence: 7, Created: now + 20, Expires: now + 30*day, Items: uint64(items),
		Rest: protocol.DigestOf(contents.Bytes()), Acknowledged: []uint64{5, 6},
	}
	if set != nil {
		set(&h)
	}
	if err := protocol.WriteHeader(&whole, h, testKey(w.t, key)); err != nil {
		w.t.Fatal(err)
	}
	return append(whole.Bytes(), contents.Bytes()...)
}

// stored keeps the hashes of a log.
type stored []auditlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]auditlog.Hash, error) {
	out := make([]auditlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

// logged is the log that the response tells of.
type logged struct {
	t        testing.TB
	leaves   [][]byte
	hashes   stored
	appender *auditlog.Appender
}

func (l *logged) add(leaf auditlog.Leaf, body []byte) (index uint64, salt []byte) {
	index = uint64(len(l.leaves))
	leaf.Time = now + 100 + int64(index)
	if leaf.Kind != auditlog.Step {
		whole := sha256.Sum256([]byte{byte(index)})
		salt = whole[:16]
		leaf.Body = auditlog.BodyDigest([16]byte(salt), body)
	}
	data, err := leaf.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	_, hashes := l.appender.Append(data)
	l.leaves, l.hashes = append(l.leaves, data), append(l.hashes, hashes...)
	return index, salt
}

func (l *logged) root(size int64) protocol.Digest {
	edge, err := auditlog.ReadRange(size, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	return protocol.Digest(edge.Root())
}

func makeWorld(t testing.TB) *world {
	w := &world{t: t, requests: map[string][]byte{}, approvals: map[string][]byte{}, serial: []byte{0x4f, 0, 0x17}}
	w.ca = publicKey(t, "ca").ID()
	w.state = protocol.State{Policy: []byte("policy"), Roster: []byte("roster")}
	w.genesis = marshal(t, protocol.Genesis{
		Version: 1, Name: "test", Nonce: [16]byte{1, 2, 3}, Created: now - day, Log: spki(t, "log"), Receiver: spki(t, "receiver"), Seal: spki(t, "seal"),
		Roster: w.state.Roster, Policy: w.state.Policy,
	})
	w.appliance = protocol.DigestOf(w.genesis)
	w.agent = marshal(t, protocol.Party{
		Version: 1, Name: "registry", Role: protocol.RoleAgent, Seal: spki(t, "agent-seal"), Receiver: spki(t, "agent-receiver"), Bodies: []string{body, "it/058092"},
		BundlesPerDay: 20, ItemsPerDay: 100_000,
	})
	w.station = marshal(t, protocol.Party{Version: 1, Name: "desk-1", Role: protocol.RoleStation, Seal: spki(t, "station"), Bodies: []string{body}, Retired: true})
	w.certificates()
	w.state.CAs, w.state.Labels = [][]byte{w.caDER}, []string{"root"}
	w.makeRequests()
	w.approve("approver-p256", nil, nil, "hold")
	w.approve("approver-p384", bytes.Repeat([]byte{0xcc}, 16), nil, "crl")
	w.approve("approver-ed25519", nil, []protocol.Statement{protocol.StatementFingerprint}, "issue", "release")
	w.approve("approver-rsa", nil, nil, "revoke")
	w.groups = []protocol.Group{
		{Section: protocol.SectionTakeAway, Approvals: [][]byte{w.approvals["approver-p256"]}, Items: [][]byte{w.item("hold")}},
		{Section: protocol.SectionRequests, Approvals: [][]byte{w.approvals["approver-ed25519"]}, Items: [][]byte{w.item("issue"), w.item("release")}},
	}
	w.makeResponse()
	return w
}

// makeResponse plays the log: genesis and a step are known to the agent, the rest is what its bundle led to.
func (w *world) makeResponse() {
	l := &logged{t: w.t, appender: auditlog.NewAppender(auditlog.Range{})}
	step := func(n uint64) { l.add(auditlog.Leaf{Kind: auditlog.Step, Number: n}, nil) }
	l.add(auditlog.Leaf{Kind: auditlog.Genesis}, w.genesis)
	step(1)
	w.bundle = w.seal("agent-seal", w.groups, func(h *protocol.BundleHeader) { h.KnownSize, h.KnownRoot = 2, l.root(2) })
	header, _ := split(w.t, w.bundle)
	w.messages = append(w.messages, signed{protocol.ContextBundle, "agent-seal", header})

	held := protocol.Result{ID: protocol.ID(w.requests["hold"]), Outcome: protocol.OutcomeHeld, Issuer: w.ca, Serial: w.serial}
	w.receipt = w.sign("seal", protocol.ContextReceipt, marshal(w.t, protocol.Receipt{
		Appliance: w.appliance, Request: held.ID, Outcome: held.Outcome, Issuer: held.Issuer, Serial: held.Serial, Time: now + 103, Size: 3,
	}))
	held.Receipt = w.receipt
	issued := protocol.Result{ID: protocol.ID(w.requests["issue"]), Outcome: protocol.OutcomeIssued, Issuer: w.ca, Serial: []byte{0x4f, 0, 0x18}, Certificate: w.leafDER}
	refused := protocol.Result{ID: protocol.ID(w.requests["release"]), Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeNotHeld, "serial", "4f0016")}

	var contents bytes.Buffer
	write := func(data []byte) {
		if err := protocol.WriteString(&contents, data); err != nil {
			w.t.Fatal(err)
		}
	}
	answer := func(leaf auditlog.Leaf, r protocol.Result) {
		data := marshal(w.t, r)
		index, salt := l.add(leaf, data)
		write(marshal(w.t, protocol.Answer{Body: data, Index: index, Salt: salt}))
	}
	ca := w.ca[:]
	l.add(auditlog.Leaf{Kind: auditlog.Bundle, Number: 7}, []byte("bundle record"))
	answer(auditlog.Leaf{Kind: auditlog.Changed, Issuer: ca, Serial: held.Serial, Status: auditlog.Held}, held)
	l.add(auditlog.Leaf{Kind: auditlog.Intents, Number: 2}, []byte("intents"))
	step(2)
	answer(auditlog.Leaf{Kind: auditlog.Issued, Issuer: ca, Serial: issued.Serial, Status: auditlog.Active, Profile: "it-workstation"}, issued)
	answer(auditlog.Leaf{Kind: auditlog.Refused}, refused)
	l.add(auditlog.Leaf{Kind: auditlog.CRL, Issuer: ca, Number: 1}, []byte("CRL record"))
	step(3)
	for _, leaf := range l.leaves[2:] {
		write(leaf)
	}
	write(w.crl)

	size := int64(len(l.leaves))
	origin := auditlog.Origin(w.appliance)
	checkpoint, err := auditlog.SignCheckpoint(auditlog.CheckpointText(origin, size, auditlog.Hash(l.root(size))), origin, testKey(w.t, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	h := protocol.ResponseHeader{
		Version: 1, From: w.appliance, To: "registry", Answers: 7, Bundle: protocol.DigestOf(w.bundle), Created: now + 110, Last: 7, Missing: []uint64{3},
		Pending: []uint64{4, 7}, Results: 3, FirstLeaf: 2, Leaves: uint64(size - 2), CRLs: 1, Checkpoint: checkpoint, State: w.state,
		Rest: protocol.DigestOf(contents.Bytes()),
	}
	if h.Range, err = auditlog.ProveRange(2, l.hashes); err != nil {
		w.t.Fatal(err)
	}
	if h.Consistency, err = auditlog.ProveConsistency(2, size, l.hashes); err != nil {
		w.t.Fatal(err)
	}
	w.response = w.respond(h, contents.Bytes())
	header, _ = split(w.t, w.response)
	w.messages = append(w.messages, signed{protocol.ContextResponse, "seal", header})
}

// respond seals a response.
func (w *world) respond(h protocol.ResponseHeader, contents []byte) []byte {
	var whole bytes.Buffer
	if err := protocol.WriteResponseHeader(&whole, h, nil, testKey(w.t, "seal")); err != nil {
		w.t.Fatal(err)
	}
	return append(whole.Bytes(), contents...)
}

// split divides a bundle or response into its header and what follows.
func split(t testing.TB, sealed []byte) (header, contents []byte) {
	t.Helper()
	r := bytes.NewReader(sealed)
	buffered := bufio.NewReader(r)
	header, err := protocol.ReadString(buffered, protocol.MaxResponseHeader)
	if err == nil && len(header) == 0 { // no handovers: it is a response
		header, err = protocol.ReadString(buffered, protocol.MaxResponseHeader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return header, sealed[len(sealed)-buffered.Buffered()-r.Len():]
}

func (w *world) introduction() []byte {
	data, err := protocol.MakeIntroduction(w.genesis, nil, w.state, testKey(w.t, "seal"))
	if err != nil {
		w.t.Fatal(err)
	}
	var in introduction
	if err := cose.Unmarshal(data, &in); err != nil {
		w.t.Fatal(err)
	}
	w.messages = append(w.messages, signed{protocol.ContextIntroduction, "seal", in.Signed})
	return data
}

// handed are three handovers, of each of the keys; the last one is signed by the seal key that the second brought.
func (w *world) handed() (all [][]byte) {
	for i, h := range []struct {
		use           protocol.Use
		old, new, key string // key is that of the seal
	}{
		{protocol.UseLog, "log", "new-log", "seal"}, {protocol.UseSeal, "seal", "new-seal", "seal"}, {protocol.UseReceiver, "receiver", "new-receiver", "new-seal"},
	} {
		var possessor crypto.Signer
		if h.use == protocol.UseSeal {
			possessor = testKey(w.t, h.new)
		}
		var previous protocol.Digest
		if i > 0 {
			previous = protocol.DigestOf(all[i-1])
		}
		data, err := protocol.SignHandover(protocol.Handover{
			Previous: previous, Appliance: w.appliance, Use: h.use, Replaces: publicKey(w.t, h.old).ID(), Key: spki(w.t, h.new), Index: 20 + 10*uint64(i), Time: now + day*int64(i+1),
		}, testKey(w.t, h.key), possessor)
		if err != nil {
			w.t.Fatal(err)
		}
		var made handover
		if err := cose.Unmarshal(data, &made); err != nil {
			w.t.Fatal(err)
		}
		w.messages = append(w.messages, signed{protocol.ContextHandover, h.key, made.Statement})
		all = append(all, data)
	}
	return all
}

// later is an introduction after all keys were replaced.
func (w *world) later() []byte {
	data, err := protocol.MakeIntroduction(w.genesis, w.handed(), w.state, testKey(w.t, "new-seal"))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// handover, introduction and groupHeader mirror what bundle.md and response.md specify.
type handover struct {
	_          struct{} `cbor:",toarray"`
	Statement  []byte
	Possession []byte
}

type introduction struct {
	_         struct{} `cbor:",toarray"`
	Genesis   []byte
	Handovers [][]byte
	Signed    []byte
}

type groupHeader struct {
	_         struct{} `cbor:",toarray"`
	Section   protocol.Section
	Approvals [][]byte
	Items     uint64
}
