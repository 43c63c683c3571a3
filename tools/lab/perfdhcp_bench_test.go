package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"text/tabwriter"
)

// What perfdhcp asks for: more exchanges a second than any of the servers gives here, of so many clients, for seconds.
const perfdhcpRate, perfdhcpClients, perfdhcpTime = 6000, 40000, 5

var (
	perfdhcpSays = regexp.MustCompile(`(?m)^Rate: ([0-9.]+) 4-way exchanges/second`)
	perfdhcpLost = regexp.MustCompile(`(?m)^drops: (\d+)`)
)

// TestBenchPerfdhcp is DHCP's part of make bench-boot in the words of a load that is not ours: Kea's perfdhcp, behind a
// relay, with a fresh server each time and leases in memory. It sends whether answers come or not, so that a server of
// less than its rate loses exchanges. The table is for people.
func TestBenchPerfdhcp(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-boot")
	}
	if _, err := exec.LookPath("perfdhcp"); err != nil {
		t.Skip("perfdhcp is not installed: apt-get install --no-install-recommends kea-admin")
	}
	b, rates, lost := newDHCPBench(t), map[string][]float64{}, map[string][]float64{}
	for range benchRounds(3) {
		for _, p := range dhcpPeers {
			if _, err := exec.LookPath(p.program); err != nil {
				t.Logf("%s is left out: %v", p.name, err)
				continue
			}
			rate, drops := b.perfdhcp(t, p)
			rates[p.name], lost[p.name] = append(rates[p.name], rate), append(lost[p.name], drops)
		}
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "perfdhcp -r %d -p %d\tleases/s, each round\tlost\tmuster has\t\n", perfdhcpRate, perfdhcpTime)
	for _, p := range dhcpPeers {
		if r := rates[p.name]; len(r) > 0 {
			fmt.Fprintf(w, "%s\t%.0f %.0f\t%.0f\t%.2f x\t\n", p.name, middle(r), r, middle(lost[p.name]), middle(rates["muster"])/middle(r))
		}
	}
	w.Flush()
	t.Log("\n" + out.String())
}

// perfdhcp loads a fresh server once, and gives leases a second and the packets that had no answer.
func (b *dhcpBench) perfdhcp(t *testing.T, p dhcpPeer) (rate, lost float64) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dhcpbench")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	defer b.start(t, p, dir)()
	out, err := b.relay.Command(t.Context(), "perfdhcp", "-4", "-l", "10.64.0.2", "-r", strconv.Itoa(perfdhcpRate), "-R", strconv.Itoa(perfdhcpClients),
		"-p", strconv.Itoa(perfdhcpTime), "10.64.0.1").CombinedOutput() // fails with 3 where an exchange is lost
	said := perfdhcpSays.FindSubmatch(out)
	if said == nil {
		t.Fatalf("perfdhcp against %s: %v\n%s", p.name, err, out)
	}
	rate, _ = strconv.ParseFloat(string(said[1]), 64)
	for _, m := range perfdhcpLost.FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		lost += float64(n)
	}
	return rate, lost
}
