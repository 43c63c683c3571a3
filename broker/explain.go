package broker

import (
	"context"
	"fmt"
)

// An Explanation says why a node is where it is: each tag with what its rule saw, each policy with the first thing
// that speaks against it, and the next step.
type Explanation struct {
	Node     string           `json:"node"`
	State    State            `json:"state"`
	Since    string           `json:"since"`
	Waiting  string           `json:"waiting,omitempty"`
	Tags     []TagExplanation `json:"tags"`
	Policies []PolicyLine     `json:"policies"`
	Bound    string           `json:"bound,omitempty"`
	Ramdisks []RamdiskLine    `json:"ramdisks"`
	Next     Decision         `json:"next"`
}

// TagExplanation is one tag on one node.
type TagExplanation struct {
	Name    string     `json:"name"`
	Rule    string     `json:"rule"`
	Verdict string     `json:"verdict"`
	Cause   string     `json:"cause,omitempty"`
	Parts   []RulePart `json:"parts,omitempty"`
}

// RulePart is a part of a rule and its value on the node.
type RulePart struct {
	Expr  string `json:"expr"`
	Value string `json:"value"`
}

// Explain runs the same decisions as a boot does, and keeps their reasons.
func (b *Broker) Explain(ctx context.Context, name string) (*Explanation, error) {
	var x *Explanation
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err := lookup(tx, name)
		if err != nil {
			return err
		}
		cat := b.cat.Load()
		x = &Explanation{Node: n.Title(), State: n.State, Since: n.Since.Format("2006-01-02 15:04:05"), Waiting: waiting(n), Bound: n.Policy}
		x.Next, _, x.Ramdisks = b.next(n, clientOf(n))
		if x.Tags, err = cat.explainTags(n); err != nil {
			return err
		}
		cands, err := cat.candidates(n, b.now(), boundIn(tx))
		if err != nil {
			return err
		}
		x.Policies = explainPolicies(n, cands)
		return nil
	})
	return x, err
}

// explainPolicies asks the policies as they would be asked now. For the policy the node is bound to, what a binding
// checks only once (room, protection, an empty disk) is behind it.
func explainPolicies(n *Node, cands []candidate) []PolicyLine {
	if n.Policy == "" {
		_, _, lines := choose(n, cands)
		return lines
	}
	var lines []PolicyLine
	for i := range cands {
		p := &cands[i]
		switch no := p.wants(n); {
		case p.Name == n.Policy && no == "":
			lines = append(lines, PolicyLine{Policy: p.Name, Wins: true, Why: "bound: " + p.because(n)})
		case p.Name == n.Policy:
			lines = append(lines, PolicyLine{Policy: p.Name, Wins: true, Why: "bound; it would not be taken today: " + no})
		case no != "":
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "passed over: " + no})
		default:
			lines = append(lines, PolicyLine{Policy: p.Name, Why: "not asked: the node is bound to policy " + n.Policy})
		}
	}
	return lines
}

func (c *catalog) explainTags(n *Node) ([]TagExplanation, error) {
	env, err := c.environment(n, nil)
	if err != nil {
		return nil, err
	}
	list := []TagExplanation{}
	for _, t := range c.tags {
		r := c.programs[t.Name].explain(env)
		x := TagExplanation{Name: t.Name, Rule: string(t.Rule), Verdict: r.Verdict.String(), Cause: r.Cause}
		for _, p := range r.Parts {
			x.Parts = append(x.Parts, RulePart{p.Expr, p.Value})
		}
		list = append(list, x)
	}
	return list, nil
}

// waiting says what the node waits for now, in words.
func waiting(n *Node) string {
	switch {
	case n.Hold != "":
		return "an operator's release"
	case n.Conflict != "":
		return "an operator to resolve: " + n.Conflict
	case n.State == Active:
		return ""
	case n.Ahead && n.LastSeen.IsZero():
		return "the machine, which was never seen, to boot"
	case !n.Facts.Known():
		return "the agent's first check-in"
	case n.State == InspectWait:
		return "the machine to boot the ramdisk, at the latest at " + n.Deadline.Format("15:04:05")
	case n.State == WaitCallBack && !n.Queued.IsZero():
		return fmt.Sprintf("its turn at repo %s, since %s", n.Repo, n.Queued.Format("15:04:05"))
	case n.State == WaitCallBack && n.Phase != "":
		return fmt.Sprintf("the installer, which is at %s, at the latest at %s", n.Phase, n.Deadline.Format("15:04:05"))
	case n.State == WaitCallBack && n.Order.Kind == "write_image" && n.Order.All > 0:
		return fmt.Sprintf("the agent: %d %% written", n.Order.Done*100/n.Order.All)
	case n.State == WaitCallBack && n.Deadline.IsZero():
		return fmt.Sprintf("the end of stage %d", n.Stage)
	case n.State == WaitCallBack:
		return fmt.Sprintf("the end of stage %d, at the latest at %s", n.Stage, n.Deadline.Format("15:04:05"))
	case n.Policy == "":
		return "a policy that takes it"
	}
	return "an operator"
}
