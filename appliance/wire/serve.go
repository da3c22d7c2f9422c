package wire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"coldseal/protocol/cose"
)

// Descriptor is where a worker finds its end of the socket pair.
const Descriptor = 3

// Handler carries out operation op; body is one item, to be decoded with cose.Unmarshal, and the handler's to keep. It
// returns what to answer (struct{}{} where there is nothing to say, never nil), or a *Refused; any other error is a fault and ends the worker.
type Handler func(op uint64, body []byte) (reply any, refusal error)

// Serve answers requests on the socket at fd (Descriptor) until the parent closes it, then returns nil. At most
// maxInFlight handlers run at once; while they do, nothing more is read, so memory is bounded by that many frames and
// their answers. With 1, requests are carried out in order. An error means the worker must exit: the parent sees a fault.
func Serve(fd uintptr, maxInFlight int, handle Handler) error {
	file, err := openSocket(fd)
	if err != nil {
		return err
	}
	defer file.Close()
	s := &server{file: file, handle: handle}
	err = s.run(maxInFlight)
	// A handler that failed closed the socket; its error says more than the reader's.
	if s.cause != nil {
		return s.cause
	}
	return err
}

func openSocket(fd uintptr) (*os.File, error) {
	kind, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil || kind != syscall.SOCK_STREAM {
		return nil, fmt.Errorf("descriptor %d is not the socket of a parent: this program is started by the appliance", fd)
	}
	syscall.CloseOnExec(int(fd))
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return os.NewFile(fd, "parent"), nil
}

type server struct {
	file   *os.File
	handle Handler

	write sync.Mutex
	fault sync.Once
	cause error
}

func (s *server) run(maxInFlight int) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxInFlight)
	r := bufio.NewReaderSize(s.file, 64<<10)
	for {
		slots <- struct{}{}
		f, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		running.Go(func() {
			defer func() { <-slots }()
			if err := s.answer(f); err != nil {
				s.fault.Do(func() {
					s.cause = err
					s.file.Close()
				})
			}
		})
	}
}

func (s *server) answer(request frame) error {
	reply, err := s.handle(request.word, request.body)
	answer := frame{id: request.id, word: wordReply}
	if refused, ok := errors.AsType[*Refused](err); ok {
		answer.word, reply = wordRefusal, refused
	} else if err != nil {
		return fmt.Errorf("operation %d: %w", request.word, err)
	}
	if answer.body, err = cose.Marshal(reply); err != nil {
		return fmt.Errorf("answer operation %d: %w", request.word, err)
	}
	message, err := answer.encode()
	if err != nil {
		return fmt.Errorf("answer operation %d: %w", request.word, err)
	}
	s.write.Lock()
	defer s.write.Unlock()
	if _, err := s.file.Write(message); err != nil {
		return fmt.Errorf("answer operation %d: %w", request.word, err)
	}
	return nil
}
