package broker

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/task"
)

// settle brings a node whose agent is here to where it should be: known, bound, and with an order. fresh means that
// the agent has just booted, so an order that an earlier one had begun is given again.
func (b *Broker) settle(tx Tx, n *Node, fresh bool) ([]Event, error) {
	var verbs []Verb
	switch {
	case !n.Facts.Known():
	case n.State == Enroll:
		verbs = []Verb{Manage, done}
	case n.State == InspectWait && fresh:
		verbs = []Verb{resume, done}
	}
	events, err := b.walk(n, "broker", "", verbs...)
	if err != nil {
		return nil, err
	}
	if err := b.retag(n, &events); err != nil {
		return nil, err
	}
	bound, err := b.bind(tx, n)
	if err != nil {
		return nil, err
	}
	events = append(events, bound...)
	if len(bound) > 0 || !fresh {
		return events, nil
	}
	ordered, err := b.reorder(n)
	return append(events, ordered...), err
}

// bind gives the node to the first policy that takes it, when it is free to be taken.
func (b *Broker) bind(tx Tx, n *Node) ([]Event, error) {
	if !n.free() {
		return nil, nil
	}
	cat := b.cat.Load()
	if !cat.wanted(n, b.now()) {
		return nil, nil
	}
	cands, err := cat.candidates(n, b.now(), boundIn(tx))
	if err != nil {
		return nil, err
	}
	win, disk, lines := choose(n, cands)
	if win == nil {
		return nil, nil
	}
	seq, err := tx.Counter("policy/" + win.Name)
	if err != nil {
		return nil, err
	}
	name, err := hostname(win.Hostname, n.ID, seq)
	if err != nil {
		return nil, err
	}
	name = cmp.Or(n.GivenName, name)
	n.Policy, n.Task, n.Repo, n.Hostname = win.Name, win.Policy.Task, win.Policy.Repo, name
	n.Protected = false
	if err := n.inherit(win.Meta); err != nil {
		return nil, fmt.Errorf("policy %s: %w", win.Name, err)
	}
	events := []Event{{Kind: EventBound, Who: "broker", Text: fmt.Sprintf("policy %s: %s", win.Name, winning(lines)),
		Data: map[string]string{"policy": win.Name, "task": n.Task, "hostname": name}}}
	if len(win.Task.Stages) == 0 {
		return append(events, b.order(n, facts.OrderWait, decide(n, win.Task).Because)), nil
	}
	verbs := []Verb{Deploy}
	if n.State == Manageable {
		verbs = []Verb{Provide, done, Deploy} // simple mode: on the way to available, with no step to clean
	}
	moved, err := b.walk(n, "broker", "policy "+win.Name, verbs...)
	if err != nil {
		return nil, err
	}
	begun, err := b.start(tx, n, win.Task, disk, win.Wipe || n.WipeOnce)
	return append(append(events, moved...), begun...), err
}

// winning is the line of the policy that takes the node.
func winning(lines []PolicyLine) string {
	for _, l := range lines {
		if l.Wins {
			return l.Why
		}
	}
	return ""
}

