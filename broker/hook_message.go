package broker

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"muster/broker/hook"
	"muster/broker/rule"
)

// hookBody is what a hook is told of an event. Razor's names (hook, node, policy) stay where they mean the same.
type hookBody struct {
	ID     string            `json:"id"` // of the message, the same at every attempt
	Event  string            `json:"event"`
	Seq    int64             `json:"seq"`
	Time   time.Time         `json:"time"`
	Text   string            `json:"text"`
	Who    string            `json:"who,omitempty"`
	Data   map[string]string `json:"data,omitempty"`
	Hook   hookName          `json:"hook"`
	Node   *hookNode         `json:"node,omitempty"`
	Policy *hookPolicy       `json:"policy,omitempty"`
}

type hookName struct {
	Name string `json:"name"`
}

// hookNode is the node as it is when the hook is called. Tokens, keys and facts are not in it: FactsHash says whether
// what the receiver has of them is still right.
type hookNode struct {
	ID        string         `json:"id"`
	Hostname  string         `json:"hostname,omitempty"`
	State     State          `json:"state,omitempty"`
	LastError string         `json:"last_error,omitempty"`
	Hold      string         `json:"hold,omitempty"`
	MACs      []string       `json:"macs,omitempty"`
	UUID      string         `json:"uuid,omitempty"`
	Serial    string         `json:"serial,omitempty"`
	Address   string         `json:"address,omitempty"` // as it booted
	Hardware  string         `json:"hardware,omitempty"`
	FactsHash string         `json:"facts_hash,omitempty"`
	Tags      []string       `json:"tags,omitempty"`
	Metadata  map[string]any `json:"metadata,omitempty"`
	Installed string         `json:"installed,omitempty"`
}

type hookPolicy struct {
	Name string `json:"name"`
	Task string `json:"task"`
	Repo string `json:"repo,omitempty"`
}

func summaryOf(n *Node) *hookNode {
	s := &hookNode{ID: n.ID, Hostname: n.Hostname, State: n.State, LastError: n.LastError, Hold: n.Hold, MACs: n.Keys.MACs, UUID: n.Keys.UUID,
		Serial: n.Keys.Serial, Address: n.Boot.Addr, FactsHash: n.FactsHash, Tags: n.CarriedTags(), Metadata: n.Meta, Installed: n.Installed}
	if n.Facts.Known() {
		s.Hardware = n.Facts.Hardware
	}
	return s
}

// lastWords are what hooks are told of a node whose record is gone.
func lastWords(n *Node) map[string]string {
	words := map[string]string{}
	for k, v := range map[string]string{"hostname": n.Hostname, "policy": n.Policy, "uuid": n.Keys.UUID, "serial": n.Keys.Serial} {
		if v != "" {
			words[k] = v
		}
	}
	if len(n.Keys.MACs) > 0 {
		words["mac"] = n.Keys.MACs[0]
	}
	return words
}

// hookMessage makes the message of an event that the hook calls name. n is nil when its record is gone.
func (b *Broker) hookMessage(h *compiledHook, name string, e Event, n *Node) (hook.Message, error) {
	id := messageID(h.Name, e)
	body := hookBody{ID: id, Event: name, Seq: e.Seq, Time: e.Time, Text: e.Text, Who: e.Who, Data: e.Data, Hook: hookName{h.Name}}
	switch {
	case n != nil:
		body.Node = summaryOf(n)
	case e.Node != "":
		body.Node = &hookNode{ID: e.Node}
	}
	if n != nil && n.Policy != "" {
		body.Policy = &hookPolicy{Name: n.Policy, Task: n.Task, Repo: n.Repo}
	}
	raw, err := json.Marshal(body)
	return hook.Message{ID: id, Time: b.now(), Body: raw}, err
}

// messageID is the same at every attempt, after restarts too, and another's when a store that was restored gives the
// sequence number anew.
func messageID(hook string, e Event) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d\x00%s\x00%s", hook, e.Seq, e.Time.UnixMilli(), e.Kind, e.Node))
	return fmt.Sprintf("msg_%x", sum[:16])
}

// nodeOf reads the node of an event; nil when there is none, or its record is gone.
func nodeOf(tx Tx, e Event) (*Node, error) {
	if e.Node == "" {
		return nil, nil
	}
	n, err := tx.Node(e.Node)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return n, err
}

// wants asks the hook's rule. A node whose record is gone is told of: its facts went with it.
func (h *compiledHook) wants(cat *catalog, n *Node) (rule.Result, error) {
	if h.where == nil || n == nil {
		return rule.Result{Verdict: rule.Yes}, nil
	}
	env, err := cat.environment(n, cat.reads(h.where))
	if err != nil {
		return rule.Result{}, err
	}
	return h.where.eval(env), nil
}
