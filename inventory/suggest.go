package inventory

import (
	"slices"
	"strings"

	"hactl/internal/nearest"
)

// glued returns the name of the field in key:value, which YAML reads as one
// word because no space is behind the colon, or "".
func glued(text string, fs []field) string {
	key, _, _ := strings.Cut(text, ":")
	if f, ok := lookup(fs, key); ok && key != text {
		return f.name
	}
	return ""
}

// closest returns the name of the field that a mistyped key most likely means,
// or "".
func closest(key string, fs []field) string {
	all := make([]string, len(fs))
	for i, f := range fs {
		all[i] = f.name
	}
	return closestOf(key, all)
}

// otherWords are what other tools call the roles.
var otherWords = map[string]string{
	"master": "control-plane", "controller": "control-plane", "server": "control-plane",
	"node": "worker", "agent": "worker", "minion": "worker",
}

// closestOf returns the word of all that is nearest to s, or that other tools call
// s, or "".
func closestOf(s string, all []string) string {
	if w := otherWords[strings.ToLower(s)]; slices.Contains(all, w) {
		return w
	}
	if near := nearest.Words(s, all); len(near) > 0 {
		return near[0]
	}
	return ""
}
