package lab

import (
	"bufio"
	"context"
	"os/exec"
	"strings"
	"time"
)

// kvmPatience is how long a kernel under KVM may take to print its first line. A device
// file /dev/kvm proves nothing: in a machine that is virtual itself, qemu may abort, or the
// kernel may hang while it unpacks itself.
const kvmPatience = 10 * time.Second

// chooseAccel tries whether a kernel starts under KVM, and returns the accelerator to use.
func chooseAccel(ctx context.Context, kernel string, report func(string)) string {
	if !exists("/dev/kvm") {
		report("no /dev/kvm: the machines are emulated in software, some ten times slower than real ones")
		return accelTCG
	}
	report("trying KVM")
	if why := tryKVM(ctx, kernel); why != "" {
		report("KVM does not work here (" + why + "): the machines are emulated in software, some ten times slower than real ones")
		return accelTCG
	}
	return accelKVM
}

// tryKVM boots a kernel without a disk until it prints its version, and returns why it did
// not, or "".
func tryKVM(ctx context.Context, kernel string) (why string) {
	ctx, cancel := context.WithTimeout(ctx, kvmPatience)
	defer cancel()
	argv := append(accelArgs(accelKVM), "-m", "256", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 earlyprintk=serial panic=-1")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", argv...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err.Error()
	}
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	seen := printsVersion(bufio.NewScanner(out))
	cancel()
	_ = cmd.Wait() // it was killed
	if seen {
		return ""
	}
	if c := strings.TrimSpace(complaint.String()); c != "" {
		first, _, _ := strings.Cut(c, "\n")
		return first
	}
	return "no kernel printed a line within " + kvmPatience.String()
}

func printsVersion(sc *bufio.Scanner) bool {
	for sc.Scan() {
		if strings.Contains(sc.Text(), "Linux version") {
			return true
		}
	}
	return false
}
