package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/broker/store"
)

func backupCommand() *cobra.Command {
	return storeCommand(&cobra.Command{
		Use: "backup FILE", Short: "write nodes, objects and journal into a file, while the server runs",
		Long: "backup reads the store itself, on the server's host or by the PostgreSQL URL. FILE is lines of JSON with a sum at the\n" +
			"end; - is standard output. It holds no secret in clear: those of hooks and handoffs are sealed with server.key, without\n" +
			"which they must be applied again. Back up server.key, token.sha256 and tls/ in --data beside it, not with it, and the\n" +
			"images and trees, which muster repo import makes again.",
		Example: "  muster backup /backup/muster-$(date +%F).jsonl\n  muster backup --config /etc/muster.yaml - | zstd > muster.jsonl.zst",
	}, func(cmd *cobra.Command, cfg serveConfig, name string) error {
		s, err := cfg.storeToRead(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		back := func(w io.Writer) error { return s.Backup(cmd.Context(), w, time.Now()) }
		if name == "-" {
			return back(cmd.OutOrStdout())
		}
		return writeWhole(name, back)
	})
}

func restoreCommand() *cobra.Command {
	return storeCommand(&cobra.Command{
		Use: "restore FILE", Short: "fill a new store from a backup, before the server is started on it",
		Long: "restore takes the whole backup or, when it is cut or changed or the store is not empty, nothing. A backup of SQLite\n" +
			"restores into PostgreSQL and the other way.",
		Example: "  muster restore muster.jsonl --data /var/lib/muster\n  muster restore muster.jsonl --store postgres://muster@db/muster",
	}, func(cmd *cobra.Command, cfg serveConfig, name string) error {
		var in io.Reader = cmd.InOrStdin()
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer f.Close()
			in = f
		}
		s, err := cfg.openStore(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Restore(cmd.Context(), in)
	})
}

// storeCommand gives a command that works on the store itself the server's flags that say where it is.
func storeCommand(c *cobra.Command, run func(*cobra.Command, serveConfig, string) error) *cobra.Command {
	var cfg serveConfig
	var file string
	serveFlags(c, &cfg, &file)
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Name != "config" && f.Name != "data" && f.Name != "store" })
	c.Args = exactly(1, "FILE")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := readConfig(cmd, file, &cfg); err != nil {
			return err
		}
		return run(cmd, cfg, args[0])
	}
	return c
}

func (cfg serveConfig) openStore(ctx context.Context) (*store.Store, error) {
	if cfg.Store == "" {
		return store.Open(cfg.Data)
	}
	return store.Connect(ctx, cfg.Store)
}

func (cfg serveConfig) storeToRead(ctx context.Context) (*store.Store, error) {
	if cfg.Store == "" {
		return store.OpenToRead(cfg.Data)
	}
	return store.ConnectToRead(ctx, cfg.Store)
}

// writeWhole writes a file that has its name only when it is whole and on disk.
func writeWhole(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
