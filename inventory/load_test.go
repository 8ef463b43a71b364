package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"hactl/internal/testneeds"
)

// minimalText is the smallest inventory.
const minimalText = `cluster: demo
vip:
  address: 192.0.2.10
hosts:
  - name: master-1
    address: 192.0.2.11
    role: control-plane
`

func randomBytes(n int) string {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

// aliasBomb is the "billion laughs" of YAML.
func aliasBomb() string {
	b := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'm'; c++ {
		b += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 8), c-1)
	}
	return b
}

// badFiles are contents that hold no inventory, and what is said of each.
var badFiles = map[string]struct{ text, want string }{
	"empty":                {"", "is empty"},
	"only comments":        {"# nothing\n\n", "is empty"},
	"only a marker":        {"---\n", "nothing but comments"},
	"null":                 {"~\n", "nothing but comments"},
	"text":                 {"hello\n", `1:1: is the text "hello"; write a block with the keys apiVersion, kind, cluster,`},
	"list":                 {"- a\n", "1:1: is a list; write a block"},
	"ELF":                  {"\x7fELF\x02\x01\x01\x00\x00", "1:1: byte 0x7f does not belong"},
	"random":               {randomBytes(100_000), "does not belong in a text file"},
	"NUL":                  {"cluster: demo\nvip: \x00\n", "2:6: byte 0x00"},
	"escape sequence":      {"cluster: \x1b[31m\n", "1:10: byte 0x1b"},
	"latin 1":              {"cluster: caf\xe9\n", "1:13: byte 0xe9"},
	"UTF-16":               {"\xff\xfec\x00l\x00", "byte 0xff"},
	"10 MB of YAML":        {strings.Repeat("cluster: demo\n", 750_000), "is larger than 1024 KiB"},
	"1 MiB of keys":        {manyLines("k%d: x\n"), "there are more problems"},
	"1 MiB of one key":     {strings.Repeat("a: b\n", MaxSize/5), "there are more problems"},
	"1 MiB of hosts":       {"hosts:\n" + manyLines("- {name: %d}\n"), "there are more problems"},
	"1 MiB of good hosts":  {"cluster: a\nvip: {address: 10.0.0.1}\nhosts:\n" + manyLines("- {name: h%d, address: 10.0.0.7, role: worker}\n"), "there are more problems"},
	"alias bomb":           {aliasBomb(), "anchors and aliases are not read"},
	"alias to itself":      {"a: &a [*a]\n", "anchor"},
	"merge":                {"x: &x {a: b}\nvip:\n  <<: *x\n", "1:4: YAML anchors"},
	"deep flow":            {strings.Repeat("[", 100_000), "YAML"},
	"deep blocks":          {strings.Repeat("- ", 500_000), "YAML"},
	"deep maps":            {strings.Repeat("{a: ", 9_000) + "1" + strings.Repeat("}", 9_000), `unknown key "a"`},
	"deep and wide":        {strings.Repeat("{? ", 100_000), "YAML"},
	"open quote":           {"cluster: \"" + strings.Repeat("x\n", 400_000), "YAML"},
	"long plain":           {"cluster: " + strings.Repeat("x y\n ", 200_000), "is too long"},
	"colons":               {strings.Repeat("a:", 500_000), "YAML"},
	"question marks":       {strings.Repeat("? ", 500_000), "YAML"},
	"tags":                 {strings.Repeat("!a ", 300_000), "YAML"},
	"comments":             {strings.Repeat("#\n", 500_000), "is empty"},
	"comments in a list":   {"hosts:\n" + strings.Repeat(" # x\n - a\n", 90_000), "there are more problems"},
	"documents":            {strings.Repeat("---\n", 250_000), ""},
	"two documents":        {minimalText + "---\n" + minimalText, "8:1: a second document starts here"},
	"broken second":        {minimalText + "---\n[", "YAML"},
	"tab":                  {"cluster: demo\nvip:\n\taddress: 192.0.2.10\n", "inventory.yaml:3:1: a tab indents the line; indent with spaces, not tabs"},
	"tab, later":           {minimalText + "  - name: w\n  \taddress: x\n    role: worker\n", ":9:3: a tab indents the line"},
	"tab in a quote":       {"cluster: \"de\n\tmo\"\nvip: {address: 192.0.2.10\nhosts: []\n", ":3: YAML: did not find expected ',' or '}'; close the bracket that opens here"},
	"open brace":           {"cluster: demo\nvip: {address: 192.0.2.10\nhosts: []\n", ":2: YAML: did not find expected ',' or '}'; close the bracket"},
	"quote closed later":   {"cluster: demo\nvip: {address: \"192.0.2.10}\nhosts:\n  - name: \"a\"\n", "inventory.yaml:2: YAML: "},
	"odd indentation":      {minimalText + "   ssh: {user: x}\n", ":8: YAML: did not find expected '-' indicator; indent keys"},
	"far odd indentation":  {minimalText + strings.Repeat("  - {name: x}\n", 300) + "   role: x\n", ":308: YAML: did not find expected '-' indicator"},
	"last document broken": {minimalText + "...\n---\na: {b\nc: d\n", ":10: YAML: "},
	"far open quote":       {minimalText + "x: \"" + strings.Repeat("a\n", 30_000), "inventory.yaml: YAML, near line 8: found unexpected end of stream; close the quotes"},
	"brace, then 1 MiB":    {"cluster: demo\nvip: {address: x\n" + manyLines("- {name: %d}\n"), "inventory.yaml:2: YAML: did not find expected ',' or '}'"},
	"1 MiB, then a brace":  {manyLines("- {name: %d}\n") + "- {a\nb: c\n", "YAML"},
	"no space, first":      {"cluster: demo\nvip:\n  address:192.0.2.10\n  port: 6443\n", ":4: YAML: mapping values are not allowed in this context; indent keys of one block alike, write a space after each colon, here and in the line before"},
	"no space":             {"cluster: demo\nvip:\n  port: 6443\n  address:192.0.2.10\n  interface: eth0\n", ":4: YAML: could not find expected ':'; write key: value, with a space after the colon"},
	"colon at the end":     {"cluster: demo\nvip:\n  address: fd00::\n", "put quotes around"},
	"directive":            {"%YAML 9.9\n---\na: b\n", "YAML"},
	"duplicate key":        {minimalText + "cluster: other\n", "8:1: cluster: is given twice, first on line 1"},
	"typo":                 {strings.Replace(minimalText, "address: 192.0.2.11", "adress: 192.0.2.11", 1), `6:5: hosts[0]: unknown key "adress"; did you mean address?`},
	"other spelling":       {minimalText + "etcd: {data_dir: /x}\n", "did you mean dataDir?"},
	"later version":        {"apiVersion: hactl/v2\nkind: Cluster\nclusters: [x]\n", `inventory.yaml:1:13: apiVersion: "hactl/v2" is no version of the inventory that this hactl reads; known: hactl/v1;`},
	"number as a version":  {"apiVersion: 1\n" + minimalText, "1:13: apiVersion: is the number 1; write hactl/v1"},
	"another kind":         {"kind: Deployment\n" + minimalText, `1:7: kind: "Deployment" is no kind of file that this hactl reads; known: Cluster;`},
	"no near key":          {minimalText + "etcd: {zzz: 1}\n", "write one of dataDir, heartbeatInterval"},
	"list as a key":        {minimalText + "? [a]\n: b\n", "a key is a list"},
	"map as a label":       {minimalText + "    labels: {{a: b}: c}\n", "the key is a block"},
	"octal":                {minimalText + "ssh: {port: 022}\n", `"022"; write a whole number, 1 to 65535, in plain decimal`},
	"hexadecimal":          {minimalText + "ssh: {port: 0x16}\n", "in plain decimal"},
	"huge number":          {minimalText + "ssh: {port: 99999999999999999999}\n", "ssh.port"},
	"zero":                 {minimalText + "ssh: {port: 0}\n", "1 to 65535"},
	"no value":             {minimalText + "ssh:\n", "8:5: ssh: has no value; write a block with the keys user, port"},
	"yes":                  {minimalText + "vip2: x\nssh: {sudo: yes}\n", `ssh.sudo: is the text "yes"; write true or false`},
	"empty string":         {minimalText + "ssh: {user: ''}\n", "ssh.user: is empty"},
	"negative duration":    {minimalText + "ssh: {connectTimeout: -1s}\n", `"-1s"; write a duration`},
	"bare duration":        {minimalText + "ssh: {connectTimeout: 5}\n", "is the number 5; write a duration such as"},
}

