package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humamux"
	"github.com/gorilla/mux"

	"muster/boot"
	"muster/broker"
	"muster/broker/repo"
)

// The bodies of the operators' API.
type (
	nodePath struct {
		Node string `path:"node" maxLength:"253" doc:"id, hostname or MAC of the node"`
	}
	body[T any] struct{ Body T }
)

// operatorRoutes are the operators' API; huma checks what comes in and describes it as OpenAPI 3.1.
func (s *server) operatorRoutes(r *mux.Router) {
	cfg := huma.DefaultConfig("muster", "1")
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "/api/v1/openapi", "", "/api/v1/schemas"
	api := humamux.New(r, cfg)
	get(api, "list-nodes", "/api/v1/nodes", "All nodes, oldest first", s.listNodes)
	get(api, "get-node", "/api/v1/nodes/{node}", "One node with its facts", s.getNode)
	get(api, "explain-node", "/api/v1/nodes/{node}/explain", "Why a node is where it is, and what it boots next", s.explain)
	get(api, "render-node", "/api/v1/nodes/{node}/render", "The boot script a node would get", s.render)
	get(api, "list-events", "/api/v1/events", "The journal; follow waits for the next event", s.events)
	get(api, "list-objects", "/api/v1/objects/{kind}", "Tags, policies, repos, ramdisks, hooks or handoffs", s.listObjects)
	post(api, "act-on-node", "/api/v1/nodes/{node}/acts", "protect, unprotect, hold, release, reinstall, abort, resolve, delete", s.act)
	post(api, "apply", "/api/v1/apply", "Create or change objects from YAML or JSON documents, all or none", s.apply)
	huma.Register(api, huma.Operation{OperationID: "delete-object", Method: http.MethodDelete, Path: "/api/v1/objects/{kind}/{name}",
		Summary: "Delete an object that nothing needs"}, s.deleteObject)
	get(api, "get-file", "/api/v1/files/{sum}", "Whether a file of a ramdisk is stored; one that is stays for a day without a ramdisk that names it", s.getFile)
	s.hookRoutes(api)
	get(api, "render-handoff", "/api/v1/nodes/{node}/handoff", "The script that takes over after a node's install, its secrets hidden", s.showHandoff)
	// Images and the files of ramdisks are streams, which huma would hold in memory.
	r.HandleFunc("/api/v1/repos/{name}/image", s.handle(s.importImage)).Methods(http.MethodPut)
	r.HandleFunc("/api/v1/files/{sum}", s.handle(s.importFile)).Methods(http.MethodPut)
}

func get[I, O any](api huma.API, id, path, summary string, f func(context.Context, *I) (*O, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}, f)
}

func post[I, O any](api huma.API, id, path, summary string, f func(context.Context, *I) (*O, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary,
		MaxBodyBytes: broker.MaxDocumentBytes + 1024}, f)
}

func (s *server) listNodes(ctx context.Context, _ *struct{}) (*body[[]*broker.Node], error) {
	nodes, err := s.Broker.Nodes(ctx)
	if nodes == nil {
		nodes = []*broker.Node{}
	}
	return &body[[]*broker.Node]{nodes}, s.operatorError(err)
}

func (s *server) getNode(ctx context.Context, in *nodePath) (*body[*broker.Node], error) {
	n, err := s.Broker.Node(ctx, in.Node)
	return &body[*broker.Node]{n}, s.operatorError(err)
}

func (s *server) explain(ctx context.Context, in *nodePath) (*body[*broker.Explanation], error) {
	x, err := s.Broker.Explain(ctx, in.Node)
	return &body[*broker.Explanation]{x}, s.operatorError(err)
}

// Script is a rendered boot script.
type Script struct {
	Because string `json:"because"`
	Text    string `json:"text"`
}

func (s *server) render(ctx context.Context, in *struct {
	Node    string `path:"node" maxLength:"253"`
	Dialect string `query:"dialect" default:"ipxe" enum:"ipxe,grub,pxelinux"`
}) (*body[Script], error) {
	c, step, err := s.Broker.Step(ctx, in.Node)
	if err != nil {
		return nil, s.operatorError(err)
	}
	text, err := boot.Render(boot.Dialect(in.Dialect), s.BaseURL, c, step)
	return &body[Script]{Script{step.Because, text}}, s.operatorError(err)
}

