//go:build ignore

// Show prints the facts of this machine, or of the machine below a directory: go run show.go [DIR].
package main

import (
	"context"
	"encoding/json"
	"os"

	"muster/agent/probe"
)

func main() {
	var o probe.Options
	if len(os.Args) > 1 {
		o.Root = os.Args[1]
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(probe.Run(context.Background(), o)); err != nil {
		os.Exit(1)
	}
}
