package broker

import (
	"fmt"

	"muster/boot"
	"muster/broker/task"
)

// A Decision is what a node boots next, and why.
type Decision struct {
	Step    boot.StepKind `json:"step"`
	Because string        `json:"because"`
}

// installs says whether the step is an installer's.
func (d Decision) installs() bool {
	return d.Step == boot.StepKernel || d.Step == boot.StepChain || d.Step == boot.StepWinPE
}

// decide says what a node boots next. It is pure: the boot path, explain and render all ask it. t is the task of the
// node's policy, nil when it has none.
func decide(n *Node, t *task.Task) Decision {
	stage := currentStage(n, t)
	switch {
	case n.Hold != "":
		return Decision{boot.StepRamdisk, "on hold: " + n.Hold}
	case n.Conflict != "" && n.locked():
		return Decision{boot.StepLocal, "ids in conflict: " + n.Conflict}
	case n.Conflict != "":
		return Decision{boot.StepRamdisk, "ids in conflict: " + n.Conflict}
	case n.State == Active:
		return Decision{boot.StepLocal, installedBy(n)}
	case n.cleans():
		return Decision{boot.StepRamdisk, "its disks are wiped: " + n.Wiping.Wipe.Method}
	case n.State == WaitCallBack && !n.Queued.IsZero():
		return Decision{boot.StepRamdisk, fmt.Sprintf("policy %s: it waits for its turn at repo %s", n.Policy, n.Repo)}
	case stage != nil && (n.State == Deploying || n.State == WaitCallBack):
		return Decision{stage.Step, fmt.Sprintf("policy %s, stage %d of %d: %s", n.Policy, n.Stage, len(t.Stages), stage.Name)}
	case n.State == DeployFailed, n.State == CleanFailed, n.State == InspectFailed, n.State == Error:
		return Decision{boot.StepRamdisk, fmt.Sprintf("%s: %s", n.State, n.LastError)}
	case n.State == InspectWait:
		return Decision{boot.StepRamdisk, "an operator asked for an inspection"}
	case !n.Facts.Known():
		return Decision{boot.StepRamdisk, "nothing is known of this machine yet"}
	case n.Protected && n.Policy == "" && n.Facts.InUse != "":
		return Decision{boot.StepLocal, "protected, and " + n.Facts.InUse}
	case n.Policy != "" && t == nil:
		return Decision{boot.StepRamdisk, fmt.Sprintf("policy %s: there is no task %q any more", n.Policy, n.Task)}
	case n.Policy != "":
		return Decision{boot.StepRamdisk, "policy " + n.Policy + " keeps it in the ramdisk"}
	}
	return Decision{boot.StepRamdisk, "no policy has taken it yet"}
}

// currentStage is the stage of the task that the node is in, or nil.
func currentStage(n *Node, t *task.Task) *task.Stage {
	if t == nil || n.Stage < 1 || n.Stage > len(t.Stages) {
		return nil
	}
	return &t.Stages[n.Stage-1]
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
