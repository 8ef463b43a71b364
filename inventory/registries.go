package inventory

// Containerd configures the container runtime.
type Containerd struct {
	Registries []Registry `yaml:"registries,omitempty" doc:"Registries that containerd reaches in another way than by their names. Running nodes follow without a restart. Settings of your own go into /etc/containerd/conf.d/*.toml on the hosts, which hactl never touches." example:"[{registry: docker.io, mirrors: [https://mirror.example.com]}]"`
}

// Registry is one registry as images name it.
type Registry struct {
	Name        string   `yaml:"registry" format:"registry" doc:"Registry as images name it, such as docker.io, or _default for all that are not named."`
	Mirrors     []string `yaml:"mirrors,omitempty" format:"mirror" doc:"Where to ask instead, in this order; the registry itself comes last. Left out, the settings below are those of the registry itself."`
	CA          string   `yaml:"ca,omitempty" format:"file" doc:"CA of the mirrors, or of the registry, PEM."`
	UsernameEnv string   `yaml:"usernameEnv,omitempty" format:"env" doc:"Name of the environment variable that holds the user name for them."`
	PasswordEnv string   `yaml:"passwordEnv,omitempty" format:"env" doc:"Name of the environment variable that holds the password or token."`
}

func validateRegistries(inv *Inventory, d *decoder) {
	seen := map[string]bool{}
	for i, r := range inv.Containerd.Registries {
		at := indexed("containerd.registries", i)
		switch {
		case r.Name != "" && seen[r.Name]:
			d.report(at+".registry", r.Name+" is named twice", "remove one of the two")
		case (r.UsernameEnv == "") != (r.PasswordEnv == ""):
			d.report(at, "has a user name or a password alone", "write both usernameEnv and passwordEnv")
		case r.Name == "_default" && len(r.Mirrors) == 0 && !d.known(at+".mirrors"):
			d.report(at+".mirrors", "is missing: _default is no registry that could be asked", "write mirrors: with a URL")
		case len(r.Mirrors) == 0 && r.CA == "" && r.UsernameEnv == "" && !d.known(at):
			d.report(at, "says nothing of the registry", "write mirrors, ca, or usernameEnv and passwordEnv")
		}
		seen[r.Name] = true
	}
}
