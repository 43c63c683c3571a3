package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"muster/agent/facts"
)

// nodeRoutes are what agents and installed systems call. Every refusal for who the caller is gives the same 404.
func (s *server) nodeRoutes(r *mux.Router) {
	r.HandleFunc("/checkin", s.handle(s.checkIn)).Methods(http.MethodPost)
	r.HandleFunc("/order", s.handle(s.order)).Methods(http.MethodGet)
	r.HandleFunc("/report", s.handle(s.report)).Methods(http.MethodPost)
	r.HandleFunc("/image/{sum:[0-9a-f]{64}}", s.handle(s.image)).Methods(http.MethodGet, http.MethodHead)
	r.HandleFunc("/stage/{stage:[a-z0-9-]{1,63}}", s.handle(s.stage)).Methods(http.MethodPost)
	r.HandleFunc("/handoff/{stage:[a-z0-9-]{1,63}}", s.handle(s.handoff)).Methods(http.MethodGet)
	r.HandleFunc("/handoff/{stage:[a-z0-9-]{1,63}}", s.handle(s.handoffReport)).Methods(http.MethodPost)
	s.installRoutes(r)
}

func (s *server) checkIn(w http.ResponseWriter, r *http.Request) error {
	in, err := facts.DecodeCheckIn(r.Body)
	if err != nil {
		return err
	}
	reply, err := s.Broker.CheckIn(r.Context(), bearer(r), in)
	if err != nil {
		return err
	}
	return writeJSON(w, reply)
}

// patience is how long an order is waited for before the agent asks again.
const patience = 50 * time.Second

func (s *server) order(w http.ResponseWriter, r *http.Request) error {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		return &facts.FieldError{Path: "after", Msg: "want the id of the last order"}
	}
	o, err := s.Broker.WaitOrder(r.Context(), bearer(r), after, patience)
	switch {
	case err != nil:
		return err
	case o == nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return writeJSON(w, o)
}

func (s *server) report(w http.ResponseWriter, r *http.Request) error {
	in, err := facts.DecodeReport(r.Body)
	if err != nil {
		return err
	}
	if err := s.Broker.Report(r.Context(), bearer(r), in); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// image serves the image of the caller's order, with ranges, so that a broken transfer goes on where it stopped.
func (s *server) image(w http.ResponseWriter, r *http.Request) error {
	sum := mux.Vars(r)["sum"]
	if err := s.Broker.Image(r.Context(), bearer(r), sum); err != nil {
		return err
	}
	f, err := s.Images.Read(sum)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("ETag", `"`+sum+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// stage takes the call of an installed system: the end of a stage, with a few words about itself as a form.
func (s *server) stage(w http.ResponseWriter, r *http.Request) error {
	says, err := form(w, r)
	if err != nil {
		return err
	}
	return noContent(w, s.Broker.EndStage(r.Context(), tokenOf(r), mux.Vars(r)["stage"], says))
}

func writeJSON(w http.ResponseWriter, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(raw, '\n'))
	return err
}