func (s *server) events(ctx context.Context, in *struct {
	Node   string `query:"node" maxLength:"253" doc:"only of this node: id, hostname or MAC"`
	After  int64  `query:"after" doc:"only with a greater seq"`
	Limit  int    `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
	Follow bool   `query:"follow" doc:"when there is none yet, wait up to 30 s for one"`
}) (*body[[]broker.Event], error) {
	f := broker.EventFilter{Node: in.Node, After: in.After, Limit: in.Limit}
	if in.Node != "" {
		n, err := s.Broker.Node(ctx, in.Node)
		if err != nil {
			return nil, s.operatorError(err)
		}
		f.Node = n.ID
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	events, err := s.Broker.Events(ctx, f, in.Follow)
	if events == nil {
		events = []broker.Event{}
	}
	return &body[[]broker.Event]{events}, s.operatorError(err)
}

func (s *server) listObjects(ctx context.Context, in *struct {
	Kind string `path:"kind" enum:"Tag,Policy,Repo,Ramdisk,Hook,Handoff"`
}) (*body[[]json.RawMessage], error) {
	objects, err := s.Broker.Objects(ctx, in.Kind)
	docs := []json.RawMessage{}
	for _, o := range objects {
		docs = append(docs, o.Doc)
	}
	return &body[[]json.RawMessage]{docs}, s.operatorError(err)
}

func (s *server) deleteObject(ctx context.Context, in *struct {
	Kind string `path:"kind" enum:"Tag,Policy,Repo,Ramdisk,Hook,Handoff"`
	Name string `path:"name" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.operatorError(s.Broker.DeleteObject(ctx, in.Kind, in.Name, who(ctx)))
}

func (s *server) act(ctx context.Context, in *struct {
	Node string `path:"node" maxLength:"253"`
	Body struct {
		Verb string `json:"verb"`
		Wipe bool   `json:"wipe,omitempty" doc:"reinstall: the disk may lose what it holds, this once"`
		Why  string `json:"why,omitempty" maxLength:"200"`
	}
}) (*body[*broker.Node], error) {
	n, err := s.Broker.Do(ctx, in.Node, broker.Act{Verb: in.Body.Verb, Wipe: in.Body.Wipe, Why: boot.Printable(in.Body.Why), Who: who(ctx)})
	return &body[*broker.Node]{n}, s.operatorError(err)
}

func (s *server) apply(ctx context.Context, in *struct {
	RawBody []byte `contentType:"application/yaml"`
}) (*body[[]broker.Applied], error) {
	objects, err := broker.ParseObjects(in.RawBody)
	if err != nil {
		return nil, s.operatorError(err)
	}
	results, err := s.Broker.Apply(ctx, objects, who(ctx))
	if results == nil {
		results = []broker.Applied{}
	}
	return &body[[]broker.Applied]{results}, s.operatorError(err)
}

func (s *server) getFile(_ context.Context, in *struct {
	Sum string `path:"sum" pattern:"^[0-9a-f]{64}$" doc:"sha256 of the file"`
}) (*body[repo.File], error) {
	size, err := s.Files.Held(in.Sum, "")
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w (%w)", err, broker.ErrNotFound)
	}
	return &body[repo.File]{repo.File{SHA256: in.Sum, SizeBytes: size}}, s.operatorError(err)
}

// importFile streams a kernel, initrd or signature into the store; a ramdisk that names it is applied after it.
func (s *server) importFile(w http.ResponseWriter, r *http.Request) error {
	f, err := s.Files.Import(http.MaxBytesReader(w, r.Body, repo.MaxFile+1), mux.Vars(r)["sum"])
	if err != nil {
		return fmt.Errorf("%w (%w)", err, broker.ErrInvalid)
	}
	return writeJSON(w, f)
}

// importImage streams an image into the store and then names it: a repo never points at half an image.
func (s *server) importImage(w http.ResponseWriter, r *http.Request) error {
	img, err := s.Images.Import(http.MaxBytesReader(w, r.Body, repo.MaxRaw))
	if err != nil {
		return fmt.Errorf("%w (%w)", err, broker.ErrInvalid)
	}
	doc, err := json.Marshal(broker.Repo{Kind: broker.KindRepo, Name: mux.Vars(r)["name"], SHA256: img.SHA256,
		SizeBytes: img.SizeBytes, RawBytes: img.RawBytes, Compression: img.Compression})
	if err != nil {
		return fmt.Errorf("encode repo: %w", err)
	}
	objects, err := broker.ParseObjects(doc)
	if err != nil {
		return err
	}
	if _, err := s.Broker.Apply(r.Context(), objects, who(r.Context())); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(doc)
	return err
}
