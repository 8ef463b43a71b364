package lab

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hactl/internal/remote"
	"hactl/inventory"
)

// cpioEntry is what a reader of the format newc finds.
type cpioEntry struct {
	at   int // where its header begins
	mode uint64
	body string
}

// readCPIO reads an archive that begins at an offset of b, by the rules of the kernel: each
// header begins on a multiple of four bytes.
func readCPIO(t *testing.T, b []byte, from int) map[string]cpioEntry {
	t.Helper()
	out := map[string]cpioEntry{}
	for at := from; ; {
		if at%4 != 0 || string(b[at:at+6]) != "070701" {
			t.Fatalf("no header at byte %d: %q", at, b[at:at+6])
		}
		field := func(n int) uint64 {
			v, err := strconv.ParseUint(string(b[at+6+8*n:at+14+8*n]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		size, nameSize := int(field(6)), int(field(11))
		name := string(b[at+110 : at+110+nameSize-1])
		body := (at + 110 + nameSize + 3) / 4 * 4
		if name == "TRAILER!!!" {
			return out
		}
		out[name] = cpioEntry{at, field(1), string(b[body : body+size])}
		at = (body + size + 3) / 4 * 4
	}
}

func TestSeedBeginsOnAMultipleOfFourBytes(t *testing.T) {
	seed := t.TempDir()
	if err := os.Chmod(seed, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(seed, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"etc/hostname": "master-1\n", "etc/empty": "", "etc/key": "12345"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(seed, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for length := 512; length < 516; length++ {
		var out bytes.Buffer
		if err := writeInitrd(&out, bytes.NewReader(bytes.Repeat([]byte("x"), length)), seed); err != nil {
			t.Fatal(err)
		}
		got := readCPIO(t, out.Bytes(), (length+3)/4*4)
		for name, content := range files {
			e, there := got["seed/"+name]
			if !there || e.body != content || e.mode != 0o100600 {
				t.Errorf("after %d bytes: %s is %+v", length, name, e)
			}
		}
		if got["seed"].mode != 0o040755 || got["seed/etc"].at > got["seed/etc/key"].at {
			t.Errorf("folders come before what is in them, with their modes: %+v", got)
		}
	}
}

func testVM(t *testing.T, accel string, cpus float64) *Lab {
	t.Helper()
	l := testLab(t, Config{Masters: 1, Workers: 1, VM: true, CPUs: cpus})
	l.state.Accel = accel
	return l
}

func TestCommandLineOfQemu(t *testing.T) {
	for _, c := range []struct {
		accel, wantAccel, wantCPU string
		cpus                      float64
		smp                       string
	}{
		{accelTCG, "tcg,thread=multi,tb-size=512", "max,la57=off", 0, "2"},
		{accelKVM, "kvm", "host", 0.5, "1"},
		{accelKVM, "kvm", "host", 2.5, "3"},
	} {
		l := testVM(t, c.accel, c.cpus)
		h := l.state.Hosts[0]
		argv := l.machineOf(h, "an-id").argv()
		value := func(flag string) string {
			i := slices.Index(argv, flag)
			if i < 0 {
				t.Fatalf("no %s in %q", flag, argv)
			}
			return argv[i+1]
		}
		for flag, want := range map[string]string{"-accel": c.wantAccel, "-cpu": c.wantCPU, "-smp": c.smp, "-uuid": "an-id", "-kernel": "/base/vmlinuz", "-initrd": l.Path("hosts", h.Name, "initrd")} {
			if got := value(flag); got != want {
				t.Errorf("%s: %s %s, want %s", c.accel, flag, got, want)
			}
		}
		line := strings.Join(argv, " ")
		for _, want := range []string{"ifname=master-1,script=no,downscript=no", "mac=" + h.MAC, "file=" + l.Path("hosts", h.Name, "disk.qcow2") + ",if=virtio"} {
			if !strings.Contains(line, want) {
				t.Errorf("%q lacks %s", line, want)
			}
		}
		if strings.Contains(line, "-no-reboot") || strings.Contains(line, "-daemonize") {
			t.Errorf("qemu must stay when the system reboots, and keep its process id: %q", line)
		}
	}
}

func TestNetworkFileOfAMachineNamesItsCard(t *testing.T) {
	l := testVM(t, accelTCG, 0)
	for _, h := range l.state.Hosts {
		got := networkFile(h)
		for _, want := range []string{"MACAddress=" + h.MAC + "\n", "Address=" + h.Address + "/24\n", "Address=" + h.Address6 + "/64\n", "Gateway=" + plan4.gateway + "\n", "Gateway=" + plan6.gateway + "\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q lacks %q", h.Name, got, want)
			}
		}
	}
}

func TestCommandInAMachineIsOneQuotedLine(t *testing.T) {
	l := testVM(t, accelTCG, 0)
	argv := l.sshArgv(l.state.Hosts[0], []string{"sh", "-c", "echo 'a b'; true"})
	if got := argv[len(argv)-1]; got != `'echo '\''a b'\''; true'` {
		t.Errorf("the last word is %s", got)
	}
	line := strings.Join(argv, " ")
	for _, want := range []string{"nsenter --net=/run/netns/hactl.lab.hub -- ssh ", "StrictHostKeyChecking=yes", "UserKnownHostsFile=" + l.Path("hosts", "master-1", "known_hosts"), "root@10.77.0.11 -- sh -c "} {
		if !strings.Contains(line, want) {
			t.Errorf("%q lacks %s", line, want)
		}
	}
}

func TestStateOfMachinesSurvivesWriting(t *testing.T) {
	l := testVM(t, accelTCG, 0)
	l.state.Disk = "/golden/disk.qcow2"
	if err := l.state.write(l.Dir); err != nil {
		t.Fatal(err)
	}
	got, err := Open("", l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.state.VM || !got.Emulated() || got.state.Disk != l.state.Disk || got.OS() != "trixie" {
		t.Errorf("read back %+v", got.state)
	}
	same := Config{Masters: 1, Workers: 1, VM: true, OS: "trixie"}
	if !got.state.sameShape(same) {
		t.Error("the same machines pass for others")
	}
	for name, c := range map[string]Config{"namespaces": {Masters: 1, Workers: 1, OS: "trixie"}, "golden": {Masters: 1, Workers: 1, VM: true, Golden: "/b", OS: "trixie"}} {
		if got.state.sameShape(c) {
			t.Errorf("%s: other hosts pass for the same", name)
		}
	}
	// A lab of an older hactl has hosts in namespaces.
	var old state
	if err := json.Unmarshal([]byte(`{"name":"x","hosts":[]}`), &old); err != nil || old.VM || old.emulated() {
		t.Errorf("%+v, %v", old, err)
	}
}

func TestInventoryOfMachines(t *testing.T) {
	for accel, slow := range map[string]int{accelTCG: emulationFactor, accelKVM: 1} {
		l := testVM(t, accel, 0)
		for _, key := range []string{"id_ed25519", "bastion_ed25519"} {
			if err := clientKey(l.Path("ssh"), key); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.writeInventories(""); err != nil {
			t.Fatal(err)
		}
		inv, err := inventory.Load(l.Path("inventory.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		// A machine has a kernel and a disk of its own: nothing is excused.
		if len(inv.Kubernetes.IgnorePreflight) != 0 {
			t.Errorf("%s: %+v", accel, inv.Kubernetes)
		}
		if inv.SlowHosts != slow {
			t.Errorf("%s: slowHosts is %d, want %d", accel, inv.SlowHosts, slow)
		}
	}
}

func TestMachinesRefuseWhatTheyCannotHave(t *testing.T) {
	for name, c := range map[string]Config{
		"another system": {VM: true, OS: "bookworm"}, "bare": {VM: true, Bare: true}, "preload": {VM: true, Preload: "/x"}, "golden namespaces": {Golden: "/x"},
	} {
		c.Masters = 1
		if err := c.Check(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := (&Config{Masters: 1, VM: true, Golden: "/x", OS: "trixie"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestMissingProgramsAreNamedWithTheirPackages(t *testing.T) {
	err := need(map[string]string{"no-such-b": "package-x", "no-such-a": "package-x", "sh": "dash"})
	if err == nil || !strings.Contains(err.Error(), "no-such-a, no-such-b") {
		t.Fatal(err)
	}
	if hint := remote.HintOf(err); hint != "apt-get install package-x" {
		t.Errorf("hint: %s", hint)
	}
}

func TestGoldenDiskIsNamedByItsContent(t *testing.T) {
	if goldenID("base", "a") == goldenID("base", "b") || goldenID("base", "a") == goldenID("other", "a") {
		t.Error("two disks have one name")
	}
}
