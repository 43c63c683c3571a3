package lab

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// installs are the rows of make test-install: one table of task, firmware and result, printed when all machines are off.
var installs struct {
	sync.Mutex
	rows []string
}

// installRow has the end of a test in the table: good, when nothing failed.
func installRow(t *testing.T, task string, f Firmware, good string) {
	t.Helper()
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			good = "FAILED"
		}
		installs.Lock()
		defer installs.Unlock()
		installs.rows = append(installs.rows, fmt.Sprintf("%-28s %-11s %-36s %4.0f s", task, f, good, time.Since(began).Seconds()))
	})
}

func TestMain(m *testing.M) {
	code := m.Run()
	if len(installs.rows) > 0 {
		fmt.Printf("\n%-28s %-11s %-36s %6s\n", "TASK", "FIRMWARE", "RESULT", "TIME")
	}
	for _, row := range installs.rows {
		fmt.Println(row)
	}
	os.Exit(code)
}
