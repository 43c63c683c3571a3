package broker

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

// fetchFor is how long after a boot script was given an installer may fetch its recipes by the token in it.
const fetchFor = 15 * time.Minute

// fetchToken is for the recipes of one install of a node, until its end.
func (b *Broker) fetchToken(n *Node, until time.Time) string {
	return b.cfg.Key.token(scopeFetch(n.InstallSeq), n.ID, until.Unix())
}

func scopeFetch(seq int64) string { return "fetch/" + strconv.FormatInt(seq, 10) }

// ofFetch is the node whose installer calls with that token: it is being installed, by a stage that boots an installer,
// and started it just now. Owner, where leases are ours, says whose address it is.
func (b *Broker) ofFetch(tx Tx, token string, from netip.Addr) (*Node, *task.Stage, error) {
	id, _, _ := strings.Cut(token, ".")
	n, err := tx.Node(id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, errDenied
	}
	if err != nil {
		return nil, nil, err
	}
	_, until, ok := b.cfg.Key.open(scopeFetch(n.InstallSeq), token)
	s := currentStage(n, b.cat.Load().taskOf(n))
	if !ok || b.now().Unix() > until || n.State != WaitCallBack || n.Hold != "" || s == nil || !s.Installer() {
		return nil, nil, errDenied
	}
	if b.cfg.Owner != nil {
		if mac := b.cfg.Owner(from); !mac.IsZero() && !slices.Contains(n.Keys.MACs, mac.String()) {
			return nil, nil, errDenied
		}
	}
	return n, s, nil
}

// Recipe gives an installer a file of its task. Every refusal is the same.
func (b *Broker) Recipe(ctx context.Context, token, name string, from netip.Addr) (text string, err error) {
	err = b.update(ctx, func(tx Tx) ([]string, error) {
		n, s, err := b.ofFetch(tx, token, from)
		if err != nil {
			return nil, err
		}
		text, err = b.renderRecipe(tx, n, s, name)
		if err != nil {
			return nil, err
		}
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, Event{Kind: EventRecipe, Who: "installer", Text: fmt.Sprintf("fetched %s (%d bytes)", name, len(text)),
			Data: map[string]string{"recipe": name, "from": from.String()}})
	})
	return text, err
}

func (b *Broker) renderRecipe(tx Tx, n *Node, s *task.Stage, name string) (string, error) {
	t := b.cat.Load().taskOf(n)
	if _, err := t.Recipe(name); err != nil {
		return "", errDenied
	}
	v, err := b.values(n, t, s.Name, true)
	if err != nil {
		return "", err
	}
	return t.RenderRecipe(name, v)
}

// RecipeFor gives a file of the task to the machine at an address, for installers that can be told no more than a fixed
// URL: by the MAC that the installer says it has (X-RHN-Provisioning-MAC-0 of anaconda, or in the name), or by the
// lease. It is off unless the server was started with it, and then only while the machine is being installed.
func (b *Broker) RecipeFor(ctx context.Context, mac boot.MAC, from netip.Addr, name string) (text string, err error) {
	if !b.cfg.RecipesByAddress {
		return "", errDenied
	}
	var owner boot.MAC
	if b.cfg.Owner != nil {
		owner = b.cfg.Owner(from)
	}
	if mac.IsZero() {
		mac = owner
	}
	if mac.IsZero() || !owner.IsZero() && owner != mac {
		return "", errDenied
	}
	var token string
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		n, err := tx.NodeByKey(KeyMAC, mac.String())
		if errors.Is(err, ErrNotFound) {
			return errDenied
		}
		if err != nil {
			return err
		}
		if len(n.Starts) == 0 || b.now().Sub(n.Starts[len(n.Starts)-1]) > fetchFor {
			return errDenied
		}
		if t := b.cat.Load().taskOf(n); name == "" && t != nil && len(t.Recipes) > 0 {
			name = t.Recipes[0].Name
		}
		token = b.fetchToken(n, b.now().Add(time.Minute))
		return nil
	})
	if err != nil {
		return "", err
	}
	return b.Recipe(ctx, token, name, from)
}

