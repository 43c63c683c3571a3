package task

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"muster/agent/facts"
)

// WipeOrder is what the agent is told of a stage that wipes these disks.
func (s Stage) WipeOrder(v Values, disks []facts.Target) *facts.Wipe {
	method, _ := v.Param[s.Wipe.Method].(string)
	return &facts.Wipe{Method: method, Disks: disks, Lift: v.list(s.Wipe.Lift)}
}

// Lifts says whether a stage that wipes is told to pass over a guard.
func (s Stage) Lifts(params map[string]any, guard string) bool {
	for _, name := range (Values{Param: params}).list(s.Wipe.Lift) {
		if name == guard {
			return true
		}
	}
	return false
}

// ProgramOrder is what the agent is told of a stage that runs the file with that sum.
func (s Stage) ProgramOrder(v Values, sum string, size int64) (*facts.Program, error) {
	p := &facts.Program{Path: "/node/v1/image/" + sum, SHA256: sum, SizeBytes: size, Args: v.list(s.Program.Args),
		TimeoutSeconds: int64(time.Duration(s.Program.Timeout) / time.Second)}
	for _, word := range v.list(s.Program.Env) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, fmt.Errorf("parameter %s: %q: want NAME=VALUE", s.Program.Env, word)
		}
		if p.Env == nil {
			p.Env = map[string]string{}
		}
		p.Env[name] = value
	}
	for _, word := range v.list(s.Program.OK) {
		status, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %q: want exit statuses", s.Program.OK, word)
		}
		p.OKStatus = append(p.OKStatus, status)
	}
	return p, nil
}

// list is a parameter that is a list of strings.
func (v Values) list(name string) (words []string) {
	list, _ := v.Param[name].([]any)
	for _, w := range list {
		if s, ok := w.(string); ok {
			words = append(words, s)
		}
	}
	return words
}
