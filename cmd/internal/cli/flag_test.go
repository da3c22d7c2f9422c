package cli

import (
	"testing"
	"time"
)

func TestParseLifetime(t *testing.T) {
	for text, want := range map[string]time.Duration{"14d": 14 * 24 * time.Hour, "12h": 12 * time.Hour, "1s": time.Second} {
		if got, err := ParseLifetime("expires", text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0d", "-1d", "d", "70000d", "14", "500ms", "-3h"} {
		if _, err := ParseLifetime("expires", text); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
}

func TestParseTime(t *testing.T) {
	for _, c := range []struct {
		text string
		last bool
		want int64
	}{
		{"", false, 0}, {"1970-01-02", false, 86400}, {"1970-01-02", true, 2*86400 - 1}, {"1970-01-01T01:00:00+01:00", true, 0},
	} {
		if got, err := ParseTime("not-after", c.text, c.last); err != nil || got != c.want {
			t.Errorf("%q: %d, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"tomorrow", "1970-13-01", "1970-01-01 01:00"} {
		if _, err := ParseTime("not-after", text, false); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
}
