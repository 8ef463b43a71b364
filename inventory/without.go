package inventory

import (
	"fmt"

	"gopkg.in/yaml.v3"
)

// Without loads the inventory's file again as it would be without a host: what follows
// from the hosts, such as whether masters take pods, follows from those that are left.
// The names of bounds are those of [Load].
func (inv *Inventory) Without(host string, bounds ...string) (*Inventory, error) {
	data, problem := read(inv.Path)
	if problem != nil {
		return nil, Problems{*problem}
	}
	root, problem := parseYAML(inv.Path, data)
	if problem != nil {
		return nil, Problems{*problem}
	}
	dropHost(root, host)
	out, err := fromRoot(inv.Path, root, bounds)
	if err != nil {
		return nil, fmt.Errorf("the inventory without %s: %w", host, err)
	}
	return out, nil
}

// dropHost removes the entry with that name from the list of hosts.
func dropHost(root *yaml.Node, host string) {
	hosts := valueOf(root, "hosts")
	if hosts == nil {
		return
	}
	for i, h := range hosts.Content {
		if name := valueOf(h, "name"); name != nil && name.Value == host {
			hosts.Content = append(hosts.Content[:i:i], hosts.Content[i+1:]...)
			return
		}
	}
}

// valueOf is the value of a key of a mapping, or nil.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}
