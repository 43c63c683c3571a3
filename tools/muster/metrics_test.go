package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"muster/boot/tftp"
)

// Each field of Counts has a counter of its own: a field that is added and forgotten here is seen.
func TestEveryCountIsAMetric(t *testing.T) {
	everyCount(t, "dhcp", dhcpCounters)
	everyCount(t, "tftp", tftpCounters)
}

func everyCount[C any](t *testing.T, service string, rows []counter[C]) {
	t.Helper()
	var c C
	fields := reflect.ValueOf(&c).Elem()
	want := map[string]bool{}
	for i := range fields.NumField() {
		fields.Field(i).SetUint(uint64(101 + i))
		want[fmt.Sprint(101+i)] = true
	}
	r := prometheus.NewRegistry()
	count(r, service, rows, func() C { return c })
	for _, line := range strings.Split(scrape(t, promhttp.HandlerFor(r, promhttp.HandlerOpts{})), "\n") {
		name, value, found := strings.Cut(line, " ")
		if !found || strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.HasPrefix(name, "muster_"+service+"_") || !strings.HasSuffix(name, "_total") || !want[value] {
			t.Errorf("%s is told as %q: not a count, or told twice", service, line)
		}
		delete(want, value)
	}
	if len(want) != 0 {
		t.Errorf("%d counts of %s are not told: those that were set to %v", len(want), service, want)
	}
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsOfServicesThatRun(t *testing.T) {
	text := scrape(t, metrics(nil, tftp.New(tftp.Config{}), slog.New(slog.DiscardHandler)))
	for part, want := range map[string]bool{
		"\nmuster_tftp_served_total 0\n":            true,
		"# TYPE muster_tftp_served_total counter\n": true,
		"\nprocess_open_fds ":                       true,
		"\ngo_goroutines ":                          true,
		"muster_dhcp_":                              false, // it does not run
	} {
		if strings.Contains(text, part) != want {
			t.Errorf("%q is told: %t; want %t in:\n%s", part, !want, want, text)
		}
	}
}
