package protocol_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Whatever a decoder here accepts, encoding gives the same bytes again.

// seeds adds the vectors whose names have the prefix.
func seeds(f *testing.F, prefix string) {
	paths, err := filepath.Glob(filepath.Join("testdata", prefix+"*.txt"))
	if err != nil || len(paths) == 0 {
		f.Fatal("no vectors of", prefix, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(unannotate(f, string(text)))
	}
}

// same wants the encoding of an accepted value to be the data.
func same(t *testing.T, v any, data []byte) {
	t.Helper()
	if again := marshal(t, v); !bytes.Equal(again, data) {
		t.Errorf("accepted %x, encodes as %x", data, again)
	}
}

func FuzzParseRequest(f *testing.F) {
	seeds(f, "request-")
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, refusal := protocol.ParseRequest(data); refusal == nil {
			same(t, r, data)
		}
	})
}

// FuzzContent reads bytes as the content of each kind.
func FuzzContent(f *testing.F) {
	for _, v := range requestVectors {
		r, refusal := protocol.ParseRequest(load(f, "request-"+v.name))
		if refusal != nil {
			f.Fatal(refusal.Words())
		}
		f.Add(r.Content)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole *protocol.Refusal // what CheckContent says
		accept := func(v any, refusal *protocol.Refusal) {
			if refusal == nil {
				same(t, v, data)
			}
			if (whole == nil) != (refusal == nil) {
				t.Errorf("one refuses %v, the other %v", whole, refusal)
			}
		}
		for kind := protocol.KindIssue; kind <= protocol.KindRevokeCA; kind++ {
			r := protocol.Request{Kind: kind, Content: data}
			whole = r.CheckContent()
			switch kind {
			case protocol.KindIssue, protocol.KindRenew:
				c, refusal := r.Issuance()
				accept(c, refusal)
			case protocol.KindRevoke, protocol.KindHold:
				c, refusal := r.Revocation()
				accept(c, refusal)
			case protocol.KindRelease:
				c, refusal := r.Release()
				accept(c, refusal)
			case protocol.KindWithdraw:
				c, refusal := r.Withdrawal()
				accept(c, refusal)
			case protocol.KindCreateKey:
				c, refusal := r.CreateKey()
				accept(c, refusal)
			case protocol.KindSignCA:
				c, refusal := r.SignCA()
				accept(c, refusal)
			case protocol.KindRoster, protocol.KindPolicy:
				c, refusal := r.Replacement()
				accept(c, refusal)
			case protocol.KindAgent, protocol.KindStation:
				c, p, refusal := r.Enrolment()
				accept(c, refusal)
				if refusal == nil {
					same(t, p, c.Party)
				}
			case protocol.KindSetTime:
				c, refusal := r.SetTime()
				accept(c, refusal)
			case protocol.KindCRL:
				c, refusal := r.CRLOrder()
				accept(c, refusal)
			case protocol.KindRestore:
				c, refusal := r.Restoration()
				accept(c, refusal)
			case protocol.KindDestroyKey:
				c, refusal := r.DestroyKey()
				accept(c, refusal)
			case protocol.KindRotateKey:
				c, refusal := r.Rotation()
				accept(c, refusal)
			case protocol.KindForeignCA:
				c, ca, refusal := r.ForeignEnrolment()
				accept(c, refusal)
				if refusal == nil {
					same(t, ca, c.CA)
				}
			case protocol.KindRecovery:
				c, refusal := r.Recovery()
				accept(c, refusal)
			case protocol.KindCrossCertify:
				c, refusal := r.CrossCertification()
				accept(c, refusal)
			case protocol.KindSuspend:
				c, refusal := r.Suspension()
				accept(c, refusal)
			case protocol.KindRevokeCA:
				c, refusal := r.CARevocation()
				accept(c, refusal)
			}
		}
	})
}

