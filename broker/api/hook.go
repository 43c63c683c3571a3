package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"muster/broker"
)

// hookRoutes are what operators ask of hooks beyond applying them.
func (s *server) hookRoutes(api huma.API) {
	get(api, "list-hooks", "/api/v1/hooks", "Hooks and how each fares", s.listHooks)
	get(api, "list-dead-letters", "/api/v1/hooks/{hook}/dead", "What a hook gave up, oldest first", s.deadLetters)
	post(api, "retry-hook", "/api/v1/hooks/{hook}/retry", "Try dead letters again", s.retryHook)
	post(api, "try-hook", "/api/v1/hooks/{hook}/try", "Call a hook once with an event that never was; its answer changes nothing", s.tryHook)
}

func (s *server) listHooks(ctx context.Context, _ *struct{}) (*body[[]broker.HookStatus], error) {
	list, err := s.Broker.Hooks(ctx)
	return &body[[]broker.HookStatus]{list}, s.operatorError(err)
}

func (s *server) deadLetters(ctx context.Context, in *struct {
	Hook string `path:"hook" maxLength:"63"`
}) (*body[[]broker.DeadLetter], error) {
	list, err := s.Broker.DeadLetters(ctx, in.Hook)
	return &body[[]broker.DeadLetter]{list}, s.operatorError(err)
}

// Retried says how many dead letters are tried again.
type Retried struct {
	Letters int `json:"letters"`
}

func (s *server) retryHook(ctx context.Context, in *struct {
	Hook string `path:"hook" maxLength:"63"`
	Body struct {
		Seq int64 `json:"seq,omitempty" minimum:"0" doc:"only the letter of this event; 0: all"`
	}
}) (*body[Retried], error) {
	n, err := s.Broker.RetryHook(ctx, in.Hook, in.Body.Seq, who(ctx))
	return &body[Retried]{Retried{n}}, s.operatorError(err)
}

func (s *server) tryHook(ctx context.Context, in *struct {
	Hook string `path:"hook" maxLength:"63"`
	Body struct {
		Event string `json:"event" maxLength:"63"`
		Node  string `json:"node" maxLength:"253"`
	}
}) (*body[broker.HookTrial], error) {
	t, err := s.Broker.TryHook(ctx, in.Hook, in.Body.Event, in.Body.Node)
	return &body[broker.HookTrial]{t}, s.operatorError(err)
}
