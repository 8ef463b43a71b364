package kubeadm

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/internal/sys"
	"hactl/internal/wait"
	"hactl/inventory"
)

const (
	// keptKubelet holds, while a kubelet's unit and settings change, those of before. It
	// goes when the new kubelet works, so a run that was cut off leaves the good ones.
	keptKubelet = kubeDir + "/hactl-kubelet-before"
	// newKubeletWait bounds how long a kubelet may take to answer on its host.
	newKubeletWait = 2 * time.Minute
	// kubeletEndsEnough is how often a new kubelet may end before it is given up. systemd
	// starts it again after two seconds.
	kubeletEndsEnough = 3
)

// keepKubelet is a shell script that copies the files by which a kubelet is started.
const keepKubelet = `[ ! -d ` + keptKubelet + ` ] || exit 0
rm -rf ` + keptKubelet + `.new && mkdir -m 0700 ` + keptKubelet + `.new || exit
for f in ` + kubeletUnitFile + ` ` + kubeletPatchFile + `; do
[ ! -e $f ] || cp -p $f ` + keptKubelet + `.new/ || exit
done
mv ` + keptKubelet + `.new ` + keptKubelet + ` && sync ` + keptKubelet + ` ` + kubeDir

// putKubeletBack is a shell script that puts the copies in place and starts the kubelet
// by them.
const putKubeletBack = `set -e
d=` + keptKubelet + `
[ -e $d/kubelet.service ] || { echo "there is none" >&2; exit 1; }
for f in ` + kubeletUnitFile + ` ` + kubeletPatchFile + `; do
k=$d/${f##*/}
if [ ! -e $k ]; then rm -f $f; continue; fi
cp -p $k $d/new
sync $d/new
mv $d/new $f
done
systemctl daemon-reload
systemctl reset-failed kubelet.service 2>/dev/null || :
systemctl restart kubelet.service
`

// kubeletLog is a shell script that prints what a kubelet said last of its errors.
const kubeletLog = `l=$(journalctl --no-pager -n 400 -o cat -u kubelet.service _COMM=kubelet)
e=$(printf '%s\n' "$l" | grep -iE '^[EF][0-9]|error|failed' | tail -n 4)
[ -n "$e" ] || e=$(printf '%s\n' "$l" | tail -n 4)
printf '%s\n' "$e" | cut -c 1-600`

// KubeletTurn returns the steps of the kubelet of a node that is there: its certificate,
// its files and its process. Where it does not come up with other files, those of before
// are put back.
func (c Cluster) KubeletTurn(h *inventory.Host, control *Control) ([]plan.Step, error) {
	settings, err := c.KubeletSettings(h)
	if err != nil {
		return nil, err
	}
	unit, err := c.KubeletUnit(h)
	if err != nil {
		return nil, err
	}
	st, err := c.Kubelet(h)
	return []plan.Step{
		c.KubeletRenewal(h, nil), keepsKubelet(settings), keepsKubelet(unit),
		c.putsKubeletBack(h, c.KeepNodeReady(h, control, st)),
	}, err
}

// keepsKubelet has a step of a file keep the kubelet's files first. It has no lane: the
// kubelet's process comes after it.
func keepsKubelet(st plan.Step) plan.Step {
	file, write := st.File, st.Apply
	st.File, st.Lane, st.Quick = nil, "", false
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		if _, err := env.Host.Run(ctx, remote.Cmd{Title: "keep the kubelet's files", Script: keepKubelet}); err != nil {
			return err
		}
		if write != nil {
			return write(ctx, env, change)
		}
		return env.Host.Put(ctx, *file)
	}
	return st
}

// putsKubeletBack adds to the step of a kubelet's process that the files of before come
// back where it does not work with other ones. A kubelet that did not work before is
// left as it is.
func (c Cluster) putsKubeletBack(h *inventory.Host, st plan.Step) plan.Step {
	worked := false
	guard, start, after := st.Guard, st.Apply, st.Ready
	st.Guard = func(ctx context.Context, env plan.Env) error {
		worked = kubeletWorks(ctx, env) == nil
		if guard == nil {
			return nil
		}
		return guard(ctx, env)
	}
	back := func(ctx context.Context, env plan.Env, err error) error {
		if err == nil || !worked {
			return err
		}
		return c.putKubeletBack(ctx, env, h, err)
	}
	st.Apply = func(ctx context.Context, env plan.Env, change *plan.Change) error {
		return back(ctx, env, start(ctx, env, change))
	}
	st.Ready = func(ctx context.Context, env plan.Env) error {
		var err error
		if worked {
			err = c.awaitNewKubelet(ctx, env)
		}
		if err == nil && after != nil {
			err = after(ctx, env)
		}
		if err != nil {
			return back(ctx, env, err)
		}
		_, err = env.Host.Run(ctx, remote.Cmd{Title: "forget the kubelet's old files", Script: "rm -rf " + keptKubelet})
		return err
	}
	return st
}

// awaitNewKubelet waits until the kubelet of the step's host answers. One that ends
// again and again is given up early.
func (c Cluster) awaitNewKubelet(ctx context.Context, env plan.Env) error {
	within, cancel := wait.Within(ctx, "the kubelet", newKubeletWait)
	defer cancel()
	for looked := time.Now(); ; {
		err := kubeletWorks(within, env)
		if err == nil {
			return nil
		}
		if time.Since(looked) >= cmp.Or(c.patience, exitsEvery) {
			looked = time.Now()
			if kubeletEnds(within, env) >= kubeletEndsEnough {
				return errEnds
			}
		}
		if pause(within, cmp.Or(c.patience, askEvery)); within.Err() != nil {
			return wait.Over(within, err)
		}
	}
}

// kubeletEnds is how often systemd started the kubelet again since it was restarted; 0
// when it cannot be asked.
func kubeletEnds(ctx context.Context, env plan.Env) int {
	n, err := remote.Ask(ctx, env.Host, sys.Restarts("kubelet.service"), 0)
	if err != nil {
		return 0
	}
	return n
}

// putKubeletBack puts the files of before in place on h, where a kubelet did not come up
// with new ones, and waits until the one of before works. The error that it returns says
// what became of it, with cause and what the kubelet said last.
func (c Cluster) putKubeletBack(ctx context.Context, env plan.Env, h *inventory.Host, cause error) error {
	if ctx.Err() != nil || lost(cause) {
		return cause
	}
	says := lastLines(ctx, env, "read the kubelet's log", kubeletLog)
	cause = fmt.Errorf("the kubelet of %s does not come up with its new configuration: %w%s", h.Name, cause, says)
	env.Say("the kubelet does not come up: its old configuration is put back")
	if _, err := env.Host.Run(ctx, remote.Cmd{Title: "put the kubelet's old files back", Script: putKubeletBack, Timeout: time.Minute}); err != nil {
		return fmt.Errorf("%w; put its old configuration back: %w", cause, err)
	}
	if err := c.awaitNewKubelet(ctx, env); err != nil {
		return fmt.Errorf("%w; its old configuration is back, and does not work either: %w", cause, err)
	}
	if _, err := env.Host.Run(ctx, remote.Cmd{Title: "forget the kubelet's old files", Script: "rm -rf " + keptKubelet}); err != nil {
		return fmt.Errorf("%w; its old configuration is back: %w", cause, err)
	}
	return remote.Hint(fmt.Errorf("%w; its old configuration is back, and works", cause), "no other host was touched; mend what the inventory says of the kubelets, then run the same command again")
}
