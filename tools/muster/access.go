package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"muster/broker"
)

func tokenCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "who may call the server, and what they may do",
		Long: "token makes and ends the tokens of operators. A reader sees everything but secrets; an operator acts on nodes and\n" +
			"changes tags, policies, repos and ramdisks; an admin makes tokens and hooks. The journal names who did what:\n" +
			"muster get events --who NAME. The token that muster serve showed at its first start is an admin's.",
		Example: "  muster token create alice --role operator"}
	c.AddCommand(tokenCreateCommand(o), &cobra.Command{
		Use: "list", Short: "the tokens that there are", Example: "  muster token list", Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), list, func(w io.Writer) { tokensTable(w, list, time.Now()) })
		},
	}, &cobra.Command{
		Use: "revoke NAME", Short: "end a token: its next call is refused", Example: "  muster token revoke alice", Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := o.connect()
			if err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			gone := broker.Applied{Kind: "Token", Name: args[0], Result: "revoked"}
			return o.show(cmd.OutOrStdout(), gone, func(w io.Writer) { row(w, "token/"+args[0], gone.Result) })
		},
	})
	return c
}

func tokenCreateCommand(o *options) *cobra.Command {
	var role, expires string
	c := &cobra.Command{
		Use: "create NAME --role ROLE", Short: "make a token for an operator; it is shown only now",
		Example: "  muster token create alice --role operator\n  muster token create wallboard --role reader --expires 90d",
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := moment(expires, time.Now(), 1)
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), args[0], broker.Role(role), until)
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), t, func(w io.Writer) {
				row(w, "token/"+t.Name, string(t.Role), untilText(t.Expires, time.Now()))
				row(w, "MUSTER_TOKEN="+t.Secret)
			})
		},
	}
	c.Flags().StringVar(&role, "role", string(broker.Reader), "reader, operator or admin")
	c.Flags().StringVar(&expires, "expires", "", "when it ends: 24h, 90d or 2027-01-31 (default: never)")
	complete(c, "role", "reader", "operator", "admin")
	return c
}

func tokensTable(w io.Writer, list []broker.Token, now time.Time) {
	row(w, "TOKEN", "ROLE", "ENDS", "MADE", "BY")
	for _, t := range list {
		row(w, t.Name, string(t.Role), untilText(t.Expires, now), t.Created.Local().Format("2006-01-02"), t.By)
	}
}

func untilText(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case !t.After(now):
		return "ended " + t.Local().Format("2006-01-02 15:04")
	}
	return t.Local().Format("2006-01-02 15:04")
}
