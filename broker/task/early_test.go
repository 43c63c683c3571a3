package task

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// earlyCommand makes debian-installer's early_command of a fixture node ready to run here, with the log in a file and
// programs of its own before the system's.
func earlyCommand(t *testing.T, log string, programs map[string]string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/golden/debian/bios-sata/early.sh")
	if err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("/tmp/muster", filepath.Join(dir, "run"), "/var/log/syslog", filepath.Join(dir, "syslog"), "/proc/diskstats", "/dev/null")
	files := map[string]string{"early.sh": here.Replace(string(text)), "syslog": log}
	for name, program := range programs {
		files[name] = "#!/bin/sh\n" + program
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", filepath.Join(dir, "early.sh"))
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TOLD="+filepath.Join(dir, "told"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 30 * time.Second
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // the watch that stays behind
	return cmd
}

// TestEarlyCommandHoldsUpNobody has the installer wait as it does, until the last process has closed its output and
// stream 3, debconf's.
func TestEarlyCommandHoldsUpNobody(t *testing.T) {
	debconf, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer debconf.Close()
	cmd := earlyCommand(t, "", map[string]string{"curl": ""})
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard // through a pipe, as log-output has it
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := debconf.SetReadDeadline(time.Now().Add(cmd.WaitDelay)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(debconf); err != nil {
		t.Errorf("debconf's stream: %v", err)
	}
}

// The watch reads lines as debian-installer wrote them when it was booted.
func TestEarlyCommandWatches(t *testing.T) {
	for _, c := range []struct{ name, log, call, why string }{
		{"a step", "Nov 27 12:07:13 main-menu[248]: INFO: Menu item 'bootstrap-base' selected\n", "/phase/base", ""},
		{"a step that fails", "Nov 27 12:07:13 main-menu[248]: WARNING **: Menu item 'download-installer' failed.\n", "/failed/install", "msg=the installer's step download-installer failed"},
		{
			"a mirror that is none", "Nov 27 12:07:13 choose-mirror[1281]: WARNING **: mirror does not support the specified release (bookworm)\n",
			"/failed/install", "msg=the installer asks for another mirror: mirror does not support the specified release (bookworm)",
		},
		{"silence", "Nov 27 12:07:13 main-menu[248]: INFO: Menu item 'partman-base' selected\n", "/phase/silent", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := earlyCommand(t, c.log, map[string]string{
				"sleep": "",
				"curl":  "for last; do :; done\ncase $* in *--data-binary*why*) sed 's/$/\\n/' ${0%/*}/run/why >>$TOLD ;; esac\necho \"$last\" >>$TOLD\n",
			})
			told := strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TOLD=")
			if err := syscall.Mkfifo(told, 0o600); err != nil {
				t.Fatal(err)
			}
			fifo, err := os.OpenFile(told, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer fifo.Close()
			if err := fifo.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for scan := bufio.NewScanner(fifo); scan.Scan(); {
				lines = append(lines, scan.Text())
				if strings.HasSuffix(scan.Text(), c.call) {
					break
				}
			}
			all := strings.Join(lines, "\n")
			if !strings.HasSuffix(all, c.call) || !strings.Contains(all, c.why) {
				t.Errorf("it told:\n%s\nnot %q with %q", all, c.call, c.why)
			}
		})
	}
}
