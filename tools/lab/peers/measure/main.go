// Command measure runs the inventory tools in turns on the machine it is on and prints the record.
//
// It is a program of its own because of its size: the kernel counts the memory of the parent into the peak of a child
// until that has called execve, so the parent must be smaller than all it measures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"muster/tools/lab/peers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "measure: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, said io.Writer) error {
	fs := flag.NewFlagSet("measure", flag.ContinueOnError)
	rounds := fs.Int("rounds", 5, "count that many runs of each tool")
	budget := fs.Duration("budget", 30*time.Second, "run a tool no more that has taken this long in all")
	tools := fs.String("tools", "", "run these tools only: `A,B`")
	out := fs.String("o", "/dev/stdout", "write the record to `FILE`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	r, err := peers.Measure(ctx, *rounds, *budget, strings.FieldsFunc(*tools, func(r rune) bool { return r == ',' }), func(line string) { fmt.Fprintln(said, line) })
	if err != nil {
		return err
	}
	f, err := os.OpenFile(*out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(r.Encode(f), f.Close())
}
