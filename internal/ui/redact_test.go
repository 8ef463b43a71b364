package ui

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

const pemKey = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIBdGzb6kO2sfgXwTrYGcD1o0kdq3M1q8m0ghjT6eGmPVoAoGCCqGSM49
AwEHoUQDQgAEx0q3yWm0rN3sQvJc8YQxQb2vVh6a1kHk0c2qkQ8mC7T1f3aXw9uM
b1Z4mH2vXw==
-----END EC PRIVATE KEY-----
`

// split hands s to w in pieces chosen by cuts.
func split(w io.Writer, s string, cuts func(left int) int) {
	for len(s) > 0 {
		n := min(len(s), max(1, cuts(len(s))))
		_, _ = io.WriteString(w, s[:n])
		s = s[n:]
	}
}

func redactedInPieces(r *Redactor, s string, cuts func(int) int) string {
	var b bytes.Buffer
	w := r.Writer(&b)
	split(w, s, cuts)
	_ = w.Close()
	return b.String()
}

func TestSecretNeverComesOutHoweverWritesAreSplit(t *testing.T) {
	secrets := []string{"hunter2", "hunter2-and-more", "a\nb", "päss wörd", pemKey, "  padded secret  ", `quote"back\slash`}
	r := NewRedactor()
	r.Add(secrets...)
	var text strings.Builder
	for _, s := range secrets {
		j, _ := json.Marshal(s)
		text.WriteString("before " + s + " after\n" + s + s + "\n" + base64.StdEncoding.EncodeToString([]byte(s)) +
			"\n" + string(j) + " hunter" + "\n")
	}
	whole := r.String(text.String())
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		got := redactedInPieces(r, text.String(), func(int) int { return 1 + rng.IntN(40) })
		if got != whole {
			t.Fatalf("splitting the writes changed the result:\n%s\n---\n%s", got, whole)
		}
	}
	for _, s := range secrets {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(whole, form) {
				t.Errorf("%q came out:\n%s", form, whole)
			}
		}
	}
	if n := strings.Count(whole, "before "); n != len(secrets) {
		t.Errorf("innocent text was lost: %d of %d", n, len(secrets))
	}
}

func TestSecretInsideLongerBase64IsMasked(t *testing.T) {
	r := NewRedactor()
	r.Add("correct-horse-battery-staple")
	for shift := range 3 {
		long := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + "correct-horse-battery-staple and the rest"))
		got := r.String(long)
		for _, run := range strings.Split(got, Masked) {
			for pad := range 4 { // whatever part comes out must not decode to the secret's middle
				dec, _ := base64.RawStdEncoding.DecodeString(strings.Repeat("A", pad) + strings.TrimRight(run, "="))
				if strings.Contains(string(dec), "horse") {
					t.Errorf("shift %d: %q still holds the secret", shift, got)
				}
			}
		}
		if !strings.Contains(got, Masked) {
			t.Errorf("shift %d: nothing masked in %q", shift, got)
		}
	}
}

func TestPatternsMaskWhatLooksSecret(t *testing.T) {
	r := NewRedactor()
	for in, want := range map[string]string{
		"join with abcdef.0123456789abcdef now":                             "join with *** now",
		"token: s3cr3t":                                                     "token: ***",
		`"token":"a b c","x":1`:                                             `"token":***,"x":1`,
		"password=hunter2 user=me":                                          "password=*** user=me",
		"kubeadm join --token x.y --foo":                                    "kubeadm join --token *** --foo",
		"client-key-data: TUlJRXBBSUJBQUtDQVFF":                             "client-key-data: ***",
		"Authorization: Bearer abc.def":                                     "Authorization: Bearer ***",
		"proxy http://me:pw@proxy:3128/":                                    "proxy http://me:***@proxy:3128/",
		"k = " + base64.StdEncoding.EncodeToString([]byte(pemKey)) + " end": "k = *** end",
		`{"key":` + jsonString(pemKey) + `,"a":1}`:                          `{"key":"***\n","a":1}`,
		"nothing secret in etcd/master-1/unit at 10.0.0.1:2379":             "nothing secret in etcd/master-1/unit at 10.0.0.1:2379",
	} {
		if got := r.String(in); got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
}

func jsonString(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestPrivateKeyBlockIsMaskedInPiecesAndTextAfterItComesBack(t *testing.T) {
	r := NewRedactor()
	for size := range 70 {
		got := redactedInPieces(r, "cat key\n"+pemKey+"done\n", func(int) int { return size + 1 })
		if want := "cat key\n***\ndone\n"; got != want {
			t.Fatalf("pieces of %d: got %q", size+1, got)
		}
	}
	cut := pemKey[:100] + "\n" + strings.Repeat("later\n", 2*maxKeyLines)
	if got := r.String(cut); !strings.Contains(got, "later") {
		t.Error("a key without its END line swallowed everything after it")
	}
}

func TestLineThatIsTooLongIsLeftOutWhole(t *testing.T) {
	r := NewRedactor()
	got := r.String("a\ntoken=" + strings.Repeat("x", maxLine) + "\nb\n")
	if strings.Contains(got, "xx") || !strings.HasPrefix(got, "a\n") || !strings.HasSuffix(got, "\nb\n") {
		t.Errorf("got %.80q…", got)
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("hunter2", "x hunter2 y", uint64(3))
	f.Add("aab", "aaaabaab", uint64(1))
	f.Add("a\nb", "\na\nb\n", uint64(7))
	f.Add("\xff\x00k", "\xff\xff\x00k", uint64(9))
	f.Fuzz(func(t *testing.T, secret, text string, seed uint64) {
		if secret == "" || strings.Contains(secret, "*") {
			t.Skip() // a secret made of the mask cannot be told from it
		}
		r := NewRedactor()
		r.Add(secret)
		b64 := base64.StdEncoding.EncodeToString([]byte(secret))
		whole := text + secret + text + b64 + text
		rng := rand.New(rand.NewPCG(seed, 1))
		got := redactedInPieces(r, whole, func(left int) int { return 1 + rng.IntN(left) })
		if strings.Contains(got, secret) {
			t.Errorf("secret %q came out of %q: %q", secret, whole, got)
		}
		if strings.Contains(got, b64) {
			t.Errorf("base64 of %q came out of %q: %q", secret, whole, got)
		}
		if got != r.String(whole) {
			t.Errorf("splitting the writes changed the result of %q", whole)
		}
	})
}
