package appliance_test

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// combinations calls f with everything that so many voters can do, but for who of them is who: choices ascend. At most
// one can have signed that they ask.
func combinations(n int, f func(did []choice)) {
	did := make([]choice, 0, n)
	var add func(from choice)
	add = func(from choice) {
		if len(did) == n {
			f(did)
			return
		}
		for c := from; c < choices; c++ {
			if c == asked && len(did) > 0 && did[len(did)-1] == asked {
				continue
			}
			did = append(did, c)
			add(c)
			did = did[:len(did)-1]
		}
	}
	add(absent)
}

// TestQuorumExhaustively has up to six persons do all that they can do, for every k, with real signatures, certificates
// and roster, and the real engine: it issues what the table says and nothing else. Fewer than six are six of whom some
// are absent.
func TestQuorumExhaustively(t *testing.T) {
	a := newAssembly(t)
	n := voters
	if raced {
		n = 2
	}
	type asking struct {
		k   int
		did []choice
	}
	var all []asking
	flush := func() {
		ballots := make([]ballot, len(all))
		keys := newKeys(t, len(all))
		var wait sync.WaitGroup
		for worker := range runtime.GOMAXPROCS(0) {
			wait.Go(func() {
				for i := worker; i < len(all); i += runtime.GOMAXPROCS(0) {
					ballots[i] = a.ask(a.number+i, all[i].k, all[i].did, keys[i])
				}
			})
		}
		wait.Wait()
		a.number += len(all)
		all = all[:0]
		a.vote(ballots)
	}
	combinations(n, func(did []choice) {
		did = append(slices.Clone(did), make([]choice, voters-n)...)
		for k := 1; k <= voters; k++ {
			all = append(all, asking{k, did})
		}
		if len(all) >= 8000 {
			flush()
		}
	})
	flush()
	t.Logf("%d requests, %d issued, %d signatures", a.requests, a.quorate, len(a.sealed))
	d := a.desk
	d.reopen()
}

// vote brings ballots and compares what is done with the table.
func (a *assembly) vote(ballots []ballot) {
	a.t.Helper()
	var groups []protocol.Group
	for rest := ballots; len(rest) > 0; {
		made := map[signing]bool{}
		n := 0
		for ; n < len(rest) && n < 512; n++ {
			var more []signing
			for i, did := range rest[n].did {
				for _, s := range signings(i, did) {
					if !made[s] {
						more = append(more, s)
					}
				}
			}
			if len(made)+len(more) > protocol.MaxGroupApprovals {
				break
			}
			for _, s := range more {
				made[s] = true
			}
		}
		g := protocol.Group{Section: protocol.SectionRequests}
		for _, b := range rest[:n] {
			g.Items = append(g.Items, b.item)
			if quorate(b.k, b.did) {
				a.must(b.raw, "quorum")
				a.quorate++
			}
		}
		for s := range made {
			g.Approvals = append(g.Approvals, a.sign(s, rest[:n]))
		}
		groups, rest = append(groups, g), rest[n:]
	}
	a.requests += len(ballots)
	if out := a.process(a.world.seal(groups...)); out.Refusal != nil {
		a.t.Fatal(out.Refusal.Words())
	}
	a.finished()
}

// TestQuorumUnderAnotherProfile: however many approve, a request that names another version of the profile is not done.
func TestQuorumUnderAnotherProfile(t *testing.T) {
	a := newAssembly(t)
	issued := a.logged(auditlog.Issued)
	var ballots []ballot
	for k := 1; k <= voters; k++ {
		for subset := range 1 << voters {
			did := make([]choice, voters)
			for i := range did {
				did[i] = [...]choice{absent, approved}[subset>>i&1]
			}
			b := a.ask(a.number, k, did, newKey(t))
			a.number++
			r, _ := protocol.ParseRequest(b.raw)
			r.ProfileDigest[0] ^= 1
			b.raw = a.encode(r)
			b.item = must[[]byte](t)(cose.Marshal(protocol.Item{Request: b.raw}))
			ballots = append(ballots, b)
		}
	}
	g := protocol.Group{Section: protocol.SectionRequests}
	for _, b := range ballots {
		g.Items = append(g.Items, b.item)
	}
	for i := range voters {
		g.Approvals = append(g.Approvals, a.sign(signing{voter: i, did: approved}, ballots))
	}
	r := a.answer(g)
	for _, b := range ballots {
		wants(t, r.of(t, b.raw).result.Refusal, protocol.CodeProfileChanged)
	}
	if a.look(); a.logged(auditlog.Issued) != issued {
		t.Error("something was issued")
	}
}

