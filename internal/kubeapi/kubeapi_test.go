package kubeapi

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &Client{HTTP: srv.Client(), Base: srv.URL}
}

func TestStatusErrorsAreBoundedAndClean(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		want string
	}{
		"a Status object":   {403, `{"kind":"Status","message":"nodes is forbidden"}`, "/x: status 403: nodes is forbidden"},
		"plain text":        {500, "[+]ping ok\n[-]etcd failed\n", "/x: status 500: [+]ping ok\n[-]etcd failed"},
		"nothing":           {503, "", "/x: status 503: "},
		"an endless text":   {500, strings.Repeat("x", 1<<20), "/x: status 500: " + strings.Repeat("x", maxMessage)},
		"an endless Status": {500, `{"message":"` + strings.Repeat("y", 1<<20) + `"}`, "/x: status 500: " + strings.Repeat("y", maxMessage)},
		"escape sequences":  {500, "\x1b[2Jgone", "/x: status 500: gone"},
	} {
		t.Run(name, func(t *testing.T) {
			api := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body)
			})
			err := api.Do(t.Context(), http.MethodGet, "/x", nil, nil)
			var s *StatusError
			if !errors.As(err, &s) || !HasStatus(err, c.code) || HasStatus(err, c.code+1) || err.Error() != c.want {
				t.Errorf("%.300v", err)
			}
		})
	}
}

func TestEndlessAnswerIsAnError(t *testing.T) {
	api := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range maxBody>>20 + 2 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	var text string
	if err := api.Do(t.Context(), http.MethodGet, "/x", nil, &text); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestAnswerThatIsNoJSONIsAnError(t *testing.T) {
	api := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	var list struct{ Items []string }
	if err := api.Do(t.Context(), http.MethodGet, "/x", nil, &list); err == nil {
		t.Error("a page passes for a list")
	}
}

func TestRequestsAreJSON(t *testing.T) {
	var got []string
	api := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(b))
		_, _ = io.WriteString(w, `{"name":"kept"}`)
	})
	var out struct{ Name string }
	if err := api.Do(t.Context(), http.MethodPost, "/a?b=c", map[string]int{"n": 1}, &out); err != nil || out.Name != "kept" {
		t.Errorf("%+v, %v", out, err)
	}
	if err := api.Patch(t.Context(), "/a", map[string]any{"gone": nil}); err != nil {
		t.Error(err)
	}
	if err := api.Do(t.Context(), http.MethodDelete, "/a", nil, nil); err != nil {
		t.Error(err)
	}
	want := []string{`POST /a?b=c application/json {"n":1}`, `PATCH /a application/merge-patch+json {"gone":null}`, "DELETE /a  "}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q", got)
	}
}
