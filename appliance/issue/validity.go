package issue

import (
	"strconv"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

const day = 24 * 3600

// Validity decides from when to when a certificate is valid, in unix seconds, both inclusive (RFC 5280 section 4.1.2.5):
// a term of N days ends N·86400−1 seconds after it begins. Zero notBefore is now; zero notAfter is the profile's usual
// term, cut at the CA's end. What was asked for is given exactly or refused, with one exception: a beginning that passed
// while the request travelled becomes now. That gives less than was approved, and nothing is ever backdated.
func Validity(ca *CA, p *policy.Profile, now, notBefore, notAfter int64) (from, to int64, refusal *protocol.Refusal) {
	from, to = max(notBefore, now), notAfter
	switch {
	case now < ca.NotBefore:
		return 0, 0, outside("the CA begins on "+date(ca.NotBefore), ca.NotAfter)
	case now > ca.NotAfter:
		return 0, 0, outside("the CA ended on "+date(ca.NotAfter), ca.NotAfter)
	case from > ca.NotAfter:
		return 0, 0, outside("it would begin after the CA ends", ca.NotAfter)
	case from > now && from-now > p.AheadDays*day:
		limit := min(ca.NotAfter, now+(p.AheadDays+p.MaxDays)*day-1)
		return 0, 0, outside("it would begin more than "+strconv.FormatInt(p.AheadDays, 10)+" days ahead", limit)
	case to == 0:
		return from, min(ca.NotAfter, from+p.Days*day-1), nil
	case to < from:
		return 0, 0, outside("it would end before it begins", min(ca.NotAfter, from+p.MaxDays*day-1))
	case to-from+1 > p.MaxDays*day:
		days := (to-from)/day + 1
		return 0, 0, protocol.Refuse(protocol.CodeValidityTooLong, "profile", p.Name,
			"days", strconv.FormatInt(days, 10), "limit", strconv.FormatInt(p.MaxDays, 10))
	case to > ca.NotAfter:
		return 0, 0, outside("it would end after the CA ends", ca.NotAfter)
	}
	return from, to, nil
}

func outside(reason string, limit int64) *protocol.Refusal {
	return protocol.Refuse(protocol.CodeValidityOutside, "reason", reason, "limit", date(limit))
}

func date(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
