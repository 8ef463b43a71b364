package ui

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"hactl/internal/plan"
	"hactl/internal/remote"
)

// WriteDiff prints every pending change with its unified diff, what could not
// be looked at, and the counts. Secrets are shown by size and hash only.
func WriteDiff(w io.Writer, p *plan.Plan, st Style) error {
	var b strings.Builder
	for _, stage := range p.Stages {
		for _, it := range stage.Items {
			if it.Change == nil && it.Err == nil {
				continue
			}
			b.WriteString(st.Bold(oneLine(string(it.Step.ID))) + "\n" + itemLine(it, st) + "\n")
			if it.Err == nil {
				b.WriteString(paintDiff(unified(it.Change), st))
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString(PlanSummary(p) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// unified is the diff of a change, "" when it has none to show.
func unified(c *plan.Change) string {
	if c.Secret {
		return secretDiff(c) + "\n"
	}
	if c.Before == c.After {
		return ""
	}
	return udiff.Unified("on the host", "wanted", diffLines(c.Before), diffLines(c.After))
}

// diffLines is the text as a diff shows it. CR and other control characters are
// what one may be looking for, so they are made visible instead of being dropped.
func diffLines(s string) string {
	var out strings.Builder
	for l := range strings.Lines(s) {
		body, ended := strings.CutSuffix(l, "\n")
		out.WriteString(remote.Clean(visible(body)))
		if ended {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case r < ' ':
			return 0x2400 + r // ␀ and its neighbours
		case r == 0x7f:
			return 0x2421
		}
		return r
	}, s)
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// secretDiff says that a secret changes without showing it: "(secret, 227
// bytes, sha256 ab12… -> cd34…)". Where the change carries no texts, the pin
// still tells the hash of what is on the host.
func secretDiff(c *plan.Change) string {
	before, after := short(c.Before), short(c.After)
	if after == "" && sha256Hex.MatchString(c.Want) {
		after = c.Want[:4] + "…"
	}
	if before == "" && sha256Hex.MatchString(c.Pin) {
		before = c.Pin[:4] + "…"
	}
	if before == "" {
		before = "none"
	}
	size := ""
	if c.After != "" {
		size = fmt.Sprintf(", %d bytes", len(c.After))
	}
	if after == "" {
		return fmt.Sprintf("(secret%s, on the host: sha256 %s, not shown)", size, before)
	}
	return fmt.Sprintf("(secret%s, sha256 %s -> %s)", size, before, after)
}

func short(text string) string {
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:2]) + "…"
}

func paintDiff(text string, st Style) string {
	if !st.on {
		return text
	}
	var b strings.Builder
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		switch {
		case strings.HasPrefix(l, "+++"), strings.HasPrefix(l, "---"):
			l = st.Bold(l)
		case strings.HasPrefix(l, "+"):
			l = st.Green(l)
		case strings.HasPrefix(l, "-"):
			l = st.Red(l)
		case strings.HasPrefix(l, "@@"):
			l = st.Cyan(l)
		}
		b.WriteString(l + "\n")
	}
	return b.String()
}
