package pki

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// prefixNew begins the name of a folder that is being written.
const prefixNew = ".new-"

// disk changes the store's folder. It never follows a link out of it.
type disk struct {
	root *os.Root
	// before, when set, is called ahead of every change with what is about to
	// happen; tests cut a run there.
	before func(op, name string) error
	fsync  func(*os.File) error
}

func (d *disk) step(op, name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(op, name)
}

// publish puts a folder with these files (by relative path) in place under
// name, whole or not at all: it is written and synced under another name and
// then renamed. An older pair of that name goes first, so a crash can leave
// none, which the next run issues; the authorities are never replaced.
func (d *disk) publish(name string, files map[string][]byte) error {
	_, err := d.root.Lstat(name)
	older := err == nil
	if older && name == authorities {
		return fmt.Errorf("%s is there already", name)
	}
	fresh := prefixNew + rand.Text()
	if err := d.write(fresh, files); err != nil {
		return err
	}
	if older {
		if err := d.remove(name); err != nil {
			return err
		}
	}
	if err := d.rename(fresh, name); err != nil {
		return err
	}
	return d.sync(".")
}

// replace puts a file in place under name, whole or not at all. An older one is
// there until the new one is.
func (d *disk) replace(name string, content []byte) error {
	fresh := prefixNew + rand.Text()
	if err := d.write(fresh, map[string][]byte{name: content}); err != nil {
		return err
	}
	if err := d.rename(path.Join(fresh, name), name); err != nil {
		return err
	}
	if err := d.remove(fresh); err != nil {
		return err
	}
	return d.sync(".")
}

func (d *disk) write(folder string, files map[string][]byte) error {
	if err := d.mkdir(folder); err != nil {
		return err
	}
	made := []string{folder}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		target := path.Join(folder, name)
		if dir := path.Dir(target); !slices.Contains(made, dir) {
			if err := d.mkdir(dir); err != nil {
				return err
			}
			made = append(made, dir)
		}
		if err := d.create(target, files[name]); err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(made) {
		if err := d.sync(dir); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) mkdir(name string) error {
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	return d.root.Mkdir(name, 0o700)
}

// create writes a new file, 0600, and syncs it.
func (d *disk) create(name string, content []byte) (err error) {
	if err := d.step("create", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := d.step("write", name); err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return d.fsync(f)
}

func (d *disk) rename(from, to string) error {
	if err := d.step("rename", to); err != nil {
		return err
	}
	return d.root.Rename(from, to)
}

func (d *disk) remove(name string) error {
	if err := d.step("remove", name); err != nil {
		return err
	}
	return d.root.RemoveAll(name)
}

// sync makes the entries of a folder durable.
func (d *disk) sync(name string) (err error) {
	if err := d.step("sync", name); err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return d.fsync(f)
}

// sweep removes what a run that died left unpublished.
func (d *disk) sweep() error {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefixNew) {
			if err := d.remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// read returns a file of the store. It is fs.ErrNotExist when it is missing
// and an error when it is anything but a plain, private file.
func (d *disk) read(name string) (content []byte, err error) {
	seen, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if err := d.private(name, seen); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	now, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !now.Mode().IsRegular() || !os.SameFile(seen, now) {
		return nil, fmt.Errorf("%s was replaced while it was opened", name)
	}
	content, err = io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(content) > maxPEM {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return content, err
}
