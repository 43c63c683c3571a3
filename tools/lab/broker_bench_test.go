package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/api"
	"muster/broker/store"
)

// TestBenchBroker is make bench-broker: 10,000 nodes, 200 tags and 100 policies in a store on disk, asked through the
// real HTTP handlers. Beside each figure stands its limit, measured in the same run. The table is for people.
func TestBenchBroker(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-broker")
	}
	b := newBrokerBench(t, number("MUSTER_BENCH_NODES", 10_000), 200, 100)
	b.fill()
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"next", b.nextSteps},
		{"known", b.knownCheckIns},
		{"whole", b.wholeCheckIns},
		{"commits", b.commits},
		{"lists", b.lists},
		{"retag", b.retag},
		{"plan", b.plan},
		{"waiting", b.waiting},
		{"memory", b.memory},
	} {
		t.Run(part.name, func(of *testing.T) {
			b.t = of
			defer b.profiled(part.name)()
			part.run()
		})
	}
	b.t = t
	b.must(b.table.Flush())
	t.Log("\n" + b.out.String())
}

// profiled keeps what a part spent its time with, for go tool pprof, in the directory MUSTER_BENCH_PROFILES.
func (b *brokerBench) profiled(part string) (end func()) {
	dir := os.Getenv("MUSTER_BENCH_PROFILES")
	if dir == "" {
		return func() {}
	}
	f, err := os.Create(filepath.Join(dir, part+".pprof"))
	b.must(err)
	b.must(pprof.StartCPUProfile(f))
	return func() {
		pprof.StopCPUProfile()
		b.must(f.Close())
	}
}

func number(env string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil && n > 0 {
		return n
	}
	return or
}

const benchToken = "the-first-token-of-the-bench"

type brokerBench struct {
	t                     *testing.T
	nodes, tags, policies int
	dir                   string
	broker                *broker.Broker
	handler               http.Handler
	sample                facts.Facts
	out                   bytes.Buffer
	table                 *tabwriter.Writer
}

func newBrokerBench(t *testing.T, nodes, tags, policies int) *brokerBench {
	t.Helper()
	b := &brokerBench{t: t, nodes: nodes, tags: tags, policies: policies, dir: t.TempDir()}
	b.table = tabwriter.NewWriter(&b.out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(b.table, "%d nodes, %d tags, %d policies\tfigure\tbeside it\t\n", nodes, tags, policies)
	planted, err := os.ReadFile("../../agent/facts/testdata/planted.json")
	b.must(err)
	b.must(json.Unmarshal(planted, &b.sample))
	s, err := store.Open(b.dir)
	b.must(err)
	t.Cleanup(func() { s.Close() })
	quiet := slog.New(slog.DiscardHandler)
	b.broker, err = broker.New(t.Context(), broker.Config{Store: s, Key: broker.Key{1}, BaseURL: "http://192.0.2.10:8080", Log: quiet, Strangers: nodes})
	b.must(err)
	scripts, err := boot.New(boot.Config{BaseURL: "http://192.0.2.10:8080", Source: b.broker, Log: quiet})
	b.must(err)
	b.handler, err = api.New(api.Config{Broker: b.broker, Boot: scripts, TokenHash: fmt.Sprintf("%x", sha256.Sum256([]byte(benchToken))), PlainSecrets: true, Log: quiet})
	b.must(err)
	return b
}

func (b *brokerBench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *brokerBench) row(what, figure, beside string) {
	fmt.Fprintf(b.table, "%s\t%s\t%s\t\n", what, figure, beside)
	b.t.Logf("%s: %s (%s)", what, figure, beside)
}

func macOfNode(i int) string {
	return fmt.Sprintf("52:54:%02x:%02x:%02x:00", i>>16&255, i>>8&255, i&255)
}

// factsOf is the planted machine as the i-th of a rack.
func (b *brokerBench) factsOf(i int) *facts.Facts {
	f := b.sample
	system := *f.System
	system.UUID, system.Serial = fmt.Sprintf("4c4c4544-0000-4000-8000-%012x", i+1), fmt.Sprintf("SN%06d", i)
	memory := *f.Memory
	memory.TotalBytes = int64(i%8+1) * 32 << 30
	f.System, f.Memory, f.NICs = &system, &memory, slices.Clone(f.NICs)
	for n := range f.NICs {
		f.NICs[n].MAC = fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255, n)
	}
	f.Custom = map[string]string{"rack": fmt.Sprintf("r%02d", i%100), "u": fmt.Sprint(i % 42), "seat": "many"}
	if i < waitingAgents {
		f.Custom["seat"] = "few"
	}
	return &f
}

