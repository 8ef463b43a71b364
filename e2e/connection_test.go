//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestConnectionOutlivesTheMoveOfTheVIP asks over a connection that was open before
// the VIP left the apiserver's host.
func TestConnectionOutlivesTheMoveOfTheVIP(t *testing.T) {
	inTurn(t)
	cluster(t).openConnection(t)
}

// openConnection asks twice over one connection through the VIP; in between the
// owner's apiserver is asked to stop, after which it serves for 5 s, and the address
// moves.
func (r *rig) openConnection(t *testing.T) {
	owner := r.owner(t)
	ctx, cancel := context.WithCancel(t.Context())
	client, err := r.HubExec(ctx, "timeout", "1200", "openssl", "s_client", "-quiet", "-connect", net.JoinHostPort(r.VIP(), "6443"))
	if err != nil {
		t.Fatal(err)
	}
	client.Cancel = func() error { return client.Process.Signal(syscall.SIGTERM) } // timeout passes it on
	client.WaitDelay = 5 * time.Second
	var stderr strings.Builder
	client.Stderr = &stderr
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = client.Wait() // it ends by the signal
		if t.Failed() {
			t.Logf("the client: %s", stderr.String())
		}
	}()
	answers := make(chan string, 10)
	go func() {
		defer close(answers)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.Contains(lines.Text(), "HTTP/1.1 ") {
				answers <- lines.Text()
			}
		}
	}()
	ask := func(which string) {
		t.Helper()
		if _, err := io.WriteString(stdin, "GET /livez HTTP/1.1\r\nHost: kubernetes\r\n\r\n"); err != nil {
			t.Fatalf("%s request: %v", which, err)
		}
		select {
		case answer, open := <-answers:
			if !strings.Contains(answer, "HTTP/1.1 200 OK") {
				t.Fatalf("%s answer: %q, connection open: %t", which, answer, open)
			}
		case <-time.After(hang):
			t.Fatalf("no %s answer within %s", which, hang)
		}
	}
	ask("first")
	labOutput(t, r.Lab, owner, "kill -TERM $(pidof kube-apiserver)")
	// The apiserver serves such a connection for five seconds more. The host itself
	// watches for the moment in which the address leaves.
	left := labOutput(t, r.Lab, owner, `i=0; while [ -n "$(ip -o address show to `+r.VIP()+`)" ] && [ -n "$(pidof kube-apiserver)" ]; do i=$((i+1)); [ $i -lt 12000 ] || exit 1; sleep 0.05; done
[ -n "$(ip -o address show to `+r.VIP()+`)" ] || echo moved`)
	if left != "moved" {
		t.Fatal("the address stayed until the apiserver had ended")
	}
	ask("second")
	t.Logf("the VIP was with %s and is with %s", owner, r.owner(t))
	r.healthy(t)
	r.comesInSync(t)
}
