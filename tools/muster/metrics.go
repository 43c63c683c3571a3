package main

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"muster/boot/dhcp"
	"muster/boot/tftp"
)

// A counter is one number of a service's Counts, as Prometheus reads it.
type counter[C any] struct {
	name string // after muster_dhcp_ or muster_tftp_, before _total
	help string
	of   func(C) uint64
}

var dhcpCounters = []counter[dhcp.Counts]{
	{"packets", "Packets that arrived.", func(c dhcp.Counts) uint64 { return c.Received }},
	{"limited", "Packets not answered: one client asked too often.", func(c dhcp.Counts) uint64 { return c.Limited }},
	{"dropped", "Packets not answered: the queue was full.", func(c dhcp.Counts) uint64 { return c.Dropped }},
	{"malformed", "Packets that were no DHCP request.", func(c dhcp.Counts) uint64 { return c.Malformed }},
	{"unended", "Packets without option 255, which were served.", func(c dhcp.Counts) uint64 { return c.Unended }},
	{"ignored", "Packets for another server, of ordinary clients in proxy mode, or of a foreign relay.", func(c dhcp.Counts) uint64 { return c.Ignored }},
	{"probed", "Answers that waited for a probe of the link.", func(c dhcp.Counts) uint64 { return c.Probed }},
	{"conflicts", "Addresses that a probe found in use.", func(c dhcp.Counts) uint64 { return c.Conflicts }},
	{"heard", "Packets to the other server of this host, in same-host mode.", func(c dhcp.Counts) uint64 { return c.Heard }},
	{"rogue_offers", "Offers of another server, in server mode.", func(c dhcp.Counts) uint64 { return c.Rogue }},
	{"answers", "Packets sent.", func(c dhcp.Counts) uint64 { return c.Sent }},
}

var tftpCounters = []counter[tftp.Counts]{
	{"packets", "Packets that arrived on the service port.", func(c tftp.Counts) uint64 { return c.Received }},
	{"ignored", "Packets that got no answer: not permitted, no request, too many.", func(c tftp.Counts) uint64 { return c.Ignored }},
	{"repeated", "Requests whose first answer was on its way.", func(c tftp.Counts) uint64 { return c.Repeated }},
	{"refused", "Requests refused: no read request, or too many transfers.", func(c tftp.Counts) uint64 { return c.Refused }},
	{"missed", "Requests for a file that is not there.", func(c tftp.Counts) uint64 { return c.Missed }},
	{"served", "Files sent whole.", func(c tftp.Counts) uint64 { return c.Served }},
	{"probed", "Transfers broken off by the client without a fault.", func(c tftp.Counts) uint64 { return c.Probed }},
	{"aborted", "Transfers broken off with a fault.", func(c tftp.Counts) uint64 { return c.Aborted }},
	{"timed_out", "Transfers whose client fell silent.", func(c tftp.Counts) uint64 { return c.TimedOut }},
	{"sent_bytes", "Bytes of files that clients have.", func(c tftp.Counts) uint64 { return c.Bytes }},
}

// count registers the counters of a service, which are read when they are asked for.
func count[C any](r prometheus.Registerer, service string, rows []counter[C], counts func() C) {
	for _, row := range rows {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "muster", Subsystem: service, Name: row.name + "_total", Help: row.help,
		}, func() float64 { return float64(row.of(counts())) }))
	}
}

// metrics gives what /metrics answers: numbers only, and no name of a machine, because whoever reaches the broker may
// read it, as /healthz.
func metrics(d *dhcp.Server, t *tftp.Server, log *slog.Logger) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d != nil {
		count(r, "dhcp", dhcpCounters, d.Counts)
	}
	if t != nil {
		count(r, "tftp", tftpCounters, t.Counts)
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)})
}
