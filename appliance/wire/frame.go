package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrame is the largest body of a frame, in bytes. It holds the largest thing a worker is ever given in one piece, a
// CRL of about 300,000 entries; what comes in numbers (certificates, digests) is split by the client well below it.
const MaxFrame = 16 << 20

const (
	lengthSize = 4
	headSize   = 16 // id and word, counted by the length
)

// The words of answers. In a request the word is the operation.
const (
	wordReply   = 0
	wordRefusal = 1
)

var errFrame = errors.New("malformed frame")

// frame is one message: id pairs an answer with its request, body is one item of deterministic CBOR, not yet decoded.
type frame struct {
	id   uint64
	word uint64
	body []byte
}

// encode gives the frame as it is sent (wire.md).
func (f frame) encode() ([]byte, error) {
	if len(f.body) == 0 || len(f.body) > MaxFrame {
		return nil, fmt.Errorf("frame with a body of %d bytes: between 1 and %d are allowed", len(f.body), MaxFrame)
	}
	b := make([]byte, 0, lengthSize+headSize+len(f.body))
	b = binary.BigEndian.AppendUint32(b, uint32(headSize+len(f.body)))
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = binary.BigEndian.AppendUint64(b, f.word)
	return append(b, f.body...), nil
}

// readFrame reads one frame. At the end of the stream between two frames it returns io.EOF, within one
// io.ErrUnexpectedEOF. The length is checked before anything is allocated for it.
func readFrame(r io.Reader) (frame, error) {
	var head [lengthSize + headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length <= headSize || length > headSize+MaxFrame {
		return frame{}, fmt.Errorf("%w: length %d, allowed are %d to %d", errFrame, length, headSize+1, headSize+MaxFrame)
	}
	f := frame{
		id:   binary.BigEndian.Uint64(head[lengthSize:]),
		word: binary.BigEndian.Uint64(head[lengthSize+8:]),
		body: make([]byte, length-headSize),
	}
	if _, err := io.ReadFull(r, f.body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	return f, nil
}
