package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gorilla/mux"

	"muster/broker"
	"muster/broker/repo"
)

// notStored makes what a store does not have a 404 and what it refuses a 422.
func notStored(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (%w)", err, broker.ErrNotFound)
	}
	return fmt.Errorf("%w (%w)", err, broker.ErrInvalid)
}

func (s *server) getTree(_ context.Context, in *struct {
	Sum string `path:"sum" pattern:"^[0-9a-f]{64}$" doc:"sha256 of the manifest"`
}) (*body[repo.TreeState], error) {
	st, err := s.Repos.Trees.State(in.Sum)
	if errors.Is(err, fs.ErrNotExist) {
		err = notStored(err)
	}
	return &body[repo.TreeState]{st}, s.operatorError(err)
}

// importTree takes the manifest of a tree; its files follow, and then a repo that names it is applied: a repo never
// points at half a tree.
func (s *server) importTree(w http.ResponseWriter, r *http.Request) error {
	sum := mux.Vars(r)["sum"]
	if err := s.Repos.Trees.ImportManifest(http.MaxBytesReader(w, r.Body, repo.MaxManifest+1), sum); err != nil {
		return notStored(err)
	}
	st, err := s.Repos.Trees.State(sum)
	if err != nil {
		return err
	}
	return writeJSON(w, st)
}

// importTreeFiles takes files as Source.Send writes them.
func (s *server) importTreeFiles(w http.ResponseWriter, r *http.Request) error {
	n, err := s.Repos.Trees.Import(mux.Vars(r)["sum"], r.Body)
	if err != nil {
		return notStored(err)
	}
	return writeJSON(w, map[string]int{"files": n})
}

// Verified is a line of what verifying says as it goes on; the last has Done.
type Verified struct {
	Read   int64    `json:"read"` // bytes
	Bytes  int64    `json:"bytes"`
	Done   bool     `json:"done,omitempty"`
	Spoilt []string `json:"spoilt,omitempty"` // paths whose bytes are not what they were
	Error  string   `json:"error,omitempty"`
}

// verifyEvery is after how many bytes a line is sent.
const verifyEvery = 16 << 20

// verifyRepo reads again all that is stored of a repo.
func (s *server) verifyRepo(w http.ResponseWriter, r *http.Request) error {
	x, ok := s.Broker.Repo(mux.Vars(r)["name"])
	if !ok {
		return fmt.Errorf("there is no repo %q (%w)", mux.Vars(r)["name"], broker.ErrNotFound)
	}
	if x.URL != "" {
		return fmt.Errorf("repo %s is a mirror: nothing of it is stored here (%w)", x.Name, broker.ErrInvalid)
	}
	w.Header().Set("Content-Type", "application/jsonl")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	v, told := Verified{Bytes: x.SizeBytes}, int64(0)
	read := func(n int64) {
		if v.Read += n; v.Read-told >= verifyEvery {
			told = v.Read
			_, _ = out.Encode(v), flush.Flush() // who asked may have gone; the request's context says so
		}
	}
	var err error
	v.Spoilt, err = s.verify(r.Context(), x, read)
	if v.Done = true; err != nil {
		s.Log.Error("verify repo", "repo", x.Name, "err", err)
		v.Error = public(err)
	}
	return out.Encode(v)
}

func (s *server) verify(ctx context.Context, x broker.Repo, read func(int64)) ([]string, error) {
	if x.Tree != "" {
		spoilt, err := s.Repos.Trees.Verify(ctx, x.Tree, read)
		if errors.Is(err, fs.ErrNotExist) {
			err = notStored(err)
		}
		return spoilt, err
	}
	f, err := s.Images.Read(x.SHA256)
	if errors.Is(err, os.ErrNotExist) {
		return []string{"image"}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if whole, err := repo.Whole(ctx, f, x.SHA256, read); err != nil || whole {
		return nil, err
	}
	return []string{"image"}, nil
}

func verifyDoc(op *huma.Operation) {
	op.Parameters = []*huma.Param{pathParam("name", "the repo's name")}
	op.Responses = map[string]*huma.Response{"200": {Description: "A line of JSON every 16 MiB; the last has done, and the paths that are spoilt",
		Content: map[string]*huma.MediaType{"application/jsonl": {Schema: &huma.Schema{Type: huma.TypeObject}}}}}
}
