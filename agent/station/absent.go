//go:build !cgo

package station

// Open says that this program was built without what cards need.
func Open(Choice) (Card, error) {
	return nil, wrong("install a C compiler and libpcsclite-dev, then: make build", "this program was built without smart cards: they need cgo")
}
