package sys

import "strings"

// Unreadable is the error of a parser whose answer no host gives which has done what it was
// told.
func Unreadable(answer string) error { return errUnreadable(answer) }

// yesOrNo reads an answer of one word.
func yesOrNo(answer string) (bool, error) {
	answer = strings.TrimSpace(answer)
	if answer != "yes" && answer != "no" {
		return false, errUnreadable(answer)
	}
	return answer == "yes", nil
}
