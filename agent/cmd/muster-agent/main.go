// Muster-agent reports what this machine is to a muster broker, and obeys its orders.
//
// Usage:
//
//	muster-agent                 the life of a discovery ramdisk; started by u-root's init as uinit, never returns
//	muster-agent facts [flags]   print the facts of this machine
//	muster-agent --version
//
// Flags of facts:
//
//	-o FORM       json (the default), yaml, table, facter (the flat names of Facter 2) or ironic (inspection data)
//	--root DIR    read /proc, /sys, /dev and /etc/muster/facts.d below DIR
//	--programs    run the programs of that facts.d, too; without --root they always run
//	--only A,B    run these collectors only
//	--errors      print also what could not be read, the state, the hashes, and how long each collector took; ironic has
//	              room for errors only
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(status(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// errUsage is a command line that was explained already.
var errUsage = errors.New("usage")

// status prints an error and gives the exit status: 0 done, 1 failed, 2 usage.
func status(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintf(stderr, "muster-agent: %v\n", err)
	return 1
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return live(ctx, stdout)
	}
	switch args[0] {
	case "loop":
		return loop(ctx, stdout)
	case "facts":
		return printFacts(ctx, args[1:], stdout, stderr)
	case "--version", "-version", "version":
		return printVersion(stdout)
	case "--help", "-help", "-h", "help":
		fmt.Fprintln(stdout, usage)
		return nil
	}
	fmt.Fprintf(stderr, "muster-agent: there is no command %q\n%s\n", args[0], usage)
	return errUsage
}

const usage = `usage: muster-agent                                                            (as uinit of a discovery ramdisk)
       muster-agent facts [-o json|yaml|table|facter|ironic] [--root DIR] [--programs] [--only A,B] [--errors]
       muster-agent --version`
