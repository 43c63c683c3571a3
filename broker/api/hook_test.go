package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
)

const secretDocs = `kind: Hook
name: cmdb
on: [node.active]
url: https://cmdb.example.net/
secret: whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5
---
kind: Handoff
name: site
parameters: {key: {secret: true}, server: {}}
template: join {{.Config.server | sh}} {{.Config.key | sh}}
config: {server: "ssh://canary-of-the-user@s.example.net", key: canary-of-the-key}
`

// TestT11SecretsOfHooksAndHandoffs: nobody sees what is sealed, and only an admin the user in a URL. What is shown
// can be applied again, of the revision that it was shown with, and changes nothing.
func TestT11SecretsOfHooksAndHandoffs(t *testing.T) {
	r := newRig(t)
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", secretDocs); a.Status != 200 {
		t.Fatalf("apply = %d %s", a.Status, a.Body)
	}
	paths := []string{"/api/v1/objects/Hook", "/api/v1/objects/Hook/cmdb", "/api/v1/hooks", "/api/v1/hooks/cmdb/dead",
		"/api/v1/objects/Handoff", "/api/v1/objects/Handoff/site", "/api/v1/events"}
	for who, token := range map[string]string{"admin": operatorToken, "operator": r.makeToken(t, "o", "operator"), "reader": r.makeToken(t, "r", "reader")} {
		for _, path := range paths {
			a := r.call(t, "GET", path, token, "", "")
			for secret, shown := range map[string]bool{"canary-of-the-key": false, "Y2FuYXJ5": false, "sealed:": false,
				"canary-of-the-user": who == "admin" && strings.Contains(path, "Handoff")} {
				if a.Status != 200 || strings.Contains(a.Body, secret) != shown {
					t.Errorf("GET %s as %s = %d %s; it shows %s: want %v", path, who, a.Status, a.Body, secret, shown)
				}
			}
		}
	}
	for _, path := range paths[:6] {
		a := r.call(t, "GET", path, operatorToken, "", "")
		var doc map[string]any
		if json.Unmarshal([]byte(a.Body), &doc) != nil || doc["kind"] == nil {
			continue // a list
		}
		doc["rev"] = strings.Trim(a.Header.Get("ETag"), `"`)
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		b := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", string(raw))
		var got []broker.Applied
		if err := json.Unmarshal([]byte(b.Body), &got); err != nil || len(got) != 1 || got[0].Result != "unchanged" {
			t.Errorf("applied again: %s = %d %s", raw, b.Status, b.Body)
		}
	}
}

// TestOnlyAnAdminWritesHooks: who writes one has the server. A handoff runs on installed nodes, as tasks do.
func TestOnlyAnAdminWritesHooks(t *testing.T) {
	r := newRig(t)
	token := r.makeToken(t, "o", "operator")
	hook, handoff, _ := strings.Cut(secretDocs, "---\n")
	got := map[string]int{
		"apply a hook":     r.call(t, "POST", "/api/v1/apply", token, "application/yaml", hook).Status,
		"as admin":         r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", hook).Status,
		"delete it":        r.call(t, "DELETE", "/api/v1/objects/Hook/cmdb", token, "", "").Status,
		"retry it":         r.call(t, "POST", "/api/v1/hooks/cmdb/retry", token, "application/json", "{}").Status,
		"apply a handoff":  r.call(t, "POST", "/api/v1/apply", token, "application/yaml", handoff).Status,
		"delete a handoff": r.call(t, "DELETE", "/api/v1/objects/Handoff/site", token, "", "").Status,
	}
	want := map[string]int{"apply a hook": http.StatusForbidden, "as admin": 200, "delete it": http.StatusForbidden, "retry it": 200, "apply a handoff": 200, "delete a handoff": 204}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
