package versions

import "golang.org/x/mod/semver"

// minors is the table of everything that hactl installs.
//
// Where the figures come from:
//   - CoreDNS and pause: kubeadm's constants of that minor (CoreDNSVersion,
//     PauseVersion); CoreDNS may be a later patch of the same minor.
//   - etcd: kubeadm's DefaultEtcdVersion of that minor at the latest patch (3.6 for
//     1.35 and 1.36, 3.7 for 1.37), and what its MinExternalEtcdVersion (3.5.24 in
//     all three) and the next kubeadm's table of supported versions (1.37 runs 3.7
//     beside control planes of 1.34 to 1.36) allow besides.
//   - containerd: "Kubernetes Support" in containerd's RELEASES.md: 1.35 with
//     2.2.0 and later of 2.2, 1.36 with 2.2 and 2.3, 1.37 with 2.3 and 2.4. 2.3 is its
//     long-term release (until 2028-04); support of 2.2 ended on 2026-11-06.
//   - runc: script/setup/runc-version of that containerd.
//   - what is gone: the changelogs of Kubernetes 1.35, 1.36 and 1.37.
var minors = []Minor{
	{
		Name: "v1.35", Patches: []string{"v1.35.4"}, EndOfLife: "2027-02",
		Etcd:       []string{"v3.6.16", "v3.6.14", "v3.7.3"},
		Containerd: []string{"v2.2.9", "v2.2.1"},
		parts:      Set{Runc: "v1.3.6", CNIPlugins: "v1.9.1", CoreDNS: "v1.13.1", KubeadmDNS: "v1.13.1", Flannel: "v0.28.10", Pause: "3.10.1"},
		Gone: Gone{
			KubeletFlags: []string{"pod-infra-container-image"},
			FeatureGates: []string{"ComponentSLIs", "SizeMemoryBackedVolumes", "StrictCostEnforcementForVAP", "StrictCostEnforcementForWebhooks", "UserNamespacesPodSecurityStandards"},
			KubeadmGates: []string{"RootlessControlPlane", "WaitForAllControlPlaneComponents"},
		},
	},
	{
		// The default set. Another part here is another bundle: every machine that
		// has it cached builds it anew (internal/bundle holds a test).
		Name: "v1.36", Patches: []string{"v1.36.1", "v1.36.3"}, EndOfLife: "2027-06",
		Etcd:       []string{"v3.6.16", "v3.6.14", "v3.7.3"},
		Containerd: []string{"v2.2.1", "v2.2.9", "v2.3.7"},
		parts:      Set{Runc: "v1.3.4", CNIPlugins: "v1.9.1", CoreDNS: "v1.14.2", KubeadmDNS: "v1.14.2", Flannel: "v0.28.4", Pause: "3.10.2"},
		Gone: Gone{
			FeatureGates: []string{"CSIMigrationPortworx", "HonorPVReclaimPolicy", "InTreePluginPortworxUnregister", "WatchFromStorageWithoutResourceVersion"},
			KubeadmGates: []string{"ControlPlaneKubeletLocalMode"},
		},
	},
	{
		Name: "v1.37", Patches: []string{"v1.37.2"}, EndOfLife: "2027-10",
		Etcd:       []string{"v3.7.3", "v3.6.16"},
		Containerd: []string{"v2.3.7", "v2.4.2"},
		parts:      Set{Runc: "v1.5.2", CNIPlugins: "v1.10.0", CoreDNS: "v1.14.7", KubeadmDNS: "v1.14.6", Flannel: "v0.28.10", Pause: "3.10.2"},
		Gone: Gone{
			ControllerFlags: []string{"concurrent-service-syncs"},
			FeatureGates: []string{
				"APIServerTracing", "AnyVolumeDataSource", "BtreeWatchCache", "ConsistentListFromCache", "GangScheduling", "OrderedNamespaceDeletion",
				"PreventStaticPodAPIReferences", "RelaxedDNSSearchValidation", "ResilientWatchCacheInitialization", "RetryGenerateName", "SidecarContainers",
				"StreamingCollectionEncodingToJSON", "StreamingCollectionEncodingToProtobuf", "WorkloadAwarePreemption",
			},
			KubeadmGates: []string{"NodeLocalCRISocket", "PublicKeysECDSA"},
			KubeadmAPIs:  []string{"v1beta3"},
		},
	},
}

// safeEtcd are the first releases with the fixes of the security advisories of 2026.
var safeEtcd = []string{"v3.6.14", "v3.7.1"}

// SafeEtcd reports whether an etcd of a known minor has no known security hole.
func SafeEtcd(version string) bool { return FitOf(version, safeEtcd) >= Patch }

// GoneFrom collects what a Kubernetes version no longer accepts: the minor's own
// list and those of every minor before it.
func GoneFrom(kubernetes string) Gone {
	var out Gone
	for _, m := range minors {
		out.KubeletFlags = append(out.KubeletFlags, m.Gone.KubeletFlags...)
		out.ControllerFlags = append(out.ControllerFlags, m.Gone.ControllerFlags...)
		out.FeatureGates = append(out.FeatureGates, m.Gone.FeatureGates...)
		out.KubeadmGates = append(out.KubeadmGates, m.Gone.KubeadmGates...)
		out.KubeadmAPIs = append(out.KubeadmAPIs, m.Gone.KubeadmAPIs...)
		if m.Name == semver.MajorMinor(kubernetes) {
			break
		}
	}
	return out
}
