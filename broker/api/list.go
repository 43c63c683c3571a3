package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"muster/broker"
)

func (s *server) listNodes(ctx context.Context, in *struct {
	Range  string   `query:"nodes" maxLength:"8192" doc:"a range, such as r12n[01-36],@gpu,-r12n07"`
	Tags   []string `query:"tag,explode" maxItems:"64" doc:"carried; several: all of them"`
	States []string `query:"state,explode" maxItems:"32" doc:"a provision state, or hold, conflict, protected; several: any of them"`
	Policy string   `query:"policy" maxLength:"63"`
	Where  string   `query:"where" maxLength:"4096" doc:"a rule, as a tag's, on the stored facts"`
	Sort   string   `query:"sort" maxLength:"16" doc:"created, hostname, policy, seen, since or state; - in front turns it round"`
	After  string   `query:"after" maxLength:"1024" doc:"next of the page before"`
	Limit  int      `query:"limit" default:"500" minimum:"1" maximum:"1000" doc:"a page may be shorter, with more to come"`
}) (*body[*broker.NodePage], error) {
	p, err := s.Broker.List(ctx, broker.NodeQuery{Range: in.Range, Tags: in.Tags, States: in.States, Policy: in.Policy,
		Where: in.Where, Sort: in.Sort, After: in.After, Limit: in.Limit})
	return &body[*broker.NodePage]{p}, s.operatorError(err)
}

// A journalPage says beside its events where the next question goes on.
type journalPage struct {
	Next int64 `header:"Muster-Next" doc:"after of the next page; at the end, the same as after"`
	Body []broker.Event
}

func (s *server) events(ctx context.Context, in *struct {
	Node   string    `query:"node" maxLength:"8192" doc:"only of this node, or of a range"`
	After  int64     `query:"after" doc:"only with a greater seq"`
	Limit  int       `query:"limit" default:"1000" minimum:"1" maximum:"10000"`
	Who    string    `query:"who" maxLength:"63" doc:"only what this operator did"`
	Kinds  []string  `query:"kind" maxItems:"64" doc:"only of these kinds, by comma"`
	Since  time.Time `query:"since" doc:"not before (RFC 3339)"`
	Follow bool      `query:"follow" doc:"when there is none yet, wait up to 30 s for one"`
}) (*journalPage, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	events, next, err := s.Broker.ReadJournal(ctx, broker.JournalQuery{Range: in.Node, After: in.After, Limit: in.Limit,
		Who: in.Who, Kinds: in.Kinds, Since: in.Since}, in.Follow)
	if events == nil {
		events = []broker.Event{}
	}
	return &journalPage{next, events}, s.operatorError(err)
}

func (s *server) timeline(ctx context.Context, in *nodePath) (*body[*broker.Timeline], error) {
	t, err := s.Broker.Timeline(ctx, in.Node)
	return &body[*broker.Timeline]{t}, s.operatorError(err)
}

// kindName is a kind of objects; its schema lists the table of kinds.
type kindName string

// Schema implements huma.SchemaProvider.
func (kindName) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, k := range broker.Kinds() {
		s.Enum = append(s.Enum, k)
	}
	return s
}

func (s *server) listObjects(ctx context.Context, in *struct {
	Kind kindName `path:"kind"`
}) (*body[[]json.RawMessage], error) {
	objects, err := s.Broker.Objects(ctx, string(in.Kind))
	docs := []json.RawMessage{}
	for _, o := range objects {
		docs = append(docs, seenBy(ctx, o))
	}
	return &body[[]json.RawMessage]{docs}, s.operatorError(err)
}

// An objectBody has the revision of the object as its ETag.
type objectBody struct {
	ETag string `header:"ETag"`
	Body json.RawMessage
}

func (s *server) getObject(ctx context.Context, in *struct {
	Kind kindName `path:"kind"`
	Name string   `path:"name" maxLength:"63"`
}) (*objectBody, error) {
	o, err := s.Broker.Object(ctx, string(in.Kind), in.Name)
	if err != nil {
		return nil, s.operatorError(err)
	}
	return &objectBody{`"` + o.Rev() + `"`, seenBy(ctx, o)}, nil
}

func (s *server) deleteObject(ctx context.Context, in *struct {
	Kind kindName `path:"kind"`
	Name string   `path:"name" maxLength:"63"`
}) (*struct{}, error) {
	if why := lacks(ctx, kindNeeds(string(in.Kind))); why != "" {
		return nil, huma.NewError(http.StatusForbidden, why)
	}
	return nil, s.operatorError(s.Broker.DeleteObject(ctx, string(in.Kind), in.Name, who(ctx)))
}

// A documents is an apply or a plan.
type documents struct {
	Prune   bool   `query:"prune" doc:"also delete the tags, policies and so on that are not in the documents, of the kinds that are"`
	RawBody []byte `contentType:"application/yaml"`
}

// written reads documents of a caller who may write them.
func (s *server) written(ctx context.Context, in *documents) ([]broker.Object, error) {
	objects, err := broker.ParseObjects(in.RawBody)
	if err != nil {
		return nil, s.operatorError(err)
	}
	for _, o := range objects {
		if why := lacks(ctx, kindNeeds(o.Kind)); why != "" {
			return nil, huma.NewError(http.StatusForbidden, o.Kind+" "+o.Name+": "+why)
		}
	}
	return objects, nil
}

func (s *server) apply(ctx context.Context, in *documents) (*body[[]broker.Applied], error) {
	objects, err := s.written(ctx, in)
	if err != nil {
		return nil, err
	}
	f := s.Broker.Apply
	if in.Prune {
		f = s.Broker.Replace
	}
	results, err := f(ctx, objects, who(ctx))
	if results == nil {
		results = []broker.Applied{}
	}
	return &body[[]broker.Applied]{results}, s.operatorError(err)
}

func (s *server) plan(ctx context.Context, in *documents) (*body[*broker.Plan], error) {
	objects, err := broker.ParseObjects(in.RawBody)
	if err != nil {
		return nil, s.operatorError(err)
	}
	p, err := s.Broker.Plan(ctx, objects, in.Prune)
	return &body[*broker.Plan]{p}, s.operatorError(err)
}

// kindNeeds is the least role that may change objects of a kind. A hook makes the server run a command, or call an
// address of its own network: who writes one has the server.
func kindNeeds(kind string) broker.Role {
	if kind == broker.KindHook {
		return broker.Admin
	}
	return broker.Operator
}
