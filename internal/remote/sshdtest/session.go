package sshdtest

import (
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"
)

func pemBytes(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

func (s *Server) channels(sc *ssh.ServerConn, chans <-chan ssh.NewChannel) {
	var open atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for nc := range chans {
		switch nc.ChannelType() {
		case "session":
			if n := s.sessions.Add(1); n <= int64(s.cfg.DropSessionsOpen) {
				_ = sc.Close()
				continue
			}
			if open.Add(1) > int64(s.cfg.MaxSessions) && s.cfg.MaxSessions > 0 {
				open.Add(-1)
				_ = nc.Reject(ssh.ConnectionFailed, "open failed") // OpenSSH's own words
				continue
			}
			wg.Go(func() { s.session(nc, func() { open.Add(-1) }) })
		case "direct-tcpip":
			wg.Go(func() { s.forward(nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, nc.ChannelType())
		}
	}
}

func (s *Server) session(nc ssh.NewChannel, done func()) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		done()
		return
	}
	defer done()
	defer ch.Close()
	var pid atomic.Int64
	ended := make(chan struct{})
	for {
		select {
		case <-ended:
			return
		case req, ok := <-reqs:
			if !ok {
				return // like sshd: the command itself goes on
			}
			switch req.Type {
			case "exec":
				var p struct{ Command string }
				if ssh.Unmarshal(req.Payload, &p) != nil {
					_ = req.Reply(false, nil)
					continue
				}
				_ = req.Reply(true, nil)
				s.wg.Go(func() {
					defer close(ended)
					s.exec(ch, p.Command, &pid)
				})
			case "signal":
				if n := pid.Load(); n > 0 {
					_ = syscall.Kill(-int(n), syscall.SIGTERM)
				}
			default:
				_ = req.Reply(false, nil)
			}
		}
	}
}

// exec runs the command in a session of its own, as sshd does. When the client
// goes, the command's stdin ends and its output leads nowhere.
func (s *Server) exec(ch ssh.Channel, command string, pid *atomic.Int64) {
	if s.cfg.Profile != "" {
		command = s.cfg.Profile + "\n" + command
	}
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), s.cfg.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	stderr, err3 := cmd.StderrPipe()
	if errors.Join(err1, err2, err3, cmd.Start()) != nil {
		return
	}
	pid.Store(int64(cmd.Process.Pid))
	go func() {
		_, _ = io.Copy(stdin, ch)
		_ = stdin.Close()
	}()
	var out sync.WaitGroup
	out.Go(func() { pass(ch, stdout) })
	out.Go(func() { pass(ch.Stderr(), stderr) })
	out.Wait()
	err := cmd.Wait()
	_ = ch.CloseWrite()
	var exit *exec.ExitError
	status := struct{ Status uint32 }{}
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			status.Status = uint32(128 + int(ws.Signal())) // a shell's way; enough for tests
		} else {
			status.Status = uint32(exit.ExitCode())
		}
	}
	_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(status))
}

// pass copies, and drops what is not read any more, so that the command does
// not block.
func pass(w io.Writer, r io.Reader) {
	if _, err := io.Copy(w, r); err != nil {
		_, _ = io.Copy(io.Discard, r)
	}
}

func (s *Server) forward(nc ssh.NewChannel) {
	if s.cfg.NoForwarding {
		_ = nc.Reject(ssh.Prohibited, "open failed")
		return
	}
	var p struct {
		Host     string
		Port     uint32
		FromHost string
		FromPort uint32
	}
	if ssh.Unmarshal(nc.ExtraData(), &p) != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "Connection refused")
		return
	}
	defer conn.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	go ssh.DiscardRequests(reqs)
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(conn, ch)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	})
	both.Go(func() {
		_, _ = io.Copy(ch, conn)
		_ = ch.CloseWrite()
	})
	both.Wait()
}
