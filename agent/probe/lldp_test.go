package probe

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// A frame of a top-of-rack switch with each TLV that is read, and what it says.
const (
	lldpFrame    = "0180c200000e001cab12aa0188cc020704001cab12aa00040c0545746865726e6574312f3706020078080b7231322d7537206e6963300a08746f722d723132610c0b506c616e744f5320342e320e0400140004100c0501c000020b020000000700fe060080c2010064fe0b0080c20300640470726f76fe0600120f042400fe090080c20703000000050000"
	lldpNeighbor = `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"Ethernet1/7","ttl":120,"port_desc":"r12-u7 nic0","sys_name":"tor-r12a","sys_desc":"PlantOS 4.2","caps":["bridge"],"mgmt":["192.0.2.11"],"pvid":100,"vlans":[{"id":100,"name":"prov"}],"agg_capable":true,"agg_enabled":true,"agg_port":5,"mtu":9216}`

	lldpHeader = "0180c200000e001cab12aa0188cc"
	lldpFirst  = lldpHeader + "020704001cab12aa00" + "040205" + "30" + "06020078" // port "0"
)

func frameOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseLLDP(t *testing.T) {
	for _, row := range []struct {
		name, frame string
		want        string // JSON; "" is a frame of which nothing may be used
		err         error
	}{
		{"a switch that says everything", lldpFrame, lldpNeighbor, nil},
		{"a port may be named 0, and the end may be missing", lldpFirst, `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, nil},
		{"what follows the end is padding", lldpFirst + "0000ffff", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, nil},
		{"reserved types and foreign organizations are passed over", lldpFirst + "1401ff" + "fe05 0026bb0101" + "0000", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, nil},
		{"network addresses and bytes that are no text", lldpHeader + "02120502 20010db8000000000000000000000001" + "0403 07 ff00" + "06020001",
			`{"chassis_id":"2001:db8::1","port_id":"ff00","ttl":1}`, nil},
		{"T55: text with escapes is one clean line", lldpFirst + "0a0a 746f721b5b324a 0a2278", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120,"sys_name":"tor [2J \"x"}`, nil},
		{"T55: an identifier with escapes is told as bytes", lldpHeader + "020704001cab12aa00" + "0404051b5b41" + "06020078", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"1b5b41","ttl":120}`, nil},
		{"a length may have nine bits", lldpFirst + "ff2c" + strings.Repeat("00", 300) + "0a02 7879", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120,"sys_name":"xy"}`, nil},
		{"the VLAN named default keeps its name", lldpFirst + "fe0e 0080c203 0001 07 64656661756c74", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120,"vlans":[{"id":1,"name":"default"}]}`, nil},

		{"nothing", "", "", errTruncated},
		{"half an Ethernet header", "0180c200000e001c", "", errTruncated},
		{"another protocol", "0180c200000e001cab12aa010800" + "020704001cab12aa00", "", errNotLLDP},
		{"an address that is not the group's", "525400aa0001001cab12aa0188cc" + lldpFirst[28:], "", errNotLLDP},
		{"a frame without TLVs", lldpHeader, "", errOrder},
		{"half a TLV header", lldpFirst + "0a", "", errTruncated},
		{"the longest length there is, of which nothing is there", lldpFirst + "0bff", "", errTruncated},
		{"a length that is one too long", lldpFirst + "0a03 7879", "", errTruncated},
		{"the port before the chassis", lldpHeader + "04020530" + "020704001cab12aa00" + "06020078", "", errOrder},
		{"no lifetime", lldpHeader + "020704001cab12aa00" + "04020530" + "0000", "", errOrder},
		{"two chassis", lldpFirst + "020704001cab12aa01", "", errOrder},
		{"a MAC of five bytes", lldpHeader + "020604001cab12aa" + "04020530" + "06020078", "", errLength},
		{"a chassis without a name", lldpHeader + "020107" + "04020530" + "06020078", "", errLength},
		{"a port of blanks", lldpHeader + "020704001cab12aa00" + "0403052020" + "06020078", "", errNoName},
		{"half a lifetime", lldpHeader + "020704001cab12aa00" + "04020530" + "060178", "", errLength},

		{"half the capabilities are left out", lldpFirst + "0e020014" + "0a02 7879", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120,"sys_name":"xy"}`, errLength},
		{"a management address longer than its TLV is left out", lldpFirst + "1006 ff01c000020b", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, errLength},
		{"an IPv4 address of three bytes is left out", lldpFirst + "1005 0401c00002", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, errLength},
		{"a VLAN name longer than its TLV is left out", lldpFirst + "fe08 0080c203 0064ff70", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, errLength},
		{"VLAN 0 is left out", lldpFirst + "fe07 0080c203 000000", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, errLength},
		{"half an organization is left out", lldpFirst + "fe020080", `{"chassis_id":"00:1c:ab:12:aa:00","port_id":"0","ttl":120}`, errLength},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := parseLLDP(frameOf(t, row.frame))
			if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
				t.Errorf("error %v; want %v", err, row.err)
			}
			var want facts.Neighbor
			if row.want != "" {
				if err := json.Unmarshal([]byte(row.want), &want); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, n); diff != "" {
				t.Errorf("neighbour (-want +got):\n%s", diff)
			}
		})
	}
}

