package inventory

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// format is a kind of string. The pattern goes into the JSON schema too, so it
// keeps to what ECMAScript and Go both understand; check adds what a pattern
// cannot say and runs only on values that match it.
type format struct {
	help    string // what it is, with an example: "a duration such as 5s"
	pattern string
	most    int // largest length in bytes; 0 for maxText
	check   func(s string) (what, instead string)
	meant   func(s string) string // what to write instead of a value that is not one; "" for help
}

// maxText bounds any string of an inventory, in bytes.
const maxText = 4096

const (
	labelPattern  = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	domainPattern = labelPattern + `(\.` + labelPattern + `)*`
	anyHost       = `[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*\.?`
	ip6Pattern    = `[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*`
	ip4Pattern    = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}`
	pathPattern   = `[^\x00-\x1f\x7f]+`
	namePattern   = `[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?`
)

var formats = map[string]format{
	"":               {help: "a string", pattern: `^.+$`},
	"line":           {help: "a string on one line, in quotes where it looks like a number", pattern: `^[^\x00-\x1f\x7f]*$`},
	"cluster":        {help: "a name of lower-case letters, digits and dashes such as prod-1, at most 40 characters", pattern: `^` + labelPattern + `$`, most: 40},
	"label":          {help: "a name of lower-case letters, digits and dashes such as master-1, at most 63 characters", pattern: `^` + labelPattern + `$`, most: 63, check: checkNodeName},
	"domain":         {help: "a DNS domain such as cluster.local", pattern: `^` + domainPattern + `$`, most: 253, check: checkName},
	"host":           {help: "a DNS name or an IP address such as node-1.example.com or 192.0.2.11", pattern: `^(` + anyHost + `|` + ip6Pattern + `)$`, most: 253, check: checkHost, meant: addressOnly("ssh: {%s}")},
	"jumphost":       {help: "a DNS name or an IP address such as bastion.example.com or 192.0.2.9", pattern: `^(` + anyHost + `|` + ip6Pattern + `)$`, most: 253, check: checkHost, meant: addressOnly("%s")},
	"san":            {help: "a DNS name or an IP address such as api.example.com or 192.0.2.10", pattern: `^((\*\.)?` + anyHost + `|` + ip6Pattern + `)$`, most: 253, check: checkSAN},
	"version":        {help: "a version such as v1.2.3, with the leading v", pattern: `^v(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$`},
	"interface":      {help: "the name of a network interface such as eth0, at most 15 characters", pattern: `^[A-Za-z0-9_][-A-Za-z0-9_.@]*$`, most: 15},
	"user":           {help: "a login name such as root", pattern: `^[A-Za-z0-9_][-A-Za-z0-9_.@]*\$?$`, most: 64},
	"env":            {help: "the name of an environment variable such as SUDO_PASSWORD", pattern: `^[A-Za-z_][A-Za-z0-9_]*$`},
	"path":           {help: "the path of a file or folder on this machine", pattern: `^` + pathPattern + `$`, check: checkPath},
	"file":           {help: "the path of a file that is on this machine", pattern: `^` + pathPattern + `$`, check: checkPath}, // see resolvePaths
	"filename":       {help: "the name of a file such as audit-policy.yaml", pattern: `^[A-Za-z0-9][-A-Za-z0-9_.]*$`, most: 100},
	"hostdir":        {help: "an absolute path on the hosts such as /var/lib/etcd", pattern: `^/[-A-Za-z0-9_./]+$`, check: checkHostDir},
	"hostfile":       {help: "an absolute path on the hosts such as /etc/resolv.conf", pattern: `^/[-A-Za-z0-9_./]+$`},
	"quantity":       {help: "a quantity such as 500Mi or 100m", pattern: `^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$`, most: 20},
	"threshold":      {help: "a quantity such as 500Mi, or a share such as 10%", pattern: `^([0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?|[0-9]{1,2}(\.[0-9]+)?%)$`, most: 20},
	"duration":       {help: "a duration such as 2m or 90s", pattern: `^([0-9]+(ms|s|m|h))+$`, most: 20},
	"evictionsignal": {help: "a signal of the kubelet such as nodefs.available", pattern: `^[A-Za-z]+\.[A-Za-z]+$`, most: 40, check: checkSignal},
	"resource":       {help: "cpu, memory, ephemeral-storage or pid", pattern: `^(cpu|memory|ephemeral-storage|pid)$`},
	"cpuset":         {help: "a list of processors such as 0-1,4", pattern: `^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`, most: 200},
	"registry":       {help: "a registry such as docker.io or registry.example.com:5000, or _default", pattern: `^(_default|` + anyHost + `(:[0-9]{1,5})?)$`, most: 253},
	"mirror":         {help: "a URL such as https://mirror.example.com, or with a path https://mirror.example.com/v2/hub", pattern: `^https?://[^\s"'\\]+$`, check: checkURL},
	"hostkey":        {help: "a host key such as 'ssh-ed25519 AAAA...' or 'SHA256:...' as ssh-keyscan and ssh-keygen -lf print it", pattern: `^(SHA256:[A-Za-z0-9+/]{43}=?|[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?)$`, check: checkHostKey},
	"url":            {help: "a URL such as https://mirror.example.com/hactl", pattern: `^https?://[^\s]+$`, check: checkURL},
	"word":           {help: "a word of letters, digits and dashes", pattern: `^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`},
	"agekey":         {help: "a public key of age, age1..., as age-keygen prints it", pattern: `^age1[02-9ac-hj-np-z]{58}$`},
	"drillcheck":     {help: "a scenario such as owner-cut-off, or one of its checks such as owner-cut-off/vip/write/new", pattern: `^[a-z0-9][-a-z0-9]*(/[a-z0-9][-a-z0-9]*)*$`},
	"apiserverflag":  flagFormat(apiServerFlags),
	"controllerflag": flagFormat(controllerFlags),
	"schedulerflag":  flagFormat(schedulerFlags),
	"labelkey":       {help: "a label key such as topology.kubernetes.io/zone", pattern: `^(` + domainPattern + `/)?` + namePattern + `$`, most: 317, check: checkLabelKey},
	"labelvalue":     {help: "letters, digits, dashes, dots and underscores, at most 63, in quotes where it looks like a number", pattern: `^(` + namePattern + `)?$`, most: 63},
}

var patterns = func() map[string]*regexp.Regexp {
	out := map[string]*regexp.Regexp{}
	for name, f := range formats {
		out[name] = regexp.MustCompile(f.pattern)
	}
	return out
}()

func formatHelp(name string) string { return formats[name].help }

// checkFormat says what is wrong with s as a value of the named format.
func checkFormat(name, s string) (what, instead string) {
	f := formats[name]
	instead = "write " + f.help
	if f.meant != nil {
		if better := f.meant(s); better != "" {
			instead = better
		}
	}
	most := f.most
	if most == 0 {
		most = maxText
	}
	switch {
	case s == "" && !patterns[name].MatchString(s):
		return "is empty", instead
	case len(s) > most:
		return quote(s) + " is too long", instead
	case !patterns[name].MatchString(s):
		return "is " + quote(s), instead
	case f.check == nil:
		return "", ""
	}
	what, better := f.check(s)
	if better != "" {
		instead = better
	}
	if what == "" {
		return "", ""
	}
	return what, instead
}

func checkNodeName(s string) (what, instead string) {
	if s == "localhost" {
		return "is a name that every host has", ""
	}
	return "", ""
}

// checkName holds the parts of a DNS name to 63 characters.
func checkName(s string) (what, instead string) {
	for _, part := range strings.Split(s, ".") {
		if len(part) > 63 {
			return quote(part) + " is longer than the 63 characters of a DNS label", ""
		}
	}
	return "", ""
}

var numeric = regexp.MustCompile(`^[0-9.]+$`)

func checkHost(s string) (what, instead string) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.IsLoopback() {
			return "", "" // a forwarded port; validation asks for the private address then
		}
		return usableAddr(a)
	}
	if numeric.MatchString(s) || strings.Contains(s, ":") {
		return quote(s) + " is not an IP address", ""
	}
	return checkName(s)
}

