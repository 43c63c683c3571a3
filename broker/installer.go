package broker

import (
	"context"
	"fmt"

	"muster/boot"
)

// maxLogs is how much an install may tell before its words are let fall: whoever has its token can call without end.
const maxLogs = 500

// severities are how a log line counts.
var severities = map[string]bool{"info": true, "warn": true, "error": true}

// LogInstall takes what an installer says, a line or the end of a file. It is of the install under way, in any stage of
// it; after that it does no harm.
func (b *Broker) LogInstall(ctx context.Context, token, stage, severity, text string) error {
	if !severities[severity] {
		severity = "info"
	}
	text = printableLines(text)
	return b.heardOf(ctx, token, stage, func(n *Node) ([]Event, error) {
		n.Logs++
		switch {
		case text == "" || n.Logs > maxLogs:
			return nil, nil
		case n.Logs == maxLogs:
			text = fmt.Sprintf("%d lines were told; the rest of this install's is not kept", maxLogs)
		}
		n.LastLog = lastLine(text)
		e := Event{Kind: EventLog, Who: "installer", Text: lastLine(text), Data: map[string]string{"severity": severity, "stage": stage}}
		if text != e.Text {
			e.Data["log"] = text
		}
		return []Event{e}, nil
	})
}

// PhaseInstall takes how far an installer is.
func (b *Broker) PhaseInstall(ctx context.Context, token, phase string) error {
	return b.heardOf(ctx, token, "", func(n *Node) ([]Event, error) {
		if n.Logs++; n.Logs > maxLogs || n.Phase == phase {
			return nil, nil
		}
		n.Phase = phase
		return []Event{{Kind: EventPhase, Who: "installer", Text: phase, Data: map[string]string{"phase": phase}}}, nil
	})
}

// FailInstall ends an install of which the installer says that it can not be.
func (b *Broker) FailInstall(ctx context.Context, token, stage, why string) error {
	return b.heardOf(ctx, token, stage, func(n *Node) ([]Event, error) {
		if n.State != WaitCallBack {
			return nil, nil
		}
		if why = boot.Printable(why); why == "" {
			why = "the installer gave up"
		}
		return b.failNode(n, "installer", "stage "+stage+": "+why)
	})
}

// heardOf lets an installer with a report token change its node. stage, if any, must be the one under way.
func (b *Broker) heardOf(ctx context.Context, token, stage string, f func(*Node) ([]Event, error)) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := b.ofInstall(tx, token)
		if err != nil {
			return nil, err
		}
		s := currentStage(n, b.cat.Load().taskOf(n))
		if s == nil || stage != "" && s.Name != stage {
			return nil, errDenied
		}
		events, err := f(n)
		if err != nil {
			return nil, err
		}
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, events...)
	})
}
