package api

import (
	"context"

	"muster/broker"
)

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
