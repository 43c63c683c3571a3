package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"muster/broker/api"
)

// ServerConfig says how a rack's muster serve is started.
type ServerConfig struct {
	Program string   // path of the muster binary
	Ramdisk string   // directory of the discovery ramdisk
	Args    []string // more flags
}

// A Server is a muster serve inside a rack, on the rack's bridge. It can be killed and started again on the same data.
type Server struct {
	*api.Client
	rack   *Rack
	config ServerConfig
	data   string

	mu   sync.Mutex
	cmd  *exec.Cmd
	stop context.CancelFunc
	done chan struct{}
}

// Serve starts muster serve in the rack and returns when it serves.
func (r *Rack) Serve(c ServerConfig) (*Server, error) {
	program, err := filepath.Abs(c.Program)
	if err != nil {
		return nil, fmt.Errorf("find muster: %w", err)
	}
	c.Program = program
	s := &Server{rack: r, config: c, data: filepath.Join(r.Dir(), "data")}
	if s.Client, err = api.NewClient("unix:"+s.Socket(), "", ""); err != nil {
		return nil, err
	}
	return s, s.Start()
}

// Socket is the path of the server's local socket.
func (s *Server) Socket() string { return filepath.Join(s.data, "muster.sock") }

// Log is the path of what the server logs, over all its starts.
func (s *Server) Log() string { return filepath.Join(s.rack.Dir(), "serve.log") }

// Images is the directory of the images in the server's store.
func (s *Server) Images() string { return filepath.Join(s.data, "images") }

// Start starts the server, as it was configured, on its data.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start muster serve: %w", err)
	}
	defer log.Close()
	ctx, stop := context.WithCancel(context.Background())
	args := append([]string{"serve", "--data", s.data, "--interface", Bridge, "--ramdisk", s.config.Ramdisk, "--log-level", "debug"}, s.config.Args...)
	cmd := s.rack.Command(ctx, s.config.Program, args...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		stop()
		return fmt.Errorf("start muster serve: %w", err)
	}
	up, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "muster serves ") {
				close(up)
			}
		}
		_ = cmd.Wait() // how it ended is in its log
	}()
	s.cmd, s.stop, s.done = cmd, stop, done
	select {
	case <-up:
		return nil
	case <-done:
	case <-time.After(time.Minute):
	}
	stop()
	<-done
	said, _ := os.ReadFile(s.Log())
	return fmt.Errorf("muster serve did not start: %s", said[max(0, len(said)-2000):])
}

// Kill ends the server as a power cut would, with SIGKILL.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	<-s.done
}
