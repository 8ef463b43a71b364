package sys

import (
	"fmt"
	"strings"
)

// Unreadable is the error of a parser whose answer no host gives which has done what it was
// told.
func Unreadable(answer string) error {
	return fmt.Errorf("the host's answer is unreadable or ends early: %.200q", answer)
}

// Lines are those of an answer above its last line, which has to be "end": one that is cut
// has none.
func Lines(answer string) ([]string, error) {
	lines := strings.Split(strings.TrimSuffix(answer, "\n"), "\n")
	last := len(lines) - 1
	if lines[last] != "end" {
		return nil, Unreadable(answer)
	}
	return lines[:last], nil
}

// yesOrNo reads an answer of one word.
func yesOrNo(answer string) (bool, error) {
	answer = strings.TrimSpace(answer)
	if answer != "yes" && answer != "no" {
		return false, Unreadable(answer)
	}
	return answer == "yes", nil
}