// ShowRecipe renders a file of a node's task as its installer would get it, secrets and tokens hidden; with the name of a
// policy as if that had taken the node. Without a name of a file it lists those that there are.
func (b *Broker) ShowRecipe(ctx context.Context, node, policy, name string) (text string, names []string, err error) {
	record, err := b.Node(ctx, node)
	if err != nil {
		return "", nil, err
	}
	n := &record.Node
	if policy != "" {
		if n, err = b.taken(n, policy); err != nil {
			return "", nil, err
		}
	}
	t := b.cat.Load().taskOf(n)
	if t == nil {
		return "", nil, notFound("node %s is bound to no task: name a policy to see what it would get", n.Title())
	}
	for _, r := range t.Recipes {
		names = append(names, r.Name)
	}
	if name == "" {
		return "", names, nil
	}
	if len(names) == 0 {
		return "", nil, notFound("task %s has no recipes: its installer fetches none", t.Name)
	}
	if _, err := t.Recipe(name); err != nil {
		return "", names, notFound("%s: there are %s", err, strings.Join(names, ", "))
	}
	stage := ""
	if len(t.Stages) > 0 {
		stage = t.Stages[max(n.Stage, 1)-1].Name
	}
	v, err := b.values(n, t, stage, false)
	if err != nil {
		return "", names, invalid("%s", err)
	}
	if text, err = t.RenderRecipe(name, v); err != nil {
		err = invalid("%s", err)
	}
	return text, names, err
}

// taken is the node as if a policy had just taken it: with the disk that it would choose, whatever is on it, and the name
// of its first node where the node has none.
func (b *Broker) taken(n *Node, policy string) (*Node, error) {
	cat := b.cat.Load()
	then := *n
	then.Policy, then.Meta = policy, maps.Clone(n.Meta)
	p := cat.policyOf(&then)
	if p == nil {
		return nil, notFound("there is no policy %q", policy)
	}
	first, err := hostname(p.Hostname, n.ID, 1)
	if err == nil {
		err = then.inherit(p.Meta)
	}
	known, unread := n.Facts.Whole()
	if err := errors.Join(err, unread); err != nil {
		return nil, fmt.Errorf("policy %s: %w", policy, err)
	}
	then.Task, then.Repo, then.Stage, then.Hostname = p.Task, p.Repo, 1, cmp.Or(n.GivenName, n.Hostname, first)
	then.BootMAC = bootMAC(n, known)
	if cand := cat.candidate(p, b.now()); known != nil && cand.Task.Disk {
		disk, err := pickDisk(known, p.Disk, needs(cand.Task, cand.Repo), true)
		if err != nil {
			return nil, conflict("policy %s: %s", policy, err)
		}
		then.Disk = ChosenDisk(namedDisk(*disk))
	}
	return &then, nil
}

// hiddenToken stands for a token in a URL that is shown, where *** could not.
const hiddenToken = "HIDDEN"

// values is what the templates of a node's task may use, while the stage runs. Unless open, secrets are *** in it.
func (b *Broker) values(n *Node, t *task.Task, stage string, open bool) (task.Values, error) {
	cat := b.cat.Load()
	v := task.Values{Server: b.cfg.AgentURL, CA: b.caPEM(), Node: taskNode(n), Disk: task.Disk(n.Disk), Policy: n.Policy, Stage: stage,
		Handoff: cat.handoffOf(n), Token: hiddenToken, Fetch: hiddenToken, Salt: hiddenSecret}
	if b.cfg.Plain {
		v.Plain = b.cfg.BaseURL
	}
	if r, ok := cat.repos[n.Repo]; ok {
		v.Repo = b.taskRepo(&r)
		if b.cfg.RepoFile != nil {
			v.RepoFile = func(name string) (string, error) { return b.cfg.RepoFile(r, name) }
		}
	}
	for i, s := range t.Stages {
		if s.Name == stage && i+1 < len(t.Stages) {
			v.Next = t.Stages[i+1].Name
		}
	}
	if open {
		v.Token = b.cfg.Key.token(scopeStage, n.ID, n.InstallSeq)
		v.Fetch = b.fetchToken(n, b.now().Add(fetchFor))
		v.Salt = b.cfg.Key.salt(n.ID, n.InstallSeq)
	}
	var err error
	v.Param, err = b.params(n, t, cat.policyOf(n), open)
	return v, err
}

// params are the parameters of a task on a node: what its metadata say, else its policy, else the default. A secret is
// its policy's alone.
func (b *Broker) params(n *Node, t *task.Task, p *Policy, open bool) (map[string]any, error) {
	given := map[string]any{}
	if p != nil {
		maps.Copy(given, p.Params)
	}
	for k, param := range t.Parameters {
		said, ok := n.Meta[k]
		sealedText, _ := given[k].(string)
		switch {
		case ok && !param.Secret():
			given[k] = said
		case param.Secret() && sealedText != "" && !open:
			given[k] = hiddenSecret
		case param.Secret() && sealedText != "":
			clear, err := b.cfg.Key.unseal(paramKey(p.Name, k), sealedText)
			if err != nil {
				return nil, fmt.Errorf("policy %s: params: %s: %w", p.Name, k, err)
			}
			given[k] = clear
		}
	}
	return t.Params(given)
}

