//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEtcdRefusesAClientWithoutACertificate(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, port := range []string{"2379", "2380"} {
		conn, err := r.Dial(t.Context(), "tcp", net.JoinHostPort("10.77.0.11", port))
		if err != nil {
			t.Fatal(err)
		}
		// Not verified: the question is what the server asks of us.
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		err = c.HandshakeContext(t.Context())
		if err == nil { // in TLS 1.3 the refusal comes after the handshake
			_, _ = fmt.Fprint(c, "GET /version HTTP/1.1\r\nHost: etcd\r\n\r\n")
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("port %s without a certificate: %v", port, err)
		}
		_ = c.Close()
	}
	conn, err := r.Dial(t.Context(), "tcp", "10.77.0.11:2381")
	if err == nil {
		_ = conn.Close()
		t.Error("the metrics listener, which asks for no certificate, can be reached from outside")
	}
	labOutput(t, r.Lab, "master-1", "curl -sf --max-time 30 http://127.0.0.1:2381/metrics >/dev/null") // it is that port
}

func TestAnonymousRequestIsRefused(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: r.Dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // no secret is sent
	}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/api/v1/nodes", "/api/v1/namespaces/kube-system/secrets"} {
		var res *http.Response
		eventually(t, "an answer to the anonymous "+path, func() (err error) {
			if res, err = client.Get("https://" + net.JoinHostPort(r.VIP(), "6443") + path); err == nil { //nolint:noctx // bounded by the client
				_ = res.Body.Close()
			}
			return err
		})
		if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s answers %s to an anonymous request", path, res.Status)
		}
	}
}

// TestNodesServeWithCertificatesOfTheCA asks every server on the hosts for its
// certificate. Then a kubelet gets a certificate that the CA has not signed, and the
// apiserver must not fetch logs from it.
func TestNodesServeWithCertificatesOfTheCA(t *testing.T) {
	inTurn(t)
	r := cluster(t)
	for _, h := range r.everyHost() {
		ports := []string{"10250"}
		if strings.HasPrefix(h, "master") {
			ports = append(ports, "10257", "10259") // controller manager, scheduler
		}
		for _, p := range ports {
			eventually(t, h+" serves port "+p+" with a certificate of the cluster's CA", func() error {
				_, err := r.Output(t.Context(), h, "openssl s_client -connect 127.0.0.1:"+p+" -CAfile /etc/kubernetes/pki/ca.crt -verify_ip 127.0.0.1 -verify_return_error </dev/null")
				return err
			})
		}
	}
	const on = "worker-1"
	logs := func() error {
		// One that was deleted a while ago may still be in the list.
		pods, err := r.kubectl(t, "", "-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-proxy", "--field-selector", "spec.nodeName="+on,
			"-o", "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}")
		if err != nil {
			return err
		}
		_, err = r.kubectl(t, "", append([]string{"-n", "kube-system", "logs", "--tail=1"}, strings.Fields(pods)...)...)
		return err
	}
	eventually(t, "logs from "+on, logs)
	labOutput(t, r.Lab, on, `cd /var/lib/kubelet/pki
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout kubelet.key -out kubelet.crt -subj /CN=`+on+` -days 1 2>/dev/null
systemctl restart kubelet.service`)
	eventually(t, "logs of a kubelet with a certificate of its own are refused", func() error {
		switch err := logs(); {
		case err == nil:
			return errors.New("kubectl logs answers")
		case !strings.Contains(err.Error(), "failed to verify certificate"):
			return err
		}
		return nil
	})
	r.must(t, 0, "up", "--yes")
	eventually(t, "logs again, without a restart of the kubelet", logs)
	r.inSync(t)
}
