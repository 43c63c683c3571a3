package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"muster/agent/facts"
	"muster/broker"
)

// status is the one place where a class of error becomes an HTTP status.
func status(err error) int {
	var field *facts.FieldError
	switch {
	case errors.Is(err, facts.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &field):
		return http.StatusBadRequest
	case errors.Is(err, broker.ErrDenied), errors.Is(err, broker.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, broker.ErrConflict):
		return http.StatusConflict
	case errors.Is(err, broker.ErrInvalid):
		return http.StatusUnprocessableEntity
	case errors.Is(err, broker.ErrBusy):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// public is what the caller may read of an error. Where the store is and what ails it is for the log.
func public(err error) string {
	switch status(err) {
	case http.StatusInternalServerError:
		return "the broker failed; its log says why"
	case http.StatusServiceUnavailable:
		return "the broker's store is away or full; its log says why; try again"
	}
	return err.Error()
}

// problem writes problem+json (RFC 9457).
func problem(w http.ResponseWriter, code int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	w.WriteHeader(code)
	// The caller is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(map[string]any{"status": code, "title": http.StatusText(code), "detail": detail})
}

// handle turns a function that returns its error into a handler: the caller gets the public text, the log the cause.
func (s *server) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		code := status(err)
		if code >= 500 {
			s.Log.Error("serve", "method", r.Method, "path", logged(r.URL.Path), "err", err)
		}
		problem(w, code, public(err))
	}
}

// operatorError is handle's twin for huma's operations.
func (s *server) operatorError(err error) error {
	if err == nil {
		return nil
	}
	if status(err) >= 500 {
		s.Log.Error("serve operator", "err", err)
	}
	return huma.NewError(status(err), public(err))
}