func manyLines(format string) string {
	var b strings.Builder
	for i := 0; b.Len() < MaxSize-200; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// cpuTime is what this process has used up. Unlike the clock on the wall, it
// does not depend on what else the machine is doing.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestBadFilesAreRefusedWithinASecond(t *testing.T) {
	for name, c := range badFiles {
		if testneeds.RaceDetector && len(c.text) > 100_000 {
			continue // about time, which says nothing here
		}
		t.Run(name, func(t *testing.T) {
			start := cpuTime(t)
			inv, err := Parse("inventory.yaml", []byte(c.text))
			took := cpuTime(t) - start
			var ps Problems
			if inv != nil || !errors.As(err, &ps) || len(ps) == 0 || len(ps) > mostProblems+1 {
				t.Fatalf("got %v, %v; want problems", inv, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q in\n%.2000s", c.want, err)
			}
			if took > time.Second && !testneeds.RaceDetector {
				t.Errorf("took %v of CPU time", took)
			}
			for _, p := range ps {
				if p.Instead == "" || len(p.String()) > 2000 || strings.ContainsAny(p.String(), "\x00\x1b\n\r") {
					t.Errorf("not fit for a person: %.300q", p.String())
				}
			}
		})
	}
}

func TestPathsThatAreNoFileAreRefused(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		testneeds.Missing(t, "no named pipes here: %v", err)
	}
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("a: b\n"), 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "is a folder", fifo: "is not a regular file", "/dev/zero": "is not a regular file", big: "is larger than",
		filepath.Join(dir, "none"): "there is no such file", filepath.Join(big, "x"): "cannot be looked at: not a directory",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path+": ") {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

func TestLineEndsAndByteOrderMarkAreAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"CRLF": strings.ReplaceAll(minimalText, "\n", "\r\n"), "BOM": "\ufeff" + minimalText, "marker": "---\n" + minimalText + "...\n",
		"JSON": `{"cluster":"demo","vip":{"address":"192.0.2.10"},"hosts":[{"name":"m","address":"192.0.2.11","role":"control-plane"}]}`,
	} {
		if _, err := Parse("inventory.yaml", []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPrivateKeyInTheFileIsNotRepeated(t *testing.T) {
	text := minimalText + "ssh:\n  key: |\n    -----BEGIN OPENSSH PRIVATE KEY-----\n    c2VjcmV0\n"
	if _, err := Parse("inventory.yaml", []byte(text)); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimalText))
	for _, c := range badFiles {
		if len(c.text) < 4096 {
			f.Add([]byte(c.text))
		}
	}
	for _, s := range []Scaffold{{Masters: 1}, {Masters: 3, Workers: 1}} {
		text, err := s.YAML()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(setting.ReplaceAll(text, []byte("$1$2")))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		hung := time.AfterFunc(5*time.Second, func() { panic(fmt.Sprintf("still reading %q", data)) })
		inv, err := Parse("inventory.yaml", data)
		hung.Stop()
		var ps Problems
		switch {
		case (inv == nil) == (err == nil):
			t.Fatalf("got both or neither: %v, %v", inv, err)
		case err != nil && (!errors.As(err, &ps) || len(ps) == 0):
			t.Fatalf("not Problems: %v", err)
		}
		for _, p := range ps {
			if strings.ContainsAny(p.String(), "\x00\x1b\n\r") {
				t.Fatalf("not fit for a terminal: %q", p.String())
			}
		}
	})
}
