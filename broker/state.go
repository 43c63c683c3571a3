package broker

import (
	"fmt"
	"slices"
	"strings"
)

// State is a provision state. The names and edges are OpenStack Ironic's, the 15 of its states that have a meaning
// without BMC drivers.
type State string

// The provision states.
const (
	Enroll        State = "enroll"
	Verifying     State = "verifying"
	Manageable    State = "manageable"
	Inspecting    State = "inspecting"
	InspectWait   State = "inspect wait"
	InspectFailed State = "inspect failed"
	Cleaning      State = "cleaning"
	CleanFailed   State = "clean failed"
	Available     State = "available"
	Deploying     State = "deploying"
	WaitCallBack  State = "wait call-back"
	DeployFailed  State = "deploy failed"
	Active        State = "active"
	Deleting      State = "deleting"
	Error         State = "error"
)

// Verb is what moves a node from one state to another: an operator's word, or the broker's own.
type Verb string

// The verbs.
const (
	Manage  Verb = "manage"
	Provide Verb = "provide"
	Inspect Verb = "inspect"
	Clean   Verb = "clean"
	Deploy  Verb = "deploy"
	Rebuild Verb = "rebuild"
	Delete  Verb = "delete"
	Abort   Verb = "abort"
	done    Verb = "done"
	fail    Verb = "fail"
	wait    Verb = "wait"
	resume  Verb = "resume"
)

// An edge is one row of the table. Operator says that the verb is an operator's.
type edge struct {
	from     State
	on       Verb
	to       State
	operator bool
}

// table is every transition there is; a pair that is not in it is refused.
var table = []edge{
	{Enroll, Manage, Verifying, true},
	{Verifying, done, Manageable, false},
	{Verifying, fail, Enroll, false},
	{Manageable, Provide, Cleaning, true},
	{Manageable, Clean, Cleaning, true},
	{Manageable, Inspect, Inspecting, true},
	{Inspecting, wait, InspectWait, false},
	{Inspecting, done, Manageable, false},
	{Inspecting, fail, InspectFailed, false},
	{InspectWait, resume, Inspecting, false},
	{InspectWait, done, Manageable, false},
	{InspectWait, fail, InspectFailed, false},
	{InspectWait, Abort, InspectFailed, true},
	{InspectFailed, Manage, Manageable, true},
	{InspectFailed, Inspect, Inspecting, true},
	{Cleaning, done, Available, false},
	{Cleaning, Manage, Manageable, false}, // the end of a manual clean
	{Cleaning, fail, CleanFailed, false},
	{CleanFailed, Manage, Manageable, true},
	{Available, Deploy, Deploying, true},
	{Available, Manage, Manageable, true},
	{Deploying, wait, WaitCallBack, false},
	{Deploying, done, Active, false},
	{Deploying, fail, DeployFailed, false},
	{WaitCallBack, resume, Deploying, false},
	{WaitCallBack, fail, DeployFailed, false},
	{WaitCallBack, Abort, DeployFailed, true},
	{WaitCallBack, Delete, Deleting, true},
	{DeployFailed, Deploy, Deploying, true},
	{DeployFailed, Rebuild, Deploying, true},
	{DeployFailed, Delete, Deleting, true},
	{Active, Rebuild, Deploying, true},
	{Active, Delete, Deleting, true},
	{Deleting, Clean, Cleaning, false},
	{Deleting, fail, Error, false},
	{Error, Rebuild, Deploying, true},
	{Error, Delete, Deleting, true},
}

// IllegalVerb says that a verb has no edge from a state, and which verbs of an operator have.
type IllegalVerb struct {
	Node  string
	State State
	Verb  Verb
	Legal []string
}

func (e *IllegalVerb) Error() string {
	legal := "no verb is possible now"
	if len(e.Legal) > 0 {
		words := make([]string, len(e.Legal))
		for i, v := range e.Legal {
			words[i] = spoken(Verb(v))
		}
		slices.Sort(words)
		legal = "possible: " + strings.Join(words, ", ")
	}
	return fmt.Sprintf("node %s is %s: %s is not possible (%s)", e.Node, e.State, spoken(e.Verb), legal)
}

// spoken is the verb as muster node says it, where delete forgets a record.
func spoken(v Verb) string {
	switch v {
	case Rebuild:
		return "reinstall"
	case Delete:
		return "undeploy"
	}
	return string(v)
}

// Unwrap makes it a conflict.
func (e *IllegalVerb) Unwrap() error { return ErrConflict }

// next finds the edge from s on v.
func (s State) next(v Verb) (State, bool) {
	for _, e := range table {
		if e.from == s && e.on == v {
			return e.to, true
		}
	}
	return s, false
}

// Legal lists the operator's verbs that are possible in s, sorted.
func (s State) Legal() []string {
	legal := []string{}
	for _, e := range table {
		if e.from == s && e.operator {
			legal = append(legal, string(e.on))
		}
	}
	slices.Sort(legal)
	return legal
}