// login is what ssh takes on its command line, or a URL has in front of the path.
var login = regexp.MustCompile(`^(?:([-A-Za-z0-9_.]{1,64})@)?([-A-Za-z0-9.]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?)(?::([0-9]{1,5}))?$`)

// addressOnly tells where the user and the port of user@host:port belong: keys
// is the YAML that holds them.
func addressOnly(keys string) func(s string) string {
	return func(s string) string {
		m := login.FindStringSubmatch(s)
		if m == nil || m[1] == "" && m[3] == "" {
			return ""
		}
		var names, settings []string
		for _, part := range []struct{ name, value string }{{"user", m[1]}, {"port", m[3]}} {
			if part.value != "" {
				names, settings = append(names, part.name), append(settings, part.name+": "+part.value)
			}
		}
		return "write " + strings.Trim(m[2], "[]") + ", and the " + strings.Join(names, " and ") + " as " + fmt.Sprintf(keys, strings.Join(settings, ", "))
	}
}

func checkSAN(s string) (what, instead string) {
	if _, err := netip.ParseAddr(s); err == nil {
		return "", ""
	}
	return checkHost(strings.TrimPrefix(s, "*."))
}

func checkPath(s string) (what, instead string) {
	if strings.HasPrefix(s, "~") && s != "~" && !strings.HasPrefix(s, "~/") {
		return quote(s) + " names another user's home folder", "write the absolute path"
	}
	return "", ""
}

