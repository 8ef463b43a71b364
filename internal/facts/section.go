package facts

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"hactl/internal/remote"
)

// Bounds of what a host may say.
const (
	maxAnswer  = 4 << 20
	maxSection = 512 << 10
	maxLines   = 8192
	maxText    = 256 // of one value
)

// answer is the host's output taken apart, and the first thing wrong with it.
type answer struct {
	sections map[string]string
	err      error
}

// split takes the output apart. Every section must be there, once, and the last
// must be the end.
func split(out []byte, mark string) (*answer, error) {
	if len(out) > maxAnswer {
		return nil, fmt.Errorf("the host's answer is larger than %d bytes", maxAnswer)
	}
	parts := bytes.Split(out, []byte("\n"+mark+" "))
	a := &answer{sections: make(map[string]string, len(parts))}
	for i, p := range parts[1:] {
		name, body, ok := strings.Cut(string(p), "\n")
		_, again := a.sections[name]
		switch {
		case !ok:
			return nil, errors.New("the host's answer ends early")
		case again:
			return nil, fmt.Errorf("section %.32q is there twice", name)
		case len(body) > maxSection:
			return nil, fmt.Errorf("%.32q: larger than %d bytes", name, maxSection)
		case name == "end" && i != len(parts)-2:
			return nil, errors.New("the host's answer goes on after its end")
		}
		a.sections[name] = body
	}
	if _, ok := a.sections["end"]; !ok {
		return nil, errors.New("the host's answer ends early")
	}
	return a, nil
}

// raw returns a section as it came.
func (a *answer) raw(field string) string {
	s, ok := a.sections[field]
	if !ok {
		a.fail(field, "is missing")
	}
	return s
}

// fail keeps the first thing that is wrong.
func (a *answer) fail(field, format string, args ...any) {
	if a.err == nil {
		a.err = fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...))
	}
}

// lines returns a section's lines without those that are blank.
func (a *answer) lines(field string) []string {
	var out []string
	for l := range strings.Lines(a.raw(field)) {
		if l = strings.TrimRight(l, " \t\r\n"); l != "" {
			out = append(out, l)
		}
	}
	if len(out) > maxLines {
		a.fail(field, "%d lines, more than %d", len(out), maxLines)
		return nil
	}
	return out
}

// words returns a section's lines, each one value.
func (a *answer) words(field string) (out []string) {
	for _, l := range a.lines(field) {
		out = append(out, a.value(field, l))
	}
	return out
}

// text returns a section that is one value, at most maxText bytes.
func (a *answer) text(field string) string { return a.value(field, a.raw(field)) }

// value makes one value of the host's fit to keep and to show.
func (a *answer) value(field, s string) string {
	s = plain(s)
	if len(s) > maxText {
		a.fail(field, "%d bytes long, more than %d", len(s), maxText)
		return ""
	}
	return s
}

// plain is s on one line, without control characters.
func plain(s string) string { return strings.Join(strings.Fields(remote.Clean(s)), " ") }

// pick returns a value that must match the pattern.
func (a *answer) pick(field string, pattern *regexp.Regexp) string {
	s := a.text(field)
	if a.err == nil && !pattern.MatchString(s) {
		a.fail(field, "%.80q makes no sense", s)
		return ""
	}
	return s
}

// number returns a decimal number in [low, high].
func (a *answer) number(field, s string, low, high int64) int64 {
	s = strings.TrimSpace(s)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < low || n > high {
		a.fail(field, "%.80q is not a number from %d to %d", s, low, high)
		return 0
	}
	return n
}

// block returns a section of several lines for showing, control characters gone.
func (a *answer) block(field string) string {
	s := strings.TrimSpace(remote.Clean(a.raw(field)))
	if !utf8.ValidString(s) {
		a.fail(field, "is not UTF-8")
		return ""
	}
	return s
}
