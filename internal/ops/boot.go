package ops

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
)

// bootMark is the file on a host that hactl has begun to reboot. Its first line is the
// boot in which it was written, so that the next run knows whether the host has rebooted
// since, or "done" once the host was given back. The second names the hosts of the run.
const bootMark = "/var/lib/hactl/reboot"

const bootDone = "done"

// boot is what a host says of its boots.
type boot struct {
	ID       string   // the running boot: the kernel's id, and when PID 1 was started
	Mark     string   // the boot that is to end, bootDone, or "" when no reboot was begun
	Run      []string // the hosts of the run that wrote the mark
	Required string   // why the host itself wants a reboot, or ""
}

// pending reports whether a reboot that was begun has not happened yet.
func (b boot) pending() bool { return b.Mark != "" && b.Mark == b.ID }

// rebooted reports whether a reboot has happened after which the host was not given back.
func (b boot) rebooted() bool { return b.Mark != "" && b.Mark != bootDone && b.Mark != b.ID }

// bootScript prints the lines that parseBoot reads.
const bootScript = `b=$(this_boot) || exit 1
echo "boot $b"
[ ! -e ` + bootMark + ` ] || { read -r m; read -r h; echo "mark $m"; echo "run $h"; } <` + bootMark + `
reboot_required | sed 's/^/required /'
`

func parseBoot(out string) (boot, error) {
	var b boot
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "boot":
			b.ID = value
		case "mark":
			b.Mark = value
		case "run":
			b.Run = strings.Fields(value)
		case "required":
			b.Required = remote.Clean(value)
		}
	}
	if b.ID == "" || b.Mark == "" && strings.Contains(out, "mark ") {
		return b, fmt.Errorf("the host answered %q", remote.Clean(out))
	}
	return b, nil
}

// bootQuestion is asked of a host, and by every step that depends on the boot.
var bootQuestion = sys.Question[boot]{Title: "look at the boot", Script: bootScript, Parse: parseBoot}

// lookAtBoots asks every connected host, all at once.
func (s *session) lookAtBoots(ctx context.Context) (map[string]boot, error) {
	var mu sync.Mutex
	out := map[string]boot{}
	err := s.eachHost(ctx, func(ctx context.Context, h remote.Host) error {
		b, err := remote.Ask(ctx, h, bootQuestion, 10*time.Second)
		mu.Lock()
		defer mu.Unlock()
		out[h.Name()] = b
		return err
	})
	return out, err
}

// awaitBoot waits until the host answers from another boot than the one given.
func awaitBoot(ctx context.Context, env plan.Env, before string, within time.Duration) error {
	env.Say("waiting up to %s for %s to come back", within, env.Host.Name())
	ctx, cancel := wait.Exactly(ctx, env.Host.Name()+" to come back", within)
	defer cancel()
	for {
		b, err := remote.Ask(ctx, env.Host, bootQuestion, 10*time.Second)
		if err == nil && b.ID != before {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it answers, and has not rebooted")
		}
		select {
		case <-ctx.Done():
			return remote.Hint(&wait.OverError{Bound: within, Err: err, Text: fmt.Sprintf("%s did not come back within %s", env.Host.Name(), within)},
				"no other host was begun; bring it back, then run hactl reboot again: it goes on from here")
		case <-time.After(time.Second):
		}
	}
}