// documents are tags as sites write them, and policies of which few take a node.
func (b *brokerBench) documents() string {
	rules := []string{
		`facts.memory.total_bytes >= %d * GiB and len(facts.disks) >= 1`,
		`facts.custom.rack == "r%02d"`,
		`any(facts.disks, .size_bytes > %d * GB)`,
		`any(facts.nics, .speed_mbps >= %d)`,
		`facts.system.product matches "(?i)r%d" and facts.cpu.cores >= 2`,
	}
	var s strings.Builder
	s.WriteString("kind: Ramdisk\nname: default\narch: amd64\nkernel: {name: vmlinuz, sha256: " + strings.Repeat("a", 64) + ", size_bytes: 1}\ninitrds: [{name: ramdisk, sha256: " +
		strings.Repeat("b", 64) + ", size_bytes: 1}]\n")
	for i := range b.tags {
		fmt.Fprintf(&s, "---\nkind: Tag\nname: t%03d\nrule: %s\n", i, fmt.Sprintf(rules[i%len(rules)], i/len(rules)+1))
	}
	for i := range b.policies {
		fmt.Fprintf(&s, "---\nkind: Policy\nname: p%03d\ntags: [t%03d, t%03d]\ntask: discover-only\n", i, i*2%b.tags, (i*2+1)%b.tags)
	}
	return s.String()
}

func (b *brokerBench) apply(documents string) {
	b.t.Helper()
	objects, err := broker.ParseObjects([]byte(documents))
	b.must(err)
	_, err = b.broker.Apply(b.t.Context(), objects, "bench")
	b.must(err)
}

func (b *brokerBench) do(method, path, key string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

func (b *brokerBench) script(i int) string {
	w := b.do(http.MethodGet, "/boot/ipxe?mac="+macOfNode(i), "", nil)
	if w.Code != http.StatusOK {
		b.t.Errorf("script of node %d: %d %s", i, w.Code, w.Body)
	}
	return w.Body.String()
}

func keyOf(i int) string { return fmt.Sprintf("key-%032d", i) }

func (b *brokerBench) checkIn(i int, token string, f *facts.Facts, hash string) {
	body, err := json.Marshal(facts.CheckIn{V: 1, Token: token, BootID: "b", Facts: f, FactsHash: hash})
	if err != nil {
		b.t.Error(err)
	}
	if w := b.do(http.MethodPost, "/node/v1/checkin", keyOf(i), body); w.Code != http.StatusOK {
		b.t.Errorf("check-in of node %d: %d %s", i, w.Code, w.Body)
	}
}

// A cost is what something took by the clock, and of all processors: on a machine that others use, only the second is
// its own.
type cost struct{ wall, cpu time.Duration }

func (c cost) String() string {
	return fmt.Sprintf("%v (CPU %v)", c.wall.Round(time.Millisecond), c.cpu.Round(time.Millisecond))
}

// per is the rate of n that cost so much.
func (c cost) per(n int) string {
	return fmt.Sprintf("%.0f/s (CPU %d us)", float64(n)/c.wall.Seconds(), c.cpu.Microseconds()/int64(n))
}

func (b *brokerBench) cost(f func()) cost {
	began, before := time.Now(), b.cpu()
	f()
	return cost{time.Since(began), b.cpu() - before}
}

// cpu is what this process has used.
func (b *brokerBench) cpu() time.Duration {
	var u unix.Rusage
	b.must(unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// each runs f for so many numbers, so many at once.
func (b *brokerBench) each(n, atOnce int, f func(i int)) cost {
	return b.cost(func() {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range atOnce {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
					f(i)
				}
			})
		}
		wg.Wait()
	})
}

