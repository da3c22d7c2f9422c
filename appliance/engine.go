// Package appliance is the offline CA: Process(bundle) → response.
//
// The engine trusts nobody. A bundle is believed to come from its sender and no more; whether anything in it is done is
// decided here, against the appliance's own roster, policy and ledger, on approvals that are verified here. Keys are in
// another process (appliance/signer), rules about certificates in a third (appliance/lint). The order of writing and
// signing is law 7 of the design and lives in step.go; what a bundle may bring about lives in takeaway.go, order.go and
// request.go; start-up, which replays the log, in startup.go.
//
// The package reads no flag and no device; cmd/coldseal-appliance gives it open files and directories.
package appliance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
	"coldseal/protocol/policy"
)

// Config is what an engine is opened with.
type Config struct {
	Dir    string           // state directory: ledger, responses, spool
	Signer *signer.Client   // running; its keys and counter belong to this ledger
	Lint   *lint.Client     // running
	Now    func() time.Time // the clock; only the gate decides whether it is believed
	Rand   io.Reader        // serials, salts, challenges; safe for concurrent use
	Free   Free             // nil asks the disk
	Built  time.Time        // when this release was built: no clock is before that
	Report func(Progress)   // called as work goes on; may be nil
	Trial  bool             // a backup is opened to see whether it can be: nothing is asked to move
}

// Free measures the bytes that are free on the disk of a directory.
type Free func(dir string) (int64, error)

// Progress tells how far a bundle is.
type Progress struct {
	Done, Items uint64
}

// Engine decides and signs. It is used by one goroutine.
type Engine struct {
	Config
	ledger    *store.Store
	spool     *media.Spool
	state     *auditlog.State
	policy    *policy.Compiled
	cas       map[protocol.Digest]*issue.CA
	shapes    map[shapeKey]*issue.Shape
	officers  policy.Index             // by approval key
	holders   policy.Index             // by recovery key
	enrolled  map[protocol.Digest]bool // keys of agents and stations
	appliance protocol.Digest
	genesis   protocol.Genesis
	seal      *signer.Key
	log       *signer.Key
	receiver  *signer.Key
	serials   uint64           // the next serial begins with this; starts at the size of the log
	broken    error            // set by the first fault: nothing is done after it
	restoring *store.Restoring // not nil while a restore waits for its order
	folded    *fold            // of the replay at start, where a restore goes on from
}

// ErrFault wraps whatever stops the appliance: a device, a disk, a worker, a ledger that does not agree with its log.
// Nothing was released; the operator has to look (law 11).
var ErrFault = errors.New("fault")

func fault(what string, err error) error { return fmt.Errorf("%s: %w: %w", what, ErrFault, err) }

func newSpool(dir string, reserve int64) (*media.Spool, error) {
	return media.NewSpool(filepath.Join(dir, "spool"), reserve)
}

// Appliance is the genesis digest.
func (e *Engine) Appliance() protocol.Digest { return e.appliance }

// State is what the orders folded to. It is read, never changed, by callers.
func (e *Engine) State() *auditlog.State { return e.state }

// Close releases the ledger.
func (e *Engine) Close() error { return e.ledger.Close() }

// PublicState is what introductions and responses carry of the state.
func (e *Engine) PublicState() protocol.State {
	s := protocol.State{Policy: e.state.Policy, Roster: e.state.Roster}
	for _, id := range e.caOrder() {
		if ca := e.state.CAs[id]; ca.Certificate != nil {
			s.CAs, s.Labels = append(s.CAs, ca.Certificate), append(s.Labels, ca.Label)
		}
	}
	return s
}

// Introduction makes the file of first contact.
func (e *Engine) Introduction() ([]byte, error) {
	var genesis []byte
	err := e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		genesis = m.Genesis
		return err
	})
	if err != nil {
		return nil, err
	}
	return protocol.MakeIntroduction(genesis, e.state.Own.Handovers(), e.PublicState(), e.seal)
}

