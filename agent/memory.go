package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// remembered is what survives the agent within a boot: an order is obeyed once even when the agent died in it, and
// sequence numbers never go back.
type remembered struct {
	Seq   int64 `json:"seq"`
	Order int64 `json:"order"`
	Open  bool  `json:"open"` // Order was begun and its end not reported
}

// recall reads what an earlier agent of this boot left.
func (a *Agent) recall() {
	if a.Memory == "" {
		return
	}
	b, err := os.ReadFile(a.Memory)
	if err != nil {
		return // the first agent of the boot
	}
	var r remembered
	if err := json.Unmarshal(b, &r); err != nil {
		a.Console.Printf("read %s: %v", a.Memory, err)
		return
	}
	a.seq, a.order, a.open = r.Seq, r.Order, r.Open
}

// remember writes it; a failure is told and costs only that a crash may repeat an order.
func (a *Agent) remember() {
	if a.Memory == "" {
		return
	}
	if err := a.writeMemory(); err != nil {
		a.Console.Printf("%v", err)
	}
}

func (a *Agent) writeMemory() error {
	b, err := json.Marshal(remembered{Seq: a.seq, Order: a.order, Open: a.open})
	if err != nil {
		return fmt.Errorf("write %s: %w", a.Memory, err)
	}
	if err := os.MkdirAll(filepath.Dir(a.Memory), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(a.Memory+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(a.Memory+".new", a.Memory)
}
