// Package testneeds states what a test needs beyond Go: programs, root,
// namespaces. Where that is missing the test is skipped with the reason, so
// that `go test ./...` passes on a machine that has only Go. With
// HACTL_TEST_REQUIRE=1, which `make test` sets, the test fails instead: there a
// skip would hide that a check was not done.
package testneeds

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// debian names the Debian package of a program, where that has another name.
var debian = map[string]string{
	"busybox":         "busybox-static",
	"ip":              "iproute2",
	"nft":             "nftables",
	"nsenter":         "util-linux",
	"ps":              "procps",
	"ss":              "iproute2",
	"systemd-analyze": "systemd",
	"unshare":         "util-linux",
}

// Tool says that the test runs these programs.
func Tool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		Path(t, name)
	}
}

// Path is where a program that the test runs lies. The folders of root's
// programs are searched too: a user's PATH often lacks them.
func Path(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if p := filepath.Join(dir, name); isProgram(p) {
			return p
		}
	}
	pkg := name
	if p, ok := debian[name]; ok {
		pkg = p
	}
	Missing(t, "the program %s is not installed (Debian package %s; make deps installs it)", name, pkg)
	return ""
}

func isProgram(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// Linux says that the test uses the kernel's interfaces.
func Linux(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		Missing(t, "this machine runs %s, not Linux", runtime.GOOS)
	}
}

// Root says that the test does what only root may.
func Root(t testing.TB) {
	t.Helper()
	Linux(t)
	if os.Getuid() != 0 {
		Missing(t, "this test is not run by root")
	}
}

// UserNamespaces says that the test becomes root of a user namespace, with
// these further namespaces of unshare ("--net"). Root may do that too.
func UserNamespaces(t testing.TB, more ...string) {
	t.Helper()
	namespaces(t, append([]string{"--user", "--map-root-user"}, more...))
}

// NetworkNamespace says that the test makes a network of its own, as root or,
// for another user, in a user namespace. It returns unshare's arguments.
func NetworkNamespace(t testing.TB) []string {
	t.Helper()
	args := []string{"--net"}
	if os.Getuid() != 0 {
		args = append(args, "--user", "--map-root-user")
	}
	namespaces(t, args)
	return args
}

func namespaces(t testing.TB, args []string) {
	t.Helper()
	Linux(t)
	unshare := Path(t, "unshare")
	// #nosec G204 -- the arguments are the constants of tests.
	out, err := exec.CommandContext(t.Context(), unshare, append(args, "--", "/bin/sh", "-c", ":")...).CombinedOutput()
	if err != nil {
		Missing(t, "this machine does not let the user run unshare %s: %v: %s (see sysctl kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns)",
			strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

// Missing skips the test with a reason, or fails it where everything is
// required.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("HACTL_TEST_REQUIRE") == "1" {
		t.Fatalf("HACTL_TEST_REQUIRE=1: "+format, args...)
	}
	t.Skipf(format, args...)
}