// fill boots every machine once: its script, and its first check-in with all of its facts.
func (b *brokerBench) fill() {
	b.apply(b.documents())
	boots := b.each(b.nodes, 64, func(i int) {
		_, token, _ := strings.Cut(b.script(i), "muster.token=")
		token, _, _ = strings.Cut(strings.Fields(token)[0], "\n")
		b.checkIn(i, token, b.factsOf(i), "")
	})
	b.row("whole boots of new nodes (script, first facts), 64 at once", boots.per(b.nodes), "")
}

func (b *brokerBench) nextSteps() {
	const asks = 5000
	took := make([]time.Duration, asks)
	all := b.each(asks, 2, func(i int) {
		began := time.Now()
		b.script(i * 7919 % b.nodes)
		took[i] = time.Since(began)
	})
	slices.Sort(took)
	b.row("next step, rendered", fmt.Sprintf("p50 %v, p99 %v", took[asks/2].Round(10*time.Microsecond), took[asks*99/100].Round(10*time.Microsecond)), "goal p99 10 ms; "+all.per(asks))
}

// knownCheckIns are of agents whose facts the broker has: they say their hash.
func (b *brokerBench) knownCheckIns() {
	hashes := make([]string, b.nodes)
	for i := range hashes {
		h, err := b.factsOf(i).Hash()
		b.must(err)
		hashes[i] = h
	}
	b.checkIns("their facts known", func(i int) { b.checkIn(i, "", nil, hashes[i]) })
}

// wholeCheckIns are of agents that say all of their facts, as after a restart.
func (b *brokerBench) wholeCheckIns() {
	b.checkIns("with all facts", func(i int) { b.checkIn(i, "", b.factsOf(i), "") })
}

func (b *brokerBench) checkIns(how string, one func(i int)) {
	for _, atOnce := range []int{1, 16, 256} {
		n := min(b.nodes, number("MUSTER_BENCH_CHECKINS", 1500*min(atOnce, 4)))
		took := b.each(n, atOnce, one)
		b.row(fmt.Sprintf("durable check-ins, %s, %d at once", how, atOnce), took.per(n), "goal 5000/s")
	}
}

// lists reads nodes in brief through the API.
func (b *brokerBench) lists() {
	page := func(query, after string) (p broker.NodePage) {
		w := b.do(http.MethodGet, "/api/v1/nodes?"+query+"&after="+after, benchToken, nil)
		b.must(json.Unmarshal(w.Body.Bytes(), &p))
		return p
	}
	for _, query := range []string{"limit=1000", "limit=1000&sort=-seen", "limit=1000&tag=t001", "limit=1000&where=" + url.QueryEscape("facts.memory.total_bytes > 200 * GiB")} {
		var p broker.NodePage
		first := b.cost(func() { p = page(query, "") })
		nodes := len(p.Nodes)
		rest := b.cost(func() {
			for p.Next != "" {
				p = page(query, p.Next)
				nodes += len(p.Nodes)
			}
		})
		all := cost{first.wall + rest.wall, first.cpu + rest.cpu}
		b.row("nodes in brief, "+query, fmt.Sprintf("first page %v, all %v", first, all), fmt.Sprintf("goal 200 ms, 1 s; %d nodes", nodes))
	}
}

// commits is the limit of check-ins: the same engine and settings, a row of a node's size for each, and nothing decided.
func (b *brokerBench) commits() {
	doc, err := json.Marshal(b.factsOf(1))
	b.must(err)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.t.TempDir(), "raw.db")+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	b.must(err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("CREATE TABLE n(id INTEGER PRIMARY KEY, doc BLOB)")
	b.must(err)
	for _, group := range []int{1, 16, 256} {
		rows := 0
		c := b.cost(func() {
			for began := time.Now(); time.Since(began) < 2*time.Second; rows += group {
				tx, err := db.Begin()
				b.must(err)
				for i := range group {
					_, err = tx.Exec("INSERT OR REPLACE INTO n VALUES (?, ?)", (rows+i)%b.nodes, doc)
					b.must(err)
				}
				b.must(tx.Commit())
			}
		})
		b.row(fmt.Sprintf("SQLite alone, %d rows a commit", group), "", c.per(rows)+" rows")
	}
}