// begin starts a stage: the node is deploying and goes on to wait for its call-back.
func (b *Broker) begin(n *Node, t *task.Task, stage int, disk *facts.Disk, wipe bool) ([]Event, error) {
	if n.Stage != stage {
		n.Stage, n.Starts = stage, nil
	}
	n.BootedOnce = time.Time{}
	if stage == 1 {
		n.Queued, n.QueuedWipe = time.Time{}, false
		n.Phase, n.LastLog, n.Logs = "", "", 0
		known, err := n.Facts.Whole()
		if err != nil {
			return nil, err
		}
		n.Target, n.Disk, n.BootMAC = targetOf(disk), ChosenDisk{}, bootMAC(n, known)
		if disk != nil {
			n.Disk = ChosenDisk(namedDisk(*disk))
		}
	}
	s := t.Stages[stage-1]
	var events []Event
	switch {
	case stage == 1 && s.Installer():
		n.InstallSeq++
		if err := b.fits(n, t); err != nil {
			return b.failNode(n, "broker", err.Error())
		}
		events = append(events, b.order(n, facts.OrderReboot, fmt.Sprintf("stage %s boots %s", s.Name, boots[s.Step])))
	case s.Order == facts.OrderWriteImage:
		held, err := b.countStart(n)
		if held != nil || err != nil {
			return held, err
		}
		n.InstallSeq++
		events = append(events, b.order(n, s.Order, fmt.Sprintf("policy %s writes %s to %s", n.Policy, n.Repo, disk.Name)))
		n.Order.Target = targetOf(disk)
		n.Order.Wipe, n.WipeOnce = wipe, false
	case s.Order != "":
		n.Order.Disks = nil
		given, err := b.give(n, s)
		if err != nil || n.State == DeployFailed {
			return given, err
		}
		events = append(events, given...)
	default:
		events = append(events, b.order(n, facts.OrderReboot, fmt.Sprintf("stage %s boots %s", s.Name, boots[s.Step])))
	}
	e := Event{Kind: EventStage, Who: "broker", Text: "its turn has come: stage " + s.Name}
	if n.State != WaitCallBack { // else it waited for its turn
		var err error
		if e, err = b.move(n, wait, "broker", "stage "+s.Name); err != nil {
			return nil, err
		}
	}
	if d := b.stageTimeout(n, s); d > 0 {
		n.Deadline = b.now().Add(d)
	}
	return append(events, e), nil
}

// boots says of a step what it boots.
var boots = map[boot.StepKind]string{boot.StepLocal: "the local disk", boot.StepKernel: "a kernel of its own", boot.StepWinPE: "WinPE", boot.StepChain: "another loader"}

func targetOf(d *facts.Disk) *facts.Target {
	if d == nil {
		return nil
	}
	return &facts.Target{ID: d.ID, SizeBytes: d.SizeBytes, Serial: d.Serial, WWN: d.WWN}
}

// stageTimeout is how long a stage may take: its policy's word, else the task's. 0 is for ever.
func (b *Broker) stageTimeout(n *Node, s task.Stage) time.Duration {
	if p := b.cat.Load().policyOf(n); p != nil && p.StageTimeout != nil {
		return time.Duration(*p.StageTimeout)
	}
	return time.Duration(s.Deadline)
}

// loopLimit is how many times one stage may start within the broker's window; 0 is any number.
func (b *Broker) loopLimit(n *Node) int {
	if p := b.cat.Load().policyOf(n); p != nil && p.MaxStarts != nil {
		return *p.MaxStarts
	}
	return b.cfg.Loop
}

// countStart counts a start of the node's stage and holds the node when there were too many: a machine that installs
// in a loop is stopped with its disk as it is.
func (b *Broker) countStart(n *Node) ([]Event, error) {
	now := b.now()
	n.Starts = slices.DeleteFunc(n.Starts, func(t time.Time) bool { return now.Sub(t) >= b.cfg.LoopWindow })
	if limit := b.loopLimit(n); limit == 0 || len(n.Starts) < limit {
		n.Starts = append(n.Starts, now)
		return nil, nil
	}
	n.Hold, n.HeldBy = fmt.Sprintf("stage %d was started %d times within %s (muster node release %s)", n.Stage, len(n.Starts), b.cfg.LoopWindow, n.ID), "broker"
	return b.failNode(n, "broker", n.Hold)
}

// oneStart is the time within which scripts that a machine fetches belong to one start: loaders ask again.
const oneStart = 20 * time.Second

// booted counts a boot of a stage that ends elsewhere than in the ramdisk, where nobody but the loader shows that the
// machine starts it over and over.
func (b *Broker) booted(n *Node) ([]Event, error) {
	stage := currentStage(n, b.cat.Load().taskOf(n))
	if n.State != WaitCallBack || stage == nil || stage.Step == boot.StepRamdisk || n.Hold != "" || !n.Queued.IsZero() {
		return nil, nil
	}
	if last := len(n.Starts) - 1; last >= 0 && b.now().Sub(n.Starts[last]) < oneStart {
		return nil, nil
	}
	return b.countStart(n)
}

