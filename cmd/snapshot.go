package cmd

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"hactl/internal/backup"
	"hactl/internal/ops"
	"hactl/internal/ui"
	"hactl/inventory"
)

// passphraseEnv has the passphrase of encrypted copies of the store.
const passphraseEnv = "HACTL_BACKUP_PASSPHRASE"

func (a *app) snapshotCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, list, verify, rehearse and fetch snapshots of etcd",
		Long: `Snapshots of etcd: every object of the cluster, in one file on this machine with
a manifest beside it. A snapshot without the PKI store restores nothing: keep both.`,
		Example: `  hactl snapshot save --with-store
  hactl snapshot list
  hactl snapshot verify snapshots-prod/prod-20270101T000000Z.db`,
	}
	c.AddCommand(a.snapshotSaveCommand(), a.snapshotListCommand(), a.snapshotVerifyCommand(), a.snapshotRehearseCommand(), a.snapshotFetchCommand())
	return c
}

// snapshotDir is --dir of the commands that write or list snapshots.
func snapshotDir(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "dir", "", "`folder` of the snapshots (default: snapshots-CLUSTER beside the inventory)")
	_ = c.MarkFlagDirname("dir")
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	var o ops.SnapshotOptions
	c := &cobra.Command{
		Use:   "save",
		Short: "Save a snapshot of etcd, read and verified as a whole",
		Long: `Take a snapshot from a healthy follower, or without a quorum from the member that
is furthest, and save it on this machine. All of it is read before it gets its
name. --with-store saves the PKI store and the inventory beside it, encrypted with
age for backup.recipients of the inventory, or with the passphrase in
` + passphraseEnv + `.`,
		Example: `  hactl snapshot save
  hactl snapshot save --with-store --dir /srv/backup`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			run, err := a.start(c, resultsOnly)
			if err != nil {
				return err
			}
			if o.Passphrase = a.getenv(passphraseEnv); o.Passphrase != "" {
				run.Hide(o.Passphrase)
			}
			saved, err := ops.SaveSnapshot(c.Context(), run.request(inv), o)
			run.endProgress()
			if err != nil {
				return err
			}
			return a.printSaved(saved)
		},
	}
	snapshotDir(c, &o.Dir)
	c.Flags().BoolVar(&o.WithStore, "with-store", false, "save the PKI store and the inventory, too, encrypted")
	return c
}

func (a *app) printSaved(s *ops.SavedSnapshot) error {
	if a.json() {
		return a.printJSON(s)
	}
	c := s.Manifest.Content
	fmt.Fprintf(a.stdout, "%s\n%s, %s, revision %d, etcd %s, from %s, verified in %s\n", s.File, ui.Bytes(c.Bytes), ui.Count(c.Keys, "key"), c.Revision,
		cmp.Or(s.Manifest.Etcd, c.Minor), cmp.Or(s.Manifest.Member, s.Manifest.SavedBy), ui.Took(time.Duration(s.Took*float64(time.Second))))
	if s.Store != "" {
		fmt.Fprintf(a.stdout, "%s\nthe PKI store and the inventory, encrypted: age -d FILE | tar xz\n", s.Store)
	}
	return nil
}

func (a *app) snapshotListCommand() *cobra.Command {
	var dir string
	onHosts := false
	c := &cobra.Command{
		Use:   "list",
		Short: "List the snapshots of a folder, from their manifests, or those on masters",
		Long: `List the snapshots of a folder of this machine, from their manifests. With --hosts
list those that the timers of backup.schedule saved on the masters; exit code 3: a
master could not be asked.`,
		Example: "  hactl snapshot list\n  hactl snapshot list --hosts\n  hactl snapshot list -o json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			if onHosts {
				return a.listOnHosts(c, inv)
			}
			entries, err := backup.List(cmp.Or(dir, ops.SnapshotDir(inv)))
			if err != nil {
				return err
			}
			return a.printSnapshots(entries)
		},
	}
	snapshotDir(c, &dir)
	c.Flags().BoolVar(&onHosts, "hosts", false, "list the snapshots that lie on masters")
	return c
}

