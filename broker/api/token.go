package api

import (
	"context"
	"time"

	"muster/broker"
)

func (s *server) listTokens(ctx context.Context, _ *struct{}) (*body[[]broker.Token], error) {
	list, err := s.Broker.Tokens(ctx)
	return &body[[]broker.Token]{list}, s.operatorError(err)
}

// A NewToken is a token with what lets its owner in, which nobody can be shown again.
type NewToken struct {
	broker.Token
	Secret string `json:"token"`
}

func (s *server) createToken(ctx context.Context, in *struct {
	Body struct {
		Name    string      `json:"name" maxLength:"63" doc:"whose it is, for the journal"`
		Role    broker.Role `json:"role" enum:"reader,operator,admin"`
		Expires time.Time   `json:"expires,omitzero" required:"false"`
	}
}) (*body[NewToken], error) {
	t, secret, err := s.Broker.CreateToken(ctx, in.Body.Name, in.Body.Role, in.Body.Expires, who(ctx))
	if err != nil {
		return nil, s.operatorError(err)
	}
	return &body[NewToken]{NewToken{*t, secret}}, nil
}

func (s *server) revokeToken(ctx context.Context, in *struct {
	Name string `path:"name" maxLength:"63"`
}) (*struct{}, error) {
	return nil, s.operatorError(s.Broker.RevokeToken(ctx, in.Name, who(ctx)))
}
