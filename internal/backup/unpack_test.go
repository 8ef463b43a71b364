package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"filippo.io/age"
)

// unpack is the files of an archive, by name.
func unpack(archive []byte, id age.Identity) (map[string]string, error) {
	r, err := age.Decrypt(bytes.NewReader(archive), id)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return nil, err
		}
		out[h.Name] = string(text)
	}
}
