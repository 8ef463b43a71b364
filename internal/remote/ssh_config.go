package remote

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// sshConfig is one file of the operator's ssh configuration. The library parses
// it. Include is ours: the library takes the home folder from the process, and its
// errors name no included file.
type sshConfig struct {
	file     string
	parsed   *ssh_config.Config
	included map[int][]*sshConfig // by the line of the Include
}

// maxInclude is the depth of Include that ssh allows.
const maxInclude = 16

// loadSSHConfig reads the file and what it includes. A file that does not exist
// is an empty one, nil.
func loadSSHConfig(file, home string, depth int) (*sshConfig, error) {
	text, err := os.ReadFile(file)
	if file == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, Hint(fmt.Errorf("read the ssh configuration: %w", err), "check who owns %s", Quote(file))
	}
	if depth > maxInclude {
		return nil, Hint(fmt.Errorf("%s: more than %d levels of Include", file, maxInclude), "does a file include itself?")
	}
	c := &sshConfig{file: file, included: map[int][]*sshConfig{}}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		key, value := keyword(line)
		if key != "" && key[0] != '#' && value == "" {
			return nil, located(file, fmt.Errorf("(%d, 1): %s has no value", i+1, strings.TrimSpace(line)))
		}
		switch key {
		case "include":
			if c.included[i+1], err = includeFiles(value, home, depth); err != nil {
				return nil, err
			}
			lines[i] = "#"
		case "host":
			lines[i] = "Host " + strings.Join(strings.Fields(value), " ")
		case "match":
			lines[i] = matchAsHost(value)
		}
	}
	if c.parsed, err = ssh_config.DecodeBytes([]byte(strings.Join(lines, "\n"))); err != nil {
		return nil, located(file, err)
	}
	return c, nil
}

// keyword splits a line into its keyword, in lower case, and its value.
func keyword(line string) (key, value string) {
	line = strings.TrimSpace(line)
	i := strings.IndexAny(line, " \t=")
	if i < 0 {
		return strings.ToLower(line), ""
	}
	return strings.ToLower(line[:i]), strings.Trim(line[i:], " \t=")
}

func includeFiles(patterns, home string, depth int) (all []*sshConfig, err error) {
	for _, p := range strings.Fields(patterns) {
		p = resolve(strings.Trim(p, `"`), home)
		if !filepath.IsAbs(p) {
			p = filepath.Join(home, ".ssh", p)
		}
		files, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("include %s: %w", p, err)
		}
		for _, f := range files {
			c, err := loadSSHConfig(f, home, depth+1)
			if err != nil {
				return nil, err
			}
			if c != nil {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// matchAsHost writes a Match line as a Host line. A block with other criteria than
// all, host and originalhost is left out: hactl runs no programs of the file
// (exec), and the other criteria need what only ssh knows.
func matchAsHost(value string) string {
	w := strings.Fields(value)
	switch {
	case len(w) == 1 && strings.EqualFold(w[0], "all"):
		return "Host *"
	case len(w) == 2 && (strings.EqualFold(w[0], "host") || strings.EqualFold(w[0], "originalhost")):
		return "Host " + strings.ReplaceAll(strings.Trim(w[1], `"`), ",", " ")
	}
	return "Host !*"
}

var positioned = regexp.MustCompile(`^\((\d+), \d+\): (?:ssh_config: )?(.*)$`)

// located puts file and line before the library's error.
func located(file string, err error) error {
	if m := positioned.FindStringSubmatch(strings.TrimSpace(err.Error())); m != nil {
		return Hint(fmt.Errorf("%s:%s: %s", file, m[1], m[2]), "correct line %s of %s; ssh -G HOST reads it as well", m[1], Quote(file))
	}
	return Hint(fmt.Errorf("read %s: %w", file, err), "correct %s; ssh -G HOST reads it as well", Quote(file))
}

// each calls visit for every setting that holds for the alias, in the file's
// order: the first one of a kind counts.
func (c *sshConfig) each(alias string, visit func(key, value, where string)) {
	if c == nil {
		return
	}
	for _, block := range c.parsed.Hosts {
		if !block.Matches(alias) {
			continue
		}
		for _, node := range block.Nodes {
			line := node.Pos().Line
			if kv, ok := node.(*ssh_config.KV); ok {
				visit(strings.ToLower(kv.Key), strings.TrimSpace(kv.Value), fmt.Sprintf("%s:%d", c.file, line))
			}
			for _, inc := range c.included[line] {
				inc.each(alias, visit)
			}
		}
	}
}

// sshSettings are what the configuration says of one alias. Zero values are what
// it does not say.
type sshSettings struct {
	hostName   string
	user       string
	port       int
	identities []string // private keys, in the order to try
	only       bool     // IdentitiesOnly: no other keys
	jumps      []string // ProxyJump, the first to dial first
}

// settings looks the alias up.
func (c *sshConfig) settings(alias, home string) (s sshSettings, err error) {
	first := map[string]string{}
	from := map[string]string{}
	c.each(alias, func(key, value, where string) {
		if key == "identityfile" && !strings.EqualFold(value, "none") {
			s.identities = append(s.identities, value)
		}
		if (key == "proxyjump" || key == "proxycommand") && from["proxy"] == "" {
			from["proxy"], first["proxy"] = where, key // the first of the two counts
		}
		if from[key] == "" {
			from[key], first[key] = where, value
		}
	})
	s.user, s.only = first["user"], strings.EqualFold(first["identitiesonly"], "yes")
	s.hostName = strings.NewReplacer("%%", "%", "%h", alias).Replace(cmp.Or(first["hostname"], alias))
	if p := first["port"]; p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return s, Hint(fmt.Errorf("%s: Port %s is not a port", from["port"], p), "write a number from 1 to 65535")
		}
	}
	if first["proxy"] == "proxycommand" && !strings.EqualFold(first["proxycommand"], "none") {
		return s, Hint(fmt.Errorf("%s: ProxyCommand is not supported", from["proxycommand"]), "write ProxyJump there, or ssh.bastion in the inventory")
	}
	if j := first["proxyjump"]; first["proxy"] == "proxyjump" && !strings.EqualFold(j, "none") {
		s.jumps = strings.Split(j, ",")
	}
	for i, f := range s.identities {
		f = strings.NewReplacer("%%", "%", "%d", home, "%h", s.hostName, "%r", s.user).Replace(f)
		s.identities[i] = resolve(f, home)
	}
	return s, nil
}

// jumpSpec splits [ssh://][user@]host[:port] of a ProxyJump.
func jumpSpec(s string) (user, host string, port int, err error) {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "ssh://"), "/")
	host = text
	if i := strings.LastIndexByte(host, '@'); i >= 0 {
		user, host = host[:i], host[i+1:]
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (strings.HasSuffix(host[:i], "]") || !strings.Contains(host[:i], ":")) {
		if port, err = strconv.Atoi(host[i+1:]); err != nil || port < 1 || port > 65535 {
			return "", "", 0, fmt.Errorf("ProxyJump %s: %s is not a port", text, host[i+1:])
		}
		host = host[:i]
	}
	if host = strings.Trim(host, "[]"); host == "" {
		return "", "", 0, fmt.Errorf("ProxyJump %q names no host", s)
	}
	return user, host, port, nil
}
