package main

import (
	"fmt"
	"io"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/show"
)

// parties finds holders of keys among records of agents and stations, as the files say.
func parties(files []string, stdin io.Reader) (show.Known, error) {
	holders := map[protocol.Digest]show.Holder{}
	for _, name := range files {
		data, err := cli.ReadInput(name, stdin, protocol.MaxRequest)
		if err != nil {
			return nil, err
		}
		p, err := protocol.ParseParty(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		key, err := cose.ParseKey(p.Seal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		holders[key.ID()] = show.Holder{Key: key, Who: fmt.Sprintf("%s %s, as %s says", p.Role, p.Name, name)}
	}
	return func(id protocol.Digest) (show.Holder, bool) {
		h, found := holders[id]
		return h, found
	}, nil
}
