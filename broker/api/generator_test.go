package api_test

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The generator and what its clients need, at versions that were seen to work. They are no requirements of muster's.
const (
	generator        = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
	generatorRuntime = "github.com/oapi-codegen/runtime@v1.9.0"
)

// generatedMain asks a server by the generated client: a list with filters, one node, and a node that is not there.
const generatedMain = `package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"client.test/client"
)

func main() {
	as := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Args[2])
		return nil
	}
	c, err := client.NewClientWithResponses(os.Args[1], client.WithRequestEditorFn(as))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	where, limit := "facts.schema == 1", int64(10)
	list, err := c.ListNodesWithResponse(ctx, &client.ListNodesParams{Where: &where, Limit: &limit})
	if err != nil || list.JSON200 == nil {
		panic(fmt.Sprint(list, err))
	}
	one, err := c.GetNodeWithResponse(ctx, "node1")
	if err != nil || one.JSON200 == nil {
		panic(fmt.Sprint(one, err))
	}
	none, err := c.GetNodeWithResponse(ctx, "node9")
	if err != nil || none.ApplicationproblemJSON404 == nil {
		panic(fmt.Sprint(none, err))
	}
	fmt.Println(list.StatusCode(), one.JSON200.Id, *none.ApplicationproblemJSON404.Detail)
}
`

// TestAGeneratorAcceptsTheDocument makes a client of the document, compiles it outside this module, and asks by it.
func TestAGeneratorAcceptsTheDocument(t *testing.T) {
	if os.Getenv("MUSTER_GENERATE") == "" {
		t.Skip("MUSTER_GENERATE is not set: make test-openapi, which downloads a generator")
	}
	r := newRig(t)
	r.agent(t, bootKey(1), "52:54:00:00:00:01")
	server := httptest.NewTLSServer(r.handler)
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"openapi.json": r.call(t, "GET", "/api/v1/openapi.json", operatorToken, "", "").Body,
		"go.mod":       "module client.test\n\ngo 1.26\n",
		"main.go":      generatedMain,
		"client/.keep": "",
		"ca.pem":       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		c := exec.Command("go", args...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if args[1] == "." {
			c.Env = append(c.Env, "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"))
		}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if said := run("run", generator, "-generate", "types,client", "-package", "client", "-o", "client/client.go", "openapi.json"); strings.TrimSpace(said) != "" {
		t.Logf("the generator says:\n%s", said)
	}
	run("get", generatorRuntime)
	run("mod", "tidy")
	run("vet", "./...")
	if got := run("run", ".", server.URL, operatorToken); !strings.HasPrefix(got, "200 node1 ") {
		t.Errorf("the client got %q", got)
	}
}
