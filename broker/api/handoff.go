package api

import (
	"context"
	"io"
	"net/http"

	"github.com/gorilla/mux"

	"muster/agent/facts"
)

func (s *server) showHandoff(ctx context.Context, in *nodePath) (*body[Script], error) {
	text, err := s.Broker.ShowHandoff(ctx, in.Node)
	return &body[Script]{Script{Text: text}}, s.operatorError(err)
}

func (s *server) listRecipes(ctx context.Context, in *struct {
	Node   string `path:"node" maxLength:"253"`
	Policy string `query:"policy" maxLength:"63" doc:"as if this policy had just taken the node"`
}) (*body[[]string], error) {
	_, names, err := s.Broker.ShowRecipe(ctx, in.Node, in.Policy, "")
	return &body[[]string]{names}, s.operatorError(err)
}

func (s *server) showRecipe(ctx context.Context, in *struct {
	Node   string `path:"node" maxLength:"253"`
	Name   string `path:"name" maxLength:"64"`
	Policy string `query:"policy" maxLength:"63" doc:"as if this policy had just taken the node"`
}) (*body[Script], error) {
	text, _, err := s.Broker.ShowRecipe(ctx, in.Node, in.Policy, in.Name)
	return &body[Script]{Script{Text: text}}, s.operatorError(err)
}

// handoff gives an installed system its script; 204 when nothing takes over.
func (s *server) handoff(w http.ResponseWriter, r *http.Request) error {
	text, err := s.Broker.Handoff(r.Context(), tokenOf(r), mux.Vars(r)["stage"])
	if err != nil {
		return err
	}
	if text == "" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "text/x-shellscript")
	w.Header().Set("Cache-Control", "no-store")
	_, err = io.WriteString(w, text)
	return err
}

// handoffReport takes how the script ended, as a form: status and the end of its log.
func (s *server) handoffReport(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		return &facts.FieldError{Path: "body", Msg: "want a form of at most 64 KiB"}
	}
	if err := s.Broker.ReportHandoff(r.Context(), tokenOf(r), mux.Vars(r)["stage"], r.PostForm.Get("status"), r.PostForm.Get("log")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