// retag changes one rule. Its limit is the same question in Go, over facts that are in memory.
func (b *brokerBench) retag() {
	var took []cost
	for i := range 3 {
		took = append(took, b.cost(func() {
			b.apply(fmt.Sprintf("kind: Tag\nname: t000\nrule: facts.memory.total_bytes >= %d * GiB and len(facts.disks) >= 1\n", 64*(i+1)))
		}))
	}
	all := make([]*facts.Facts, b.nodes)
	for i := range all {
		all[i] = b.factsOf(i)
	}
	began, hits := time.Now(), 0
	for range b.tags {
		for _, f := range all {
			if f.Memory != nil && f.Memory.TotalBytes >= 64<<30 && len(f.Disks) >= 1 {
				hits++
			}
		}
	}
	b.row("a rule changed: all tags of all nodes", fmt.Sprint(took), fmt.Sprintf("in Go by hand %v (%d)", time.Since(began), hits))
}

// waitingAgents are told apart by a fact.
const waitingAgents = 100

// waiting is agents that poll for an order while a policy that takes them is applied.
func (b *brokerBench) waiting() {
	const agents = waitingAgents
	var tags strings.Builder
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	told := make(chan time.Duration, agents)
	var began time.Time
	start := make(chan struct{})
	var ready sync.WaitGroup
	for i := range agents {
		n, err := b.broker.Node(ctx, macOfNode(i))
		b.must(err)
		ready.Add(1)
		go func() {
			ready.Done()
			if _, err := b.broker.WaitOrder(ctx, keyOf(i), n.Order.ID, 5*time.Minute); err == nil {
				<-start
				told <- time.Since(began)
			}
		}()
	}
	ready.Wait()
	<-time.After(time.Second) // what each reads before it waits is no part of this
	tags.WriteString("kind: Tag\nname: few\nrule: facts.custom.seat == \"few\"\n---\nkind: Policy\nname: now\norder: 1\ntags: [few]\ntask: discover-only\napproval: automatic\n")
	began = time.Now()
	close(start)
	b.apply(tags.String())
	applied := time.Since(began)
	var all []time.Duration
	for range agents {
		select {
		case d := <-told:
			all = append(all, d)
		case <-time.After(time.Minute):
			b.t.Fatalf("%d of %d agents were told", len(all), agents)
		}
	}
	slices.Sort(all)
	b.row("policy applied to order told, 100 waiting agents", fmt.Sprintf("p50 %v, last %v", all[agents/2].Round(time.Millisecond), all[agents-1].Round(time.Millisecond)), fmt.Sprintf("goal 1 s; apply returned after %v", applied.Round(time.Millisecond)))
}

// plan judges all nodes by other rules, and changes nothing.
func (b *brokerBench) plan() {
	objects, err := broker.ParseObjects([]byte(strings.ReplaceAll(b.documents(), ">= 1\n", ">= 2\n")))
	b.must(err)
	var p *broker.Plan
	took := b.cost(func() { p, err = b.broker.Plan(b.t.Context(), objects, true) })
	b.must(err)
	b.row("plan of all tags and policies", took.String(), fmt.Sprintf("%d nodes would change, %d not", p.Changed, p.Same))
}

func (b *brokerBench) memory() {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	b.must(err)
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(strings.TrimSpace(peak), "\n")
	st, err := os.Stat(filepath.Join(b.dir, "muster.db"))
	b.must(err)
	b.row("memory", fmt.Sprintf("heap %d MiB, peak %s", m.HeapAlloc>>20, peak), fmt.Sprintf("database %d MiB", st.Size()>>20))
}
