package host

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"hactl/internal/plan"
	"hactl/internal/remote"
	"hactl/inventory"
)

// registryDir is where containerd reads, at every pull, how to reach a registry.
const registryDir = "/etc/containerd/certs.d"

// registryMark begins the files of hactl there; others are not touched.
const registryMark = "# Written by hactl"

// RegistrySecrets are the texts by which containerd logs in to registries, as far as the
// environment has them. Nothing may show them.
func RegistrySecrets(inv *inventory.Inventory) (out []string) {
	for _, r := range inv.Containerd.Registries {
		if p := os.Getenv(r.PasswordEnv); r.PasswordEnv != "" && p != "" {
			out = append(out, p, basic(os.Getenv(r.UsernameEnv), p))
		}
	}
	return out
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// login is the header by which containerd logs in to a registry; "" without a login.
func login(r inventory.Registry) (string, error) {
	if r.PasswordEnv == "" {
		return "", nil
	}
	user, password := os.Getenv(r.UsernameEnv), os.Getenv(r.PasswordEnv)
	if user == "" || password == "" {
		return "", remote.Hint(fmt.Errorf("log in to the registry %s: the environment has no %s", r.Name, cmp.Or(missing(r.UsernameEnv, user), r.PasswordEnv)),
			"export %s and %s; they are kept on the hosts, readable by root alone", r.UsernameEnv, r.PasswordEnv)
	}
	return "Basic " + basic(user, password), nil
}

func missing(name, value string) string {
	if value == "" {
		return name
	}
	return ""
}

// hostsFile is hosts.toml of one registry.
func hostsFile(r inventory.Registry) ([]byte, error) {
	auth, err := login(r)
	if err != nil {
		return nil, err
	}
	own := "https://" + r.Name
	if r.Name == "docker.io" {
		own = "https://registry-1.docker.io"
	}
	var b strings.Builder
	b.WriteString(registryMark + "; changes made here are seen as drift and undone.\n")
	ask := r.Mirrors
	if r.Name != "_default" {
		fmt.Fprintf(&b, "server = %s\n", strconv.Quote(own))
		if len(ask) == 0 {
			ask = []string{own}
		}
	}
	for _, at := range ask {
		fmt.Fprintf(&b, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", strconv.Quote(at))
		if u, err := url.Parse(at); err == nil && strings.Trim(u.Path, "/") != "" {
			b.WriteString("  override_path = true\n")
		}
		if r.CA != "" {
			fmt.Fprintf(&b, "  ca = %s\n", strconv.Quote(registryDir+"/"+r.Name+"/ca.crt"))
		}
		if auth != "" {
			fmt.Fprintf(&b, "  [host.%s.header]\n    Authorization = %s\n", strconv.Quote(at), strconv.Quote(auth))
		}
	}
	return []byte(b.String()), nil
}

// registries returns the steps that say to containerd how registries are reached, and
// removes what an earlier inventory said. containerd reads them without a restart.
func (h Host) registries() (steps []plan.Step, err error) {
	var errs []error
	kept := ""
	for _, r := range h.Inv.Containerd.Registries {
		dir := registryDir + "/" + r.Name
		kept += " " + dir
		content, err := hostsFile(r)
		errs = append(errs, err)
		if r.CA != "" {
			ca, err := os.ReadFile(r.CA)
			if err != nil {
				err = fmt.Errorf("read the CA of the registry %s: %w", r.Name, err)
			}
			errs = append(errs, err)
			steps = append(steps, plan.File{ID: h.id("registry-ca-" + r.Name), Host: h.Host.Name, Path: dir + "/ca.crt", Content: ca, Lane: RuntimeLane}.Step())
		}
		steps = append(steps, plan.File{
			ID: h.id("registry-" + r.Name), Host: h.Host.Name, Path: dir + "/hosts.toml", Content: content, Mode: 0o600, Secret: r.PasswordEnv != "", Lane: RuntimeLane,
		}.Step())
	}
	each := func(do string) string {
		return `k=` + remote.Quote(kept+" ") + `
for f in ` + registryDir + `/*/hosts.toml; do
d=${f%/hosts.toml}
case $k in *" $d "*) continue;; esac
read -r l 2>/dev/null <"$f" || l=
case $l in '` + registryMark + `'*) ` + do + `;; esac
done`
	}
	return append(steps, plan.Script{
		ID: h.id("old-registries"), Host: h.Host.Name, Title: "registries of an earlier inventory", Lane: RuntimeLane, Op: plan.Delete, Acts: plan.EachOf,
		Look:    "[ -d " + registryDir + " ] || { echo ok; exit 0; }\no=$(" + each(`printf ' %s' "$d"`) + "\n)\n" + `[ -z "$o" ] && echo ok || echo "in:$o"`,
		Summary: "remove what an earlier inventory said of registries",
		Run:     each(`rm -f "$d/hosts.toml" "$d/ca.crt"; rmdir "$d" 2>/dev/null || :`),
	}.Step()), errors.Join(errs...)
}
