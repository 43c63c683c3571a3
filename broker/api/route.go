package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humamux"
	"github.com/gorilla/mux"

	"muster/broker"
)

// A route is one operation of the operators' API, and the least role that may ask for it.
type route struct {
	id, method, path string
	needs            broker.Role
	summary          string
	register         func(huma.API, *mux.Router, huma.Operation)
}

// routes is the table of the operators' API.
func (s *server) routes() []route {
	const (
		read, write, admin = broker.Reader, broker.Operator, broker.Admin
		GET, POST          = http.MethodGet, http.MethodPost
		PUT, DELETE        = http.MethodPut, http.MethodDelete
	)
	return []route{
		{"list-nodes", GET, "/api/v1/nodes", read, "Nodes in brief, filtered and in pages", typed(s.listNodes)},
		{"register-nodes", POST, "/api/v1/nodes", write, "Make nodes of machines before they boot, all or none; the same again changes nothing", typed(s.registerNodes)},
		{"get-node", GET, "/api/v1/nodes/{node}", read, "One node with its facts", typed(s.getNode)},
		{"explain-node", GET, "/api/v1/nodes/{node}/explain", read, "Why a node is where it is, and what it boots next", typed(s.explain)},
		{"get-timeline", GET, "/api/v1/nodes/{node}/timeline", read, "The phases of a node's boot and install, and where it is stuck", typed(s.timeline)},
		{"render-node", GET, "/api/v1/nodes/{node}/render", read, "The boot script a node would get", typed(s.render)},
		{"render-handoff", GET, "/api/v1/nodes/{node}/handoff", read, "The script that takes over after a node's install, its secrets hidden", typed(s.showHandoff)},
		{"list-recipes", GET, "/api/v1/nodes/{node}/recipes", read, "What a node's installer can fetch", typed(s.listRecipes)},
		{"render-recipe", GET, "/api/v1/nodes/{node}/recipes/{name}", read, "A file as a node's installer would get it, secrets and tokens hidden", typed(s.showRecipe)},
		{"act-on-node", POST, "/api/v1/nodes/{node}/acts", write, "protect, unprotect, hold, release, reinstall, abort, resolve, delete", typed(s.act)},
		{"list-events", GET, "/api/v1/events", read, "The journal; follow waits for the next event", typed(s.events)},
		{"watch", GET, "/api/v1/watch", read, "The journal as server-sent events, each as it happens; goes on after Last-Event-ID", s.stream(s.watch, watchDoc)},
		{"list-objects", GET, "/api/v1/objects/{kind}", read, "All objects of a kind", typed(s.listObjects)},
		{"get-object", GET, "/api/v1/objects/{kind}/{name}", read, "One object, with its revision", typed(s.getObject)},
		{"delete-object", DELETE, "/api/v1/objects/{kind}/{name}", write, "Delete an object that nothing needs", typed(s.deleteObject)},
		{"apply", POST, "/api/v1/apply", write, "Create or change objects from YAML or JSON documents, all or none", typed(s.apply)},
		{"plan", POST, "/api/v1/plan", read, "What an apply of these documents would change, on the stored facts", typed(s.plan)},
		{"get-file", GET, "/api/v1/files/{sum}", read, "Whether a file of a ramdisk is stored; one that is stays for a day without a ramdisk that names it", typed(s.getFile)},
		{"get-tree", GET, "/api/v1/trees/{sum}", read, "What is missing of an install tree; what is stored stays for a day without a repo that names it", typed(s.getTree)},
		{"import-tree", PUT, "/api/v1/trees/{sum}", write, "Store the manifest of an install tree under its sha256", s.stream(s.importTree, uploadDoc)},
		{"import-tree-files", POST, "/api/v1/trees/{sum}/files", write, "Store files of an install tree: a tar archive, each named by its sha256", s.stream(s.importTreeFiles, uploadDoc)},
		{"verify-repo", POST, "/api/v1/repos/{name}/verify", write, "Read again all that is stored of a repo; spoilt files of a tree are taken away", s.stream(s.verifyRepo, verifyDoc)},
		// Images and the files of ramdisks are streams, which huma would hold in memory.
		{"import-file", PUT, "/api/v1/files/{sum}", write, "Store a file of a ramdisk under its sha256", s.stream(s.importFile, uploadDoc)},
		{"import-image", PUT, "/api/v1/repos/{name}/image", write, "Store a disk image, plain or in zstd or gzip, and name it", s.stream(s.importImage, uploadDoc)},
		{"list-hooks", GET, "/api/v1/hooks", read, "Hooks and how each fares", typed(s.listHooks)},
		{"list-dead-letters", GET, "/api/v1/hooks/{hook}/dead", read, "What a hook gave up, oldest first", typed(s.deadLetters)},
		{"retry-hook", POST, "/api/v1/hooks/{hook}/retry", write, "Try dead letters again", typed(s.retryHook)},
		// It runs the command, or shows what an address of the server's own network answers.
		{"try-hook", POST, "/api/v1/hooks/{hook}/try", admin, "Call a hook once with an event that never was; its answer changes nothing", typed(s.tryHook)},
		{"list-tokens", GET, "/api/v1/tokens", admin, "Operators' tokens, without what lets anybody in", typed(s.listTokens)},
		{"create-token", POST, "/api/v1/tokens", admin, "Make a token for an operator; it is shown this once", typed(s.createToken)},
		{"revoke-token", DELETE, "/api/v1/tokens/{name}", admin, "End a token", typed(s.revokeToken)},
	}
}

