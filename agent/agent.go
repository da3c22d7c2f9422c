// Package agent collects requests and approvals, carries them over the gap and checks what comes back.
//
// The appliance does not trust the agent, and the agent does not believe the appliance: whatever a response says is
// compared with what was asked, with the signatures of CA, seal and log, and with every leaf of the log seen before.
// Service is the only writer of the agent's state. One command is one line of history; a command that was interrupted
// is run again and goes on, and the same command given twice does its work once.
//
// The agent decides nothing: whether approvals are enough, or a name is free, is the appliance's to say; what is said
// here about it is advice that saves a journey. It holds no key that relying parties believe and no approver's key.
package agent

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/media"
)

// Config is what a service is opened with.
type Config struct {
	Dir  string           // state directory, mode 0700
	Now  func() time.Time // the clock
	Rand io.Reader        // nonces and keys
}

// Service is an agent.
type Service struct {
	Config
	store *store.Store
	party protocol.Party
	id    protocol.Digest // of the appliance
	keys  *protocol.Keys  // of the appliance, as far as they are known here
}

// Names in the state directory, beside the store's.
const (
	sealFile      = "seal.key"
	receiverFile  = "receiver.key"
	EnrolmentFile = "enrolment"
	spoolDir      = "spool"
	bundlesDir    = "bundles"
)

// spoolReserve is the free space in bytes that is left on this machine's disk whatever comes.
const spoolReserve = 64 << 20

// Open opens an agent that was initialised.
func Open(c Config) (*Service, error) {
	st, err := store.Open(c.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, &Error{Kind: ErrNotFound, What: "there is no agent in " + c.Dir, Hint: "run coldseal-agent init first", Err: err}
	case errors.Is(err, store.ErrBusy):
		return nil, &Error{Kind: ErrFailed, What: "open agent", Hint: "wait until the other command is done", Err: err}
	case err != nil:
		return nil, err
	}
	s := &Service{Config: c, store: st}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return s, nil
}

func (s *Service) load() error {
	return s.store.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		s.id = m.Appliance
		if s.keys, err = knownKeys(m); err != nil {
			return err
		}
		s.party, err = protocol.ParseParty(m.Party)
		return err
	})
}

// knownKeys gives the appliance's keys as far as they are known here.
func knownKeys(m store.Meta) (*protocol.Keys, error) {
	genesis, err := protocol.ParseGenesis(m.Genesis, m.Appliance)
	if err != nil {
		return nil, err
	}
	keys, err := genesis.Keys(m.Appliance)
	if err != nil {
		return nil, err
	}
	return keys.Walk(m.Handovers)
}

// Close releases the state.
func (s *Service) Close() error { return s.store.Close() }

// Party is the agent as it is to be enrolled.
func (s *Service) Party() protocol.Party { return s.party }

// Appliance is the digest that was typed.
func (s *Service) Appliance() protocol.Digest { return s.id }

func (s *Service) unix() int64 { return s.Now().Unix() }

func (s *Service) spool() (*media.Spool, error) {
	return media.NewSpool(filepath.Join(s.Dir, spoolDir), spoolReserve)
}

func (s *Service) sealKey() (*ecdsa.PrivateKey, error) {
	return readKey(filepath.Join(s.Dir, sealFile))
}

func (s *Service) receiverKey() (*ecdh.PrivateKey, error) {
	key, err := readKey(filepath.Join(s.Dir, receiverFile))
	if err != nil {
		return nil, err
	}
	private, err := key.ECDH()
	if err != nil {
		return nil, fmt.Errorf("read receiver key: %w", err)
	}
	return private, nil
}
