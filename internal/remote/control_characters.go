package remote

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from a host fit to be shown: escape sequences and control
// characters go (newline and tab stay), so do the invisible characters that
// reorder text, and invalid UTF-8 becomes U+FFFD. A hostile host must not be
// able to repaint the operator's terminal.
func Clean(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if s[i] == esc {
			i += escapeLen(s[i:])
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		if shown(r) {
			b.WriteRune(r)
		}
	}
	return b.String()
}

const esc = 0x1b

func isClean(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x7f || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

func shown(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return true
	case unicode.IsControl(r): // C0, DEL, C1
		return false
	case unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029', r == '\ufeff':
		return false
	}
	return true
}

// escapeLen returns the length of the escape sequence that s starts with. A
// string sequence (OSC, DCS, ...) without its end stops at the newline, so that
// one stray byte does not swallow the rest of the output.
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		return paramsLen(s, 2, 0x20, 0x3f)
	case ']', 'P', 'X', '^', '_':
		return stringLen(s)
	}
	return paramsLen(s, 1, 0x20, 0x2f)
}

// paramsLen skips bytes in [lo, hi] from i on and one final byte after them.
func paramsLen(s string, i int, lo, hi byte) int {
	for i < len(s) && s[i] >= lo && s[i] <= hi {
		i++
	}
	if i < len(s) && s[i] > ' ' && s[i] < 0x7f {
		i++
	}
	return i
}

func stringLen(s string) int {
	for i := 2; i < len(s); i++ {
		switch {
		case s[i] == '\a':
			return i + 1
		case s[i] == '\n':
			return i
		case s[i] == esc:
			if i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
			return i
		}
	}
	return len(s)
}