// operatorRoutes serves the table; huma checks what comes in and describes it as OpenAPI 3.1.
func (s *server) operatorRoutes(r *mux.Router) {
	cfg := huma.DefaultConfig("muster", "1")
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "/api/v1/openapi", "", "/api/v1/schemas"
	cfg.Info.Description = "What operators ask of muster. Every refusal is problem+json (RFC 9457), its detail a sentence that says what to do."
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"operator": {Type: "http", Scheme: "bearer",
		Description: "An operator's token (muster token create). Callers on the server's socket need none."}}
	cfg.RejectUnknownQueryParameters = true
	api := humamux.New(r, cfg)
	for _, x := range s.routes() {
		x.register(api, r, huma.Operation{OperationID: x.id, Method: x.method, Path: x.path, Summary: x.summary,
			MaxBodyBytes: broker.MaxDocumentBytes + 1024, Errors: refusals(x), Middlewares: only(api, x.needs),
			Security: []map[string][]string{{"operator": {}}}, Extensions: map[string]any{"x-role": string(x.needs)}})
	}
}

// refusals are the statuses that an operation may answer beside its own.
func refusals(x route) []int {
	codes := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity,
		http.StatusInternalServerError, http.StatusServiceUnavailable}
	if x.method != http.MethodGet {
		codes = append(codes, http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge)
	}
	return codes
}

// typed is an operation whose bodies huma knows.
func typed[I, O any](f func(context.Context, *I) (*O, error)) func(huma.API, *mux.Router, huma.Operation) {
	return func(api huma.API, _ *mux.Router, op huma.Operation) { huma.Register(api, op, f) }
}

// stream is an operation beside huma, described by hand.
func (s *server) stream(f func(http.ResponseWriter, *http.Request) error, describe func(*huma.Operation)) func(huma.API, *mux.Router, huma.Operation) {
	return func(api huma.API, r *mux.Router, op huma.Operation) {
		needs := broker.Role(op.Extensions["x-role"].(string))
		r.HandleFunc(op.Path, s.handle(func(w http.ResponseWriter, r *http.Request) error {
			if why := lacks(r.Context(), needs); why != "" {
				problem(w, http.StatusForbidden, why)
				return nil
			}
			return f(w, r)
		})).Methods(op.Method)
		describe(&op)
		op.Responses["default"] = &huma.Response{Description: "A refusal", Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/ErrorModel"}}}}
		api.OpenAPI().AddOperation(&op)
	}
}

func pathParam(name, doc string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Description: doc, Schema: &huma.Schema{Type: huma.TypeString}}
}

func uploadDoc(op *huma.Operation) {
	name := "name"
	if strings.Contains(op.Path, "{sum}") {
		name = "sum"
	}
	op.Parameters = []*huma.Param{pathParam(name, "sha256 of the file or manifest, or the repo's name")}
	op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/octet-stream": {}}}
	op.Responses = map[string]*huma.Response{"200": {Description: "What is stored now",
		Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}}}}
}

func watchDoc(op *huma.Operation) {
	text := &huma.Schema{Type: huma.TypeString}
	op.Parameters = []*huma.Param{
		{Name: "after", In: "query", Description: "the seq to go on after; the newest when there is none", Schema: &huma.Schema{Type: huma.TypeInteger}},
		{Name: "Last-Event-ID", In: "header", Description: "comes before after", Schema: text},
		{Name: "nodes", In: "query", Description: "only of these nodes: a range", Schema: text},
		{Name: "kind", In: "query", Description: "only of these kinds, by comma", Schema: text},
		{Name: "who", In: "query", Description: "only what this operator did", Schema: text},
	}
	op.Responses = map[string]*huma.Response{"200": {Description: "id is the seq, event the kind, data the event as list-events gives it; a line with : every 15 s",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: text}}}}
}
