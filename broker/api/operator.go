package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

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

func (s *server) getNode(ctx context.Context, in *nodePath) (*body[*broker.Record], error) {
	n, err := s.Broker.Node(ctx, in.Node)
	return &body[*broker.Record]{n}, s.operatorError(err)
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

func (s *server) act(ctx context.Context, in *struct {
	Node string `path:"node" maxLength:"253"`
	Body broker.Act
}) (*body[*broker.Record], error) {
	act := in.Body
	act.Why, act.Who = boot.Printable(act.Why), who(ctx)
	n, err := s.Broker.Do(ctx, in.Node, act)
	return &body[*broker.Record]{n}, s.operatorError(err)
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
		SizeBytes: img.SizeBytes, RawBytes: img.RawBytes, Compression: img.Compression, Chunks: img.Chunks, ChunksBytes: img.ChunksBytes})
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
