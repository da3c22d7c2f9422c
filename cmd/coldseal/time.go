package main

import (
	"strconv"
	"strings"
	"time"

	"coldseal/cmd/internal/cli"
)

// parseLifetime reads how long something may be on its way: 14d or 12h.
func parseLifetime(text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n == 0 {
			return 0, cli.Usage("--expires %q is not a number of days", text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, cli.Usage("--expires %q is not like 14d or 12h", text)
	}
	return d, nil
}

// parseTime reads a time or a date: its first second, or its last one where it ends something. Nothing is 0.
func parseTime(flag, text string, last bool) (int64, error) {
	if text == "" {
		return 0, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		if last {
			day = day.Add(24*time.Hour - time.Second)
		}
		return day.Unix(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, cli.Usage("--%s %q is not a date or a time such as 2027-01-15T08:00:00Z", flag, text)
	}
	return t.Unix(), nil
}
