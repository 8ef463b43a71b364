package sys

import (
	"strconv"
	"strings"
	"time"
)

// Clock asks for the time that it is on the host.
func Clock() Question[time.Time] {
	return Question[time.Time]{Title: "read the clock", Script: "date +%s.%N", Parse: ParseTime}
}

// ParseTime reads what date prints with +%s.%N: Unix seconds, and nine digits after the point.
func ParseTime(answer string) (time.Time, error) {
	seconds, fraction, _ := strings.Cut(strings.TrimSpace(answer), ".")
	s, err1 := strconv.ParseUint(seconds, 10, 33) // until the year 2242; time.Duration ends in 2262
	ns, err2 := strconv.ParseUint(fraction, 10, 30)
	if err1 != nil || err2 != nil || len(fraction) != 9 {
		return time.Time{}, Unreadable(answer)
	}
	return time.Unix(int64(s), int64(ns)), nil //nolint:gosec // 33 and 30 bits
}

// Ahead is how far a clock is ahead of ours, negative when it is behind, that was read between
// two of our times.
func Ahead(at, before, after time.Time) time.Duration {
	switch {
	case at.Before(before):
		return at.Sub(before)
	case at.After(after):
		return at.Sub(after)
	}
	return 0
}
