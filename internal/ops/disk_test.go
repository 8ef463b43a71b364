package ops

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

	"hactl/internal/plan"
)

// entry is a file, a folder or a symbolic link of a disk.
type entry struct {
	path    string // without the first slash
	mode    fs.FileMode
	content string            // of a link: its target
	sum     [sha256.Size]byte // of content
	id      [sha256.Size]byte // of path, mode and sum
}

func newEntry(path string, mode fs.FileMode, content string) *entry {
	e := &entry{path: path, mode: mode, content: content, sum: sha256.Sum256([]byte(content))}
	all := binary.BigEndian.AppendUint32(append([]byte(path), 0), uint32(mode))
	e.id = sha256.Sum256(append(all, e.sum[:]...))
	return e
}

// digest names a set of entries.
type digest [sha256.Size]byte

// toggle adds an entry to the set, or takes it out.
func (d *digest) toggle(e *entry) {
	for i := range d {
		d[i] ^= e.id[i]
	}
}

// disk is what a machine has on its disk, in the order of the paths. It never
// changes: to keep a machine's disk as it is at a moment is to keep a pointer.
type disk struct {
	entries []*entry
	digest  digest
}

func newDisk(entries []*entry) *disk {
	d := &disk{entries: entries}
	slices.SortFunc(d.entries, func(a, b *entry) int { return cmp.Compare(a.path, b.path) })
	for _, e := range d.entries {
		d.digest.toggle(e)
	}
	return d
}

// at is where an entry with the path is, or would be.
func (d *disk) at(path string) (int, bool) {
	return slices.BinarySearchFunc(d.entries, path, func(e *entry, p string) int { return cmp.Compare(e.path, p) })
}

// get is the entry with the path, or nil.
func (d *disk) get(path string) *entry {
	if i, there := d.at(path); there {
		return d.entries[i]
	}
	return nil
}

func (d *disk) has(path string) bool { return d.get(path) != nil }

// below are the entries under a folder.
func (d *disk) below(folder string) []*entry {
	from, _ := d.at(folder + "/")
	to, _ := d.at(folder + "0") // "0" comes after "/"
	return d.entries[from:to]
}

// with is the disk with these entries, and the folders above them, in place.
func (d *disk) with(entries ...*entry) *disk {
	for _, e := range slices.Clone(entries) {
		for dir := filepath.Dir(e.path); dir != "." && !d.has(dir); dir = filepath.Dir(dir) {
			entries = append(entries, newEntry(dir, fs.ModeDir|0o755, ""))
		}
	}
	return d.edit(nil, entries)
}

// edit is the disk without the entries of these paths, and with these entries in
// place.
func (d *disk) edit(gone []string, put []*entry) *disk {
	out := &disk{entries: slices.Clone(d.entries), digest: d.digest}
	for _, path := range gone {
		if i, there := out.at(path); there {
			out.digest.toggle(out.entries[i])
			out.entries = slices.Delete(out.entries, i, i+1)
		}
	}
	for _, e := range put {
		i, there := out.at(e.path)
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
func (d *disk) compare(other *disk) (gone []string, put []*entry) {
	a, b := d.entries, other.entries
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].path < b[0].path:
			gone, a = append(gone, a[0].path), a[1:]
		case len(a) == 0 || b[0].path < a[0].path:
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

// state lists every file with mode and content's hash, and of every service the
// configuration that it runs with.
func (d *disk) state() string {
	var b strings.Builder
	var made []string
	for _, e := range d.entries {
		if unit, ok := strings.CutSuffix(e.path, ".pid"); ok {
			environ := ""
			if p := d.get("proc/" + strings.TrimSpace(e.content) + "/environ"); p != nil {
				environ = p.content
			}
			fmt.Fprintf(&b, "%s runs with %q\n", unit, environ)
		}
		if e.path == ownedFile { // a run that is resumed may note a thing again
			for _, m := range plan.ReadOwned(e.content) {
				made = append(made, fmt.Sprintf("made %+v\n", m))
			}
			continue
		}
		if !e.mode.IsDir() && !volatile.MatchString(e.path) {
			fmt.Fprintf(&b, "%s %v %.16s\n", e.path, e.mode, hex.EncodeToString(e.sum[:]))
		}
	}
	slices.Sort(made)
	return b.String() + strings.Join(made, "")
}

// ownedFile is the record of what hactl made.
const ownedFile = "var/lib/hactl/owned.json"
