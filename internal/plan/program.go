package plan

import (
	"path"
	"strings"

	"hactl/internal/remote"
)

// Programs is the folder on a host that holds every program which a unit starts or
// hactl calls, each build at a path of its own.
const Programs = "/opt/hactl"

// ProgramPath is where a build of a program lies on a host:
// /opt/hactl/NAME/VERSION-SUM12/NAME. A unit names this path. So another build is
// another unit, and goes through the guarded restart of that unit; a process that
// ends by itself starts again from the build that it had; and the build of before
// is there to go back to.
func ProgramPath(name, version, sha256 string) string {
	return path.Join(Programs, name, version+"-"+sha256[:min(12, len(sha256))], name)
}

// SearchPath is a line of shell by which the calls after it find these programs
// first, whatever else the host has by their names.
func SearchPath(programs ...string) string {
	var dirs strings.Builder
	for _, p := range programs {
		if path.IsAbs(p) {
			dirs.WriteString(path.Dir(p) + ":")
		}
	}
	if dirs.Len() == 0 {
		return ""
	}
	return "PATH=" + remote.Quote(dirs.String()) + "$PATH; export PATH\n"
}