func (a *app) printSnapshots(entries []backup.Entry) error {
	if a.json() {
		return a.printJSON(map[string]any{"kind": "snapshots", "snapshots": entries})
	}
	if len(entries) == 0 {
		fmt.Fprintln(a.stdout, "no snapshot; hactl snapshot save makes one")
		return nil
	}
	t := ui.Table{Header: []string{"FILE", "SAVED", "SIZE", "REVISION", "KEYS", "ETCD", "STORE"}}
	for _, e := range entries {
		row := []string{filepath.Base(e.File), "?", ui.Bytes(e.Bytes), "?", "?", "?", e.Problem}
		if m := e.Manifest; m != nil {
			row = []string{filepath.Base(e.File), m.Saved.Local().Format(time.DateTime), ui.Bytes(e.Bytes), strconv.FormatInt(m.Content.Revision, 10),
				strconv.Itoa(m.Content.Keys), cmp.Or(m.Etcd, m.Content.Minor), storeCell(m)}
		}
		t.Add(row...)
	}
	return t.Write(a.stdout, a.style())
}

// storeCell says whether a copy of the store lies beside a snapshot.
func storeCell(m *backup.Manifest) string {
	if m.Store == "" {
		return "no copy"
	}
	return "copy"
}

func (a *app) snapshotVerifyCommand() *cobra.Command {
	identity := ""
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Read all of a snapshot and say whether this cluster can be restored from it",
		Long: `Read all of a snapshot: its checksum, the structure of the database, every key.
Compare it with its manifest, with the PKI store and with the etcd version of the
inventory. No host is connected to. Of an encrypted copy of the PKI store all is
decrypted and read, with the key file in --identity or the passphrase in
` + passphraseEnv + `; nothing is written.
Exit code 0: in order; 7: refused, with the reason: not-a-snapshot, truncated,
damaged, foreign, wrong-minor, stale-store or wrong-key.`,
		Example: `  hactl snapshot verify snapshots-prod/prod-20270101T000000Z.db
  hactl snapshot verify snapshots-prod/prod-20270101T000000Z.store.age --identity key.txt`,
		Args: everyWord,
		RunE: func(c *cobra.Command, args []string) error {
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			if strings.HasSuffix(args[0], ".age") {
				return a.verifyStore(inv, args[0], identity)
			}
			content, m, note, err := ops.VerifySnapshot(c.Context(), inv, args[0])
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(map[string]any{"kind": "verified", "file": args[0], "content": content, "manifest": m, "note": note})
			}
			fmt.Fprintf(a.stdout, "%s is in order: %s, %s in %s, revision %d, etcd %s, members %s\n", args[0], ui.Bytes(content.Bytes),
				ui.Count(content.Keys, "key"), ui.Count(content.Revisions, "revision"), content.Revision, content.Minor, strings.Join(content.Members, ", "))
			if m == nil {
				fmt.Fprintln(a.stdout, "it has no manifest: only the CA in it tells its cluster")
			}
			if note != "" {
				fmt.Fprintln(a.stdout, note)
			}
			return nil
		},
	}
	c.Flags().StringVar(&identity, "identity", "", "key `file` of age, for an encrypted copy of the store")
	_ = c.MarkFlagFilename("identity")
	return c
}

// verifyStore reads an encrypted copy of a store.
func (a *app) verifyStore(inv *inventory.Inventory, file, identity string) error {
	got, err := ops.VerifyStore(inv, file, identity, a.getenv(passphraseEnv))
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(map[string]any{"kind": "verified", "file": file, "store": got})
	}
	fmt.Fprintf(a.stdout, "%s is in order: %s of the store %s, and the inventory %s\n", file, ui.Count(got.Files-1, "file"), got.Store, got.Inventory)
	return nil
}

func (a *app) snapshotFetchCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "fetch HOST[:PATH]",
		Short: "Bring a snapshot that lies on a host to this machine, read and verified",
		Long: `Bring a snapshot that lies on a host to this machine. All of it is read and verified.
Without a path it is the newest that the host's timer saved (backup.schedule).`,
		Example: `  hactl snapshot fetch master-2
  hactl snapshot fetch master-1:/var/backups/etcd.db --dir /srv/backup`,
		Args:              everyWord,
		ValidArgsFunction: a.completeHosts(),
		RunE: func(c *cobra.Command, args []string) error {
			host, path, ok := strings.Cut(args[0], ":")
			if ok && !strings.HasPrefix(path, "/") {
				return usagef("%q names no file on a host: write HOST or HOST:PATH, such as master-1:/var/backups/etcd.db", args[0])
			}
			inv, err := a.loadInventory()
			if err != nil {
				return err
			}
			if err := a.checkHosts(inv, []string{host}); err != nil {
				return err
			}
			run, err := a.start(c, resultsOnly)
			if err != nil {
				return err
			}
			saved, err := ops.FetchSnapshot(c.Context(), run.request(inv), host, path, dir)
			run.endProgress()
			if err != nil {
				return err
			}
			return a.printSaved(saved)
		},
	}
	snapshotDir(c, &dir)
	return c
}
