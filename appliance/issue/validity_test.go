package issue

import (
	"encoding/hex"
	"testing"
	"time"

	"pgregory.net/rapid"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

func TestValidity(t *testing.T) {
	ca := &CA{NotBefore: at("2025-01-01T00:00:00Z"), NotAfter: at("2055-01-01T00:00:00Z") - 1}
	p := &policy.Profile{Name: "p", Days: 365, MaxDays: 730, AheadDays: 30}
	for _, c := range []struct {
		name, now, from, to string // "" is absent
		wantFrom, wantTo    string // "" is refused
		code                protocol.Code
		param, value        string
	}{
		{name: "usual", now: "2026-03-01T09:30:00Z", wantFrom: "2026-03-01T09:30:00Z", wantTo: "2027-03-01T09:29:59Z"},
		{name: "usual, over a leap day", now: "2027-03-01T09:30:00Z", wantFrom: "2027-03-01T09:30:00Z", wantTo: "2028-02-29T09:29:59Z"},
		{name: "usual, on a leap day", now: "2028-02-29T12:00:00Z", wantFrom: "2028-02-29T12:00:00Z", wantTo: "2029-02-28T11:59:59Z"},
		{name: "usual, into 2050", now: "2049-06-01T00:00:00Z", wantFrom: "2049-06-01T00:00:00Z", wantTo: "2050-05-31T23:59:59Z"},
		{name: "usual, cut at the CA's end", now: "2054-12-01T00:00:00Z", wantFrom: "2054-12-01T00:00:00Z", wantTo: "2054-12-31T23:59:59Z"},
		{name: "asked for", now: "2026-03-01T09:30:00Z", from: "2026-03-05T00:00:00Z", to: "2026-12-31T23:59:59Z", wantFrom: "2026-03-05T00:00:00Z", wantTo: "2026-12-31T23:59:59Z"},
		{name: "one second", now: "2026-03-01T09:30:00Z", from: "2026-03-05T00:00:00Z", to: "2026-03-05T00:00:00Z", wantFrom: "2026-03-05T00:00:00Z", wantTo: "2026-03-05T00:00:00Z"},
		{name: "longest", now: "2026-03-01T00:00:00Z", to: "2028-02-28T23:59:59Z", wantFrom: "2026-03-01T00:00:00Z", wantTo: "2028-02-28T23:59:59Z"},
		{name: "longest and a second", now: "2026-03-01T00:00:00Z", to: "2028-02-29T00:00:00Z", code: protocol.CodeValidityTooLong, param: "days", value: "731"},
		{name: "too long by years", now: "2026-03-01T00:00:00Z", to: "2054-02-28T00:00:00Z", code: protocol.CodeValidityTooLong, param: "limit", value: "730"},
		{name: "begin only", now: "2026-03-01T00:00:00Z", from: "2026-03-31T00:00:00Z", wantFrom: "2026-03-31T00:00:00Z", wantTo: "2027-03-30T23:59:59Z"},
		{name: "too far ahead", now: "2026-03-01T00:00:00Z", from: "2026-03-31T00:00:01Z", code: protocol.CodeValidityOutside, param: "limit", value: "2028-03-29T23:59:59Z"},
		{name: "began while it travelled", now: "2026-03-01T00:00:00Z", from: "2026-02-20T00:00:00Z", to: "2027-02-19T23:59:59Z", wantFrom: "2026-03-01T00:00:00Z", wantTo: "2027-02-19T23:59:59Z"},
		{name: "ended while it travelled", now: "2026-03-01T00:00:00Z", from: "2026-02-20T00:00:00Z", to: "2026-02-28T23:59:59Z", code: protocol.CodeValidityOutside, param: "reason", value: "it would end before it begins"},
		{name: "beyond the CA by a second", now: "2054-12-01T00:00:00Z", to: "2055-01-01T00:00:00Z", code: protocol.CodeValidityOutside, param: "limit", value: "2054-12-31T23:59:59Z"},
		{name: "to the CA's last second", now: "2054-12-01T00:00:00Z", to: "2054-12-31T23:59:59Z", wantFrom: "2054-12-01T00:00:00Z", wantTo: "2054-12-31T23:59:59Z"},
		{name: "begins after the CA", now: "2054-12-20T00:00:00Z", from: "2055-01-01T00:00:00Z", code: protocol.CodeValidityOutside, param: "reason", value: "it would begin after the CA ends"},
		{name: "CA not begun", now: "2024-12-31T23:59:59Z", code: protocol.CodeValidityOutside, param: "reason", value: "the CA begins on 2025-01-01T00:00:00Z"},
		{name: "CA ended", now: "2055-01-01T00:00:00Z", code: protocol.CodeValidityOutside, param: "reason", value: "the CA ended on 2054-12-31T23:59:59Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to, refusal := Validity(ca, p, at(c.now), maybe(c.from), maybe(c.to))
			if refusal != nil {
				if refusal.Code != c.code || c.param == "" || refusal.Params[c.param] != c.value {
					t.Errorf("refused: %s %v", refusal.Code, refusal.Params)
				}
				return
			}
			if c.wantFrom == "" || from != at(c.wantFrom) || to != at(c.wantTo) {
				t.Errorf("%s to %s, want %q to %q", date(from), date(to), c.wantFrom, c.wantTo)
			}
		})
	}
	if _, _, refusal := Validity(ca, p, now, 1<<63-1, 1<<63-1); refusal == nil {
		t.Error("the end of time was accepted")
	}
	if _, _, refusal := Validity(ca, p, now, 0, 1<<63-1); refusal == nil {
		t.Error("a term until the end of time was accepted")
	}
}

func maybe(text string) int64 {
	if text == "" {
		return 0
	}
	return at(text)
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]string{
		"1970-01-01T00:00:00Z": "170d3730303130313030303030305a",
		"2000-02-29T23:59:59Z": "170d3030303232393233353935395a",
		"2049-12-31T23:59:59Z": "170d3439313233313233353935395a",
		"2050-01-01T00:00:00Z": "180f32303530303130313030303030305a",
		"2100-02-28T12:34:56Z": "180f32313030303232383132333435365a",
		"9999-12-31T23:59:59Z": "180f39393939313233313233353935395a",
	} {
		if got := hex.EncodeToString(appendTime(nil, at(text))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if at("2050-01-01T00:00:00Z") != firstGeneralized || at("9999-12-31T23:59:59Z") != maxTime {
		t.Error("the bounds are not the dates they are said to be")
	}
	rapid.Check(t, func(t *rapid.T) {
		unix := rapid.Int64Range(0, maxTime).Draw(t, "time")
		form, prefix := "20060102150405Z", "\x18\x0f"
		if unix < firstGeneralized {
			form, prefix = "060102150405Z", "\x17\x0d"
		}
		if got := string(appendTime(nil, unix)); got != prefix+time.Unix(unix, 0).UTC().Format(form) {
			t.Fatalf("%d: %q", unix, got)
		}
	})
}
