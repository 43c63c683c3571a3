package storetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Postgres is a PostgreSQL server of one test: it listens on a socket in a directory of its own, and ends with the test.
type Postgres struct {
	cluster
	dir    string
	server *exec.Cmd
	lives  io.Closer    // the server ends when this is closed, also by the end of this process
	made   atomic.Int32 // schemas
}

// A cluster is what servers begin with: making one takes seconds, and a copy does as well.
type cluster struct {
	bin, files string
	as         *syscall.Credential // initdb and postgres refuse to be root
	missing    string              // why there is none
	kept       io.Closer           // the files go when this is closed
}

// StartPostgres starts a server of Debian's package postgresql, and skips the test where there is none.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	c, err := newCluster()
	if err != nil {
		t.Fatal(err)
	}
	if c.missing != "" {
		t.Skip(c.missing)
	}
	dir, err := c.makeDir()
	if err != nil {
		t.Fatal(err)
	}
	p := &Postgres{cluster: c, dir: dir}
	t.Cleanup(func() {
		if p.server != nil {
			p.Stop(t)
		}
		os.RemoveAll(dir)
	})
	if out, err := p.run("/bin/cp", "-a", c.files, p.data()).CombinedOutput(); err != nil {
		t.Fatalf("copy a cluster: %v\n%s", err, out)
	}
	p.Start(t)
	return p
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// newCluster makes the one cluster of this process. It goes when the process does, by a shell that waits for that.
var newCluster = sync.OnceValues(func() (c cluster, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		return cluster{missing: "no PostgreSQL server here: apt-get install postgresql"}, nil
	}
	c.bin = slices.Max(found)
	if os.Getuid() == 0 {
		if c.as, err = lowerTo("postgres"); err != nil {
			return cluster{missing: "root can not run PostgreSQL: " + err.Error()}, nil
		}
	}
	dir, err := c.makeDir()
	if err != nil {
		return c, err
	}
	c.files = filepath.Join(dir, "data")
	sweep := c.run("/bin/sh", "-c", `read _; rm -rf "$1"`, "sh", dir)
	if c.kept, err = sweep.StdinPipe(); err != nil {
		return c, err
	}
	if err := sweep.Start(); err != nil {
		return c, err
	}
	if out, err := c.run(filepath.Join(c.bin, "initdb"), "-D", c.files, "-U", "muster", "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		return c, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return c, nil
})

// makeDir makes a directory for a cluster; t.TempDir is too long for a socket's name.
func (c cluster) makeDir() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "pg"); err == nil && c.as != nil {
		err = os.Chown(dir, int(c.as.Uid), int(c.as.Gid))
	}
	return dir, err
}

func lowerTo(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, err2)
}

func (c cluster) run(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: c.as}
	return cmd
}

// script runs a server until its own input ends.
const script = `exec 3<&0; "$@" 3<&- & server=$!; (read _ <&3; kill -QUIT $server) & wait $server`

// Start runs the server until it accepts connections. A shell stands between: it ends the server when its input ends,
// so that none is left when the tests are killed. Settings are NAME=VALUE of postgresql.conf.
func (p *Postgres) Start(t testing.TB, settings ...string) {
	t.Helper()
	args := []string{"-c", script, "sh", filepath.Join(p.bin, "postgres"), "-D", p.data(), "-k", p.dir}
	for _, s := range append([]string{"listen_addresses=", "shared_buffers=16MB", "max_connections=60", "log_min_messages=log"}, settings...) {
		args = append(args, "-c", s)
	}
	c := p.run("/bin/sh", args...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.server, p.lives = c, in
	var lines []string
	for r := bufio.NewScanner(said); r.Scan(); {
		if lines = append(lines, r.Text()); strings.Contains(r.Text(), "ready to accept connections") {
			go io.Copy(io.Discard, said)
			return
		}
	}
	t.Fatalf("postgres ended:\n%s", strings.Join(lines, "\n"))
}

// Stop cuts the server off, as a crash of its machine does, and returns when it is gone: Start finds what was
// committed.
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	p.lives.Close()
	p.server.Wait() // what it says of its end is of no interest
	p.server = nil
}

// URL is that of an empty schema. (A database of its own each takes seconds.)
func (p *Postgres) URL(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", p.made.Add(1))
	p.SQL(t, "CREATE SCHEMA "+name)
	return fmt.Sprintf("postgres://muster@/postgres?host=%s&search_path=%s", url.QueryEscape(p.dir), name)
}

// SQL runs statements as the superuser and gives what they print.
func (p *Postgres) SQL(t testing.TB, statements string) string {
	t.Helper()
	out, err := p.run(filepath.Join(p.bin, "psql"), "-h", p.dir, "-U", "muster", "-d", "postgres", "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", statements).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
