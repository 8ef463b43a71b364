package inventory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// MaxSize is the largest inventory that is read, in bytes: some five thousand
// hosts. The limit keeps a wrong file (an image, a log) from being parsed.
const MaxSize = 1 << 20

// Load reads, decodes, completes and validates the inventory at path. Relative
// paths in it are taken from its folder. The error is always a [Problems]
// with everything that is wrong. Bounds are the names that drill.bounds may
// hold, which only the drill knows; without any, every name will do.
func Load(path string, bounds ...string) (*Inventory, error) {
	data, problem := read(path)
	if problem != nil {
		return nil, Problems{*problem}
	}
	return Parse(path, data, bounds...)
}

// read returns the content of a regular file of at most MaxSize bytes. Pipes
// and devices are refused: opening one can block for ever.
func read(path string) ([]byte, *Problem) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Problem{File: path, What: "there is no such file", Instead: "name one with -i FILE, or write one with: hactl init " + path}
	case err != nil:
		return nil, &Problem{File: path, What: "cannot be looked at: " + cause(err), Instead: "name a readable file with -i FILE"}
	case info.IsDir():
		return nil, &Problem{File: path, What: "is a folder", Instead: "name the inventory file in it with -i FILE"}
	case !info.Mode().IsRegular():
		return nil, &Problem{File: path, What: "is not a regular file", Instead: "name a regular file with -i FILE"}
	}
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, MaxSize+1)); err == nil {
			return data, nil
		}
	}
	return nil, &Problem{File: path, What: "cannot be read: " + cause(err), Instead: "name a readable file with -i FILE"}
}

// cause is err without the operation and path that os puts in front.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// Parse is [Load] for content that was read already. The name stands in
// problems, and relative paths are taken from its folder.
func Parse(name string, data []byte, bounds ...string) (*Inventory, error) {
	root, problem := parseYAML(name, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	return fromRoot(name, root, bounds)
}

// fromRoot decodes, completes and validates.
func fromRoot(name string, root *yaml.Node, bounds []string) (*Inventory, error) {
	d := &decoder{file: name, bounds: bounds, at: map[string]position{}, bad: map[string]bool{}}
	if d.refuseAliases(root); len(d.problems) > 0 {
		return nil, d.refusal()
	}
	if d.refuseVersion(root); len(d.problems) > 0 {
		return nil, d.refusal()
	}
	inv := &Inventory{Path: name}
	if d.decode(root, inv); d.more {
		return nil, d.refusal()
	}
	inv.Notes = versionNotes(inv)
	complete(inv, d)
	validate(inv, d)
	if err := d.refusal(); err != nil {
		return nil, err
	}
	return inv, nil
}

// parseYAML returns the root node of the only document in data.
func parseYAML(name string, data []byte) (root *yaml.Node, problem *Problem) {
	if p := checkText(name, data); p != nil {
		return nil, p
	}
	// yaml.v3 turns its own errors into panics and back; should one of another
	// kind slip out on hostile input, it is a bad file, not a crash.
	defer func() {
		if r := recover(); r != nil {
			root, problem = nil, &Problem{File: name, What: "is not readable as YAML", Instead: "start from a fresh file written by hactl init"}
		}
	}()
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	rest := bytes.NewReader(data)
	dec := yaml.NewDecoder(rest)
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, &Problem{File: name, What: "is empty", Instead: blank(name, data)}
	} else if err != nil {
		return nil, syntaxProblem(name, data[:len(data)-rest.Len()], err)
	}
	if err := dec.Decode(&more); err == nil {
		return nil, &Problem{File: name, Line: more.Line, Column: more.Column, What: "a second document starts here", Instead: "remove the line --- and keep one inventory in the file"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxProblem(name, data[:len(data)-rest.Len()], err)
	}
	root = doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, &Problem{File: name, What: "has nothing but comments", Instead: blank(name, data)}
	}
	return root, nil
}

// checkText refuses what is not text of a sensible size before a YAML parser
// sees it.
func checkText(name string, data []byte) *Problem {
	if len(data) > MaxSize {
		return &Problem{File: name, What: fmt.Sprintf("is larger than %d KiB", MaxSize>>10), Instead: "name the inventory, not another file"}
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			before := string(data[:i])
			return &Problem{
				File: name, Line: strings.Count(before, "\n") + 1, Column: i - strings.LastIndex(before, "\n"),
				What: fmt.Sprintf("byte 0x%02x does not belong in a text file", data[i]), Instead: "write the inventory as UTF-8 text",
			}
		}
		i += size
	}
	return nil
}

// blank says what to do about a file without content: hactl init fills one of 0
// bytes, and leaves any other alone.
func blank(name string, data []byte) string {
	if len(data) == 0 {
		return "write it with: hactl init " + name
	}
	return "fill it in, or write another one with: hactl init FILE"
}