// Every beginning of a good frame is either refused or cut between two TLVs.
func TestLLDPCutAnywhere(t *testing.T) {
	whole := frameOf(t, lldpFrame)
	for i := range whole {
		n, err := parseLLDP(whole[:i])
		if (err == nil) != (n.ChassisID != "") {
			t.Errorf("the first %d bytes: neighbour %+v, error %v", i, n, err)
		}
	}
}

// Z20: whatever a port says, the facts that come of it are valid.
func FuzzLLDP(f *testing.F) {
	f.Add(frameOf(f, lldpFrame))
	f.Add(frameOf(f, lldpFirst+"0bff"))
	f.Add(frameOf(f, lldpHeader+"020107"))
	f.Add(frameOf(f, lldpFirst+"1006ff01c000020b"))
	f.Add(frameOf(f, lldpFirst+"fe0b0080c203006404ffffffff"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		n, err := parseLLDP(frame)
		if n.ChassisID == "" {
			if err == nil || !cmp.Equal(n, facts.Neighbor{}) {
				t.Fatalf("neighbour %+v, error %v", n, err)
			}
			return
		}
		if n.PortID == "" {
			t.Errorf("no port: %+v", n)
		}
		all := facts.Facts{Schema: facts.Schema, NICs: []facts.NIC{{Name: "eth0", LLDP: []facts.Neighbor{n}}}}
		if err := all.Validate(); err != nil {
			t.Error(err)
		}
	})
}

// wire is a machine with interfaces and no kernel.
type wire struct {
	*Neighbors
	links []net.Interface
}

func newWire(running ...bool) *wire {
	w := &wire{Neighbors: newNeighbors(time.Now)}
	for i, up := range running {
		l := net.Interface{Index: i + 1, Name: fmt.Sprintf("eth%d", i), HardwareAddr: net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(i)}, Flags: net.FlagUp}
		if up {
			l.Flags |= net.FlagRunning
		}
		w.links = append(w.links, l)
	}
	w.tick()
	return w
}

func (w *wire) tick() { w.look(w.links, nil, func(int) error { return nil }) }

// pass lets time pass as run does.
func (w *wire) pass(d time.Duration) {
	for range d / time.Second {
		time.Sleep(time.Second)
		w.tick()
	}
}

// says sends one frame of a switch with the chassis name given.
func (w *wire) says(t *testing.T, index int, chassis string, ttl byte, more string) {
	f := frameOf(t, lldpHeader)
	f = append(f, 2, byte(1+len(chassis)), 7)
	f = append(f, chassis...)
	f = append(f, 4, 2, 5, '1', 6, 2, 0, ttl)
	f = append(f, 10, byte(len(more)))
	f = append(f, more...)
	w.take(index, f, len(f))
}

