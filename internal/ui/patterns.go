package ui

import (
	"bytes"
	"io"
	"regexp"
)

// maxLine is the longest line that is passed on, in bytes. A longer one is left
// out as a whole: cut in two, half a secret might be in it.
const maxLine = 1 << 20

// maxKeyLines ends a private key whose END line never comes; an RSA key of
// 8192 bits has about a hundred lines.
const maxKeyLines = 128

// patterns are what looks like a secret without being registered; the groups
// stay, the rest of the match is masked.
var patterns = []*regexp.Regexp{
	// Bootstrap tokens of kubeadm.
	regexp.MustCompile(`()\b[a-z0-9]{6}\.[a-z0-9]{16}\b`),
	// certificate-key of kubeadm, keys and tokens in YAML, JSON and flags.
	regexp.MustCompile(`(?i)((?:token|password|passwd|passphrase|secret|certificate-?key|client-key-data|api-?key)["']?\s*[:=]\s*)(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"',;&}]+)`),
	regexp.MustCompile(`(?i)(--(?:token|password|certificate-key)\s+)\S+`),
	regexp.MustCompile(`(?i)(\bauthorization:\s*(?:bearer|basic)\s+)\S+`),
	// user:password@ of a URL.
	regexp.MustCompile(`(\b[a-z][a-z0-9+.-]*://[^\s/:@]+:)[^\s/@]+(@)`),
}

var (
	keyInline = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	keyBegin  = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----`)
	keyEnd    = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	// A key that stands in base64 as a whole, as in a kubeconfig: "-----BEGIN ".
	keyBase64 = regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*`)
)

// lineRedactor masks patterns, line by line.
type lineRedactor struct {
	w    io.Writer
	line []byte
	long bool // the rest of this line is left out
	key  int  // lines of a private key seen so far, 0 outside of one
}

// Write passes on every finished line.
func (l *lineRedactor) Write(p []byte) (int, error) {
	n := len(p)
	for {
		nl := bytes.IndexByte(p, '\n')
		if nl < 0 {
			break
		}
		l.take(p[:nl])
		if err := l.flush("\n"); err != nil {
			return 0, err
		}
		p = p[nl+1:]
	}
	l.take(p)
	return n, nil
}

func (l *lineRedactor) take(p []byte) {
	if l.long || len(l.line)+len(p) > maxLine {
		l.line, l.long = l.line[:0], true
		return
	}
	l.line = append(l.line, p...)
}

// Close passes on a last line without its end.
func (l *lineRedactor) Close() error {
	if len(l.line) == 0 && !l.long {
		return nil
	}
	return l.flush("")
}

func (l *lineRedactor) flush(end string) error {
	text := l.mask(l.line)
	if l.long {
		text = []byte("(a line of more than 1 MiB was left out)")
	}
	l.line, l.long = l.line[:0], false
	if text == nil {
		return nil // inside a key
	}
	_, err := l.w.Write(append(text, end...))
	return err
}

// mask returns the line without secrets, or nil when all of it is one.
func (l *lineRedactor) mask(line []byte) []byte {
	if l.key > 0 {
		at := keyEnd.FindIndex(line)
		if at == nil {
			if l.key++; l.key > maxKeyLines {
				l.key = 0
			}
			return nil
		}
		l.key = 0
		line = line[at[1]:]
		if len(bytes.TrimSpace(line)) == 0 {
			return nil
		}
	}
	out := keyInline.ReplaceAll(line, []byte(Masked))
	if at := keyBegin.FindIndex(out); at != nil {
		l.key = 1
		out = append(out[:at[0]:at[0]], Masked...)
	}
	out = keyBase64.ReplaceAll(out, []byte(Masked))
	for _, p := range patterns {
		out = p.ReplaceAll(out, []byte("${1}"+Masked+"${2}"))
	}
	return append([]byte{}, out...)
}
