package storetest

import (
	"bufio"
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
	"sync/atomic"
	"syscall"
	"testing"
)

// Postgres is a PostgreSQL server of one test: it listens on a socket in a directory of its own, and ends with the test.
type Postgres struct {
	bin, dir string
	as       *syscall.Credential // initdb and postgres refuse to be root
	server   *exec.Cmd
	lives    io.Closer    // the server ends when this is closed, also by the end of this process
	made     atomic.Int32 // schemas
}

// StartPostgres starts a server of Debian's package postgresql, and skips the test where there is none.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		t.Skip("no PostgreSQL server here: apt-get install postgresql")
	}
	dir, err := os.MkdirTemp("", "pg") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	p := &Postgres{bin: slices.Max(found), dir: dir}
	t.Cleanup(func() {
		if p.server != nil {
			p.Stop(t)
		}
		os.RemoveAll(dir)
	})
	if os.Getuid() == 0 {
		p.lowerTo(t, "postgres")
	}
	if out, err := p.command("initdb", "-D", p.data(), "-U", "muster", "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.Start(t)
	return p
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) lowerTo(t testing.TB, name string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("root can not run PostgreSQL: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(p.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, name), args...)
	c.Dir, c.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	return c
}

// Start runs the server until it accepts connections. A shell stands between: it ends the server when its input ends,
// so that none is left when the tests are killed.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	c := exec.Command("/bin/sh", "-c", `exec 3<&0; "$@" 3<&- & server=$!; (read _ <&3; kill -QUIT $server) & wait $server`, "sh",
		filepath.Join(p.bin, "postgres"), "-D", p.data(), "-k", p.dir, "-c", "listen_addresses=", "-c", "shared_buffers=16MB",
		"-c", "max_connections=60", "-c", "log_min_messages=log")
	c.Dir, c.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
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
	out, err := p.command("psql", "-h", p.dir, "-U", "muster", "-d", "postgres", "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", statements).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
