package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// hands are those that put cards in and pull them, told over the control socket: a line each, answered by a line.
//
//	insert READER NAME [VERSION|plain]   put the card NAME in; it is made, of that firmware or 5.4.3, if there is none;
//	                                     one that was not plain becomes so
//	new READER NAME [VERSION|plain]      put a new card in, whatever was called so before
//	copy READER NAME AS                  put a copy of the card NAME in, which is AS from then on
//	remove READER                        pull the card
//	pull READER N                        have it pulled when it has carried out N commands, before it answers the last
//	count READER                         how many commands the card carried out since it was put in
type hands struct {
	dir     string
	readers []*reader
	cards   atomic.Uint32 // made so far
}

func (h *hands) serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go h.listen(conn)
	}
}

// listen does what one client says, until it says no more.
func (h *hands) listen(conn net.Conn) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		answer, err := h.do(strings.Fields(lines.Text()))
		if err != nil {
			answer = "error " + err.Error()
		}
		if _, err := fmt.Fprintln(conn, answer); err != nil {
			return
		}
	}
}

func (h *hands) do(words []string) (string, error) {
	if len(words) < 2 {
		return "", fmt.Errorf("which reader?")
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n < 0 || n >= len(h.readers) {
		return "", fmt.Errorf("there is no reader %s", words[1])
	}
	r, rest := h.readers[n], words[2:]
	switch {
	case (words[0] == "insert" || words[0] == "new") && (len(rest) == 1 || len(rest) == 2):
		if words[0] == "new" {
			if err := errors.Join(r.remove(), os.RemoveAll(h.file(rest[0]))); err != nil {
				return "", err
			}
		}
		return "ok", h.insert(r, rest)
	case words[0] == "copy" && len(rest) == 2:
		s, err := load(h.file(rest[0]), state{})
		if err == nil {
			err = s.save(h.file(rest[1]))
		}
		if err != nil {
			return "", err
		}
		return "ok", r.insert(&card{state: s, file: h.file(rest[1])})
	case words[0] == "remove" && len(rest) == 0:
		return "ok", r.remove()
	case words[0] == "count" && len(rest) == 0:
		return fmt.Sprint("ok ", r.commands()), nil
	case words[0] == "pull" && len(rest) == 1:
		after, err := strconv.Atoi(rest[0])
		r.pull(after)
		return "ok", err
	}
	return "", fmt.Errorf("%q is not understood", strings.Join(words, " "))
}

func (h *hands) file(name string) string { return filepath.Join(h.dir, filepath.Base(name)+".card") }

func (h *hands) insert(r *reader, words []string) error {
	fresh := state{Version: [3]byte{5, 4, 3}, Serial: 9000000 + h.cards.Add(1)}
	if len(words) == 2 {
		if fresh.Plain = words[1] == "plain"; !fresh.Plain {
			if _, err := fmt.Sscanf(words[1], "%d.%d.%d", &fresh.Version[0], &fresh.Version[1], &fresh.Version[2]); err != nil {
				return fmt.Errorf("version %s: %w", words[1], err)
			}
		}
	}
	s, err := load(h.file(words[0]), fresh)
	if err != nil {
		return err
	}
	s.Plain = s.Plain || fresh.Plain
	return r.insert(&card{state: s, file: h.file(words[0])})
}
