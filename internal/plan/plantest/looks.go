// Package plantest plays hosts for tests of steps.
package plantest

import (
	"fmt"
	"regexp"
	"strings"

	"hactl/internal/plan"
)

// lookForm is one look in the script of a batch.
var (
	lookForm = regexp.MustCompile(`(?s)look\(\) \{\n(.*?)\n\}\nanswer (\d+)\n`)
	markForm = regexp.MustCompile(`hactl-[0-9a-f]{24}`)
)

// Looks answers a batch of looks as a host would, from what answer says to the script
// of each. ok is false when the script is no batch of looks.
func Looks(script string, answer func(look string) plan.Answer) (stdout string, ok bool) {
	mark := markForm.FindString(script)
	found := lookForm.FindAllStringSubmatch(script, -1)
	if mark == "" || found == nil {
		return "", false
	}
	var out strings.Builder
	for _, f := range found {
		a := answer(f[1])
		if a.Out != "" {
			out.WriteString(a.Out + "\n")
		}
		if a.Stderr == "" {
			fmt.Fprintf(&out, "\n%s %s %d\n", mark, f[2], a.Exit)
		} else {
			fmt.Fprintf(&out, "\n%s %s %d+\n%s\n%s\n", mark, f[2], a.Exit, a.Stderr, mark)
		}
	}
	return out.String(), true
}
