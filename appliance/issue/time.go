package issue

import "time"

// Times that a certificate can say (RFC 5280 section 4.1.2.5), in unix seconds.
const (
	firstGeneralized = 2524608000   // 2050-01-01T00:00:00Z
	maxTime          = 253402300799 // 9999-12-31T23:59:59Z
)

const (
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
)

// appendTime encodes a Time: UTCTime through 2049, GeneralizedTime from 2050. The caller has checked that unix is from
// 0 to maxTime.
func appendTime(dst []byte, unix int64) []byte {
	if unix >= firstGeneralized {
		return appendGeneralizedTime(dst, unix)
	}
	year, t := fields(unix)
	dst = append(dst, tagUTCTime, 13)
	dst = appendTwo(dst, year%100)
	return appendRest(dst, t)
}

// appendGeneralizedTime encodes as RFC 5280 section 4.1.2.5.2 says: seconds, Zulu, no fraction.
func appendGeneralizedTime(dst []byte, unix int64) []byte {
	year, t := fields(unix)
	dst = append(dst, tagGeneralizedTime, 15)
	dst = appendTwo(appendTwo(dst, year/100), year%100)
	return appendRest(dst, t)
}

func fields(unix int64) (year int, rest [5]int) {
	t := time.Unix(unix, 0).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	return year, [5]int{int(month), day, hour, minute, second}
}

func appendRest(dst []byte, rest [5]int) []byte {
	for _, n := range rest {
		dst = appendTwo(dst, n)
	}
	return append(dst, 'Z')
}

func appendTwo(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
