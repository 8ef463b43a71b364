package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// part ends the name of a file that is not complete yet.
const part = ".part"

// Writable makes a folder of snapshots, and looks whether a file can be written into it: it is
// known before something that takes long has begun.
func Writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder of snapshots: %w", err)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("write to the folder of snapshots: %w", err)
	}
	_, err = f.Write(make([]byte, 4096))
	if err = errors.Join(err, f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write to the folder of snapshots: %w", err)
	}
	return nil
}

// Write puts a file into dir, 0600, under name: what fill writes, once check has found
// it in order. A run that is killed never leaves a part of it under that name.
func Write(dir, name string, fill func(io.Writer) error, check func(path string) error) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder of snapshots: %w", err)
	}
	path = filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("write %s: it is there already", path)
	}
	tmp := path + part
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // named by the operator
	if err != nil {
		return "", fmt.Errorf("write snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if check != nil {
		if err := check(tmp); err != nil {
			return "", err
		}
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("write snapshot: %w", err)
	}
	return path, syncFolder(dir)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // named by the operator
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteManifest puts the manifest beside its snapshot.
func WriteManifest(file string, m Manifest) error {
	m.APIVersion, m.Kind, m.File = manifestVersion, "Snapshot", filepath.Base(file)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := manifestPath(file)
	if err := os.WriteFile(path+part, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.Rename(path+part, path); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

// Entry is a snapshot in a folder.
type Entry struct {
	File     string    `json:"file"` // path
	Bytes    int64     `json:"bytes"`
	Manifest *Manifest `json:"manifest,omitempty"`
	Problem  string    `json:"problem,omitempty"` // why its manifest says nothing
}

// List is the snapshots in a folder, the newest name last. A folder that does not
// exist has none.
func List(dir string) ([]Entry, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []Entry
	for _, f := range files {
		if f.IsDir() || !strings.HasSuffix(f.Name(), ".db") {
			continue
		}
		e := Entry{File: filepath.Join(dir, f.Name())}
		if info, err := f.Info(); err == nil {
			e.Bytes = info.Size()
		}
		if e.Manifest, err = ReadManifest(e.File); err != nil {
			e.Problem = err.Error()
		} else if e.Manifest == nil {
			e.Problem = "no manifest"
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return strings.Compare(a.File, b.File) })
	return out, nil
}
