package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTableAlignsWideAndCombiningCharacters(t *testing.T) {
	tab := Table{Header: []string{"HOST", "STATE", "NOTE"}, Indent: "  "}
	tab.Add("master-1", "ready", "")
	tab.Add("主机", "e\u0301te\u0301", "two\nlines \x1b[31mred")
	tab.Add("m", "✓", "x", "more")
	var b bytes.Buffer
	if err := tab.Write(&b, Style{}); err != nil {
		t.Fatal(err)
	}
	want := "  HOST      STATE  NOTE\n" +
		"  master-1  ready\n" +
		"  主机      e\u0301te\u0301    two lines red\n" +
		"  m         ✓      x              more\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTableColoursCellsByTheirColumnAndText(t *testing.T) {
	st := Style{on: true}
	tab := Table{Header: []string{"STATE", "WHAT"}, Color: func(column, cell string) func(string) string {
		if column == "STATE" && cell == "bad" {
			return st.Red
		}
		return nil
	}}
	tab.Add("bad", "bad", "bad") // the last one has no header
	var b bytes.Buffer
	_ = tab.Write(&b, st)
	if _, got, _ := strings.Cut(b.String(), "\n"); got != "\x1b[31mbad\x1b[0m    bad   bad\n" {
		t.Errorf("got %q", got)
	}
}

func TestTruncateKeepsWithinColumns(t *testing.T) {
	for _, c := range []struct {
		in   string
		w    int
		want string
	}{
		{"hello", 5, "hello"}, {"hello", 4, "hel…"}, {"hello", 1, "…"}, {"hello", 0, ""}, {"hello", -3, ""},
		{"日本語", 5, "日本…"}, {"日本語", 6, "日本語"}, {"日本語", 4, "日…"},
	} {
		if got := Truncate(c.in, c.w); got != c.want {
			t.Errorf("Truncate(%q, %d) = %q, want %q", c.in, c.w, got, c.want)
		}
	}
}

func FuzzTruncate(f *testing.F) {
	f.Add("日本語 e\u0301", 4)
	f.Fuzz(func(t *testing.T, s string, w int) {
		got := Truncate(s, w)
		if Width(got) > max(0, w) {
			t.Errorf("Truncate(%q, %d) = %q takes %d", s, w, got, Width(got))
		}
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("Truncate(%q, %d) cut a character: %q", s, w, got)
		}
	})
}

func TestTookReadsLikeAPersonWrites(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0.0s", 0: "0.0s", 440 * time.Millisecond: "0.4s", 59960 * time.Millisecond: "1m00s",
		125 * time.Second: "2m05s", 3720 * time.Second: "1h02m",
	} {
		if got := Took(d); got != want {
			t.Errorf("Took(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestNaturalOrderOfHosts(t *testing.T) {
	names := []string{"a", "m-2", "m-10", "m-10a", "m-x", "n"}
	for i := range names {
		for j := range names {
			got := natural(names[i], names[j])
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("natural(%q, %q) = %d", names[i], names[j], got)
			}
		}
	}
}
