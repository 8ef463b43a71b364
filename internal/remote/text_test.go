package remote

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\ttext\n":                    "plain\ttext\n",
		"\x1b[31;1mred\x1b[0m":             "red",
		"\x1b]0;title\aon":                 "on",
		"\x1b]8;;http://x\x1b\\link":       "link",
		"\x1b]never ended\nnext line":      "\nnext line",
		"\x1bPdcs\x1b\\on":                 "on",
		"\x1b(Bon\x1bcon":                  "onon",
		"\x1b":                             "",
		"\x1b[":                            "",
		"a\x00b\x07c\rd\x7fe\u009bf\u0085": "abcdef",
		"gr\xfc\xdfe":                      "gr\ufffd\ufffde",
		"grüße 日本":                         "grüße 日本",
		"abc\u202edef\u2066g\u2028h":       "abcdefgh",
		"\x1b[31\x1b[32mx":                 "x",
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "\x1b[", "\x1b]x\x07", "a\xffb", "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q: not UTF-8: %q", s, got)
		}
		for _, r := range got {
			if !shown(r) {
				t.Errorf("%q: %q is left in %q", s, r, got)
			}
		}
		if Clean(got) != got {
			t.Errorf("%q: cleaning again changes %q", s, got)
		}
	})
}

// What the shell makes of a quoted string is the string.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "plain", "it's", "$HOME `id` \"x\" \\", "a\nb\n", "-n", "~", "*", "#", "!x", "\xff", "a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			t.Skip("no argument can hold a NUL")
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Quote(s)+"; printf %s "+Quote(Quote(s))).Output()
		if err != nil || string(out) != s+Quote(s) {
			t.Errorf("%q became %q (%v)", s, out, err)
		}
	})
}

// A known_hosts file, whatever is in it, gives keys or a named error.
func FuzzKnownHosts(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJK6gqWJ1x5h9rTCWqQ2cQf1u3xg8pXeIoUhS1yRjYA"
	for _, s := range []string{"", "# x\n", "h " + key, "[h]:22,h " + key + "\n", "|1|a|b " + key, "@revoked * " + key, "@cert-authority * " + key, "h", "!h,* " + key, "[h " + key, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		file := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := newVerifier(&target{name: "master-1", addr: "h:22", knownHosts: file})
		if err != nil && HintOf(err) == "" {
			t.Errorf("no hint for %v", err)
		}
		for line := range strings.Lines(s) {
			if kept, err := withoutHost(strings.TrimRight(line, "\r\n"), "h:22", "h"); err == nil && len(kept) > len(line) {
				t.Errorf("%q grew to %q", line, kept)
			}
		}
	})
}
