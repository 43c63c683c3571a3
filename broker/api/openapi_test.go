package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"muster/broker"
)

// TestOpenAPIIsValid reads the document with another implementation than the one that wrote it.
func TestOpenAPIIsValid(t *testing.T) {
	r := newRig(t)
	raw := r.call(t, "GET", "/api/v1/openapi.json", operatorToken, "", "").Body
	doc, err := openapi3.NewLoader().LoadFromData([]byte(raw))
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Fatalf("the document: %v", err)
	}
	seen := 0
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			seen++
			refusals := 0
			for status, resp := range op.Responses.Map() {
				if status != "default" && status[0] < '4' {
					continue
				}
				refusals++
				if resp.Value == nil || resp.Value.Content.Get("application/problem+json") == nil {
					t.Errorf("%s %s: the answer %s is not problem+json", method, path, status)
				}
			}
			if refusals == 0 || op.OperationID == "" || op.Summary == "" || op.Security == nil || len(*op.Security) == 0 {
				t.Errorf("%s %s: %d refusals, id %q, summary %q, security %v", method, path, refusals, op.OperationID, op.Summary, op.Security)
			}
		}
	}
	if seen < 18 {
		t.Errorf("%d operations: this test looks in the wrong place", seen)
	}
	kind := doc.Paths.Value("/api/v1/objects/{kind}").Get.Parameters.GetByInAndName("path", "kind")
	var kinds []string
	for _, k := range kind.Schema.Value.Enum {
		kinds = append(kinds, k.(string))
	}
	if !slices.Equal(kinds, broker.Kinds()) {
		t.Errorf("kinds %v; the table has %v", kinds, broker.Kinds())
	}
}

// TestAnswersAreAsDescribed: what the operations answer is what the document says of them.
func TestAnswersAreAsDescribed(t *testing.T) {
	r := newRig(t)
	r.agent(t, bootKey(1), "52:54:00:00:00:01")
	raw := r.call(t, "GET", "/api/v1/openapi.json", operatorToken, "", "").Body
	doc, err := openapi3.NewLoader().LoadFromData([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	for path, route := range map[string]string{
		"/api/v1/nodes": "/api/v1/nodes",
		"/api/v1/nodes?where=facts.cpu.cores%3E1":             "/api/v1/nodes",
		"/api/v1/nodes?tag=none":                              "/api/v1/nodes",
		"/api/v1/nodes?colour=red":                            "/api/v1/nodes",
		"/api/v1/nodes/node1":                                 "/api/v1/nodes/{node}",
		"/api/v1/nodes/node9":                                 "/api/v1/nodes/{node}",
		"/api/v1/nodes/node1/explain":                         "/api/v1/nodes/{node}/explain",
		"/api/v1/nodes/node1/timeline":                        "/api/v1/nodes/{node}/timeline",
		"/api/v1/nodes/node1/render?dialect=lilo":             "/api/v1/nodes/{node}/render",
		"/api/v1/events?limit=2":                              "/api/v1/events",
		"/api/v1/events?limit=x":                              "/api/v1/events",
		"/api/v1/objects/Ramdisk/standard":                    "/api/v1/objects/{kind}/{name}",
		"/api/v1/objects/Colour":                              "/api/v1/objects/{kind}",
		"/api/v1/tokens":                                      "/api/v1/tokens",
		"/api/v1/files/" + strings.Repeat("0", 64):            "/api/v1/files/{sum}",
		"/api/v1/nodes/node1/render?dialect=ipxe&more=things": "/api/v1/nodes/{node}/render",
	} {
		a := r.call(t, "GET", path, operatorToken, "", "")
		typ, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
		resp := doc.Paths.Value(route).Get.Responses.Status(a.Status)
		if resp == nil || resp.Value.Content.Get(typ) == nil {
			t.Errorf("GET %s answers %d in %s, which the document does not have", path, a.Status, typ)
			continue
		}
		var v any
		if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
			t.Errorf("GET %s: %v", path, err)
			continue
		}
		if err := resp.Value.Content.Get(typ).Schema.Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("GET %s = %d %s: %v", path, a.Status, a.Body, err)
		}
	}
}
