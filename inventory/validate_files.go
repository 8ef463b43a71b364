package inventory

import (
	"path"
	"slices"
	"strings"
)

// FilesDir is where an apiserver finds kubernetes.files.
const FilesDir = "/etc/kubernetes/hactl-files"

// mounted are the folders that kubeadm mounts into the components of a master.
var mounted = []string{"/etc/kubernetes/pki", "/etc/ssl/certs", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/pki"}

// notFiles are flags whose values begin with a slash and are no paths of files.
var notFiles = []string{"etcd-prefix", "authorization-always-allow-paths"}

// validateFlagFiles refuses flags that name a file which the component does not see:
// its container would end, once for each try of the kubelet.
func validateFlagFiles(inv *Inventory, d *decoder) {
	k := inv.Kubernetes
	for _, c := range []struct {
		field string
		flags map[string]string
		files map[string]string // that the component has in FilesDir
	}{{"apiServerExtraArgs", k.APIServerExtraArgs, k.Files}, {"controllerManagerExtraArgs", k.ControllerExtraArgs, nil}, {"schedulerExtraArgs", k.SchedulerExtraArgs, nil}} {
		for flag, value := range c.flags {
			if what, instead := unseenFile(flag, value, c.files); what != "" {
				if c.files == nil && c.field != "apiServerExtraArgs" {
					instead = "write a path below /etc/kubernetes/pki, which is mounted, or remove it"
				}
				d.report("kubernetes."+c.field+"."+flag, what, instead)
			}
		}
	}
}

func unseenFile(flag, value string, files map[string]string) (what, instead string) {
	if !strings.HasPrefix(value, "/") || slices.Contains(notFiles, flag) {
		return "", ""
	}
	value = path.Clean(value)
	if dir, name := path.Split(value); dir == FilesDir+"/" {
		if _, ok := files[name]; ok {
			return "", ""
		}
		return quote(value) + " is not there", "name it in kubernetes.files, as " + name + ": and the path of the file on this machine"
	}
	if slices.ContainsFunc(mounted, func(m string) bool { return strings.HasPrefix(value, m+"/") || value == m }) {
		return "", ""
	}
	instead = "write kubernetes.files: {" + path.Base(value) + ": the path on this machine}, and " + FilesDir + "/" + path.Base(value) + " here"
	if flag == "audit-log-path" {
		instead = `write "-": the log of the container then has it`
	}
	return quote(value) + " is not mounted into the container", instead
}

// AnonymousPaths are what the cluster itself asks apiservers without a login: for their
// health, and, where a worker joins, for the cluster's name and CA.
var AnonymousPaths = []string{"/livez", "/readyz", "/healthz", "/api/v1/namespaces/kube-public/configmaps/cluster-info"}

// AnonymousSetting is the part of an AuthenticationConfiguration that allows no more.
func AnonymousSetting() string {
	return "anonymous: {enabled: true, conditions: [{path: " + strings.Join(AnonymousPaths, "}, {path: ") + "}]}"
}

// validateAnonymous refuses a setting under which no check of an apiserver's health
// gets an answer: the kubelet kills it again and again, and the VIP stays with one that
// hangs.
func validateAnonymous(inv *Inventory, d *decoder) {
	const flag = "anonymous-auth"
	if v, ok := inv.Kubernetes.APIServerExtraArgs[flag]; ok && v != "true" {
		d.report("kubernetes.apiServerExtraArgs."+flag, "the kubelet and the prober ask for the health of an apiserver without a login",
			"name an AuthenticationConfiguration with "+AnonymousSetting()+" in kubernetes.files, and set authentication-config to its path in "+FilesDir)
	}
}
