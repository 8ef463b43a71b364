package remote

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"hactl/internal/remote/sshdtest"
)

// slowLine sends so many bytes a second. What is written waits in its buffer, as in a
// socket's.
type slowLine struct {
	net.Conn
	perSecond int
	buffer    chan []byte
}

func (s *slowLine) Write(b []byte) (int, error) {
	s.buffer <- bytes.Clone(b)
	return len(b), nil
}

func (s *slowLine) send() {
	for b := range s.buffer {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(s.perSecond))
		if _, err := s.Conn.Write(b); err != nil {
			return
		}
	}
}

// reader is an sshd whose commands read their stdin to its end.
func reader(t *testing.T, conn net.Conn) {
	conf := &ssh.ServerConfig{NoClientAuth: true}
	conf.AddHostKey(sshdtest.NewKey(t))
	_, chans, requests, err := ssh.NewServerConn(conn, conf)
	if err != nil {
		t.Error(err)
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range chans {
		ch, requests, err := nc.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			for r := range requests {
				_ = r.Reply(true, nil)
			}
		}()
		go func() {
			_, _ = io.Copy(io.Discard, ch)
			_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
			_ = ch.Close()
		}()
	}
}

// Two megabytes stand before the keepalive, for longer than a silent host is
// given. The server speaks up meanwhile: it makes its window larger.
func TestSlowLineIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		line := &slowLine{Conn: ours, perSecond: 120_000, buffer: make(chan []byte, 4096)} // never full: a mutex is held over Write
		var sender sync.WaitGroup
		sender.Go(line.send)
		go reader(t, theirs)
		conn := &watchedConn{Conn: line}
		c, chans, requests, err := ssh.NewClientConn(conn, "host", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()}) //nolint:gosec // a pipe
		if err != nil {
			t.Fatal(err)
		}
		l := newLink(ssh.NewClient(c, chans, requests), conn, time.Second)
		s, leave, err := l.session(t.Context(), false, unbounded)
		if err != nil {
			t.Fatal(err)
		}
		s.Stdin = bytes.NewReader(bytes.Repeat([]byte("slow"), 500_000))
		start := time.Now()
		if err := s.Run("read"); err != nil {
			t.Errorf("%v: %v", err, l.cause)
		}
		if took := time.Since(start); took < 10*time.Second {
			t.Errorf("the line was not slow: %s", took)
		}
		leave()
		l.fail(io.EOF)
		close(line.buffer)
		_ = theirs.Close()
		sender.Wait()
	})
}