// seen is what a look finds, in short; "?" is not known.
func (w *wire) seen() (string, []facts.ProbeError) {
	r := Result{}
	for _, l := range w.links {
		r.Facts.NICs = append(r.Facts.NICs, facts.NIC{Name: l.Name})
	}
	w.AddTo(&r)
	var all []string
	for _, nic := range r.Facts.NICs {
		s := "?"
		if nic.LLDP != nil {
			var ids []string
			for _, n := range nic.LLDP {
				ids = append(ids, n.ChassisID)
			}
			s = fmt.Sprint(ids)
		}
		all = append(all, s)
	}
	return strings.Join(all, " "), r.Errors
}

func (w *wire) wants(t *testing.T, want string) {
	t.Helper()
	if got, _ := w.seen(); got != want {
		t.Errorf("seen %s; want %s", got, want)
	}
}

// news says whether another look was asked for.
func (w *wire) news() bool {
	select {
	case <-w.Changed():
		return true
	default:
		return false
	}
}

func (w *wire) wantsNews(t *testing.T, want bool) {
	t.Helper()
	if got := w.news(); got != want {
		t.Errorf("another look asked for: %t; want %t", got, want)
	}
}

func TestNeighborsAreUnknownUntilTheySpokeOrHadTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(true, true)
		w.wants(t, "? ?")
		w.pass(20 * time.Second)
		w.wantsNews(t, false)
		w.says(t, 1, "tor", 120, "a")
		w.wantsNews(t, true)
		w.wants(t, "[tor] ?")
		w.says(t, 1, "tor", 119, "a") // the same again
		w.pass(14 * time.Second)
		w.wantsNews(t, false)
		w.pass(30 * time.Second) // eth1 had its time, and so had the check-in before
		w.wantsNews(t, true)
		w.wants(t, "[tor] []")
		w.pass(5 * time.Minute)
		w.wantsNews(t, true) // the switch is gone
		w.wants(t, "[] []")
		w.pass(5 * time.Minute)
		w.wantsNews(t, false)
	})
}

// A machine whose switches speak no LLDP is asked once for another look, not again and again.
func TestSilenceIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(true, false)
		w.wants(t, "? ?")
		w.pass(36 * time.Second)
		w.wantsNews(t, true)
		w.wants(t, "[] []")
		w.pass(10 * time.Minute)
		w.wantsNews(t, false)
		w.links[1].Flags |= net.FlagRunning // a cable is plugged in
		w.tick()
		w.wants(t, "[] ?")
	})
}

func TestNeighborsOfALinkThatWentAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(true, true)
		w.says(t, 1, "a", 120, "")
		w.says(t, 2, "b", 120, "")
		w.wants(t, "[a] [b]")
		w.links[0].Flags &^= net.FlagRunning
		w.tick()
		w.wants(t, "? [b]")
		w.says(t, 2, "b", 0, "") // good-bye
		w.wants(t, "? ?")
		w.links = w.links[:1]
		w.tick()
		w.says(t, 2, "c", 120, "") // from an interface that is gone
		w.wants(t, "?")
	})
}

// A neighbour that changes its name with every frame makes a check-in each 30 s and no more, and the memory for its
// names has an end.
func TestChatterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(true)
		looks := 0
		for i := range 300 {
			w.says(t, 1, fmt.Sprintf("sw%04d", i), 200, "x")
			w.take(1, []byte{1, 2, byte(i)}, 3) // nonsense
			w.take(1, nil, 1<<16)
			w.pass(time.Second)
			if w.news() {
				looks++
				w.seen()
			}
		}
		if looks < 9 || looks > 11 {
			t.Errorf("%d looks in 5 minutes; want one each 30 s", looks)
		}
		got, errs := w.seen()
		if got != "[sw0292 sw0293 sw0294 sw0295 sw0296 sw0297 sw0298 sw0299]" || len(errs) > lldpErrorsKept {
			t.Errorf("kept %s and %d errors; want the last %d and few", got, len(errs), maxNeighbors)
		}
	})
}