// failNode ends an install with a cause; the agent is told to wait.
func (b *Broker) failNode(n *Node, who, why string) ([]Event, error) {
	e, err := b.move(n, fail, who, why)
	if err != nil {
		return nil, err
	}
	return []Event{e, {Kind: EventFailed, Who: who, Text: why}, b.order(n, facts.OrderWait, string(n.State)+": "+why)}, nil
}

// order gives the agent something new to do.
func (b *Broker) order(n *Node, kind, because string) Event {
	n.Order = OrderRef{ID: n.Order.ID + 1, Kind: kind, Because: because}
	return Event{Kind: EventOrder, Who: "broker", Text: "order " + kind + colon(because)}
}

// reorder gives a newly booted agent its order: what was under way begins again.
func (b *Broker) reorder(n *Node) ([]Event, error) {
	t := b.cat.Load().taskOf(n)
	d := decide(n, t)
	stage := currentStage(n, t)
	switch {
	case n.cleans() && n.Conflict == "" && n.Hold == "":
		return b.rewipe(n)
	case !n.Queued.IsZero() && n.State == WaitCallBack:
		return []Event{b.order(n, facts.OrderWait, d.Because)}, nil
	case n.Conflict == "" && stage != nil && n.State == WaitCallBack && stage.Order == facts.OrderWriteImage:
		return b.rewrite(n)
	case n.Conflict == "" && stage != nil && n.State == WaitCallBack && stage.Order != "":
		return b.give(n, *stage)
	case stage != nil && n.State == WaitCallBack && n.Conflict == "" && n.Hold == "" && stage.Installer(), d.Step == boot.StepLocal:
		return []Event{b.order(n, facts.OrderReboot, d.Because)}, nil
	}
	return []Event{b.order(n, facts.OrderWait, d.Because)}, nil
}

// rewrite gives the write order of a stage again, to the same disk, after the machine was restarted under it. What
// the first start was allowed to overwrite, this one is.
func (b *Broker) rewrite(n *Node) ([]Event, error) {
	target := n.Order.Target
	if target == nil {
		return b.failNode(n, "broker", "the disk that was being written is not known any more")
	}
	if held, err := b.countStart(n); held != nil || err != nil {
		return held, err
	}
	n.InstallSeq++
	e := b.order(n, facts.OrderWriteImage, fmt.Sprintf("policy %s writes %s again: the machine was restarted", n.Policy, n.Repo))
	n.Order.Target, n.Order.Wipe = target, true // a half-written disk is ours
	return []Event{e}, nil
}

// render makes the whole order out of what the node keeps of it. Only here do secrets come in.
func (b *Broker) render(n *Node) (facts.Order, error) {
	o := facts.Order{ID: n.Order.ID, Kind: n.Order.Kind, Because: n.Order.Because}
	if o.Kind == facts.OrderWipe && n.cleans() {
		o.Wipe = &n.Wiping.Wipe
		return o, nil
	}
	if _, ok := stageOrders[o.Kind]; ok && n.Order.Status != facts.StatusDone {
		return b.renderStageOrder(n, o)
	}
	if o.Kind != facts.OrderWriteImage || n.Order.Status == facts.StatusDone {
		return o, nil
	}
	cat := b.cat.Load()
	r, ok := cat.repos[n.Repo]
	t := cat.taskOf(n)
	if !ok || t == nil || n.Order.Target == nil {
		return facts.Order{ID: o.ID, Kind: facts.OrderWait, Because: "repo " + n.Repo + " is gone"}, nil
	}
	stage := ""
	if s := currentStage(n, t); s != nil {
		stage = s.Name
	}
	v, err := b.values(n, t, stage, true)
	if err != nil {
		return o, err
	}
	files, err := t.RenderFiles(v)
	if err != nil {
		return o, err
	}
	o.Image = &facts.WriteImage{Path: "/node/v1/image/" + r.SHA256, Compression: r.Compression, SizeBytes: r.SizeBytes,
		SHA256: r.SHA256, RawBytes: r.RawBytes, Disk: *n.Order.Target, Wipe: n.Order.Wipe, Files: files, EFIEntry: n.Repo}
	o.Image.Grow, _ = v.Param["grow"].(string)
	if v.Param["then"] == facts.ThenKexec {
		o.Image.Then = facts.ThenKexec
	}
	if r.Chunks != "" {
		o.Image.Chunks = &facts.Chunks{Path: "/node/v1/image/" + r.Chunks, SizeBytes: r.ChunksBytes, SHA256: r.Chunks}
	}
	return o, nil
}

