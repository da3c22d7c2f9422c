package main

import "errors"

// field is one BER-TLV data object (ISO/IEC 7816-4 section 5.2.2).
type field struct {
	tag   uint32
	value []byte
}

var errTLV = errors.New("data objects are malformed")

// parse reads data objects one after the other.
func parse(data []byte) (fields []field, err error) {
	for len(data) > 0 {
		var f field
		f.tag, data = uint32(data[0]), data[1:]
		if f.tag&0x1f == 0x1f {
			for more := true; more; {
				if len(data) == 0 || f.tag > 0xffff {
					return nil, errTLV
				}
				f.tag, more, data = f.tag<<8|uint32(data[0]), data[0]&0x80 != 0, data[1:]
			}
		}
		if len(data) == 0 {
			return nil, errTLV
		}
		size := int(data[0])
		data = data[1:]
		if size > 0x80 {
			n := size & 0x7f
			if n > 2 || len(data) < n {
				return nil, errTLV
			}
			size = 0
			for _, b := range data[:n] {
				size = size<<8 | int(b)
			}
			data = data[n:]
		} else if size == 0x80 {
			return nil, errTLV
		}
		if len(data) < size {
			return nil, errTLV
		}
		f.value, data = data[:size:size], data[size:]
		fields = append(fields, f)
	}
	return fields, nil
}

// value gives what the first field with the tag holds.
func value(fields []field, tag uint32) ([]byte, bool) {
	for _, f := range fields {
		if f.tag == tag {
			return f.value, true
		}
	}
	return nil, false
}

// object writes one data object.
func object(tag uint32, parts ...[]byte) []byte {
	var out []byte
	for shift := 16; shift >= 0; shift -= 8 {
		if b := byte(tag >> shift); tag>>shift != 0 {
			out = append(out, b)
		}
	}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	switch {
	case size < 0x80:
		out = append(out, byte(size))
	case size < 0x100:
		out = append(out, 0x81, byte(size))
	default:
		out = append(out, 0x82, byte(size>>8), byte(size))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
