package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"muster/broker"
	"muster/broker/api"
)

func applyCommand(o *options) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "create or change tags, policies, repos, ramdisks, hooks and handoffs; the same again changes nothing",
		Example: "  muster apply -f rack.yaml\n  muster apply -f policies/",
		Args:    exactly(0, "-f FILE only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := readDocuments(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			results, err := c.Apply(cmd.Context(), data)
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), results, func(w io.Writer) {
				for _, r := range results {
					row(w, strings.ToLower(r.Kind)+"/"+r.Name, r.Result)
				}
			})
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file, directory, or - for standard input")
	return c
}

// readDocuments reads one file, or all YAML and JSON files of a directory in the order of their names.
func readDocuments(name string, stdin io.Reader) ([]byte, error) {
	if name == "" {
		return nil, usageError{fmt.Errorf("say which file: apply -f FILE")}
	}
	if name == "-" {
		return io.ReadAll(io.LimitReader(stdin, broker.MaxDocumentBytes+1))
	}
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	if !st.IsDir() {
		return os.ReadFile(name)
	}
	var all []byte
	for _, pattern := range []string{"*.yaml", "*.yml", "*.json"} {
		names, err := filepath.Glob(filepath.Join(name, pattern))
		if err != nil {
			return nil, fmt.Errorf("read documents: %w", err)
		}
		slices.Sort(names)
		for _, f := range names {
			b, err := os.ReadFile(f)
			if err != nil {
				return nil, fmt.Errorf("read documents: %w", err)
			}
			all = append(append(all, "\n---\n"...), b...)
		}
	}
	return all, nil
}

func deleteCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "delete KIND NAME", Short: "delete a tag, policy, repo or ramdisk that nothing needs",
		Example: "  muster delete policy old-rack\n  muster delete ramdisk gpu", Args: exactly(2, "KIND NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			return c.Do(cmd.Context(), http.MethodDelete, "/api/v1/objects/"+kind+"/"+url.PathEscape(args[1]), nil, "", nil)
		},
	}
}

func repoCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "repo", Short: "what is installed onto nodes"}
	c.AddCommand(&cobra.Command{
		Use: "import NAME IMAGE", Short: "store a raw disk image (plain, zstd or gzip) and name it",
		Example: "  muster repo import debian-12 debian-12.img.zst", Args: exactly(2, "NAME IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			r, err := importImage(cmd.Context(), c, args[0], args[1], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), r, func(w io.Writer) {
				row(w, "repo/"+r.Name, r.Compression, bytesText(r.SizeBytes), "unpacked "+bytesText(r.RawBytes), "sha256 "+r.SHA256)
			})
		},
	})
	return c
}

// importImage sends an image, with a progress bar on a terminal.
func importImage(ctx context.Context, c *api.Client, name, path string, progress io.Writer) (*broker.Repo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("import image: %w", err)
	}
	if !isTerminal(progress) {
		return c.ImportImage(ctx, name, f)
	}
	p := mpb.NewWithContext(ctx, mpb.WithOutput(progress), mpb.WithWidth(40))
	bar := p.AddBar(st.Size(), mpb.PrependDecorators(decor.Name("import "+name+" ")), mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))
	r, err := c.ImportImage(ctx, name, bar.ProxyReader(f))
	if err != nil {
		bar.Abort(false)
	}
	p.Wait()
	return r, err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// kindOf reads tag, tags, Tag, ...
func kindOf(s string) (string, error) {
	switch strings.TrimSuffix(strings.ToLower(s), "s") {
	case "tag":
		return broker.KindTag, nil
	case "policy", "policie":
		return broker.KindPolicy, nil
	case "repo":
		return broker.KindRepo, nil
	case "ramdisk":
		return broker.KindRamdisk, nil
	case "hook":
		return broker.KindHook, nil
	case "handoff":
		return broker.KindHandoff, nil
	}
	return "", usageError{fmt.Errorf("kind %q: want nodes, tags, policies, repos, ramdisks, hooks, handoffs or events", s)}
}
