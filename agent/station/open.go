//go:build cgo

package station

// Open opens the card and finds the key; it wants no PIN yet. Errors are of type *Error.
func Open(c Choice) (Card, error) {
	slot, err := slotNumber(c.Slot)
	if err != nil {
		return nil, err
	}
	if c.Module != "" {
		return openModule(c, slot)
	}
	return openYubico(c, slot)
}
