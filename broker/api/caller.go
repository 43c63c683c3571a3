package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"muster/boot"
	"muster/broker"
)

// authenticated lets in callers of the local socket and those who show an operator's token, and says in the request's
// context who it is. What he may do is asked at each route.
func (s *server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := s.caller(r)
		switch {
		case errors.Is(err, broker.ErrDenied):
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusUnauthorized, "an operator token is needed that has not ended and is not revoked: set MUSTER_TOKEN, or call on the server itself by its socket")
			return
		case err != nil:
			s.Log.Error("check token", "err", err)
			problem(w, http.StatusServiceUnavailable, "tokens cannot be checked now")
			return
		}
		next.ServeHTTP(w, r.WithContext(broker.WithCaller(r.Context(), c)))
	})
}

// caller says who calls; ErrDenied when nobody known does.
func (s *server) caller(r *http.Request) (broker.Caller, error) {
	if r.Context().Value(localKey{}) != nil {
		return broker.Caller{Name: "operator (local)", Role: broker.Admin, From: "local socket"}, nil
	}
	from := boot.Printable(r.RemoteAddr)
	sum := sha256.Sum256([]byte(bearer(r)))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(s.TokenHash)) == 1 {
		return broker.Caller{Name: "operator", Role: broker.Admin, From: from}, nil
	}
	t, err := s.Broker.CheckToken(r.Context(), bearer(r))
	return broker.Caller{Name: t.Name, Role: t.Role, From: from}, err
}

// who names the operator for the journal.
func who(ctx context.Context) string { return broker.CallerOf(ctx).Name }

// lacks says what role a caller would need, or nothing when his is enough.
func lacks(ctx context.Context, needs broker.Role) string {
	c := broker.CallerOf(ctx)
	if c.Role.May(needs) {
		return ""
	}
	return fmt.Sprintf("%s has the role %s; this needs %s", c.Name, c.Role, needs)
}

// only refuses callers of a lower role, in front of a huma operation.
func only(api huma.API, needs broker.Role) huma.Middlewares {
	return huma.Middlewares{func(ctx huma.Context, next func(huma.Context)) {
		if why := lacks(ctx.Context(), needs); why != "" {
			// The caller is gone if this fails; there is nobody to tell.
			_ = huma.WriteErr(api, ctx, http.StatusForbidden, why)
			return
		}
		next(ctx)
	}}
}
