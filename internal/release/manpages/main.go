// Command manpages writes the man pages of hactl into a folder.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"

	"hactl/cmd"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manpages FOLDER")
		os.Exit(2)
	}
	header := &doc.GenManHeader{Title: "HACTL", Section: "1", Source: "hactl", Manual: "hactl"}
	if err := doc.GenManTree(cmd.CommandLine(), header, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "write man pages:", err)
		os.Exit(1)
	}
}
