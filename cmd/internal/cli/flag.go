package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Require makes flags required. It panics where there is no such flag: a mistake of the program, seen in any test.
func Require(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}

// Hide keeps flags out of the help: they are for tests and rehearsals. It panics like Require.
func Hide(c *cobra.Command, names ...string) {
	for _, name := range names {
		if err := c.Flags().MarkHidden(name); err != nil {
			panic(err)
		}
	}
}

// ParseLifetime reads how long something may be on its way: days (14d) or hours (12h).
func ParseLifetime(flag, text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n == 0 {
			return 0, Usage("--%s %q is not a number of days", flag, text)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, Usage("--%s %q is not like 14d or 12h", flag, text)
	}
	return d, nil
}

// ParseTime reads a time or a date: its first second, or its last one where it ends something. It gives unix seconds;
// nothing is 0.
func ParseTime(flag, text string, last bool) (int64, error) {
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
		return 0, Usage("--%s %q is not a date such as 2030-01-31 or a time such as 2030-01-31T12:00:00Z", flag, text)
	}
	return t.Unix(), nil
}
