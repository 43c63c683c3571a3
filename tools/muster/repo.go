package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

func repoCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "repo", Short: "what is installed onto nodes: disk images, install trees, mirrors"}
	c.AddCommand(repoImportCommand(o), repoListCommand(o), repoShowCommand(o), repoVerifyCommand(o), repoDeleteCommand(o))
	return c
}

func repoListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list repos (muster get repos)",
		Example: "  muster repo list\n  muster repo list -o json", Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			return getObjects(cmd, o, c, []string{"repos"})
		},
	}
}

// repoRow is one repo in a list.
func repoRow(w io.Writer, d json.RawMessage) bool {
	var r broker.Repo
	if json.Unmarshal(d, &r) != nil {
		return false
	}
	size := "-"
	if r.SizeBytes > 0 {
		size = bytesText(r.SizeBytes)
	}
	row(w, r.Name, repoForm(r), orDash(strings.TrimSpace(r.OS+" "+r.Version)), orDash(r.Arch), size, cmp.Or(r.SHA256, r.Tree, r.URL))
	return true
}

// repoForm says which of the three a repo is.
func repoForm(r broker.Repo) string {
	switch {
	case r.Tree != "":
		return "tree"
	case r.URL != "":
		return "mirror"
	}
	return "image"
}

func repoShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "all about one repo, and where machines find its files",
		Example: "  muster repo show rocky-9\n  muster repo show rocky-9 -o yaml", Args: exactly(1, "NAME"), ValidArgsFunction: o.completeRepo,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			r, err := c.Repo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), r, func(w io.Writer) { repoTable(w, r) })
		},
	}
}

// repoTable prints what there is of a repo.
func repoTable(w io.Writer, r broker.Repo) {
	kernel, initrds := r.Boot()
	for _, x := range []struct{ what, is string }{
		{"repo", r.Name}, {"form", repoForm(r)}, {"os", strings.TrimSpace(r.OS + " " + r.Version)}, {"arch", r.Arch}, {"task", r.Task},
		{"image", r.SHA256}, {"tree", r.Tree}, {"iso", r.ISO}, {"url", r.URL},
	} {
		if x.is != "" {
			row(w, x.what, x.is)
		}
	}
	if r.Files > 0 {
		row(w, "files", fmt.Sprintf("%d, %s", r.Files, bytesText(r.SizeBytes)))
	}
	if r.SHA256 == "" {
		row(w, "served", "/repo/"+r.Name+"/")
	}
	if kernel != "" {
		row(w, "kernel", "/"+kernel)
	}
	for _, i := range initrds {
		row(w, "initrd", "/"+i)
	}
	for _, e := range r.Editions {
		row(w, "edition", e)
	}
}

// repoVerified is the answer of verify.
type repoVerified struct {
	Name   string   `json:"name"`
	Whole  bool     `json:"whole"`
	Spoilt []string `json:"spoilt,omitempty"`
}

func repoVerifyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "verify NAME", Short: "have the server read again all that it stores of a repo",
		Long: "verify compares every file with its sha256. A file of an install tree that is not what it was is taken away, so that\n" +
			"no machine installs it, and muster repo import sends it again. Exit status 1: something is spoilt.",
		Example: "  muster repo verify rocky-9", Args: exactly(1, "NAME"), ValidArgsFunction: o.completeRepo,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			b, read := newBars(cmd, "verify "+args[0]), int64(0)
			defer b.end()
			spoilt, err := c.VerifyRepo(cmd.Context(), args[0], func(v api.Verified) {
				b.grow(v.Bytes - b.total)
				b.add(v.Read - read)
				read = v.Read
			})
			if err != nil {
				return err
			}
			b.end()
			v := repoVerified{args[0], len(spoilt) == 0, spoilt}
			if err := o.show(cmd.OutOrStdout(), v, func(w io.Writer) { verifiedTable(w, v, read) }); err != nil || v.Whole {
				return err
			}
			return fmt.Errorf("%d files of repo %s are spoilt: import it again", len(spoilt), args[0])
		},
	}
}

func verifiedTable(w io.Writer, v repoVerified, read int64) {
	if v.Whole {
		row(w, "repo/"+v.Name, "whole", bytesText(read)+" read")
	}
	for _, p := range v.Spoilt {
		row(w, "repo/"+v.Name, "spoilt", p)
	}
}

func repoDeleteCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "delete a repo that no policy names; its files go after a day",
		Example: "  muster repo delete rocky-8", Args: exactly(1, "NAME"), ValidArgsFunction: o.completeRepo,
		RunE: func(cmd *cobra.Command, args []string) error { return deleteObject(cmd, o, broker.KindRepo, args[0]) },
	}
}