// FuzzOpenApproval takes data as a message: nothing opens but what the approver signed.
func FuzzOpenApproval(f *testing.F) {
	seeds(f, "approval-")
	kinds := []string{"p256", "p384", "ed25519", "rsa"}
	var keys []cose.Key
	var good [][]byte
	for _, kind := range kinds {
		keys, good = append(keys, publicKey(f, "approver-"+kind)), append(good, load(f, "approval-"+kind))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for i, key := range keys {
			if a, refusal := protocol.OpenApproval(data, key); refusal == nil && !bytes.Equal(data, good[i]) {
				t.Errorf("forged %+v by %s", a, kinds[i])
			}
		}
	})
}

// FuzzApprovalPayload takes data as what an approver signed.
func FuzzApprovalPayload(f *testing.F) {
	for _, name := range []string{"p256", "p384", "ed25519", "rsa"} {
		f.Add(marshal(f, approvalOf(f, name)))
	}
	key := publicKey(f, "approver-ed25519")
	f.Fuzz(func(t *testing.T, data []byte) {
		a, refusal := protocol.OpenApproval(sign(t, "approver-ed25519", protocol.ContextApproval, data), key)
		if refusal != nil {
			return
		}
		same(t, a, data)
		if again, err := a.Encode(); err == nil && !bytes.Equal(again, data) || err != nil && len(data) < protocol.MaxApproval-1000 {
			t.Errorf("accepted %x, encodes as %x, %v", data, again, err)
		}
	})
}

func FuzzParseItem(f *testing.F) {
	seeds(f, "item-")
	f.Fuzz(func(t *testing.T, data []byte) {
		if it, refusal := protocol.ParseItem(data); refusal == nil {
			same(t, it, data)
		}
	})
}

func FuzzParseParty(f *testing.F) {
	seeds(f, "party-")
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := protocol.ParseParty(data); err == nil {
			same(t, p, data)
		}
	})
}

func FuzzParseGenesis(f *testing.F) {
	seeds(f, "genesis")
	f.Fuzz(func(t *testing.T, data []byte) {
		if g, err := protocol.ParseGenesis(data, protocol.DigestOf(data)); err == nil {
			same(t, g, data)
		}
	})
}

func FuzzOpenIntroduction(f *testing.F) {
	seeds(f, "introduction")
	typed, good, later := protocol.DigestOf(load(f, "genesis")), load(f, "introduction"), load(f, "introduction-later")
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := protocol.OpenIntroduction(data, typed); err == nil && !bytes.Equal(data, good) && !bytes.Equal(data, later) {
			t.Errorf("forged %x", data)
		}
	})
}

// FuzzHandover takes data as a list of handovers, then as what the seal key signed: nobody gets to other keys by them.
func FuzzHandover(f *testing.F) {
	first, all := firstKeys(f), (&world{t: f, appliance: firstKeys(f).Appliance()}).handed()
	for n := range len(all) + 1 {
		f.Add(marshal(f, all[:n]))
	}
	f.Add(handoverOf(f, all[0]))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list bytes.Buffer
		if err := protocol.WriteString(&list, data); err != nil {
			t.Fatal(err)
		}
		if handovers, err := protocol.ReadHandovers(bufio.NewReader(&list)); err == nil && len(data) > 0 {
			same(t, handovers, data)
			if keys, err := first.Walk(handovers); err == nil {
				for i, h := range keys.Handovers() {
					if !bytes.Equal(h, all[i]) {
						t.Errorf("forged %x", h)
					}
				}
			}
		}
		statement := marshal(t, handover{Statement: sign(t, "seal", protocol.ContextHandover, data)})
		if keys, h, err := first.Next(statement); err == nil {
			same(t, h, data)
			if keys.Now().ID(h.Use) != protocol.DigestOf(h.Key) || h.Use == protocol.UseSeal {
				t.Errorf("%+v leads to %x", h, keys.Now().SPKI(h.Use))
			}
		}
	})
}