// A member's data would be lost in volatileDirs, mixed with others' in
// sharedDirs, and in the way of, or swept away with, what owns ownedDirs.
var (
	volatileDirs = []string{"/dev", "/proc", "/run", "/sys", "/tmp", "/var/run"}
	sharedDirs   = []string{"/etc", "/home", "/mnt", "/opt", "/root", "/srv", "/var", "/var/lib", "/var/log"}
	ownedDirs    = []string{"/bin", "/boot", "/lib", "/sbin", "/usr", "/etc/etcd", "/etc/kubernetes", "/var/lib/containerd", "/var/lib/kubelet"}
)

// within returns the folder of dirs that s is or lies below, or "".
func within(s string, dirs []string) string {
	for _, dir := range dirs {
		if s == dir || strings.HasPrefix(s, dir+"/") {
			return dir
		}
	}
	return ""
}

func checkHostDir(s string) (what, instead string) {
	clean, owned := path.Clean(s), within(s, ownedDirs)
	switch {
	case clean != s:
		return "is " + quote(s), "write " + clean
	case within(s, volatileDirs) != "":
		return quote(s) + " does not outlive a reboot", ""
	case owned == s || s == "/" || slices.Contains(sharedDirs, s):
		return quote(s) + " is a folder of the system", ""
	case owned != "":
		return quote(s) + " lies in " + owned + ", which belongs to others", ""
	}
	return "", ""
}

func checkHostKey(s string) (what, instead string) {
	if sum, ok := strings.CutPrefix(s, "SHA256:"); ok {
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(sum, "="))
		if err != nil || len(raw) != sha256.Size {
			return quote(s) + " is not a SHA-256 fingerprint", ""
		}
		return "", ""
	}
	if _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(s)); err != nil || len(rest) > 0 {
		return quote(s) + " is not a public key", ""
	}
	return "", ""
}

func checkURL(s string) (what, instead string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return quote(s) + " is not a URL", ""
	case u.User != nil:
		return "has a user name or password in it", "write the URL without user:password@; an inventory holds no secrets"
	case u.RawQuery != "" || u.Fragment != "":
		return quote(s) + " has a query or fragment", "write the URL of a folder"
	}
	return "", ""
}

func checkLabelKey(s string) (what, instead string) {
	prefix, name, ok := strings.Cut(s, "/")
	if !ok {
		prefix, name = "", s
	}
	if len(prefix) > 253 || len(name) > 63 {
		return quote(s) + " is too long", "write at most 63 characters, with at most 253 of a DNS domain in front of a /"
	}
	return "", ""
}
