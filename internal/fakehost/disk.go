package fakehost

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Entry is a file, a folder or a symbolic link of a disk. It never changes.
type Entry struct {
	Path    string // without the first slash
	Mode    fs.FileMode
	Content string            // of a link: its target
	sum     [sha256.Size]byte // of Content
	id      [sha256.Size]byte // of path, mode and sum
}

// SHA256 is the hash of a file, in hexadecimal digits.
func (e *Entry) SHA256() string { return hex.EncodeToString(e.sum[:]) }

// File is a file of a disk that every user may read; its path has no first slash.
func File(path, content string) *Entry { return NewEntry(path, 0o644, content) }

// Program is a file of a disk that can be run. A program in usr/local/sbin goes before one
// of the same name of this package.
func Program(path, content string) *Entry { return NewEntry(path, 0o755, "#!/bin/sh\n"+content+"\n") }

// NewEntry is a file, a folder or a link: see [Entry].
func NewEntry(path string, mode fs.FileMode, content string) *Entry {
	e := &Entry{Path: path, Mode: mode, Content: content, sum: sha256.Sum256([]byte(content))}
	all := binary.BigEndian.AppendUint32(append([]byte(path), 0), uint32(mode))
	e.id = sha256.Sum256(append(all, e.sum[:]...))
	return e
}

// digest names a set of entries.
type digest [sha256.Size]byte

// toggle adds an entry to the set, or takes it out.
func (d *digest) toggle(e *Entry) {
	for i := range d {
		d[i] ^= e.id[i]
	}
}

// Disk is what a machine has on its disk, in the order of the paths. It never
// changes: to keep a machine's disk as it is at a moment is to keep a pointer.
type Disk struct {
	entries []*Entry
	digest  digest
}

// NewDisk is a disk with these entries.
func NewDisk(entries []*Entry) *Disk {
	d := &Disk{entries: entries}
	slices.SortFunc(d.entries, func(a, b *Entry) int { return cmp.Compare(a.Path, b.Path) })
	for _, e := range d.entries {
		d.digest.toggle(e)
	}
	return d
}

// at is where an entry with the path is, or would be.
func (d *Disk) at(path string) (int, bool) {
	return slices.BinarySearchFunc(d.entries, path, func(e *Entry, p string) int { return cmp.Compare(e.Path, p) })
}

// Get is the entry with the path, or nil.
func (d *Disk) Get(path string) *Entry {
	if i, there := d.at(path); there {
		return d.entries[i]
	}
	return nil
}

// Has reports whether something is at the path.
func (d *Disk) Has(path string) bool { return d.Get(path) != nil }

// Below are the entries under a folder.
func (d *Disk) Below(folder string) []*Entry {
	from, _ := d.at(folder + "/")
	to, _ := d.at(folder + "0") // "0" comes after "/"
	return d.entries[from:to]
}

// With is the disk with these entries, and the folders above them, in place.
func (d *Disk) With(entries ...*Entry) *Disk {
	for _, e := range slices.Clone(entries) {
		for dir := filepath.Dir(e.Path); dir != "." && !d.Has(dir); dir = filepath.Dir(dir) {
			entries = append(entries, NewEntry(dir, fs.ModeDir|0o755, ""))
		}
	}
	return d.Edit(nil, entries)
}

// Edit is the disk without the entries of these paths, and with these entries in
// place.
func (d *Disk) Edit(gone []string, put []*Entry) *Disk {
	out := &Disk{entries: slices.Clone(d.entries), digest: d.digest}
	for _, path := range gone {
		if i, there := out.at(path); there {
			out.digest.toggle(out.entries[i])
			out.entries = slices.Delete(out.entries, i, i+1)
		}
	}
	for _, e := range put {
		i, there := out.at(e.Path)
		if there {
			out.digest.toggle(out.entries[i])
			out.entries[i] = e
		} else {
			out.entries = slices.Insert(out.entries, i, e)
		}
		out.digest.toggle(e)
	}
	return out
}

// compare tells what must go from, and what must be put on, a disk with the
// entries of d so that it becomes the other.
func (d *Disk) compare(other *Disk) (gone []string, put []*Entry) {
	a, b := d.entries, other.entries
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Path < b[0].Path:
			gone, a = append(gone, a[0].Path), a[1:]
		case len(a) == 0 || b[0].Path < a[0].Path:
			put, b = append(put, b[0]), b[1:]
		default:
			if a[0] != b[0] && a[0].id != b[0].id {
				put = append(put, b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	return gone, put
}

// volatile is what may differ between two machines in the same state: caches,
// process ids, what systemd remembers of a unit until the next reload.
var volatile = regexp.MustCompile(`^(proc/\d+|proc/net|state/lastpid|state/units/.*\.(pid|loaded|fragment|noting|renoting)|run/hactl-verified)(/|$)`)

// State lists every file with its mode and the hash of its content, and of every service the
// configuration that it runs with. What read gives for a file stands at the end, sorted,
// in the place of the file.
func (d *Disk) State(read func(*Entry) (lines []string, is bool)) string {
	var b strings.Builder
	var last []string
	for _, e := range d.entries {
		if unit, ok := strings.CutSuffix(e.Path, ".pid"); ok {
			environ := ""
			if p := d.Get("proc/" + strings.TrimSpace(e.Content) + "/environ"); p != nil {
				environ = p.Content
			}
			fmt.Fprintf(&b, "%s runs with %q\n", unit, environ)
		}
		if lines, is := read(e); is {
			last = append(last, lines...)
			continue
		}
		if !e.Mode.IsDir() && !volatile.MatchString(e.Path) {
			fmt.Fprintf(&b, "%s %v %.16s\n", e.Path, e.Mode, e.SHA256())
		}
	}
	slices.Sort(last)
	return b.String() + strings.Join(last, "")
}
