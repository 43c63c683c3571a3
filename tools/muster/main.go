// Command muster is the operator's binary: the server, and everything that is asked of it or built for it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// usageError is a wrong call: exit status 2.
type usageError struct{ error }

// run is the whole program: 0 done, 1 failed, 2 usage; a command may end with a status of its own.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	finish(root)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var status statusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "muster: %v\n", err)
		return 2
	case errors.As(err, &status):
		if status.error != nil {
			fmt.Fprintf(errOut, "muster: %v\n", err)
		}
		return status.code
	}
	fmt.Fprintf(errOut, "muster: %v\n", err)
	return 1
}
