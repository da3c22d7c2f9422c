package main

const (
	tagDiscovery   = 0x7e
	tagAttestation = 0x5fff01
	maxObject      = 3052 // what a YubiKey takes
)

// get is GET DATA (SP 800-73-4 part 2, section 3.1.2).
func (c *card) get(cmd command) ([]byte, status) {
	fields, err := parse(cmd.data)
	if err != nil || cmd.p1 != 0x3f || cmd.p2 != 0xff {
		return nil, wrongData
	}
	wanted, _ := value(fields, 0x5c)
	tag, ok := number(wanted)
	switch {
	case !ok:
		return nil, wrongData
	case tag == tagDiscovery:
		aid := append(append([]byte(nil), aidPIV...), 0, 0, 0x10, 0, 1, 0)
		return object(tagDiscovery, object(0x4f, aid), object(0x5f2f, []byte{0x40, 0})), done
	case personal(tag) && !c.verified:
		return nil, notSatisfied
	case c.Objects[tag] == nil:
		return nil, notFound
	}
	return object(0x53, c.Objects[tag]), done
}

// personal are the objects that want the PIN: printed information, fingerprints, face, iris (part 1, table 2).
func personal(tag uint32) bool {
	return tag == 0x5fc109 || tag == 0x5fc103 || tag == 0x5fc108 || tag == 0x5fc121
}

// put is PUT DATA (section 3.3.1); nothing put is an object taken away.
func (c *card) put(cmd command) status {
	if !c.managed {
		return notSatisfied
	}
	fields, err := parse(cmd.data)
	if err != nil || cmd.p1 != 0x3f || cmd.p2 != 0xff {
		return wrongData
	}
	wanted, _ := value(fields, 0x5c)
	data, given := value(fields, 0x53)
	tag, ok := number(wanted)
	if !ok || !given {
		return wrongData
	}
	if len(data) > maxObject {
		return wrongLength
	}
	if len(data) == 0 {
		delete(c.Objects, tag)
	} else {
		c.Objects[tag] = append([]byte(nil), data...)
	}
	return c.keep()
}

func number(tag []byte) (n uint32, ok bool) {
	for _, b := range tag {
		n = n<<8 | uint32(b)
	}
	return n, len(tag) >= 1 && len(tag) <= 3
}
