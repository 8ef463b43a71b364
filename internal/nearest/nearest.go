// Package nearest finds the word that a mistyped one most likely means.
package nearest

import "strings"

// most is how many words are offered; longest, in bytes, is the longest that is
// compared: the work grows with the square.
const (
	most    = 3
	longest = 64
)

// Words returns the known words, three at most, that are nearest to the typed one:
// that begin with it, or differ from it in case, punctuation or a third of their
// letters at most. One letter off is nearer than a beginning.
func Words(typed string, known []string) []string {
	t := fold(typed)
	if t == "" || len(t) > longest {
		return nil
	}
	var near, longer []string
	least := longest
	for _, w := range known {
		k := fold(w)
		switch d := distance(t, k); {
		case d > len(k)/3 || d > least:
		case d < least:
			least, near = d, []string{w}
		default:
			near = append(near, w)
		}
		if len(t) > 1 && strings.HasPrefix(k, t) {
			longer = append(longer, w)
		}
	}
	if near == nil || least > 1 && longer != nil {
		near = longer
	}
	return near[:min(most, len(near))]
}

// fold takes case and punctuation away.
func fold(s string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
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
