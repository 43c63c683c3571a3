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
	root.PersistentFlags().StringVarP(&o.output, "output", "o", "table", "table, json or yaml")
	o.token, o.ca = os.Getenv("MUSTER_TOKEN"), os.Getenv("MUSTER_CA")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(serveCommand(), applyCommand(o), getCommand(o), describeCommand(o), explainCommand(o), timelineCommand(o),
		renderCommand(o), nodeCommand(o), repoCommand(o), deleteCommand(o), ramdiskCommand(o), dhcpConfigCommand(""), labCommand(),
		doctorCommand(o), hookCommand(o))
	return root
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

// exactly is cobra.ExactArgs that counts as a wrong call.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("want %s, got %d arguments", what, len(args))}
		}
		return nil
	}
}
