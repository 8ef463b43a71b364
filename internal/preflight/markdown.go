package preflight

import (
	"fmt"
	"strings"
)

// Markdown is the list of checks as a document.
func Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Preflight

%[1]shactl preflight -i inventory.yaml%[1]s looks at all hosts at once, alone and between one another, and changes nothing: a scratch
file beside etcd's data, which measures the disk, is removed again, and so is hactl-network in /run of masters that do not have it. %[1]shactl preflight --ignore ID%[1]s leaves the findings of a check
out of account; they are still shown. %[1]s-o json%[1]s prints the same as one document.

Each check ends as **passed**, **warning** (the cluster would come up, with a weakness), **error** (it would not come up, or not
stay up), **ignored**, or **unknown**: it could not look, which never counts as passed. A finding may be milder or graver than
the severity below. Exit code 0: no errors; 1: an error that is not ignored; 3: a check of severity error could not look.

For 1.1 seconds the masters send one another probes of IP protocol 112 by unicast, as keepalived will, and listen for adverts on the
interface of the VIP; masters that do not hear one another go on for up to 3 seconds. hactl-network does
that; nothing is installed, and hosts need no perl and no bash for it. The probes are no adverts (virtual router id 0, version 0, type 0), and a running
keepalived drops them without a word: its state stays, and so does the VIP. Its own adverts do not count as another cluster's.

What it cannot see: VRRP on hosts of another architecture than hactl's own programs (unknown), adverts that come less often than once a second, and unicast adverts between
other hosts. A port without a listener counts as reachable when the host refuses the connection; a firewall that refuses by a
reset looks the same, so the rules on the hosts are read as well.

Generated from internal/preflight/list.go; do not edit.

| id | severity | what must hold | hint |
|---|---|---|---|
`, "`")
	for _, k := range All {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.ID, k.Severity, k.Title, k.Hint)
	}
	return b.String()
}
