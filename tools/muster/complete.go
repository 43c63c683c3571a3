package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

// completionPatience is how long a shell waits for names when somebody presses TAB.
const completionPatience = 2 * time.Second

// complete gives a flag's words.
func complete(c *cobra.Command, flag string, words ...string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is not there
	}
}

// completeFlag gives the names of a kind's objects.
func (o *options) completeFlag(c *cobra.Command, flag, kind string) {
	err := c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return o.ask(cmd, func(ctx context.Context, c *api.Client) []string { return objectNames(ctx, c, kind) }), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is not there
	}
}

// ask asks the server; without one there is nothing to complete.
func (o *options) ask(cmd *cobra.Command, f func(context.Context, *api.Client) []string) []string {
	c, err := o.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	return f(ctx, c)
}

// completeNode completes the last term of a range: names, and tags after an at sign.
func (o *options) completeNode(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	done, term := "", word
	if i := strings.LastIndexAny(word, ",@"); i >= 0 {
		done, term = word[:i+1], word[i+1:]
	}
	if strings.HasPrefix(term, "-") {
		done, term = done+"-", term[1:]
	}
	names := o.ask(cmd, func(ctx context.Context, c *api.Client) []string {
		if strings.HasSuffix(done, "@") {
			return objectNames(ctx, c, broker.KindTag)
		}
		return nodeNames(ctx, c)
	})
	var fits []string
	for _, n := range names {
		if strings.HasPrefix(n, term) {
			fits = append(fits, done+n)
		}
	}
	return fits, cobra.ShellCompDirectiveNoFileComp
}

// nodeNames are the hostnames, and the ids of nodes that have none, of one page.
func nodeNames(ctx context.Context, c *api.Client) (names []string) {
	page, err := c.Page(ctx, broker.NodeQuery{Limit: broker.MaxPage})
	if err != nil {
		return nil
	}
	for _, n := range page.Nodes {
		if n.Hostname != "" {
			names = append(names, n.Hostname)
		}
		names = append(names, n.ID)
	}
	return names
}

func objectNames(ctx context.Context, c *api.Client, kind string) (names []string) {
	var docs []json.RawMessage
	if c.Get(ctx, "/api/v1/objects/"+kind, &docs) != nil {
		return nil
	}
	for _, d := range docs {
		var o struct{ Name string }
		if json.Unmarshal(d, &o) == nil {
			names = append(names, o.Name)
		}
	}
	return names
}

// completeHook completes the name of a hook.
func (o *options) completeHook(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.completeOne(cmd, args, broker.KindHook)
}

// completeRepo completes the name of a repo.
func (o *options) completeRepo(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return o.completeOne(cmd, args, broker.KindRepo)
}

// completeOne completes the name of an object where it is the only word.
func (o *options) completeOne(cmd *cobra.Command, args []string, kind string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return o.ask(cmd, func(ctx context.Context, c *api.Client) []string { return objectNames(ctx, c, kind) }), cobra.ShellCompDirectiveNoFileComp
}

// completeHookNode completes the name of a hook, and then a node.
func (o *options) completeHookNode(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return o.completeNode(cmd, args[1:], word)
	}
	return o.completeHook(cmd, args, word)
}

// completeKindName completes a kind, and then a name of that kind.
func (o *options) completeKindName(one bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return kindNames(one), cobra.ShellCompDirectiveNoFileComp
		case len(args) == 1 && (isNodes(args[0]) || args[0] == "events"):
			return o.completeNode(cmd, nil, word)
		case len(args) == 1:
			kind, err := kindOf(args[0])
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return o.ask(cmd, func(ctx context.Context, c *api.Client) []string { return objectNames(ctx, c, kind) }), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// kindNames are the words that get and describe take.
func kindNames(one bool) []string {
	words := []string{"node"}
	for _, k := range broker.Kinds() {
		words = append(words, strings.ToLower(k))
	}
	if one {
		return words
	}
	for i, w := range words {
		words[i] = plural(w)
	}
	return append(words, "events")
}
