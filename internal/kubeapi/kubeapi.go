// Package kubeapi is a small client of the Kubernetes API: JSON there, JSON
// back. Whom it dials, and as whom, is the caller's http.Client's business.
package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hactl/internal/remote"
)

const (
	maxBody    = 64 << 20 // bounds what is read of an answer, in bytes
	maxMessage = 500      // bounds how much of it an error repeats
)

// Client asks one server.
type Client struct {
	HTTP *http.Client
	Base string // scheme, host and port: "https://192.0.2.11:6443"
}

// StatusError is an answer other than success.
type StatusError struct {
	Path    string
	Code    int // HTTP status
	Message string
}

// Error gives the path, the status and the server's message.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.Path, e.Code, remote.Clean(e.Message))
}

// Final reports whether err is an answer that asking again, or another apiserver,
// would not change. One whose etcd has just come back answers 429 while it fills
// its cache.
func Final(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code < http.StatusInternalServerError && s.Code != http.StatusTooManyRequests
}

// Young reports whether err is how an apiserver answers that has just started and
// has not loaded its users and roles yet: "unauthorized" or "forbidden". The answer
// changes within seconds; where it stays, it is meant.
func Young(err error) bool {
	return HasStatus(err, http.StatusUnauthorized) || HasStatus(err, http.StatusForbidden)
}

// HasStatus reports whether err is an answer with that HTTP status.
func HasStatus(err error, code int) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == code
}

// Do sends in as JSON, unless it is nil, and reads the answer into out: nil, a
// *string for the text as it is, or a pointer for JSON.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	return c.send(ctx, method, path, "application/json", in, out)
}

// Patch sends a JSON merge patch.
func (c *Client) Patch(ctx context.Context, path string, patch any) error {
	return c.send(ctx, http.MethodPatch, path, "application/merge-patch+json", patch, nil)
}

// Apply makes the object at path what the YAML text says, and takes over fields that
// others have set.
func (c *Client) Apply(ctx context.Context, path string, object []byte) error {
	return c.send(ctx, http.MethodPatch, path+"?fieldManager=hactl&force=true", "application/apply-patch+yaml", object, nil)
}

// send sends in as JSON, bytes as they are.
func (c *Client) send(ctx context.Context, method, path, contentType string, in, out any) error {
	var body io.Reader
	if b, raw := in.([]byte); raw {
		body = bytes.NewReader(b)
	} else if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, body)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = fmt.Errorf("it is longer than %d bytes", maxBody)
	}
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if res.StatusCode/100 != 2 {
		return &StatusError{Path: path, Code: res.StatusCode, Message: message(b)}
	}
	switch o := out.(type) {
	case nil:
		return nil
	case *string:
		*o = string(b)
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

// message is the message of a Status object, or the beginning of the text.
func message(b []byte) string {
	var s struct{ Message string }
	text := string(b)
	if json.Unmarshal(b, &s) == nil && s.Message != "" {
		text = s.Message
	}
	return strings.TrimSpace(text[:min(len(text), maxMessage)])
}
