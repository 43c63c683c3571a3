package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"muster/broker/api"
)

// version is set by the Makefile.
var version = "dev"

// options are the flags that every command has.
type options struct {
	server string
	token  string
	ca     string
	output string
}

func rootCommand() *cobra.Command {
	o := &options{}
	root := &cobra.Command{
		Use:   "muster",
		Short: "turn blank machines into known, installed, recorded ones",
		Long: "muster boots machines over the network into a small ramdisk that reports what they are, sorts them by\n" +
			"tags, and installs them by policies. muster serve is the server; the other commands talk to it.\n\n" +
			"MUSTER_SERVER is the server's URL, or unix:PATH of its socket on the same host; MUSTER_TOKEN the operator's token;\n" +
			"MUSTER_CA the CA to trust over https, as muster serve prints it (64 hexadecimal digits) or as a PEM file.",
		Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&o.server, "server", envOr("MUSTER_SERVER", "unix:/var/lib/muster/muster.sock"), "URL of the server, or unix:PATH")
	root.PersistentFlags().StringVarP(&o.output, "output", "o", "table", "table, wide (nothing cut), json, yaml or name; jsonl for events, ansible for nodes")
	complete(root, "output", "table", "wide", "json", "yaml", "name", "jsonl", "ansible")
	o.token, o.ca = os.Getenv("MUSTER_TOKEN"), os.Getenv("MUSTER_CA")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serveCommand(), applyCommand(o), planCommand(o), getCommand(o), describeCommand(o), explainCommand(o), timelineCommand(o),
		renderCommand(o), nodeCommand(o), repoCommand(o), taskCommand(o), deleteCommand(o), ramdiskCommand(o), dhcpConfigCommand(""), labCommand(),
		doctorCommand(o), eventsCommand(o), tokenCommand(o), hookCommand(o), backupCommand(), restoreCommand())
	return root
}

// finish goes through all commands once their output is set, which cobra's own completion keeps from then on. It makes a wrong word behind a command that only groups others a wrong call: cobra shows help and is content.
// Commands of cobra's own get the example that each of ours has.
func finish(c *cobra.Command) {
	if !c.HasParent() {
		c.InitDefaultCompletionCmd()
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usageError{fmt.Errorf("unknown command %q for %s: see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())}
		}
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if c.HasParent() && c.Parent().Name() == "completion" {
		c.Example = map[string]string{
			"bash":       "  muster completion bash > /etc/bash_completion.d/muster",
			"zsh":        "  muster completion zsh > /usr/share/zsh/site-functions/_muster",
			"fish":       "  muster completion fish > /etc/fish/completions/muster.fish",
			"powershell": "  muster completion powershell | Out-String | Invoke-Expression",
		}[c.Name()]
	}
	if c.Name() == "completion" {
		c.Example = "  source <(muster completion bash)"
	}
	for _, sub := range c.Commands() {
		finish(sub)
	}
}

// connect makes a client for the server that was asked for.
func (o *options) connect() (*api.Client, error) {
	c, err := api.NewClient(o.server, o.token, o.ca)
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// between is cobra.RangeArgs that counts as a wrong call.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("want %s, got %d arguments", what, len(args))}
		}
		return nil
	}
}

// exactly is cobra.ExactArgs that counts as a wrong call.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("want %s, got %d arguments", what, len(args))}
		}
		return nil
	}
}
