package bundle

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func goodArtifact() Artifact {
	return Artifact{Name: "kubelet", Kind: Binary, Version: "v1.36.3", File: "bin/kubelet", SHA256: strings.Repeat("0", 64), Size: 1, Dest: "/usr/bin/kubelet"}
}

func TestHostileManifestIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Manifest, *Artifact){
		"file above the bundle": func(_ *Manifest, a *Artifact) { a.File = "../../etc/passwd" },
		"file hidden above":     func(_ *Manifest, a *Artifact) { a.File = "bin/../../../etc/passwd" },
		"absolute file":         func(_ *Manifest, a *Artifact) { a.File = "/etc/passwd" },
		"file with backslashes": func(_ *Manifest, a *Artifact) { a.File = `..\..\etc\passwd` },
		"empty file":            func(_ *Manifest, a *Artifact) { a.File = "" },
		"the manifest itself":   func(_ *Manifest, a *Artifact) { a.File = "manifest.json" },
		"a hidden file":         func(_ *Manifest, a *Artifact) { a.File = ".lock" },
		"dest with a newline":   func(_ *Manifest, a *Artifact) { a.Dest = "/usr/bin/kubelet\nrm -rf /" },
		"dest with a quote":     func(_ *Manifest, a *Artifact) { a.Dest = "/usr/bin/kube'let" },
		"dest elsewhere":        func(_ *Manifest, a *Artifact) { a.Dest = "/etc/cron.d/kubelet" },
		"dest that climbs":      func(_ *Manifest, a *Artifact) { a.Dest = "/usr/bin/../../etc/passwd" },
		"relative dest":         func(_ *Manifest, a *Artifact) { a.Dest = "kubelet" },
		"no dest":               func(_ *Manifest, a *Artifact) { a.Dest = "" },
		"image with a dest":     func(_ *Manifest, a *Artifact) { a.Kind, a.Image, a.ImageID = Image, "a/b:c", "sha256:"+a.SHA256 },
		"image without id":      func(_ *Manifest, a *Artifact) { a.Kind, a.Image, a.Dest = Image, "a/b:c", "" },
		"image with a command": func(_ *Manifest, a *Artifact) {
			a.Kind, a.Image, a.Dest, a.ImageID = Image, "a;reboot:c", "", "sha256:"+a.SHA256
		},
		"unknown kind":            func(_ *Manifest, a *Artifact) { a.Kind = "script" },
		"hash in upper case":      func(_ *Manifest, a *Artifact) { a.SHA256 = strings.Repeat("A", 64) },
		"short hash":              func(_ *Manifest, a *Artifact) { a.SHA256 = "00" },
		"name with a slash":       func(_ *Manifest, a *Artifact) { a.Name = "../kubelet" },
		"version with an escape":  func(_ *Manifest, a *Artifact) { a.Version = "v1\x1b[2J" },
		"role with an escape":     func(_ *Manifest, a *Artifact) { a.Roles = []string{"work\ner"} },
		"size zero":               func(_ *Manifest, a *Artifact) { a.Size = 0 },
		"negative size":           func(_ *Manifest, a *Artifact) { a.Size = -1 },
		"a schema of the future":  func(m *Manifest, _ *Artifact) { m.Schema = 2 },
		"an arch that is no name": func(m *Manifest, _ *Artifact) { m.Arch = "../x" },
		"the same artifact twice": func(m *Manifest, a *Artifact) { m.Artifacts = append(m.Artifacts, *a) },
		"two artifacts, one file": func(m *Manifest, a *Artifact) { b := *a; b.Name = "other"; m.Artifacts = append(m.Artifacts, b) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := Manifest{Schema: schema, Arch: "amd64", Origin: Source, Artifacts: []Artifact{goodArtifact()}}
			spoil(&m, &m.Artifacts[0])
			writeManifest(t, dir, m)
			if _, err := Open(dir); err == nil || errors.Is(err, ErrIncomplete) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

func TestAnHonestManifestIsOnlyIncomplete(t *testing.T) {
	dir := t.TempDir()
	writeManifest(t, dir, Manifest{Schema: schema, Arch: "amd64", Origin: Source, Artifacts: []Artifact{goodArtifact()}})
	if _, err := Open(dir); !errors.Is(err, ErrIncomplete) {
		t.Errorf("opened with %v", err)
	}
}

func writeManifest(t *testing.T, dir string, m Manifest) {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestManifestThatIsNoneIsRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"empty": "", "text": "hello", "a list": "[]", "huge": strings.Repeat(" ", maxManifest+1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, manifestName), []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, manifestName), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a folder: opened")
	}
}

func FuzzManifestNeverLeadsOutside(f *testing.F) {
	f.Add("bin/kubelet", "/usr/bin/kubelet")
	f.Add("../x", "/usr/bin/../x")
	f.Fuzz(func(t *testing.T, file, dest string) {
		a := goodArtifact()
		a.File, a.Dest = file, dest
		if a.validate() != nil {
			return
		}
		rel, err := filepath.Rel("/b", filepath.Join("/b", filepath.FromSlash(a.File)))
		if err != nil || rel != a.File || strings.HasPrefix(rel, "..") {
			t.Errorf("file %q lies at %q", a.File, rel)
		}
		if filepath.Clean(a.Dest) != a.Dest || strings.ContainsAny(a.Dest, " '\"\n\\$`;") {
			t.Errorf("dest %q", a.Dest)
		}
	})
}