// caPEM is what the installed system verifies the broker by.
func (b *Broker) caPEM() string {
	if b.cfg.CA == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.cfg.CA.Raw}))
}

// Image says which image, or list of its chunks, the agent with that key may read now: that of its order, to be written or
// to be run.
func (b *Broker) Image(ctx context.Context, key, sum string) error {
	n, err := b.byKey(ctx, key)
	if err != nil {
		return err
	}
	r, ok := b.cat.Load().repos[n.Repo]
	if !ok || sum != r.SHA256 && sum != r.Chunks || n.Order.Kind != facts.OrderWriteImage && n.Order.Kind != facts.OrderRun {
		return errDenied
	}
	return nil
}

// Report takes what an agent says of its order. A report of an order that is over changes nothing.
func (b *Broker) Report(ctx context.Context, key string, r *facts.Report) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := tx.NodeByKey(KeyBoot, hashKey(key))
		if errors.Is(err, ErrNotFound) {
			return nil, errDenied
		}
		if err != nil {
			return nil, err
		}
		if r.Order != n.Order.ID || n.Order.Status == facts.StatusDone || n.Order.Status == facts.StatusFailed {
			return nil, nil
		}
		take := b.reported
		if n.cleans() {
			take = b.wiped
		}
		events, err := take(n, r)
		if err != nil {
			return nil, err
		}
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, events...)
	})
}

func (b *Broker) reported(n *Node, r *facts.Report) ([]Event, error) {
	before := tenth(n.Order.Done, n.Order.All)
	n.Order.Status, n.Order.Done, n.Order.All = r.Status, r.DoneBytes, r.AllBytes
	message := boot.Printable(strings.ReplaceAll(r.Message, "\n", " "))
	switch r.Status {
	case facts.StatusProgress:
		if now := tenth(r.DoneBytes, r.AllBytes); now > before {
			return []Event{{Kind: EventReport, Who: "agent", Text: fmt.Sprintf("%s: %s %d0 %%", n.Order.Kind, message, now)}}, nil
		}
		return nil, nil
	case facts.StatusStarted:
		return []Event{{Kind: EventReport, Who: "agent", Text: n.Order.Kind + " started" + colon(message)}}, nil
	case facts.StatusFailed:
		e := Event{Kind: EventReport, Who: "agent", Text: n.Order.Kind + " failed" + colon(message), Data: told(r)}
		if n.State != WaitCallBack {
			return []Event{e}, nil
		}
		failed, err := b.failNode(n, "agent", message)
		return append([]Event{e}, failed...), err
	case facts.StatusDone:
		e := Event{Kind: EventReport, Who: "agent", Text: n.Order.Kind + " done" + colon(timing(r, message)), Data: told(r)}
		if s := currentStage(n, b.cat.Load().taskOf(n)); s == nil || s.Order != n.Order.Kind || n.State != WaitCallBack {
			return []Event{e}, nil
		}
		ended, err := b.endStage(n, "agent")
		return append([]Event{e}, ended...), err
	}
	return nil, invalid("status %q: want started, progress, done or failed", r.Status)
}