func TestFramesThatAreNotTaken(t *testing.T) {
	w := newWire(true, true)
	loop := frameOf(t, lldpFrame)
	copy(loop[6:12], w.links[1].HardwareAddr)
	w.take(1, loop, len(loop))
	w.take(1, loop, maxLLDPFrame+1)
	w.take(7, frameOf(t, lldpFrame), 139)
	got, errs := w.seen()
	want := []facts.ProbeError{
		{Collector: "lldp", Code: "io", Msg: "eth0: frame of our own port eth1"},
		{Collector: "lldp", Code: "io", Msg: "eth0: frame of 9217 bytes: truncated"},
	}
	if diff := cmp.Diff(want, errs); diff != "" || got != "? ?" {
		t.Errorf("seen %s, errors (-want +got):\n%s", got, diff)
	}
}

func TestWaitForNeighbors(t *testing.T) {
	for _, row := range []struct {
		name    string
		running []bool
		speaks  map[int]time.Duration
		limit   time.Duration
		want    time.Duration
	}{
		{"no limit, no wait", []bool{true}, nil, 0, 0},
		{"a switch that speaks ends the wait", []bool{true, false}, map[int]time.Duration{1: 2 * time.Second}, 5 * time.Second, 2 * time.Second},
		{"each link is waited for", []bool{true, true}, map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second}, 35 * time.Second, 4 * time.Second},
		{"silent switches end it with the limit", []bool{true}, nil, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire(row.running...)
				for index, after := range row.speaks {
					go func() { time.Sleep(after); w.says(t, index, "tor", 120, "") }()
				}
				began := time.Now()
				w.Wait(t.Context(), row.limit)
				if took := time.Since(began); took < row.want || took > row.want+100*time.Millisecond {
					t.Errorf("waited %v; want %v", took, row.want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
	var none *Neighbors
	none.Wait(t.Context(), time.Hour)
	none.AddTo(&Result{})
	if none.Changed() != nil {
		t.Error("nobody listens, and there is a channel")
	}
}

// joined is how the kernel says that nic0 takes what is sent to the nearest bridge.
var joined = regexp.MustCompile(`nic0 .* 0180c200000e`)

// A real kernel: the golden frame over a pair of virtual interfaces, in a network namespace of this test.
func TestListenOverVeth(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("wants root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("wants the program ip")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("link add nic0 type veth peer name port7")
	ip("link set nic0 up")
	ip("link set port7 up")
	fd, err := lldpSocket() // sockets belong to the namespace in which they were made; so does the list below
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.InterfaceByName("port7")
	if err != nil {
		t.Fatal(err)
	}
	n := newNeighbors(time.Now)
	ctx, cancel := context.WithCancel(t.Context()) // when nothing is heard, that is news too, after 35 s
	defer cancel()
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	frame := frameOf(t, lldpFrame)
	send := func(index int) {
		if err := unix.Sendto(out, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			t.Errorf("send: %v", err)
		}
	}
	go func() {
		<-n.Changed()
		cancel()
	}()
	sender := make(chan struct{})
	groups := fmt.Sprintf("/proc/self/task/%d/net/dev_mcast", unix.Gettid()) // of this namespace, from any thread
	go func() {
		defer close(sender)
		for ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			if b, _ := os.ReadFile(groups); joined.Match(b) {
				send(port.Index)
			}
		}
	}()
	n.run(ctx, fd)
	<-sender
	var r Result
	r.Facts.NICs = []facts.NIC{{Name: "nic0"}}
	n.AddTo(&r)
	b, err := json.Marshal(r.Facts.NICs[0].LLDP)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[" + lldpNeighbor + "]"; string(b) != want {
		t.Errorf("heard %s (errors %v); want %s", b, r.Errors, want)
	}
	if !bytes.Contains(b, []byte("tor-r12a")) || slices.Contains(r.Facts.Incomplete, "lldp") {
		t.Errorf("errors %v", r.Errors)
	}
}
