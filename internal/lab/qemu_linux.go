package lab

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
)

const (
	machineMemory = 3072 // MiB of each machine
	machineCPUs   = 2    // processors of each machine, unless --cpus asks for another number
	jitCache      = 512  // MiB in which TCG keeps translated code
)

// machine is one virtual machine, for qemu's command line.
type machine struct {
	accel      string
	cpus       int
	memory     int    // MiB
	uuid       string // what dmidecode shows as the machine's
	kernel     string // paths
	initrd     string
	disk       string // qcow2
	console    string // file in which the serial console ends up
	tap        string // device that exists, in the network namespace of qemu
	mac        string
	kernelArgs string
}

// kernelArgs boot the base. A machine under emulation has no use for mitigations.
const kernelArgs = "root=/dev/vda rw console=ttyS0 quiet mitigations=off"

// processors is how many a machine has when it may keep that many busy; 0: the default.
func processors(cpus float64) int {
	if cpus == 0 {
		return machineCPUs
	}
	return int(math.Ceil(cpus))
}

// machineOf is the machine of a host.
func (l *Lab) machineOf(h hostState, uuid string) machine {
	dir := l.Path("hosts", h.Name)
	return machine{
		accel: l.state.Accel, cpus: processors(l.state.CPUs), memory: machineMemory, uuid: uuid,
		kernel: filepath.Join(l.state.Base, "vmlinuz"), initrd: filepath.Join(dir, "initrd"), disk: filepath.Join(dir, "disk.qcow2"),
		console: filepath.Join(dir, "console.log"), tap: h.Name, mac: h.MAC, kernelArgs: kernelArgs,
	}
}

// accelArgs choose the accelerator and the processor. 57-bit addresses are off: the
// emulation of them costs time, and no program here needs them.
func accelArgs(accel string) []string {
	if accel == accelKVM {
		return []string{"-machine", "pc", "-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-machine", "pc", "-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", jitCache), "-cpu", "max,la57=off"}
}

// argv is the command line of qemu. The process stays when the system inside reboots, and
// ends when it powers off.
func (m machine) argv() []string {
	out := append([]string{"qemu-system-x86_64"}, accelArgs(m.accel)...)
	return append(out,
		"-smp", strconv.Itoa(m.cpus), "-m", strconv.Itoa(m.memory), "-uuid", m.uuid,
		"-nodefaults", "-display", "none", "-monitor", "none", "-serial", "file:"+m.console,
		"-kernel", m.kernel, "-initrd", m.initrd, "-append", m.kernelArgs,
		// unsafe: what the system inside flushed is in the file at once, and need not
		// reach the disk of this machine.
		"-drive", "file="+m.disk+",if=virtio,format=qcow2,cache=unsafe,discard=unmap",
		"-netdev", "tap,id=net0,ifname="+m.tap+",script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=net0,romfile=,mac="+m.mac,
		"-device", "virtio-rng-pci")
}

// networkFile gives a machine its addresses. Like those of a host in namespaces its
// default route ends at the hub.
func networkFile(h hostState) string {
	return fmt.Sprintf(`[Match]
MACAddress=%s

[Network]
Address=%s/%d
Address=%s/%d
Gateway=%s
Gateway=%s
DHCP=no
IPv6AcceptRA=no
`, h.MAC, h.Address, plan4.bits, h.Address6, plan6.bits, plan4.gateway, plan6.gateway)
}
