package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/broker/api"
)

func hookCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "hook", Short: "what hooks gave up, and trying them"}
	c.AddCommand(hookDeadCommand(o), hookRetryCommand(o), hookTryCommand(o))
	return c
}

func hookDeadCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "dead NAME", Short: "list the events that a hook gave up", Example: "  muster hook dead tell-cmdb", Args: exactly(1, "NAME"), ValidArgsFunction: o.completeHook,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			var list []broker.DeadLetter
			if err := c.Get(cmd.Context(), hookURL(args[0], "dead"), &list); err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), list, func(w io.Writer) {
				row(w, "SEQ", "EVENT", "NODE", "GIVEN UP", "ATTEMPTS", "ERROR")
				for _, l := range list {
					row(w, l.Event.Seq, l.Name, orDash(l.Event.Node), ago(l.At), l.Attempts, l.Error)
				}
			})
		},
	}
}

func hookRetryCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "retry NAME [SEQ]", Short: "tell a hook again what it gave up: one event, or all",
		Example: "  muster hook retry tell-cmdb\n  muster hook retry tell-cmdb 4711", Args: between(1, 2, "NAME, and maybe SEQ"), ValidArgsFunction: o.completeHook,
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]int64{}
			if len(args) == 2 {
				seq, err := strconv.ParseInt(args[1], 10, 64)
				if err != nil || seq < 1 {
					return usageError{fmt.Errorf("seq %q: want the number that muster hook dead shows", args[1])}
				}
				body["seq"] = seq
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			var r api.Retried
			if err := c.Post(cmd.Context(), hookURL(args[0], "retry"), body, &r); err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), r, func(w io.Writer) { row(w, "hook/"+args[0], fmt.Sprintf("%d to be tried again", r.Letters)) })
		},
	}
}

func hookTryCommand(o *options) *cobra.Command {
	var event string
	c := &cobra.Command{
		Use: "try NAME NODE", Short: "call a hook once, now, with an event that never was, and show what it answers",
		Example: "  muster hook try tell-cmdb node1 --event node.active", Args: exactly(2, "NAME NODE"), ValidArgsFunction: o.completeHookNode,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			var t broker.HookTrial
			if err := c.Post(cmd.Context(), hookURL(args[0], "try"), map[string]string{"event": event, "node": args[1]}, &t); err != nil {
				return err
			}
			err = o.show(cmd.OutOrStdout(), t, func(w io.Writer) {
				row(w, "message", t.ID)
				row(w, "took", fmt.Sprintf("%d ms", t.TookMS))
				row(w, "answer", orDash(cmp.Or(t.Note, t.Answer)))
			})
			if err == nil && t.Error != "" {
				err = errors.New(t.Error)
			}
			return err
		},
	}
	c.Flags().StringVar(&event, "event", "node.active", "one of: "+strings.Join(broker.HookEvents(), ", "))
	complete(c, "event", broker.HookEvents()...)
	return c
}

func hookURL(name, what string) string { return "/api/v1/hooks/" + url.PathEscape(name) + "/" + what }

// hooks reads all hooks, and how they fare.
func hooks(cmd *cobra.Command, c *api.Client) (list []broker.HookStatus, err error) {
	return list, c.Get(cmd.Context(), "/api/v1/hooks", &list)
}

func getHooks(cmd *cobra.Command, o *options, c *api.Client) error {
	list, err := hooks(cmd, c)
	if err != nil {
		return err
	}
	shown := any(list)
	if o.output == "name" {
		var all []broker.Hook
		for _, h := range list {
			all = append(all, h.Hook)
		}
		shown = all
	}
	return o.show(cmd.OutOrStdout(), shown, func(w io.Writer) {
		row(w, "HOOK", "ON", "CALLS", "SIGNED", "TOLD", "DEAD", "UNDECIDED", "FAILING")
		for _, h := range list {
			row(w, h.Hook.Name, strings.Join(h.Hook.On, ","), calls(h.Hook), yesNo(h.Hook.Secret != ""), h.Delivered, h.Dead, h.Undecided, orDash(failingText(h.Failing)))
		}
	})
}

func calls(h broker.Hook) string { return cmp.Or(h.URL, strings.Join(h.Command, " ")) }

func failingText(f *broker.HookFailure) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s of %s, %d times, next in %d s: %s", f.Event, f.Node, f.Attempts, max(0, int(time.Until(f.Next).Seconds())), f.Error)
}

func describeHook(cmd *cobra.Command, o *options, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	list, err := hooks(cmd, c)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(h broker.HookStatus) bool { return h.Hook.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no hook %q", name)
	}
	h := list[i]
	return o.show(cmd.OutOrStdout(), h, func(w io.Writer) {
		row(w, "hook", h.Hook.Name)
		row(w, "on", strings.Join(h.Hook.On, ", "))
		row(w, "calls", calls(h.Hook))
		row(w, "where", orDash(string(h.Hook.Where)))
		row(w, "secret", orDash(h.Hook.Secret))
		row(w, "told", h.Delivered, fmt.Sprintf("all up to event %d", h.After))
		row(w, "dead", h.Dead)
		row(w, "undecided", h.Undecided, h.UndecidedWhy)
		row(w, "failing", orDash(failingText(h.Failing)))
	})
}
