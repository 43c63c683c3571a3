// Package api is the broker's HTTP: /api/v1 for operators (described at /api/v1/openapi.json), /node/v1 for agents
// and installed systems, and the boot server's names beside them. It is a package of its own so that the broker knows
// no HTTP; here is the one place where an error becomes a status, and the one where a caller is told from a stranger.
package api

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"muster/boot"
	"muster/broker"
	"muster/broker/repo"
)

// Config says what the API speaks for.
type Config struct {
	Broker *broker.Broker
	Images *repo.Images
	Files  *repo.Files  // of ramdisks
	Repos  *Repos       // if nil, no install trees are served
	Boot   http.Handler // for the names of boot.Handles; if nil, none
	// Metrics answers /metrics, for everyone: it tells numbers and no names; if nil, there is none.
	Metrics http.Handler
	// TokenHash is the sha256, in hexadecimal, of the first token, an admin's. Callers on the local socket need none.
	TokenHash string
	BaseURL   string
	// PlainSecrets lets agents' keys and operators' tokens come over plain HTTP, where everybody on the way reads them.
	PlainSecrets bool
	Log          *slog.Logger // if nil, slog.Default
	// Heartbeat is how often a watch that has nothing to say says so, for proxies in between; if 0, 15 s. Patience is how
	// long a watcher may take for what it was sent; if 0, 10 s.
	Heartbeat, Patience time.Duration
}

type server struct {
	Config
	watchers chan struct{} // holds one for each that reads
}

// New gives the handler of everything the broker serves over HTTP.
func New(cfg Config) (http.Handler, error) {
	if _, err := hex.DecodeString(cfg.TokenHash); err != nil || len(cfg.TokenHash) != 64 {
		return nil, fmt.Errorf("operator token hash has %d characters, not 64 hexadecimal digits: remove the file to make a new token", len(cfg.TokenHash))
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	cfg.Heartbeat, cfg.Patience = cmp.Or(cfg.Heartbeat, 15*time.Second), cmp.Or(cfg.Patience, 10*time.Second)
	s := &server{cfg, make(chan struct{}, maxWatchers)}
	r := mux.NewRouter().SkipClean(true)
	r.HandleFunc("/healthz", s.handle(s.health)).Methods(http.MethodGet)
	if s.Metrics != nil {
		r.Handle("/metrics", s.Metrics).Methods(http.MethodGet)
	}
	if s.Repos != nil {
		r.PathPrefix("/repo/").Handler(s.handle(s.serveRepo)).Methods(http.MethodGet, http.MethodHead)
	}
	nodes := r.PathPrefix("/node/v1").Subrouter()
	nodes.Use(s.sealed(func(*http.Request) bool { return false }))
	s.nodeRoutes(nodes)
	recipes := r.NewRoute().Subrouter()
	recipes.Use(s.sealed(func(*http.Request) bool { return false }))
	recipes.HandleFunc("/ks", s.handle(s.recipeByAddress)).Methods(http.MethodGet)
	recipes.HandleFunc("/ks/{name:[A-Za-z0-9][A-Za-z0-9._-]{0,63}}", s.handle(s.recipeByAddress)).Methods(http.MethodGet)
	operators := r.NewRoute().Subrouter()
	operators.Use(s.sealed(fromLoopback), s.authenticated)
	s.operatorRoutes(operators)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.Boot != nil && boot.Handles(req.URL.Path) {
			s.Boot.ServeHTTP(w, req)
			return
		}
		r.ServeHTTP(w, req)
	}), nil
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) error {
	_, err := fmt.Fprintln(w, "ok")
	return err
}

type localKey struct{}

// LocalContext is a http.Server's ConnContext for the local socket: its file mode says who may call.
func LocalContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, localKey{}, true)
}

// sealed refuses what came in clear, unless it crossed no wire: on the local socket, or as safe says. The answer is the
// same whoever calls, and whatever for. What was in the request is known to the network by now; that it is not answered
// makes somebody notice.
func (s *server) sealed(safe func(*http.Request) bool) mux.MiddlewareFunc {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil && r.Context().Value(localKey{}) == nil && !s.PlainSecrets && !safe(r) {
				problem(w, http.StatusForbidden, "this is answered over https only: what comes in clear can be read on the way")
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func fromLoopback(r *http.Request) bool {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

// Timeouts for a http.Server around the handler: slow headers are cut, long polls and images are not.
const (
	ReadHeaderTimeout = 10 * time.Second
	IdleTimeout       = 2 * time.Minute
	MaxHeaderBytes    = 32 << 10
)
