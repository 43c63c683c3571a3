package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"muster/broker"
)

func applyCommand(o *options) *cobra.Command {
	var file string
	var prune, dry bool
	c := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "create or change tags, policies, repos, ramdisks, hooks, handoffs and tasks; the same again changes nothing",
		Example: "  muster apply -f rack.yaml\n  muster apply -f policies/ --prune --dry-run",
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
			if dry {
				return plan(cmd, o, c, data, prune)
			}
			f := c.Apply
			if prune {
				f = c.Replace
			}
			results, err := f(cmd.Context(), data)
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), results, func(w io.Writer) { appliedRows(w, results) })
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file, directory, or - for standard input")
	c.Flags().BoolVar(&prune, "prune", false, "delete the tags, policies, hooks and handoffs that are not in the files")
	c.Flags().BoolVar(&dry, "dry-run", false, "change nothing; say what would change (muster plan)")
	return c
}

func appliedRows(w io.Writer, results []broker.Applied) {
	for _, r := range results {
		row(w, strings.ToLower(r.Kind)+"/"+r.Name, r.Result)
		for _, warning := range r.Warnings {
			row(w, "", "warning: "+warning)
		}
	}
}

// readDocuments reads one file, or all YAML and JSON files of a directory in the order of their names.
func readDocuments(name string, stdin io.Reader) ([]byte, error) {
	if name == "" {
		return nil, usageError{fmt.Errorf("say which file: -f FILE")}
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
		Use: "delete KIND NAME", Short: "delete a tag, policy, repo, ramdisk, hook, handoff or task that nothing needs",
		Example: "  muster delete policy old-rack\n  muster delete ramdisk gpu", Args: exactly(2, "KIND NAME"), ValidArgsFunction: o.completeKindName(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, err := kindOf(args[0])
			if err != nil {
				return err
			}
			return deleteObject(cmd, o, kind, args[1])
		},
	}
}

func deleteObject(cmd *cobra.Command, o *options, kind, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	if err := c.Do(cmd.Context(), http.MethodDelete, "/api/v1/objects/"+kind+"/"+url.PathEscape(name), nil, "", nil); err != nil {
		return err
	}
	gone := broker.Applied{Kind: kind, Name: name, Result: "deleted"}
	return o.show(cmd.OutOrStdout(), gone, func(w io.Writer) { row(w, strings.ToLower(kind)+"/"+name, gone.Result) })
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// kindOf reads tag, tags, Tag, ...
func kindOf(s string) (string, error) {
	word := strings.ToLower(s)
	var all []string
	for _, k := range broker.Kinds() {
		one := strings.ToLower(k)
		if word == one || word == plural(one) {
			return k, nil
		}
		all = append(all, plural(one))
	}
	return "", usageError{fmt.Errorf("kind %q: want nodes, %s or events", s, strings.Join(all, ", "))}
}

// plural is how a kind is called in lists: policies, tags.
func plural(kind string) string {
	if stem, ok := strings.CutSuffix(kind, "y"); ok {
		return stem + "ies"
	}
	return kind + "s"
}
