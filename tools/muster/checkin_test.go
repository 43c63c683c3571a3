package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/agent"
	"muster/agent/facts"
	"muster/agent/probe"
	"muster/boot"
	"muster/broker"
	"muster/broker/api"
	"muster/broker/repo"
	"muster/broker/store"
)

// A recorder is a transport that gives the bodies of check-ins, each once it was answered.
type recorder struct {
	bodies chan []byte
}

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(req.URL.Path, "/checkin") {
		return http.DefaultTransport.RoundTrip(req)
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(b))
	resp, err := http.DefaultTransport.RoundTrip(req)
	r.bodies <- b
	return resp, err
}

// serveBroker is a broker over HTTP, and the token in the script of a machine.
func serveBroker(t *testing.T, mac string) (b *broker.Broker, url, token string) {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	images, err := repo.Open(filepath.Join(dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	trees, err := repo.OpenTrees(filepath.Join(dir, "trees"), nil)
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://192.0.2.10:8080"
	if b, err = broker.New(t.Context(), broker.Config{Store: s, Key: broker.Key{7}, BaseURL: base, Log: log}); err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("a", 64)
	objects, err := broker.ParseObjects([]byte(`{kind: Ramdisk, name: r, arch: amd64, kernel: {name: k, sha256: ` + sum + `, size_bytes: 1}, initrds: [{name: i, sha256: ` + sum + `, size_bytes: 1}]}`))
	if err == nil {
		_, err = b.Apply(t.Context(), objects, "tester")
	}
	if err != nil {
		t.Fatal(err)
	}
	boots, err := boot.New(boot.Config{BaseURL: base, Source: b, Log: log, Observe: b.Observe})
	if err != nil {
		t.Fatal(err)
	}
	h, err := api.New(api.Config{Broker: b, Images: images, Repos: &api.Repos{Broker: b, Trees: trees}, Boot: boots, TokenHash: strings.Repeat("0", 64), BaseURL: base, Log: log,
		PlainSecrets: true}) // TLS has tests of its own
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	m, err := boot.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	step, err := b.Next(t.Context(), boot.Client{MAC: m})
	if err != nil {
		t.Fatal(err)
	}
	token, _ = step.Args.Lookup("muster.token")
	return b, srv.URL, token
}

// planted is the machine of the virtual rack as an agent would tell of it.
func planted(t *testing.T) agent.Probed {
	t.Helper()
	raw, err := os.ReadFile("../../agent/facts/testdata/planted.json")
	if err != nil {
		t.Fatal(err)
	}
	p := agent.Probed{
		State:    facts.State{UptimeMS: 12340, RTCEpochS: 1704067220, MemFreeBytes: 1843200000},
		Errors:   []facts.ProbeError{{Collector: "bmc", Code: "timeout", Msg: "no answer: context deadline exceeded"}},
		TimingMS: map[string]int64{},
	}
	if err := json.Unmarshal(raw, &p.Facts); err != nil {
		t.Fatal(err)
	}
	for i := range p.Facts.Disks { // a machine with a system on it is sent to boot that
		d := &p.Facts.Disks[i]
		d.Table, d.Partitions, d.Content = "", nil, nil
	}
	for _, name := range probe.Collectors() {
		p.TimingMS[name] = 123
	}
	return p
}

// Only what changed is sent: the real agent against the real broker over HTTP. The broker that lost the facts asks for
// the whole, and a disk that went is told in words.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	const mac = "52:54:00:aa:00:01"
	b, url, token := serveBroker(t, mac)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	machine := planted(t)
	changed, bodies := make(chan struct{}), make(chan []byte, 16)
	a := &agent.Agent{
		Args: agent.Args{Server: url, Token: token}, Version: "test", Key: agent.NewKey(), Root: t.TempDir(),
		Console: &agent.Console{W: io.Discard, Uptime: agent.Uptime},
		HTTP:    &http.Client{Transport: recorder{bodies}},
		Changed: changed,
		Probe: func(context.Context, ...string) agent.Probed {
			p := machine
			p.Hash, _ = p.Facts.Hash()
			return p
		},
	}
	random := filepath.Join(a.Root, "proc/sys/kernel/random")
	if err := os.MkdirAll(random, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(random, "boot_id"), []byte("7c1f4e0e-0000-4000-8000-000000000001\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	next := func() (in facts.CheckIn, size int) {
		t.Helper()
		select {
		case body := <-bodies:
			if err := json.Unmarshal(body, &in); err != nil {
				t.Fatal(err)
			}
			return in, len(body)
		case <-ctx.Done():
			t.Fatal("no check-in")
			return in, 0
		}
	}
	again := func() {
		t.Helper()
		select {
		case changed <- struct{}{}:
		case <-ctx.Done():
			t.Fatal("the agent does not wait for orders")
		}
	}

	first, whole := next()
	if first.Facts == nil {
		t.Fatal("the first check-in has no facts")
	}
	again()
	second, small := next()
	t.Logf("planted machine: first check-in %d bytes, unchanged one %d bytes", whole, small)
	if second.Facts != nil || second.FactsHash != first.FactsHash || small > 1536 {
		t.Errorf("unchanged check-in: facts %t, hash %.8s after %.8s, %d bytes; want none, the same, at most 1536",
			second.Facts != nil, second.FactsHash, first.FactsHash, small)
	}

	// The broker is given other facts behind the agent's back, as by a backup that was put back.
	other := first
	other.Facts, other.FactsHash, other.Seq = &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: mac, Bus: "pci"}}}, "", 99
	if _, err := b.CheckIn(ctx, a.Key, &other); err != nil {
		t.Fatal(err)
	}
	again()
	if asked, _ := next(); asked.Facts != nil {
		t.Error("facts were sent before they were asked for")
	}
	if answered, _ := next(); answered.Facts == nil {
		t.Error("facts were asked for and not sent")
	}

	machine.Facts.Disks = machine.Facts.Disks[1:]
	again()
	if in, _ := next(); in.Facts == nil {
		t.Error("a disk went and no facts were sent")
	}
	const want = "hardware changed: disk naa.5002538a00000001 went (3 GiB S1)"
	for after, found := int64(0), false; !found; {
		events, err := b.Events(ctx, broker.EventFilter{After: after}, true)
		if err != nil || len(events) == 0 {
			t.Fatalf("no event %q: %v", want, err)
		}
		for _, e := range events {
			after, found = e.Seq, found || e.Kind == broker.EventHardware && e.Text == want
		}
	}
}
