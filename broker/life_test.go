package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/store"
)

// TestLives plays each story of testdata/lives: a machine, its operator and the time, line by line. Lines that begin with
// > say what must be seen then; # begins a comment. See (*life).do for the words.
func TestLives(t *testing.T) {
	names, err := filepath.Glob("testdata/lives/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d stories, %v", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			l := newLife(t)
			for i, line := range strings.Split(string(text), "\n") {
				if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) == "" {
					continue
				}
				if err := l.do(strings.Fields(line)); err != nil {
					t.Fatalf("%s:%d: %s: %v", name, i+1, strings.TrimSpace(line), err)
				}
			}
			if l.failed != nil {
				t.Errorf("the last line was refused, and nobody expected it: %v", l.failed)
			}
		})
	}
}

// A life is one machine before a broker.
type life struct {
	t      *testing.T
	store  broker.Store
	broker *broker.Broker
	now    time.Time
	disks  []facts.Disk
	boots  int    // each has an agent's key of its own
	token  string // of the script of the last boot
	end    string // token of the installed system
	reply  *facts.CheckInReply
	step   boot.Step
	failed error
}

func newLife(t *testing.T) *life {
	t.Helper()
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l := &life{t: t, store: s, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), disks: []facts.Disk{blankDisk("vda", 8<<30)}}
	if err := l.start(); err != nil {
		t.Fatal(err)
	}
	mustApply(t, l.broker, ramdiskDoc("default", "amd64", "")+"kind: Repo\nname: debian\nsha256: "+strings.Repeat("d", 64)+
		"\nsize_bytes: 1000\nraw_bytes: 1073741824\ncompression: none\n")
	return l
}

func blankDisk(name string, size int64) facts.Disk {
	return facts.Disk{ID: "virtio-" + name, Name: name, SizeBytes: size, Transport: "virtio"}
}

// start starts a broker on the store, as after a stop.
func (l *life) start() (err error) {
	l.broker, err = broker.New(l.t.Context(), broker.Config{Store: l.store, Key: broker.Key{1}, BaseURL: "http://192.0.2.10:8080",
		Now: func() time.Time { return l.now }, Log: slog.New(slog.DiscardHandler)})
	return err
}

const lifeMAC = "52:54:00:00:00:01"

// do plays one line. What is refused is kept for the next line, which must expect it.
func (l *life) do(words []string) error {
	if words[0] == ">" {
		return l.expect(words[1], strings.Join(words[2:], " "))
	}
	if l.failed != nil {
		return fmt.Errorf("the line before was refused: %w", l.failed)
	}
	f, ok := lifeWords[words[0]]
	if !ok {
		return fmt.Errorf("no such word; there are %s", strings.Join(slices.Sorted(maps.Keys(lifeWords)), ", "))
	}
	l.failed = f(l, words[1:])
	return nil
}

// lifeWords is what happens to a machine.
var lifeWords = map[string]func(*life, []string) error{
	"disk": func(l *life, w []string) error { // disk data|blank: what is on it the next time it is looked at
		l.disks = []facts.Disk{blankDisk("vda", 8<<30)}
		if w[0] == "data" {
			l.disks[0].Table, l.disks[0].Partitions = "gpt", []facts.Partition{{Number: 1}}
		}
		return nil
	},
	"boots": (*life).boot,       // it is switched on and asks what to boot; the loader fetched the script
	"agent": (*life).agentComes, // the agent of that boot checks in with all its facts
	"says": func(l *life, w []string) error { // says done|failed|started WORDS: the agent of its order
		r := &facts.Report{Order: l.reply.Order.ID, Status: w[0], Message: strings.Join(w[1:], " ")}
		return l.broker.Report(l.t.Context(), l.key(), r)
	},
	"system": func(l *life, w []string) error { // system STAGE: the installed system calls the end of a stage
		return l.broker.EndStage(l.t.Context(), l.end, w[0], nil)
	},
	"passes": func(l *life, w []string) error { // passes 61m
		d, err := time.ParseDuration(w[0])
		l.now = l.now.Add(d)
		return errors.Join(err, l.broker.Expire(l.t.Context()))
	},
	"restart": func(l *life, _ []string) error {
		return errors.Join(l.start(), l.broker.SettleBusy(l.t.Context()))
	},
	"stopped": func(l *life, w []string) error { // stopped VERB,VERB: as an older broker, stopped in the middle, left it
		var verbs []broker.Verb
		for _, v := range strings.Split(w[0], ",") {
			verbs = append(verbs, broker.Verb(v))
		}
		return l.broker.Walk(l.t.Context(), "node1", verbs...)
	},
	"operator": func(l *life, w []string) error { // operator VERB [--wipe] [--policy NAME] [KEY=VALUE]
		a := broker.Act{Verb: strings.ReplaceAll(w[0], "_", " "), Who: "tester", Meta: map[string]any{}}
		for i, arg := range w[1:] {
			switch key, value, is := strings.Cut(arg, "="); {
			case arg == "--wipe":
				a.Wipe = true
			case arg == "--policy":
				a.Policy = w[i+2]
			case arg == "--method":
				a.Method = w[i+2]
			case arg == "--disk":
				a.Disks = append(a.Disks, w[i+2])
			case is:
				a.Meta[key] = value
			}
		}
		_, err := l.broker.Do(l.t.Context(), "node1", a)
		return err
	},
	"policy": func(l *life, w []string) error { // policy NAME KEY=VALUE ...: applied at once
		doc := "kind: Policy\nname: " + w[0] + "\n"
		for _, pair := range w[1:] {
			key, value, _ := strings.Cut(pair, "=")
			doc += key + ": " + value + "\n"
		}
		_, err := apply(l.t, l.broker, doc)
		return err
	},
	"tag": func(l *life, w []string) error { // tag NAME RULE
		_, err := apply(l.t, l.broker, "kind: Tag\nname: "+w[0]+"\nrule: "+strconv.Quote(strings.Join(w[1:], " "))+"\n")
		return err
	},
	"register": func(l *life, w []string) error { // register [mac=M] [serial=S] [hostname=N] [pin=P] [installed=TEXT] [meta.KEY=VALUE]
		r := broker.Registration{Meta: map[string]any{}}
		for _, pair := range w {
			switch key, value, _ := strings.Cut(pair, "="); key {
			case "mac":
				r.MACs = append(r.MACs, value)
			case "serial":
				r.Serial = value
			case "hostname":
				r.Hostname = value
			case "pin":
				r.Pin = value
			case "installed":
				r.Installed = value
			default:
				r.Meta[strings.TrimPrefix(key, "meta.")] = value
			}
		}
		_, err := l.broker.Register(l.t.Context(), []broker.Registration{r}, "tester")
		return err
	},
	"forget": func(l *life, w []string) error { return l.broker.DeleteObject(l.t.Context(), w[0], w[1], "tester") },
}

