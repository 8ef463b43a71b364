package fakehost

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// folder is a disk in a real folder, and a shell that has it as its root. What no
// command may change lies beside the disk in the same folder: programs, and what
// goes to and from the shell.
type folder struct {
	path  string
	disk  *Disk // what the folder holds now
	files map[string]stamp

	shell   *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
}

// serve is what the shell does: for each line it runs the script as a process of its
// own, and prints the exit code.
const serve = `. /prelude.sh
while read -r _; do ( own_programs; . /dev/script ) </dev/in >/dev/out 2>/dev/err; echo $?; done`

// start starts the shell, as root of a user namespace.
func (f *folder) start() error {
	var err error
	// #nosec G204 -- the path is the test's.
	f.shell = exec.Command("unshare", "--user", "--map-root-user", "chroot", f.path, "/bin/sh", "-c", serve)
	f.shell.Env = []string{"PATH=/usr/local/sbin:/bin:/usr/bin:/usr/sbin:/sbin"}
	if f.ask, err = f.shell.StdinPipe(); err != nil {
		return err
	}
	out, err := f.shell.StdoutPipe()
	if err != nil {
		return err
	}
	f.answers = bufio.NewReader(out)
	return f.shell.Start()
}

// stop ends the shell.
func (f *folder) stop() {
	_ = f.ask.Close()
	_ = f.shell.Wait()
}

// run runs a script in the folder, and reads what it left there.
func (f *folder) run(ctx context.Context, script string, stdin []byte) (*Outcome, error) {
	out, err := f.runOnly(ctx, script, stdin)
	if err == nil {
		out.Disk, err = f.read()
	}
	return out, err
}

// runOnly runs a script in the folder.
func (f *folder) runOnly(ctx context.Context, script string, stdin []byte) (*Outcome, error) {
	for name, content := range map[string][]byte{"script": []byte(script + "\n"), "in": stdin} {
		if err := os.WriteFile(filepath.Join(f.path, "dev", name), content, 0o600); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = f.shell.Process.Kill() })()
	if _, err := io.WriteString(f.ask, "\n"); err != nil {
		return nil, err
	}
	line, err := f.answers.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the shell ended: %w", err)
	}
	out := &Outcome{}
	if out.Exit, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return nil, err
	}
	for name, text := range map[string]*string{"out": &out.Stdout, "err": &out.Stderr} {
		b, err := os.ReadFile(filepath.Join(f.path, "dev", name))
		if err != nil {
			return nil, err
		}
		*text = string(b)
	}
	return out, nil
}

// fixed are the entries of a folder that are not part of a disk.
func fixed(path string) bool { return path == "bin" || path == "dev" || path == "prelude.sh" }

// hold makes the folder hold a disk.
func (f *folder) hold(d *Disk) error {
	had := f.disk
	if had == d {
		return nil
	}
	f.disk = &Disk{} // in case that it ends half-way
	gone, put := had.compare(d)
	for _, e := range put {
		if before := had.Get(e.Path); before != nil && before.Mode.Type() != e.Mode.Type() {
			gone = append(gone, e.Path)
		}
	}
	slices.Sort(gone)
	for _, path := range slices.Backward(gone) { // what is in a folder before the folder
		if err := os.Remove(filepath.Join(f.path, path)); err != nil {
			return err
		}
	}
	for _, e := range put {
		if err := e.put(filepath.Join(f.path, e.Path)); err != nil {
			return err
		}
	}
	f.disk = d
	return nil
}

func (e *Entry) put(path string) error {
	var err error
	switch {
	case e.Mode.IsDir():
		err = os.MkdirAll(path, e.Mode.Perm())
	case e.Mode&fs.ModeSymlink != 0:
		_ = os.Remove(path)
		return os.Symlink(e.Content, path)
	default:
		err = os.WriteFile(path, []byte(e.Content), e.Mode.Perm()|0o200)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, e.Mode.Perm())
}

// read is the disk that the folder holds after a command. It is the same disk
// when nothing changed.
func (f *folder) read() (*Disk, error) {
	var entries []*Entry
	err := filepath.WalkDir(f.path, func(path string, de fs.DirEntry, err error) error {
		if err != nil || path == f.path {
			return err
		}
		rel := path[len(f.path)+1:]
		switch {
		case fixed(rel) && de.IsDir():
			return fs.SkipDir
		case fixed(rel):
			return nil
		}
		e, err := f.readEntry(path, rel, de)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	if now := NewDisk(entries); now.digest != f.disk.digest {
		f.disk = now
	}
	return f.disk, nil
}

// stamp tells whether a file was changed: by what stat says of it, and when stat
// was asked. What was changed in that very moment may be changed again without a
// difference.
type stamp struct {
	size  int64
	inode uint64
	ctime syscall.Timespec
	asked time.Time
}

// clockTick is more than the kernel's resolution of times of files.
const clockTick = 20 * time.Millisecond

func stampOf(info fs.FileInfo) stamp {
	st, _ := info.Sys().(*syscall.Stat_t)
	return stamp{info.Size(), st.Ino, st.Ctim, time.Now()}
}

// same reports whether the file is the one that had the earlier stamp.
func (s stamp) same(earlier stamp) bool {
	return s.size == earlier.size && s.inode == earlier.inode && s.ctime == earlier.ctime &&
		earlier.asked.Sub(time.Unix(earlier.ctime.Unix())) > clockTick
}

// readEntry reads an entry, unless it is as it was before.
func (f *folder) readEntry(path, rel string, de fs.DirEntry) (*Entry, error) {
	info, err := de.Info()
	if err != nil {
		return nil, err
	}
	before, content := f.disk.Get(rel), ""
	switch {
	case de.IsDir():
	case de.Type()&fs.ModeSymlink != 0:
		content, err = os.Readlink(path)
	default:
		now := stampOf(info)
		if before != nil && info.Mode() == before.Mode && now.same(f.files[rel]) {
			return before, nil
		}
		f.files[rel] = now
		var b []byte
		b, err = os.ReadFile(path)
		content = string(b)
	}
	if before != nil && info.Mode() == before.Mode && content == before.Content {
		return before, err
	}
	return NewEntry(rel, info.Mode(), content), err
}