// adopt makes what the state says usable: the appliance's own keys, compiled policy, CAs that sign.
func (e *Engine) adopt() error {
	if err := e.keys(); err != nil {
		return err
	}
	compiled, err := policy.Compile(e.state.CurrentPolicy())
	if err != nil {
		return fmt.Errorf("compile policy: %w", err)
	}
	cas := make(map[protocol.Digest]*issue.CA, len(e.state.CAs))
	for id, ca := range e.state.CAs {
		if !ca.Signs() {
			continue
		}
		if cas[id], err = issue.NewCA(ca.Label, ca.Certificate); err != nil {
			return fmt.Errorf("certificate of CA %s: %w", ca.Label, err)
		}
	}
	shapes := map[shapeKey]*issue.Shape{}
	for _, ca := range cas {
		if err := shapeAll(shapes, ca, e.state.CurrentPolicy(), e.shards(ca.KeyID)); err != nil {
			return err
		}
	}
	enrolled := make(map[protocol.Digest]bool, len(e.state.Parties))
	for name, record := range e.state.Parties {
		party, err := protocol.ParseParty(record)
		if err != nil {
			return fmt.Errorf("record of %s: %w", name, err)
		}
		enrolled[protocol.DigestOf(party.Seal)] = true
	}
	e.policy, e.cas, e.shapes, e.enrolled = compiled, cas, shapes, enrolled
	roster := e.state.CurrentRoster()
	e.officers, e.holders = policy.NewIndex(roster), policy.NewIndex(roster.Recovery.Roster())
	return nil
}

// shapeAll makes the shapes of all profiles that a CA may sign under a policy. An order that would make one impossible
// is refused by this before it is carried out.
func shapeAll(shapes map[shapeKey]*issue.Shape, ca *issue.CA, p *policy.Policy, shards uint64) error {
	for i := range p.Profiles {
		profile := &p.Profiles[i]
		if profile.Use == policy.UseRoot || !slices.Contains(profile.Issuers, ca.Label) {
			continue
		}
		shape, err := issue.NewShape(ca, profile, shards)
		if err != nil {
			return err
		}
		shapes[shapeKey{ca.KeyID, profile.Name}] = shape
	}
	return nil
}

type shapeKey struct {
	issuer  protocol.Digest
	profile string
}

// caOrder lists the CAs: roots first, then by label.
func (e *Engine) caOrder() []protocol.Digest {
	ids := slices.Collect(maps.Keys(e.state.CAs))
	isRoot := func(id protocol.Digest) bool {
		p, found := e.state.CurrentPolicy().Profile(e.state.CAs[id].Profile)
		return found && p.Use == policy.UseRoot
	}
	slices.SortFunc(ids, func(a, b protocol.Digest) int {
		if isRoot(a) != isRoot(b) {
			return map[bool]int{true: -1, false: 1}[isRoot(a)]
		}
		return strings.Compare(e.state.CAs[a].Label, e.state.CAs[b].Label)
	})
	return ids
}

// stop makes every error a fault, and final for this engine: the ledger may be ahead of what was done, and only
// start-up sorts that out.
func (e *Engine) stop(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrFault) {
		err = fault("stop", err)
	}
	if e.broken == nil {
		e.broken = err
	}
	return err
}

// sign has a CA key sign one TBS and puts the certificate or CRL together; it must be the one that was linted.
func (e *Engine) sign(ca *issue.CA, tbs, linted []byte) ([]byte, error) {
	signatures, err := e.Signer.SignBatch(ca.KeyID, signer.CA, signer.Scheme(ca.Scheme), [][]byte{ca.Input(tbs)})
	if err != nil {
		return nil, fault("sign with CA key "+ca.Label, err)
	}
	return e.assemble(ca, tbs, linted, signatures[0])
}

func (e *Engine) assemble(ca *issue.CA, tbs, linted, signature []byte) ([]byte, error) {
	der, err := ca.Assemble(tbs, signature)
	if err == nil {
		err = lint.Same(linted, der)
	}
	if err != nil {
		return nil, fault("compare what was signed with what was linted", err)
	}
	return der, nil
}

// lintOne asks the lint worker about one certificate or CRL with a dummy signature.
func (e *Engine) lintOne(ask func(context.Context, lint.Config, [][]byte) ([][]lint.Finding, error), p *policy.Profile, dummy []byte) (*protocol.Refusal, error) {
	findings, err := ask(context.Background(), lint.Config{Sets: p.Lint, Ignore: p.LintIgnore}, [][]byte{dummy})
	if err != nil {
		return nil, fault("lint", err)
	}
	return lintRefusal(findings[0], p.Name), nil
}

func lintRefusal(findings []lint.Finding, profile string) *protocol.Refusal {
	if len(findings) == 0 {
		return nil
	}
	names := findings[0].Lint
	for _, f := range findings[1:] {
		names += ", " + f.Lint
	}
	return protocol.Refuse(protocol.CodeLint, "lints", names, "profile", profile)
}
