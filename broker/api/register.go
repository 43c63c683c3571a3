package api

import (
	"context"

	"muster/broker"
)

// A registerBody is what POST /api/v1/nodes takes.
type registerBody struct {
	Nodes []broker.Registration `json:"nodes" minItems:"1" maxItems:"1000" doc:"each by a MAC, a UUID or a serial number, or several of these"`
}

func (s *server) registerNodes(ctx context.Context, in *struct{ Body registerBody }) (*body[[]broker.Registered], error) {
	results, err := s.Broker.Register(ctx, in.Body.Nodes, who(ctx))
	if err != nil {
		return nil, s.operatorError(err)
	}
	return &body[[]broker.Registered]{results}, nil
}

// Register makes nodes of machines before they boot, all or none.
func (c *Client) Register(ctx context.Context, nodes []broker.Registration) (results []broker.Registered, err error) {
	return results, c.Post(ctx, "/api/v1/nodes", registerBody{nodes}, &results)
}
