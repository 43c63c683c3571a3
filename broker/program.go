package broker

import (
	"fmt"
	"strings"

	"muster/agent/facts"
)

const (
	maxOutput = 4 << 10 // bytes of a program's last words that an event keeps
	maxText   = 255     // of an event's text
)

// told is what an event keeps of a report beside its text: how long each phase took, a message that is longer than a
// text, as that of a wipe of many disks, and of a program its exit status and its last lines.
func told(r *facts.Report) map[string]string {
	data := millis(r.TimingMS)
	if len(r.Message) > maxText {
		data["message"] = r.Message
	}
	if r.ExitStatus != nil {
		data["exit_status"] = fmt.Sprint(*r.ExitStatus)
	}
	if output := lastLines(r.Output, maxOutput); output != "" {
		data["output"] = printableLines(output)
	}
	return data
}

// lastLines are as many whole lines from the end as fit, one below the other.
func lastLines(lines []string, most int) string {
	from, n := len(lines), 0
	for from > 0 && n+len(lines[from-1])+1 <= most {
		from--
		n += len(lines[from]) + 1
	}
	return strings.Join(lines[from:], "\n")
}
