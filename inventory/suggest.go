package inventory

import (
	"slices"
	"strings"
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

// closestOf returns the word of all that differs from s in case, punctuation or
// a third of its letters at most, or that other tools call s, or "".
func closestOf(s string, all []string) string {
	plain := strings.NewReplacer("-", "", "_", "", " ", "")
	fold := func(s string) string { return strings.ToLower(plain.Replace(s)) }
	if len(s) > 64 {
		return ""
	}
	if w := otherWords[fold(s)]; slices.Contains(all, w) {
		return w
	}
	best, at := "", 1<<30
	for _, w := range all {
		if d := distance(fold(s), fold(w)); d < at && d <= len(w)/3 {
			best, at = w, d
		}
	}
	return best
}

// distance counts the bytes to insert, delete, change or swap with the next one
// to get from a to b (Damerau-Levenshtein, each place edited once).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