func (l *life) key() string { return fmt.Sprintf("%-32d", l.boots) }

func (l *life) boot(_ []string) (err error) {
	l.boots++
	c := boot.Client{Kind: boot.KindIPXE, MAC: mac(l.t, lifeMAC)}
	if l.step, err = l.broker.Next(l.t.Context(), c); err != nil {
		return err
	}
	l.token, _ = l.step.Args.Lookup("muster.token")
	return l.broker.Journal(l.t.Context(), boot.Sighting{Time: l.now, Client: c, Proto: "http", What: "script"})
}

func (l *life) agentComes(w []string) (err error) { // agent [SERIAL]
	f := machineWith(uuidA, lifeMAC)
	f.Disks = l.disks
	if len(w) > 0 {
		f.System.Serial = w[0]
	}
	l.reply, err = report(l.t.Context(), l.broker, fmt.Sprint(l.boots), l.token, f)
	if err == nil {
		l.keepToken()
	}
	return err
}

// keepToken keeps what a write order puts into the installed system.
func (l *life) keepToken() {
	if img := l.reply.Order.Image; img != nil {
		for _, f := range img.Files {
			if f.Path == "/etc/muster/token" {
				l.end = strings.TrimSpace(f.Content)
			}
		}
	}
}

// expect compares what is seen with what was told of it.
func (l *life) expect(what, want string) error {
	if what == "refused" {
		err := l.failed
		l.failed = nil
		if err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("it was not refused so: %v", err)
		}
		return nil
	}
	if l.failed != nil {
		return fmt.Errorf("the line before was refused: %w", l.failed)
	}
	n, err := l.broker.Node(l.t.Context(), "node1")
	if err != nil {
		return err
	}
	got, err := l.seen(what, n)
	if err != nil {
		return err
	}
	if got != want && !(strings.HasSuffix(want, "...") && strings.HasPrefix(got, strings.TrimSuffix(want, "..."))) {
		return fmt.Errorf("%s is %q", what, got)
	}
	return nil
}

func (l *life) seen(what string, n *broker.Record) (string, error) {
	switch what {
	case "step": // what it booted last, and why
		_, because, _ := strings.Cut(l.step.Because, ": ")
		return string(l.step.Kind) + ": " + strings.TrimSuffix(because, ", ramdisk default"), nil
	case "order": // what the agent was told last
		o, err := l.broker.WaitOrder(l.t.Context(), l.key(), 0, time.Minute)
		if err != nil || o == nil {
			return "", fmt.Errorf("no order: %w", err)
		}
		l.reply.Order = *o
		l.keepToken()
		return o.Kind + ": " + o.Because, nil
	case "state":
		return string(n.State), nil
	case "legal":
		return strings.Join(n.State.Legal(), " "), nil
	case "policy":
		return n.Policy, nil
	case "hostname":
		return n.Hostname, nil
	case "waits": // what it waits for
		return broker.Brief(&n.Node).Waiting, nil
	case "installed":
		return n.Installed, nil
	case "hold":
		return n.Hold, nil
	case "error":
		return n.LastError, nil
	case "tags":
		return strings.Join(n.CarriedTags(), " "), nil
	case "meta":
		return fmt.Sprint(n.Meta), nil
	case "protected":
		return fmt.Sprint(n.Protected), nil
	case "why": // the line of each policy
		x, err := l.broker.Explain(l.t.Context(), "node1")
		if err != nil {
			return "", err
		}
		var lines []string
		for _, p := range x.Policies {
			lines = append(lines, p.Policy+": "+p.Why)
		}
		return strings.Join(lines, "; "), nil
	case "event": // the last one that is no sighting
		events, err := l.broker.Events(l.t.Context(), broker.EventFilter{Node: "node1"}, false)
		events = slices.DeleteFunc(events, func(e broker.Event) bool { return e.Kind == "http" })
		if err != nil || len(events) == 0 {
			return "", fmt.Errorf("no events: %w", err)
		}
		return events[len(events)-1].Text, nil
	}
	return "", fmt.Errorf("no such thing is seen")
}
