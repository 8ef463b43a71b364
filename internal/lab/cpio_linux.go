package lab

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A machine's seed is a folder of files that make it this host and no other. It comes as a
// second cpio archive behind the one of the base in the initial RAM disk (format newc:
// the kernel's Documentation/driver-api/early-userspace/buffer-format.rst), and the first
// boot copies it over the root file system.

// cpioAlign is the multiple of bytes on which every header, file and archive begins. The
// kernel ignores an archive that begins elsewhere, and says nothing.
const cpioAlign = 4

// cpioWriter counts what it has written, for the alignment.
type cpioWriter struct {
	w   io.Writer
	n   int64
	ino int
}

func (c *cpioWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// pad writes zeros up to the next multiple of cpioAlign.
func (c *cpioWriter) pad() error {
	_, err := c.Write(make([]byte, (cpioAlign-c.n%cpioAlign)%cpioAlign))
	return err
}

// entry writes one file or folder. mode has the type bits of Unix.
func (c *cpioWriter) entry(name string, mode uint32, uid, gid int, content []byte) error {
	c.ino++
	if _, err := fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, uid, gid, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name); err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	if _, err := c.Write(content); err != nil {
		return err
	}
	return c.pad()
}

// writeInitrd writes the base's initial RAM disk followed by the folder seed as /seed.
func writeInitrd(w io.Writer, base io.Reader, seed string) error {
	c := &cpioWriter{w: w}
	if _, err := io.Copy(c, base); err != nil {
		return err
	}
	if err := c.pad(); err != nil {
		return err
	}
	err := filepath.WalkDir(seed, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(seed, path)
		if err != nil {
			return err
		}
		return c.file(filepath.Join("seed", name), path, d)
	})
	if err != nil {
		return fmt.Errorf("write the seed: %w", err)
	}
	return c.entry("TRAILER!!!", 0, 0, 0, nil)
}

// The type bits of Unix modes.
const (
	modeFolder = 0o040000
	modeFile   = 0o100000
)

func (c *cpioWriter) file(name, path string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	uid, gid, err := owner(path)
	if err != nil {
		return err
	}
	mode := uint32(info.Mode().Perm())
	if d.IsDir() {
		return c.entry(name, modeFolder|mode, uid, gid, nil)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return c.entry(name, modeFile|mode, uid, gid, content)
}
