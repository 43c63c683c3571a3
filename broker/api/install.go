package api

import (
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gorilla/mux"

	"muster/agent/facts"
	"muster/boot"
)

// installRoutes are what installers call, by no more than a URL: wget and curl of a few lines of shell, or PowerShell.
// The token is in the path, so it is never written down (see logged).
func (s *server) installRoutes(r *mux.Router) {
	in := r.PathPrefix("/install/{token:[A-Za-z0-9._-]{1,128}}").Subrouter()
	read := []string{http.MethodGet, http.MethodHead}
	call := []string{http.MethodGet, http.MethodPost}
	in.HandleFunc("/file/{name:[A-Za-z0-9][A-Za-z0-9._-]{0,63}}", s.handle(s.recipe)).Methods(read...)
	in.HandleFunc("/done/{stage:[a-z0-9-]{1,63}}", s.handle(s.installDone)).Methods(call...)
	in.HandleFunc("/failed/{stage:[a-z0-9-]{1,63}}", s.handle(s.installFailed)).Methods(call...)
	in.HandleFunc("/phase/{phase:[a-z0-9-]{1,63}}", s.handle(s.installPhase)).Methods(call...)
	in.HandleFunc("/log/{stage:[a-z0-9-]{1,63}}", s.handle(s.installLog)).Methods(call...)
	in.HandleFunc("/handoff/{stage:[a-z0-9-]{1,63}}", s.handle(s.handoff)).Methods(http.MethodGet)
	in.HandleFunc("/handoff/{stage:[a-z0-9-]{1,63}}", s.handle(s.handoffReport)).Methods(http.MethodPost)
}

// tokenOf is the caller's token, in the path or as a bearer's.
func tokenOf(r *http.Request) string {
	if token := mux.Vars(r)["token"]; token != "" {
		return token
	}
	return bearer(r)
}

// logged is a path as it may be written down.
func logged(path string) string {
	if rest, ok := strings.CutPrefix(path, "/node/v1/install/"); ok {
		_, what, _ := strings.Cut(rest, "/")
		return "/node/v1/install/TOKEN/" + what
	}
	return path
}

func (s *server) recipe(w http.ResponseWriter, r *http.Request) error {
	text, err := s.Broker.Recipe(r.Context(), tokenOf(r), mux.Vars(r)["name"], callerAddr(r))
	if err != nil {
		return err
	}
	return secretText(w, r, text)
}

// recipeByAddress answers fixed URLs, for who can be told no other: anaconda says its MACs (X-RHN-Provisioning-MAC-0:
// eth0 52:54:00:12:34:56), others have only their address.
func (s *server) recipeByAddress(w http.ResponseWriter, r *http.Request) error {
	said := r.URL.Query().Get("mac")
	if fields := strings.Fields(r.Header.Get("X-RHN-Provisioning-MAC-0")); len(fields) == 2 {
		said = fields[1]
	}
	var mac boot.MAC
	if said != "" {
		var err error
		if mac, err = boot.ParseMAC(said); err != nil {
			return &facts.FieldError{Path: "mac", Msg: err.Error()}
		}
	}
	text, err := s.Broker.RecipeFor(r.Context(), mac, callerAddr(r), mux.Vars(r)["name"])
	if err != nil {
		return err
	}
	return secretText(w, r, text)
}

func secretText(w http.ResponseWriter, r *http.Request, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := io.WriteString(w, text)
	return err
}

func (s *server) installDone(w http.ResponseWriter, r *http.Request) error {
	says, err := form(w, r)
	if err != nil {
		return err
	}
	return noContent(w, s.Broker.EndStage(r.Context(), tokenOf(r), mux.Vars(r)["stage"], says))
}

func (s *server) installFailed(w http.ResponseWriter, r *http.Request) error {
	says, err := form(w, r)
	if err != nil {
		return err
	}
	return noContent(w, s.Broker.FailInstall(r.Context(), tokenOf(r), mux.Vars(r)["stage"], says["msg"]))
}

func (s *server) installPhase(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, s.Broker.PhaseInstall(r.Context(), tokenOf(r), mux.Vars(r)["phase"]))
}

// maxLog is the most of a log that is read; the end of it is kept.
const maxLog = 64 << 10

// installLog takes msg and severity as parameters, or plain text as the body.
func (s *server) installLog(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxLog)
	text, severity := r.URL.Query().Get("msg"), r.URL.Query().Get("severity")
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return &facts.FieldError{Path: "body", Msg: "want at most 64 KiB"}
		}
		// curl says of any text that it is a form.
		if form, err := url.ParseQuery(string(body)); err == nil && form.Has("msg") {
			text, severity = form.Get("msg"), form.Get("severity")
		} else if len(body) > 0 {
			text = string(body)
		}
	}
	return noContent(w, s.Broker.LogInstall(r.Context(), tokenOf(r), mux.Vars(r)["stage"], severity, text))
}

func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// form reads a few words that a caller says of itself.
func form(w http.ResponseWriter, r *http.Request) (map[string]string, error) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		return nil, &facts.FieldError{Path: "body", Msg: "want a form of at most 16 KiB"}
	}
	says := map[string]string{}
	for k, v := range r.Form {
		if len(says) < 16 && len(v) > 0 {
			says[boot.Printable(k)] = boot.Printable(v[0])
		}
	}
	return says, nil
}

func callerAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
