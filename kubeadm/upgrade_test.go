package kubeadm

import "testing"

// What a client asked for counts if it is gone in the target, and not if it goes later.
func TestRemovedAPIsAreReadFromMetrics(t *testing.T) {
	for line, want := range map[string]string{
		`apiserver_requested_deprecated_apis{group="policy",removed_release="1.37",resource="podsecuritypolicies",subresource="",version="v1beta1"} 1`: "policy/v1beta1 podsecuritypolicies",
		`apiserver_requested_deprecated_apis{group="",removed_release="1.36",resource="componentstatuses",subresource="",version="v1"} 1`:              "v1 componentstatuses",
		`apiserver_requested_deprecated_apis{group="a",removed_release="1.38",resource="b",subresource="",version="v1"} 1`:                             "",
		`apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1`:                          "",
		`apiserver_request_total{group="a"} 1`: "",
	} {
		if got := removedAPI(line, 37); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}
