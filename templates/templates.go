// Package templates holds every file that hactl writes to a host as a template,
// embedded into the binary. Golden files of what they render to lie in testdata
// of the packages that fill them in.
package templates

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

var parsed = template.Must(template.New("").Option("missingkey=error").ParseFS(files, "*.tmpl"))

// Render fills in the template of that file name, such as "etcd.service.tmpl".
// A name that does not exist or data that lacks a field is an error.
func Render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := parsed.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return b.Bytes(), nil
}