// salt is of the password hashes of one install.
func (k Key) salt(node string, seq int64) string {
	h := hmac.New(sha256.New, k[:])
	fmt.Fprintf(h, "salt\x00%s\x00%d", node, seq)
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func taskNode(n *Node) task.Node {
	v := task.Node{ID: n.ID, Hostname: n.Title(), MAC: n.BootMAC, Address: n.Boot.Addr, UUID: n.Keys.UUID, Serial: n.Keys.Serial,
		Arch: n.Boot.CPU, EFI: n.Boot.EFI, Tags: n.CarriedTags(), Metadata: n.Meta}
	if v.Arch == "" && n.Facts.Known() {
		v.Arch = machineArchs[n.Facts.Arch]
	}
	if v.MAC == "" {
		v.MAC = bootMAC(n, nil)
	}
	if v.Metadata == nil {
		v.Metadata = map[string]any{}
	}
	return v
}

// bootMAC is that of the NIC that booted, or the first.
func bootMAC(n *Node, known *facts.Facts) string {
	if known != nil {
		for _, nic := range known.NICs {
			if nic.PXE && nic.MAC != "" {
				return nic.MAC
			}
		}
	}
	if len(n.Keys.MACs) > 0 {
		return n.Keys.MACs[0]
	}
	return ""
}

func (b *Broker) taskRepo(r *Repo) task.Repo {
	v := task.Repo{Name: r.Name, URL: strings.TrimRight(r.URL, "/"), OS: r.OS, Version: r.Version, Arch: r.Arch}
	if r.Tree != "" {
		v.URL = b.cfg.BaseURL + "/repo/" + r.Name
	}
	v.Kernel, v.Initrds = r.Boot()
	return v
}

// installStep is what the node's stage boots, when that is an installer.
func (b *Broker) installStep(n *Node) (boot.Step, error) {
	t := b.cat.Load().taskOf(n)
	s := currentStage(n, t)
	v, err := b.values(n, t, s.Name, true)
	if err != nil {
		return boot.Step{}, err
	}
	return t.RenderStep(*s, v)
}

// fits renders all that a task has for a node, so that one for which it can not be is refused before its disk is touched.
func (b *Broker) fits(n *Node, t *task.Task) error {
	if len(t.Stages) == 0 {
		return nil
	}
	v, err := b.values(n, t, t.Stages[0].Name, true)
	if err != nil {
		return err
	}
	return t.Check(v)
}

// paramKey is the name that a password of a policy is sealed for.
func paramKey(policy, key string) string { return KindPolicy + "/" + policy + "/" + key }

// preparePolicy seals the passwords of a policy that is applied.
func (b *Broker) preparePolicy(tx Tx, o Object) (Object, error) {
	p, err := decode[Policy](o)
	if err != nil {
		return o, err
	}
	if len(p.Params) == 0 {
		return o, nil
	}
	tasks, err := b.loadTasks(tx)
	if err != nil {
		return o, err
	}
	t := tasks[p.Task]
	if t == nil {
		return o, invalid("policy %s: there is no task %q: apply it before, or in the same file before, the policy", p.Name, p.Task)
	}
	old := Policy{}
	if was, err := tx.Object(o.Kind, o.Name); err == nil {
		if old, err = decode[Policy](was); err != nil {
			return o, err
		}
	} else if !errors.Is(err, ErrNotFound) {
		return o, err
	}
	for _, k := range slices.Sorted(maps.Keys(p.Params)) {
		said, ok := p.Params[k].(string)
		if !t.Parameters[k].Secret() || !ok {
			continue
		}
		was, _ := old.Params[k].(string)
		if p.Params[k], err = b.sealOrKeep(paramKey(p.Name, k), said, was); err != nil {
			return o, fmt.Errorf("policy %s: params: %s: %w", p.Name, k, err)
		}
	}
	return encode(o.Kind, o.Name, p)
}

// hiddenPolicy is a policy as operators read it.
func hiddenPolicy(o Object) (Object, error) {
	p, err := decode[Policy](o)
	if err != nil {
		return o, err
	}
	found := false
	for k, v := range p.Params {
		if text, ok := v.(string); ok && strings.HasPrefix(text, sealed) {
			p.Params[k], found = hiddenSecret, true
		}
	}
	if !found {
		return o, nil
	}
	return encode(o.Kind, o.Name, p)
}
