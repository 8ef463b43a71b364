package cmd

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What only the machine has on which somebody builds. The words are put
// together here so that this file does not hold them.
var machineOnly = []string{
	"/wo" + "rk/main", "/wo" + "rk/shared", "/tmp/wa" + "rm", "/far" + "m/", "/ro" + "ot/.cache",
	"goproxy" + ".cn", "proxy.golang" + ".org", "artifact" + "ory", "deb.debian" + ".org", "registry.npm" + "js", "npmmirror" + ".com",
}

// TestTreeNamesNoBuildMachine keeps paths and registries of one machine out of
// what is handed on.
func TestTreeNamesNoBuildMachine(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--full-name", ":/").Output()
	if err != nil {
		t.Skip("not a git tree: nothing is handed on from here")
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		b, err := os.ReadFile("../" + name)
		if err != nil {
			continue // removed in the working tree
		}
		for _, word := range machineOnly {
			if i := strings.Index(string(b), word); i >= 0 {
				t.Errorf("%s:%d names %s", name, 1+strings.Count(string(b[:i]), "\n"), word)
			}
		}
	}
}
