package ui

import "io"

// Style colours text, or leaves it as it is. The zero value does not colour.
type Style struct{ on bool }

// StyleFor colours when w is a terminal and neither --no-color, NO_COLOR
// (https://no-color.org: any non-empty value) nor TERM=dumb says otherwise.
func StyleFor(w io.Writer, o Options) Style {
	o = o.filled()
	off := o.NoColor || o.Getenv("NO_COLOR") != "" || o.Getenv("TERM") == "dumb"
	return Style{on: !off && IsTerminal(w)}
}

func (s Style) sgr(code, text string) string {
	if !s.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold makes text stand out.
func (s Style) Bold(text string) string { return s.sgr("1", text) }

// Dim makes text step back.
func (s Style) Dim(text string) string { return s.sgr("2", text) }

// Red marks errors and removals.
func (s Style) Red(text string) string { return s.sgr("31", text) }

// Green marks success and additions.
func (s Style) Green(text string) string { return s.sgr("32", text) }

// Yellow marks changes and warnings.
func (s Style) Yellow(text string) string { return s.sgr("33", text) }

// Cyan marks what is going on.
func (s Style) Cyan(text string) string { return s.sgr("36", text) }
