package sys

import (
	"slices"
	"testing"
)

func TestAnswerEndsWithItsEnd(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string][]string{"end": {}, "end\n": {}, "a b\nend\nend\n": {"a b", "end"}, "\nend": {""}} {
		if got, err := Lines(answer); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", answer, got, err)
		}
	}
	for _, answer := range []string{"", "\n", "a", "a\nen", "a\nend\nb", "a end", "end\n\n", " end"} {
		if got, err := Lines(answer); err == nil {
			t.Errorf("%q: %q", answer, got)
		}
	}
}