func tenth(done, all int64) int64 {
	if all <= 0 {
		return 0
	}
	return done * 10 / all
}

func millis(m map[string]int64) map[string]string {
	data := map[string]string{}
	for k, v := range m {
		data[k+"_ms"] = fmt.Sprint(v)
	}
	return data
}

func timing(r *facts.Report, message string) string {
	if message != "" || r.DoneBytes == 0 {
		return message
	}
	s := fmt.Sprintf("%.0f MiB", float64(r.DoneBytes)/(1<<20))
	for _, phase := range []string{"write", "verify", "files"} {
		if ms, ok := r.TimingMS[phase]; ok {
			s += fmt.Sprintf(", %s %.1f s", phase, float64(ms)/1000)
		}
	}
	return s
}

// endStage goes to the next stage of the task, or to active after the last.
func (b *Broker) endStage(n *Node, who string) ([]Event, error) {
	t := b.cat.Load().taskOf(n)
	stage := currentStage(n, t)
	if stage == nil {
		return nil, fmt.Errorf("node %s has no stage %d in task %q", n.ID, n.Stage, n.Task)
	}
	n.Phase = ""
	events := []Event{{Kind: EventStage, Who: who, Text: "stage " + stage.Name + " is done"}}
	on := resume
	if n.State == DeployFailed { // it was given up, and is done after all
		on = Deploy
	}
	e, err := b.move(n, on, who, "stage "+stage.Name+" is done")
	if err != nil {
		return nil, err
	}
	if n.HeldBy == "broker" {
		n.Hold, n.HeldBy = "", ""
	}
	events = append(events, e)
	if n.Stage < len(t.Stages) {
		more, err := b.begin(n, t, n.Stage+1, nil, false)
		return append(events, more...), err
	}
	if e, err = b.move(n, done, who, ""); err != nil {
		return nil, err
	}
	n.Installed, n.InstalledAt, n.Starts, n.Stage = n.Policy, b.now(), nil, 0
	end := ended(n, stage)
	end.Who = who
	events = append(events, e, end)
	if row, ok := stageOrders[stage.Order]; ok {
		events = append(events, b.order(n, row.after, "task "+n.Task+" is done"))
	}
	return events, nil
}

// EndStage takes the call of an installed system or installer: its one-time token ends the stage that it was made
// for. says is what the caller told, kept in the event.
func (b *Broker) EndStage(ctx context.Context, token, stage string, says map[string]string) error {
	return b.update(ctx, func(tx Tx) ([]string, error) {
		n, err := b.ofStage(tx, token, stage)
		if err != nil {
			return nil, err
		}
		events, err := b.endStage(n, "installer")
		if err != nil {
			return nil, err
		}
		events[0].Data, n.LastError = says, "" // of a handoff that failed before
		n.LastSeen = b.now()
		return []string{n.ID}, b.change(tx, n, events...)
	})
}

// ofInstall is the node whose installer or installed system calls: the token is that of its install, which is under way
// or was given up: a machine that was late is done all the same.
func (b *Broker) ofInstall(tx Tx, token string) (*Node, error) {
	id, seq, ok := b.cfg.Key.open(scopeStage, token)
	if !ok {
		return nil, errDenied
	}
	n, err := tx.Node(id)
	if errors.Is(err, ErrNotFound) {
		return nil, errDenied
	}
	if err != nil {
		return nil, err
	}
	if seq != n.InstallSeq || n.State != WaitCallBack && n.State != DeployFailed {
		return nil, errDenied
	}
	return n, nil
}

// ofStage is ofInstall for the stage under way, when it ends by a call.
func (b *Broker) ofStage(tx Tx, token, stage string) (*Node, error) {
	n, err := b.ofInstall(tx, token)
	if err != nil {
		return nil, err
	}
	s := currentStage(n, b.cat.Load().taskOf(n))
	if s == nil || s.Name != stage || !s.Called() {
		return nil, errDenied
	}
	return n, nil
}
