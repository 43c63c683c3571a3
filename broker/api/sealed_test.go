package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/api"
)

// inClear calls the handler as somebody on the network does, over plain HTTP.
func inClear(h http.Handler, from, method, path, bearer, body string) answer {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = from
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.String()}
}

const stranger, loopback = "192.0.2.77:4711", "127.0.0.1:4711"

// TestT13SecretsAreRefusedInClear: every route of agents and operators, with right and wrong secrets, gives one and the
// same answer over plain HTTP, and does nothing.
func TestT13SecretsAreRefusedInClear(t *testing.T) {
	r := newRig(t)
	token := r.bootToken(t, "52:54:00:00:00:01")
	before := r.call(t, "GET", "/api/v1/events", operatorToken, "", "").Body
	want := inClear(r.handler, stranger, "GET", "/node/v1/order?after=0", "", "")
	if want.Status != http.StatusForbidden || !strings.Contains(want.Body, "https only") {
		t.Fatalf("plain HTTP is answered %+v", want)
	}
	routes := append(r.operations(t), operation{method: "POST", path: "/node/v1/checkin"}, operation{method: "GET", path: "/node/v1/order?after=-1"}, operation{method: "POST", path: "/node/v1/report"},
		operation{method: "GET", path: "/node/v1/image/" + strings.Repeat("0", 64)}, operation{method: "POST", path: "/node/v1/stage/first-boot"})
	for _, op := range routes {
		for _, bearer := range []string{"", bootKey(1), operatorToken} {
			got := inClear(r.handler, stranger, op.method, op.path, bearer, checkIn(token, "52:54:00:00:00:01"))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s with %q (-want +got):\n%s", op.method, op.path, bearer, diff)
			}
		}
	}
	if after := r.call(t, "GET", "/api/v1/events", operatorToken, "", "").Body; after != before {
		t.Errorf("calls in clear left something in the journal: %s", after)
	}
	// What crosses no wire needs no TLS; the agents' routes are for machines, which are never here.
	if got := inClear(r.handler, loopback, "GET", "/api/v1/nodes", operatorToken, ""); got.Status != 200 {
		t.Errorf("an operator on this host: %d %s", got.Status, got.Body)
	}
	if got := inClear(r.handler, loopback, "POST", "/node/v1/checkin", bootKey(1), checkIn(token, "52:54:00:00:00:01")); got.Status != http.StatusForbidden {
		t.Errorf("an agent on this host: %d %s", got.Status, got.Body)
	}
	// Boot loaders can do no better.
	if got := inClear(r.handler, stranger, "GET", "/boot/ipxe?mac=52:54:00:00:00:01", "", ""); got.Status != 200 || !strings.Contains(got.Body, "muster.token=") {
		t.Errorf("a boot loader: %d %s", got.Status, got.Body)
	}
}

func TestPlainSecretsAreTakenWhenTheOperatorSaysSo(t *testing.T) {
	r := newRig(t, func(c *api.Config) { c.PlainSecrets = true })
	token := r.bootToken(t, "52:54:00:00:00:01")
	if got := inClear(r.handler, stranger, "POST", "/node/v1/checkin", bootKey(1), checkIn(token, "52:54:00:00:00:01")); got.Status != 200 {
		t.Errorf("an agent: %d %s", got.Status, got.Body)
	}
	if got := inClear(r.handler, stranger, "GET", "/api/v1/nodes", operatorToken, ""); got.Status != 200 {
		t.Errorf("an operator: %d %s", got.Status, got.Body)
	}
	if got := inClear(r.handler, stranger, "GET", "/api/v1/nodes", "", ""); got.Status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d %s", got.Status, got.Body)
	}
}

// TestT10TheTokenOfTheKernelLineIsDeadAfterTheCheckIn: who reads /proc/cmdline of a machine that has checked in, or
// read its boot script on the way, has nothing: another key is refused with the token, and the token is no key.
func TestT10TheTokenOfTheKernelLineIsDeadAfterTheCheckIn(t *testing.T) {
	r := newRig(t)
	const mac = "52:54:00:00:00:01"
	token := r.bootToken(t, mac)
	r.agent(t, bootKey(1), mac)
	want := r.call(t, "GET", "/node/v1/order?after=-1", "", "", "")
	for what, got := range map[string]answer{
		"the token with another key": r.call(t, "POST", "/node/v1/checkin", bootKey(2), "application/json", checkIn(token, mac)),
		"the token as a key":         r.call(t, "GET", "/node/v1/order?after=-1", token, "", ""),
		"the token as its own key":   r.call(t, "POST", "/node/v1/checkin", token, "application/json", checkIn(token, mac)),
	} {
		if diff := cmp.Diff(want, got); diff != "" || got.Status != http.StatusNotFound {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	// The machine itself goes on: its check-in may be sent again, when the answer was lost.
	if got := r.call(t, "POST", "/node/v1/checkin", bootKey(1), "application/json", checkIn(token, mac)); got.Status != 200 {
		t.Errorf("the machine's own key: %d %s", got.Status, got.Body)
	}
}
