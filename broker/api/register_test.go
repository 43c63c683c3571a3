package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"muster/broker"
)

// TestRegisterNodes: what is asked by HTTP, and how it is answered.
func TestRegisterNodes(t *testing.T) {
	r := newRig(t)
	alice, bob := r.makeToken(t, "alice", "operator"), r.makeToken(t, "bob", "reader")
	register := func(token, body string) answer {
		return r.call(t, "POST", "/api/v1/nodes", token, "application/json", body)
	}
	var first string
	for _, want := range []string{"created", "unchanged"} {
		a := register(alice, `{"nodes":[{"macs":["52:54:00:00:00:11"],"hostname":"r12n01","meta":{"rack":"r12"},"installed":"razor"},{"serial":"SN2","protected":false}]}`)
		var results []broker.Registered
		if err := json.Unmarshal([]byte(a.Body), &results); err != nil || a.Status != 200 || len(results) != 2 || results[0].Result != want || results[0].State != broker.Active || results[1].State != broker.Enroll {
			t.Fatalf("%d %s, %v; want both %s", a.Status, a.Body, err, want)
		}
		if first == "" {
			first = results[0].Node
		}
		if results[0].Node != first {
			t.Errorf("the same machine is %s, then %s", first, results[0].Node)
		}
	}
	for _, tt := range []struct {
		token, body string
		status      int
		detail      string
	}{
		{bob, `{"nodes":[{"macs":["52:54:00:00:00:12"]}]}`, 403, "bob has the role reader; this needs operator"},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:12"]},{"macs":["00:00:00:00:00:00"]}]}`, 400, "nodes[1].macs[0]: 00:00:00:00:00:00 is no NIC's own address"},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:12"],"installed":{"by":"razor"}}]}`, 400, "nodes[0].installed: want true, or text"},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:12"]},{"macs":["52:54:00:00:00:11"],"serial":"SN2"}]}`, 409, "nodes[1]: its ids are those of nodes " + first + " and "},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:11"],"serial":"SN1"}]}`, 200, `"result":"changed"`},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:11"]},{"macs":["52:54:00:00:00:11"]}]}`, 409, "nodes[1]: it is the same machine as nodes[0]"},
		{alice, `{"nodes":[{"macs":["52:54:00:00:00:14"],"hostname":"r12n01"}]}`, 409, "nodes[0]: hostname r12n01 is that of node " + first},
		{alice, `{"nodes":[]}`, 422, "body.nodes"},
		{alice, `{"nodes":[{"mac":"52:54:00:00:00:12"}]}`, 422, "body.nodes[0].mac"},
		{alice, `{"nodes":[` + strings.Repeat(`{"serial":"SN3"},`, broker.MaxRegistrations) + `{"serial":"SN4"}]}`, 422, "body.nodes"},
	} {
		if a := register(tt.token, tt.body); a.Status != tt.status || !strings.Contains(a.Body, tt.detail) {
			t.Errorf("%.100s = %d %s; want %d %s", tt.body, a.Status, a.Body, tt.status, tt.detail)
		}
	}
	a := r.call(t, "GET", "/api/v1/events?who=alice&node="+first, operatorToken, "", "")
	var events []broker.Event
	if err := json.Unmarshal([]byte(a.Body), &events); err != nil {
		t.Fatal(err)
	}
	if len(events) != 2 || events[0].Kind != broker.EventAdded || events[1].Text != "registered: serial sn1" || events[0].Data["role"] != "operator" || !strings.HasPrefix(events[0].Data["from"], "127.0.0.1:") {
		t.Errorf("alice did %s", fmt.Sprint(events))
	}
}
