package ops

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// entry is a file, a folder or a symbolic link of a disk. content is a link's
// target.
type entry struct {
	mode    fs.FileMode
	content string
	sum     [sha256.Size]byte
}

func newEntry(mode fs.FileMode, content string) entry {
	return entry{mode, content, sha256.Sum256([]byte(content))}
}

// disk is what a machine has on its disk, by path without the first slash. It
// never changes: to keep a machine's disk as it is at a moment is to keep a
// pointer.
type disk struct {
	entries map[string]entry

	once sync.Once
	id   [sha256.Size]byte
}

// with is the disk with these files, and the folders above them, in place.
func (d *disk) with(files map[string]entry) *disk {
	entries := maps.Clone(d.entries)
	for path, e := range files {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			if _, there := entries[dir]; there {
				break
			}
			entries[dir] = newEntry(fs.ModeDir|0o755, "")
		}
		entries[path] = e
	}
	return &disk{entries: entries}
}

func (d *disk) has(path string) bool {
	_, there := d.entries[path]
	return there
}

// differences counts the entries of d that the other disk has not.
func (d *disk) differences(other *disk) (n int) {
	if d == other {
		return 0
	}
	for path, e := range other.entries {
		if mine, there := d.entries[path]; !there || mine.sum != e.sum {
			n++
		}
	}
	return n
}

// hash is the same for disks with the same entries.
func (d *disk) hash() [sha256.Size]byte {
	d.once.Do(func() {
		var all []byte
		for _, path := range slices.Sorted(maps.Keys(d.entries)) {
			e := d.entries[path]
			all = append(append(all, path...), 0)
			all = append(binary.BigEndian.AppendUint32(all, uint32(e.mode)), e.sum[:]...)
		}
		d.id = sha256.Sum256(all)
	})
	return d.id
}

// volatile is what may differ between two machines in the same state: caches,
// process ids, what systemd remembers of a unit until the next reload.
var volatile = regexp.MustCompile(`^(proc/\d+|proc/net|state/lastpid|state/units/.*\.(pid|loaded|fragment|noting)|run/hactl-verified)(/|$)`)

// state lists every file with mode and content's hash, and of every service the
// configuration that it runs with.
func (d *disk) state() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(d.entries)) {
		e := d.entries[path]
		if unit, ok := strings.CutSuffix(path, ".pid"); ok {
			fmt.Fprintf(&b, "%s runs with %q\n", unit, d.entries["proc/"+strings.TrimSpace(e.content)+"/environ"].content)
		}
		if !e.mode.IsDir() && !volatile.MatchString(path) {
			fmt.Fprintf(&b, "%s %v %.16s\n", path, e.mode, hex.EncodeToString(e.sum[:]))
		}
	}
	return b.String()
}

// folder is a disk in a real folder, for programs that run with it as their
// root. What no command may change lies beside it in the same folder: programs
// and devices.
type folder struct {
	path string
	disk *disk // what the folder holds now
}

// fixed are the entries of a folder that are not part of a disk.
func fixed(path string) bool { return path == "bin" || path == "dev" || path == "prelude.sh" }

// hold makes the folder hold a disk.
func (f *folder) hold(d *disk) error {
	had := f.disk
	if had == d {
		return nil
	}
	f.disk = &disk{} // in case that it ends half-way
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(had.entries))) {
		if e, there := d.entries[path]; !there || e.mode.Type() != had.entries[path].mode.Type() {
			if err := os.Remove(filepath.Join(f.path, path)); err != nil {
				return err
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.entries)) {
		e := d.entries[path]
		if before, there := had.entries[path]; there && before.mode == e.mode && before.sum == e.sum {
			continue
		}
		if err := e.put(filepath.Join(f.path, path)); err != nil {
			return err
		}
	}
	f.disk = d
	return nil
}

func (e entry) put(path string) error {
	var err error
	switch {
	case e.mode.IsDir():
		err = os.MkdirAll(path, e.mode.Perm())
	case e.mode&fs.ModeSymlink != 0:
		_ = os.Remove(path)
		return os.Symlink(e.content, path)
	default:
		err = os.WriteFile(path, []byte(e.content), e.mode.Perm()|0o200)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, e.mode.Perm())
}

// read is the disk that the folder holds after a command; without is left out.
// It is the same disk when nothing changed.
func (f *folder) read(without *regexp.Regexp) (*disk, error) {
	entries := map[string]entry{}
	err := filepath.WalkDir(f.path, func(path string, de fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.path, path)
		switch {
		case err != nil || rel == ".":
			return err
		case fixed(rel) && de.IsDir():
			return fs.SkipDir
		case fixed(rel):
			return nil
		}
		e, err := readEntry(path, de, f.disk.entries[rel])
		if err == nil {
			entries[rel] = e
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	now := &disk{entries: entries}
	if now.hash() == f.disk.hash() {
		return f.disk, nil
	}
	f.disk = now
	if without == nil {
		return now, nil
	}
	kept := maps.Clone(entries)
	maps.DeleteFunc(kept, func(path string, _ entry) bool { return without.MatchString(path) })
	return &disk{entries: kept}, nil
}

// readEntry reads an entry; one that is as it was before is not hashed again.
func readEntry(path string, de fs.DirEntry, before entry) (entry, error) {
	info, err := de.Info()
	if err != nil {
		return entry{}, err
	}
	content := ""
	switch {
	case de.IsDir():
	case de.Type()&fs.ModeSymlink != 0:
		content, err = os.Readlink(path)
	default:
		var b []byte
		b, err = os.ReadFile(path)
		content = string(b)
	}
	if info.Mode() == before.mode && content == before.content {
		return before, err
	}
	return newEntry(info.Mode(), content), err
}
