package cmd

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hactl/internal/nearest"
	"hactl/internal/remote"
)

// unknownWord is the error for a word after c that is none of its commands.
func unknownWord(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	err := remote.Hint(usagef("unknown command %q for %q", word, c.CommandPath()), "see %s --help", c.CommandPath())
	return didYouMean(err, []string{word}, names)
}

// didYouMean hints at the known words that the typed ones most likely mean; where
// there are none, err keeps its own hint.
func didYouMean(err error, typed, known []string) error {
	var meant []string
	for _, t := range typed {
		if !slices.Contains(known, t) {
			meant = append(meant, nearest.Words(t, known)...)
		}
	}
	if meant == nil {
		return err
	}
	return remote.Hint(err, "did you mean %s?", strings.Join(meant, " or "))
}