// FuzzIntroducedState takes data as what an appliance signed.
func FuzzIntroducedState(f *testing.F) {
	genesis := load(f, "genesis")
	in, err := protocol.OpenIntroduction(load(f, "introduction"), protocol.DigestOf(genesis))
	if err != nil {
		f.Fatal(err)
	}
	state := in.State
	f.Add(marshal(f, state))
	f.Add(marshal(f, protocol.State{CAs: append(state.CAs, state.CAs...), Labels: []string{"root", "issuing"}}))
	f.Add(marshal(f, protocol.State{CAs: append(state.CAs, state.CAs...), Labels: []string{"root", "root"}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := marshal(t, introduction{Genesis: genesis, Signed: sign(t, "seal", protocol.ContextIntroduction, data)})
		if in, err := protocol.OpenIntroduction(in, protocol.DigestOf(genesis)); err == nil {
			same(t, in.State, data)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	r, refusal := openResponse(f, load(f, "response"))
	if refusal != nil {
		f.Fatal(refusal.Words())
	}
	for {
		part, data, err := r.Next()
		if err != nil || part != protocol.PartAnswer {
			break
		}
		a, _, err := protocol.ParseAnswer(data)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(a.Body)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, r, err := protocol.ParseAnswer(data); err == nil {
			same(t, a, data)
			same(t, r, a.Body)
		}
		if r, err := protocol.ParseResult(data); err == nil {
			same(t, r, data)
		}
	})
}

func FuzzReceiptPayload(f *testing.F) {
	receipt, err := protocol.OpenReceipt(load(f, "receipt"), firstKeys(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, receipt))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := protocol.OpenReceipt(sign(t, "seal", protocol.ContextReceipt, data), firstKeys(t)); err == nil {
			same(t, r, data)
		}
	})
}

func FuzzReadString(f *testing.F) {
	f.Add(load(f, "bundle"))
	f.Add([]byte{0x59, 0, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		var again bytes.Buffer
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			s, err := protocol.ReadString(r, 1<<20)
			if err != nil {
				if err == io.EOF && again.Len() != len(data) {
					t.Errorf("%d of %d bytes were read", again.Len(), len(data))
				}
				break
			}
			if err := protocol.WriteString(&again, s); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("read %x, writes %x", data, again.Bytes())
		}
	})
}

// FuzzBundle takes data as a whole bundle, as whoever finds a medium may make one.
func FuzzBundle(f *testing.F) {
	seeds(f, "bundle")
	lookup := registry(f, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, groups, refusal := readBundle(t, data, lookup)
		if refusal != nil || b.Sender != nil {
			return
		}
		for _, g := range groups {
			if g.Section != protocol.SectionTakeAway {
				t.Errorf("section %d of an unknown sender", g.Section)
			}
		}
	})
}

// FuzzBundleHeader takes data as the header that an enrolled agent signed, before the contents of another bundle and
// before none.
func FuzzBundleHeader(f *testing.F) {
	_, contents := split(f, load(f, "bundle"))
	lookup := registry(f, nil)
	b, _, refusal := readBundle(f, load(f, "bundle"), lookup)
	if refusal != nil {
		f.Fatal(refusal.Words())
	}
	f.Add(marshal(f, b.Header))
	b.Header.Rest, b.Header.Items = protocol.DigestOf(nil), 0
	f.Add(marshal(f, b.Header))
	f.Fuzz(func(t *testing.T, data []byte) {
		message := sign(t, "agent-seal", protocol.ContextBundle, data)
		for _, after := range [][]byte{nil, contents} {
			var sealed bytes.Buffer
			if err := protocol.WriteString(&sealed, message); err != nil {
				t.Fatal(err)
			}
			if b, _, _ := readBundle(t, append(sealed.Bytes(), after...), lookup); b != nil {
				same(t, b.Header, data)
			}
		}
	})
}

