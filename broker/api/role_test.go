package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/broker"
)

// makeToken makes an operator's token over the API.
func (r *rig) makeToken(t *testing.T, name, role string) string {
	t.Helper()
	a := r.call(t, "POST", "/api/v1/tokens", operatorToken, "application/json", `{"name":"`+name+`","role":"`+role+`"}`)
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(a.Body), &made); err != nil || a.Status != 200 || len(made.Token) < 26 {
		t.Fatalf("create token %s: %d %s, %v", name, a.Status, a.Body, err)
	}
	return made.Token
}

// status asks for an operation and reads no more than the head of its answer: a watch has no end.
func (r *rig) status(t *testing.T, op operation, token string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, op.method, r.url+op.path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestT45RolesMatrix: every route with every role; the document says what each needs, and the route does as it says.
func TestT45RolesMatrix(t *testing.T) {
	r := newRig(t)
	tokens := map[string]string{}
	for _, role := range broker.Roles() {
		tokens[string(role)] = r.makeToken(t, "a-"+string(role), string(role))
	}
	needs := map[string]int{}
	for _, op := range r.operations(t) {
		need := slices.Index(broker.Roles(), broker.Role(op.role))
		if need < 0 {
			t.Fatalf("%s %s needs the role %q", op.method, op.path, op.role)
		}
		needs[op.role]++
		for i, role := range broker.Roles() {
			got := r.status(t, op, tokens[string(role)])
			if refused := got == http.StatusForbidden; refused != (i < need) || got == http.StatusUnauthorized {
				t.Errorf("%s %s as %s = %d; it needs %s", op.method, op.path, role, got, op.role)
			}
		}
		reads := op.method == "GET" || op.path == "/api/v1/plan"
		if (reads && !strings.Contains(op.path, "tokens")) != (op.role == "reader") {
			t.Errorf("%s %s needs only %s", op.method, op.path, op.role)
		}
	}
	if needs["reader"] < 8 || needs["operator"] < 5 || needs["admin"] != 4 {
		t.Errorf("routes by role: %v; this test looks in the wrong place", needs)
	}
}

// TestTokensLetInTheirOwner: made, used, expired, revoked, forged; and nothing of them is kept but a hash.
func TestTokensLetInTheirOwner(t *testing.T) {
	now := time.Now()
	r := newRigAt(t, func() time.Time { return now })
	alice := r.makeToken(t, "alice", "operator")
	get := func(token string) int {
		return r.call(t, "GET", "/api/v1/nodes", token, "", "").Status
	}
	for what, token := range map[string]string{"another end": alice[:len(alice)-1] + "x", "another name": "bob" + strings.TrimPrefix(alice, "alice"),
		"no secret": "alice.", "only the name": "alice", "only the secret": strings.TrimPrefix(alice, "alice."), "more": alice + "A", "upper case": strings.ToUpper(alice)} {
		if got := get(token); got != 401 {
			t.Errorf("a token with %s = %d; want 401", what, got)
		}
	}
	if got := get(alice); got != 200 {
		t.Errorf("the token itself = %d", got)
	}
	for body, want := range map[string]int{`{"name":"alice","role":"admin"}`: 409, `{"name":"Bob","role":"admin"}`: 422, `{"name":"bob","role":"root"}`: 422,
		`{"name":"broker","role":"admin"}`: 422, `{"name":"bob","role":"admin","expires":"2001-01-01T00:00:00Z"}`: 422, `{"name":"bob","role":"admin","colour":"red"}`: 422} {
		if a := r.call(t, "POST", "/api/v1/tokens", operatorToken, "application/json", body); a.Status != want {
			t.Errorf("create %s = %d %s; want %d", body, a.Status, a.Body, want)
		}
	}
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", "kind: Token\nname: eve\nrole: admin\n"); a.Status != 422 {
		t.Errorf("a token by apply = %d %s", a.Status, a.Body)
	}
	a := r.call(t, "POST", "/api/v1/tokens", operatorToken, "application/json", `{"name":"guest","role":"reader","expires":"`+now.Add(time.Hour).Format(time.RFC3339)+`"}`)
	var guest struct{ Token string }
	if err := json.Unmarshal([]byte(a.Body), &guest); err != nil {
		t.Fatal(err)
	}
	before := get(guest.Token)
	now = now.Add(2 * time.Hour)
	if after := get(guest.Token); before != 200 || after != 401 {
		t.Errorf("a token for an hour = %d, and two hours later %d", before, after)
	}
	list := r.call(t, "GET", "/api/v1/tokens", operatorToken, "", "").Body
	if !strings.Contains(list, "alice") || strings.Contains(list, "sha256") || strings.Contains(list, strings.TrimPrefix(alice, "alice.")) {
		t.Errorf("the list of tokens is %s", list)
	}
	if strings.Contains(string(everyByte(t, r.dir)), strings.TrimPrefix(alice, "alice.")) || strings.Contains(r.log.String(), strings.TrimPrefix(alice, "alice.")) {
		t.Error("the token is kept")
	}
	if a := r.call(t, "DELETE", "/api/v1/tokens/alice", operatorToken, "", ""); a.Status != 204 || get(alice) != 401 {
		t.Errorf("after its end (%d %s) the token = %d", a.Status, a.Body, get(alice))
	}
}

// TestT49ChangesSayWho: each change of an operator is an event with who, from where and what.
func TestT49ChangesSayWho(t *testing.T) {
	r := newRig(t)
	r.agent(t, bootKey(1), "52:54:00:00:00:01")
	alice := r.makeToken(t, "alice", "operator")
	tag := func(rule string) string { return "kind: Tag\nname: a\nrule: " + rule + "\n" }
	for _, c := range []struct{ method, path, typ, body string }{
		{"POST", "/api/v1/nodes/node1/acts", "application/json", `{"verb":"hold","why":"bad fan"}`},
		{"POST", "/api/v1/apply", "application/yaml", tag("1 == 1")},
		{"POST", "/api/v1/apply", "application/yaml", tag("1 == 2")},
		{"DELETE", "/api/v1/objects/Tag/a", "", ""},
		{"POST", "/api/v1/nodes/node1/acts", "application/json", `{"verb":"delete"}`},
	} {
		if a := r.call(t, c.method, c.path, alice, c.typ, c.body); a.Status >= 300 {
			t.Fatalf("%s %s = %d %s", c.method, c.path, a.Status, a.Body)
		}
	}
	var events []broker.Event
	a := r.call(t, "GET", "/api/v1/events?who=alice", operatorToken, "", "")
	if err := json.Unmarshal([]byte(a.Body), &events); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Text)
		if e.Who != "alice" || !strings.HasPrefix(e.Data["from"], "127.0.0.1:") || e.Data["role"] != "operator" {
			t.Errorf("event %+v", e)
		}
	}
	want := "hold: bad fan|created Tag: a|changed Tag: a|deleted Tag: a|the record was deleted"
	if strings.Join(got, "|") != want {
		t.Errorf("alice did %s\nwant %s", strings.Join(got, "|"), want)
	}
	if d := events[2].Data; !strings.Contains(d["old"], "1 == 1") || !strings.Contains(d["new"], "1 == 2") {
		t.Errorf("a change says %v; want what it was and what it is", d)
	}
}
