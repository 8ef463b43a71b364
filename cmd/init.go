package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"hactl/internal/remote"
	"hactl/inventory"
)

// initFlags are the flags of hactl init.
type initFlags struct {
	cluster, vip     string
	masters, workers int
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented inventory to start from",
		Long: `Write a commented inventory to start from, and the JSON schema that lets an editor
check and complete it, beside it. Nothing that exists is overwritten but an empty
file. The hosts in it are placeholders with example addresses.`,
		Example: `  hactl init
  hactl init prod.yaml --cluster prod --masters 5 --workers 2 --vip 10.0.0.10`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path := a.inventory
			if len(args) > 0 {
				path = args[0]
			}
			return a.runInit(path, f)
		},
	}
	c.Flags().StringVar(&f.cluster, "cluster", "demo", "`name` of the cluster")
	c.Flags().IntVar(&f.masters, "masters", 3, "`number` of masters: 1, 3, 5 or 7")
	c.Flags().IntVar(&f.workers, "workers", 0, "`number` of workers")
	c.Flags().StringVar(&f.vip, "vip", "", "the virtual IP `address` (default: an example, 192.0.2.10)")
	return c
}

func (a *app) runInit(path string, f initFlags) error {
	switch {
	case path == "":
		return usagef("FILE is empty: name the inventory")
	case f.cluster == "":
		return usagef("--cluster is empty: name the cluster")
	}
	s := inventory.Scaffold{Cluster: f.cluster, Masters: f.masters, Workers: f.workers}
	if f.vip != "" {
		vip, err := netip.ParseAddr(f.vip)
		if err != nil {
			return usagef("--vip %q is not an IP address", f.vip)
		}
		s.VIP = vip
	}
	text, err := s.YAML()
	if err != nil {
		return &usageError{scaffoldError(err, f)}
	}
	schema, err := inventory.Schema()
	if err != nil {
		return err
	}
	schemaPath := filepath.Join(filepath.Dir(path), inventory.SchemaName)
	if err := refuseExisting(path); err != nil {
		return err
	}
	if err := writeSchema(schemaPath, schema); err != nil {
		return err
	}
	if err := createFile(path, text); err != nil {
		return err
	}
	return a.printInit(path, schemaPath)
}

// scaffoldError names the flag in place of a line of a file that is not there.
func scaffoldError(err error, f initFlags) error {
	var problems inventory.Problems
	if errors.As(err, &problems) && problems[0].Path == "cluster" {
		return fmt.Errorf("--cluster %q: %s", f.cluster, problems[0].Instead)
	}
	return err
}

// refuseExisting is an error for what is there, an empty file aside.
func refuseExisting(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || isEmpty(path) {
		return nil
	}
	return existing(path)
}

func existing(path string) error {
	return remote.Hint(fmt.Errorf("%s is there already and stays as it is", path),
		"check it with: hactl validate -i %s, or name another file: hactl init FILE", remote.Quote(path))
}

// isEmpty reports whether path is a plain file without a byte.
func isEmpty(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() == 0
}

// writeSchema puts the schema beside the inventory. One that an earlier hactl
// wrote is replaced: it is generated and holds nothing of the operator's.
func writeSchema(path string, schema []byte) error {
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createFile(path, schema)
	case err != nil:
		return fmt.Errorf("read schema: %w", err)
	case bytes.Equal(old, schema):
		return nil
	}
	var head struct {
		Title string `json:"title"`
	}
	if json.Unmarshal(old, &head) != nil || head.Title != inventory.SchemaTitle {
		return remote.Hint(fmt.Errorf("%s is there already and is not a schema of hactl", path), "name another folder: hactl init FOLDER/inventory.yaml")
	}
	if err := os.WriteFile(path, schema, 0o644); err != nil { //nolint:gosec // holds no secret; editors of other users read it
		return fmt.Errorf("write schema: %w", err)
	}
	return nil
}

// createFile writes a new file, or an empty one, and never over anything. What
// could not be written whole is removed again.
func createFile(path string, content []byte) error {
	how := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if isEmpty(path) {
		how = os.O_WRONLY
	}
	f, err := os.OpenFile(path, how, 0o644) //nolint:gosec // holds no secret
	if errors.Is(err, fs.ErrExist) {
		return existing(path)
	} else if err != nil {
		return remote.Hint(fmt.Errorf("write inventory: %w", err), "make the folder, or name a file in one that can be written to")
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write inventory: %w", err), os.Remove(path))
	}
	return nil
}

func (a *app) printInit(path, schemaPath string) error {
	if a.json() {
		return json.NewEncoder(a.stdout).Encode(map[string]string{"inventory": path, "schema": schemaPath})
	}
	use := ""
	if path != defaultInventory {
		use = " -i " + remote.Quote(path)
	}
	_, err := fmt.Fprintf(a.stdout, `wrote %s, and %s for your editor

Next:
  1. put your hosts, their addresses and the VIP into %[1]s
  2. hactl validate%[3]s     checks the file
  3. hactl preflight%[3]s    looks at the hosts and changes nothing
  4. hactl plan%[3]s         shows what would be done
  5. hactl up%[3]s           does it
`, path, schemaPath, use)
	return err
}
