package inventory

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

var yamlError = regexp.MustCompile(`^yaml: (?:(line \d+): )?(.*)`)

// syntaxHints say what to do about an error of the YAML parser.
var syntaxHints = []struct{ in, instead string }{
	{"cannot start any token", "put quotes around values that start with @, ` or %"},
	{"mapping values are not allowed", `indent keys of one block alike, write a space after each colon, here and in the line before, and put quotes around values with ": " or a colon at the end, such as "fd00::"`},
	{"could not find expected ':'", "write key: value, with a space after the colon"},
	{"did not find expected ',' or", "close the bracket that opens here, and put a comma between its values"},
	{"unexpected end of stream", "close the quotes that open here"},
	{"did not find expected", "indent keys of one block alike, and close quotes and brackets"},
	{"", "correct the YAML of this line"},
}

// syntaxProblem turns an error of the YAML parser, which had read so much, into
// a problem with its line.
func syntaxProblem(name string, read []byte, err error) *Problem {
	p := &Problem{File: name, What: "YAML: " + err.Error()}
	m := yamlError.FindStringSubmatch(err.Error())
	if m != nil {
		p.What = "YAML: " + m[2]
	}
	for _, h := range syntaxHints {
		if p.Instead == "" && strings.Contains(p.What, h.in) {
			p.Instead = h.instead
		}
	}
	var text []byte
	if p.Line, text = brokenLine(read); p.Line == 0 && m != nil && m[1] != "" {
		p.What = "YAML, near " + m[1] + ": " + m[2]
	}
	indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
	if tab := bytes.IndexByte(indent, '\t'); tab >= 0 {
		p.Column, p.What, p.Instead = tab+1, "a tab indents the line", "indent with spaces, not tabs"
	}
	return p
}

// brokenLine returns the line that the parser stumbled at: the one behind the
// longest beginning of the file that is good YAML. The line in the parser's
// errors can be the one before, or where the block around it starts. It is 0
// when the search takes too long.
func brokenLine(read []byte) (line int, text []byte) {
	for budget := 4 << 20; len(read) > 0 && budget > 0; budget -= len(read) {
		start := bytes.LastIndexByte(read[:len(read)-1], '\n') + 1
		read, text = read[:start], read[start:]
		if isYAML(read) {
			return bytes.Count(read, []byte("\n")) + 1, text
		}
	}
	return 0, nil
}

// isYAML says whether the parser takes data, or its first two documents.
func isYAML(data []byte) bool {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for range 2 {
		if err := dec.Decode(new(yaml.Node)); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
	return true
}
