// Command hactl turns bare Linux hosts into a highly available Kubernetes
// control plane, and proves it.
package main

import (
	"os"

	"hactl/cmd"
)

func main() { os.Exit(cmd.Main()) }