// TestOrderQuorumExhaustively has officers and others do all that they can do about an order, for every k, in every
// combination of up to four of them; of up to six in a soak.
func TestOrderQuorumExhaustively(t *testing.T) {
	a := newAssembly(t)
	n := draws(4, 6)
	if raced {
		n = 2
	}
	d := a.desk
	challenge := must[[]byte](t)(d.engine.Challenge())
	raw := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "P-256"}))
	first := func(p *person, statements []protocol.Statement) []byte {
		return d.approve(p, challenge, statements, raw)
	}
	changed := func(p *person, change func(*protocol.Approval)) []byte { return d.approveChanged(p, change, nil, raw) }
	doing := []func(i int) [][]byte{ // the first three count
		func(i int) [][]byte { return [][]byte{first(d.officers[i], nil)} },
		func(i int) [][]byte { return [][]byte{first(d.officers[i], nil), first(d.officers[i], both)} },
		func(i int) [][]byte { return [][]byte{first(d.officers[i], nil), first(a.twice[i], nil)} },
		func(i int) [][]byte { return nil },
		func(i int) [][]byte { return [][]byte{first(a.by[suspended][i], nil)} },
		func(i int) [][]byte { return [][]byte{first(a.good[i], nil)} }, // officers of another role, and approvers
		func(i int) [][]byte { return [][]byte{d.approve(d.officers[i], nil, nil, raw)} },
		func(i int) [][]byte { return [][]byte{d.approve(d.officers[i], make([]byte, 16), nil, raw)} },
		func(i int) [][]byte {
			return [][]byte{d.approve(d.officers[i], challenge, nil, raw, d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "P-256"})))}
		},
		func(i int) [][]byte {
			return [][]byte{changed(d.officers[i], func(m *protocol.Approval) { m.Challenge, m.Appliance = challenge, protocol.Digest{1} })}
		},
		func(i int) [][]byte {
			return [][]byte{changed(d.officers[i], func(m *protocol.Approval) { m.Challenge, m.Created, m.Expires = challenge, m.Created-100, m.Created })}
		},
		func(i int) [][]byte {
			return [][]byte{changed(d.officers[i], func(m *protocol.Approval) { m.Challenge, m.Manifest[0].Kind = challenge, protocol.KindCRL })}
		},
	}
	messages := make([][][][]byte, n)
	for i := range messages {
		for _, do := range doing {
			messages[i] = append(messages[i], do(i))
		}
	}
	var all [][]int
	did := make([]int, n)
	var each func(i, from int)
	each = func(i, from int) {
		if i == n {
			all = append(all, slices.Clone(did))
			return
		}
		for did[i] = from; did[i] < len(doing); did[i]++ {
			each(i+1, did[i])
		}
	}
	each(0, 0)
	for k := 1; k <= voters; k++ {
		next := *d.engine.State().CurrentRoster()
		next.Orders = slices.Clone(next.Orders)
		next.Orders[slices.IndexFunc(next.Orders, func(o policy.OrderRule) bool { return o.Kind == protocol.KindCreateKey })].Persons = uint64(k)
		d.mustOrder(d.roster(&next))
		var wait sync.WaitGroup
		workers := runtime.GOMAXPROCS(0)
		for worker := range workers {
			wait.Go(func() {
				for j := worker; j < len(all); j += workers {
					persons := 0
					var approvals [][]byte
					for i, c := range all[j] {
						if approvals = append(approvals, messages[i][c]...); c < 3 {
							persons++
						}
					}
					_, refusal := d.engine.State().Authorize(raw, approvals, challenge, d.now.Unix())
					if (refusal == nil) != (persons >= k) {
						t.Errorf("%d of %v: %v", k, all[j], refusal)
					}
				}
			})
		}
		wait.Wait()
	}
	t.Logf("%d orders", voters*len(all))
}
