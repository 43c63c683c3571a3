package broker

import "time"

// An Event is one entry of the journal. Every change of a node is one; so is everything a machine was seen to do.
// Events hold no secrets.
type Event struct {
	Seq  int64             `json:"seq"`
	Time time.Time         `json:"time"`
	Node string            `json:"node,omitempty"`
	Kind string            `json:"kind"`
	Text string            `json:"text"`
	Who  string            `json:"who,omitempty"` // operator, agent, installer, broker, or a boot protocol
	Data map[string]string `json:"data,omitempty"`
}

// The kinds of events. A timeline shows them in the order of Seq.
const (
	EventDHCP        = "dhcp"
	EventTFTP        = "tftp"
	EventHTTP        = "http"
	EventSighted     = "node.sighted"
	EventAdded       = "node.added" // registered by an operator before it booted
	EventRegistered  = "node.registered"
	EventCheckIn     = "node.checkin" // the first of a boot
	EventFacts       = "node.facts"
	EventClock       = "node.clock"
	EventHardware    = "node.hardware"
	EventTags        = "node.tags"
	EventHealth      = "node.health"
	EventState       = "node.state"
	EventBound       = "node.bound"
	EventUnbound     = "node.unbound" // its data has the policy
	EventHandoff     = "node.handoff"
	EventMetadata    = "node.metadata"
	EventOrder       = "node.order"
	EventReport      = "node.report"
	EventStage       = "node.stage"
	EventPhase       = "node.phase" // an installer says how far it is
	EventLog         = "node.log"   // what an installer told
	EventRecipe      = "node.recipe"
	EventActive      = "node.active"
	EventFailed      = "node.failed"
	EventConflict    = "node.conflict"
	EventOperator    = "operator"
	EventDeleted     = "node.deleted"
	EventHookDead    = "hook.dead"
	EventHookWarning = "hook.warning"
	EventStarted     = "broker.started"
	EventCertificate = "broker.certificate"
	EventKey         = "broker.key"
)

// EventFilter chooses events.
type EventFilter struct {
	Node  string // if empty, of all nodes
	After int64  // only with a greater Seq
	Limit int    // if 0, 1000
}