// FuzzVerifyID takes data as a signature over an id: only what the requester signed is one.
func FuzzVerifyID(f *testing.F) {
	id := protocol.Digest{1, 2, 3}
	good, err := protocol.SignID(testKey(f, "approver-ed25519"), protocol.ContextRequester, id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	key := publicKey(f, "approver-ed25519")
	f.Fuzz(func(t *testing.T, data []byte) {
		if protocol.VerifyID(data, protocol.ContextRequester, key, id) == nil && !bytes.Equal(data, good) {
			t.Errorf("forged %x", data)
		}
	})
}

func FuzzReceiverKey(f *testing.F) {
	p, err := protocol.ParseParty(load(f, "party-agent"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Receiver)
	f.Add(p.Seal)
	f.Fuzz(func(t *testing.T, data []byte) {
		public, err := protocol.ReceiverKey(data)
		if err != nil {
			return
		}
		if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted %x, encodes as %x, %v", data, again, err)
		}
	})
}

func FuzzParseForeignCA(f *testing.F) {
	r, refusal := protocol.ParseRequest(load(f, "request-foreign-ca"))
	if refusal != nil {
		f.Fatal(refusal.Words())
	}
	c, _, refusal := r.ForeignEnrolment()
	if refusal != nil {
		f.Fatal(refusal.Words())
	}
	f.Add(c.CA)
	f.Fuzz(func(t *testing.T, data []byte) {
		if ca, err := protocol.ParseForeignCA(data); err == nil {
			same(t, ca, data)
		}
	})
}

// FuzzParseDigest reads what people type.
func FuzzParseDigest(f *testing.F) {
	d := protocol.DigestOf([]byte("x"))
	f.Add(d.String())
	f.Add(d.Groups())
	f.Fuzz(func(t *testing.T, text string) {
		d, err := protocol.ParseDigest(text)
		if err != nil {
			return
		}
		for _, again := range []string{d.String(), d.Groups()} {
			if same, err := protocol.ParseDigest(again); err != nil || same != d {
				t.Errorf("%q is %s, and %q %s, %v", text, d, again, same, err)
			}
		}
	})
}

// FuzzGroups takes data as what an enrolled agent put after its header. What is accepted is written again as it was.
func FuzzGroups(f *testing.F) {
	_, contents := split(f, load(f, "bundle"))
	f.Add(contents, uint64(3))
	appliance := protocol.DigestOf(load(f, "genesis"))
	lookup := registry(f, nil)
	f.Fuzz(func(t *testing.T, data []byte, items uint64) {
		var sealed, again bytes.Buffer
		h := protocol.BundleHeader{Version: 1, From: "registry", To: appliance, Sequence: 1, Created: now, Expires: now + 1, Items: items % protocol.MaxItems, Rest: protocol.DigestOf(data)}
		if err := protocol.WriteHeader(&sealed, h, testKey(t, "agent-seal")); err != nil {
			t.Fatal(err)
		}
		_, groups, refusal := readBundle(t, append(sealed.Bytes(), data...), lookup)
		for _, g := range groups {
			if err := protocol.WriteGroup(&again, g); err != nil {
				t.Fatal(err)
			}
		}
		if refusal == nil && again.Len() != len(data) || !bytes.HasPrefix(data, again.Bytes()) {
			t.Errorf("read %x, writes %x", data, again.Bytes())
		}
	})
}

// FuzzResponseHeader takes data as the header that an appliance signed, before nothing else.
func FuzzResponseHeader(f *testing.F) {
	h, contents := headerOf(f)
	f.Add(marshal(f, h))
	h.Rest = protocol.DigestOf(nil)
	f.Add(marshal(f, h))
	f.Fuzz(func(t *testing.T, data []byte) {
		message := sign(t, "seal", protocol.ContextResponse, data)
		for _, after := range [][]byte{nil, contents} {
			var sealed bytes.Buffer
			sealed.WriteByte(0x40) // no handovers
			if err := protocol.WriteString(&sealed, message); err != nil {
				t.Fatal(err)
			}
			r, refusal := openResponse(t, append(sealed.Bytes(), after...))
			if refusal != nil {
				continue
			}
			same(t, r.Header, data)
			for n, err := 0, error(nil); err == nil; n++ {
				if _, _, err = r.Next(); n > len(after)+1 {
					t.Fatal("more parts than bytes")
				}
			}
		}
	})
}

// FuzzResponse takes data as a whole response: nothing opens but what the appliance sealed.
func FuzzResponse(f *testing.F) {
	seeds(f, "response")
	good := string(load(f, "response"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, refusal := openResponse(t, data); refusal == nil && string(data) != good {
			t.Errorf("forged %+v", r.Header)
		}
	})
}
