// Package systest gives the answers of hosts to questions of internal/sys, for tests.
package systest

import (
	"fmt"
	"time"
)

// And is the answer to two questions in one command.
func And(first, second string) string { return first + "\n----\n" + second + "\n----\n" }

// Services is what systemd says of services: name, state, name, state. One that is not
// active has no process.
func Services(pairs ...string) (out string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		pid := 0
		if pairs[i+1] == "active" {
			pid = i + 1
		}
		out += fmt.Sprintf("Id=%s\nLoadState=loaded\nActiveState=%s\nUnitFileState=enabled\nMainPID=%d\nNeedDaemonReload=no\n\n", pairs[i], pairs[i+1], pid)
	}
	return out
}

// VIP is what a master says whose keepalived and prober run.
func VIP(holds bool) string {
	return And(map[bool]string{true: "yes", false: "no"}[holds], Services("keepalived.service", "active", "hactl-prober.service", "active"))
}

// Clock is what a host says whose clock shows the time.
func Clock(at time.Time) string { return fmt.Sprintf("%d.%09d\n", at.Unix(), at.Nanosecond()) }

// Free is what a host says of one path that has that many bytes of room.
func Free(bytes int64) string { return fmt.Sprintf("Avail Mounted on\n%d /\n", bytes) }
