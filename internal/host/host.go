// Package host brings a bare Linux machine to where a cluster can be put on it:
// operating system settings, packages, binaries, containerd and the images. It
// does only what is not there already.
package host

import (
	"hactl/internal/bundle"
	"hactl/internal/facts"
	"hactl/internal/plan"
	"hactl/inventory"
)

// Host is one machine and what is to be put on it.
type Host struct {
	Inv    *inventory.Inventory
	Host   *inventory.Host
	Facts  *facts.Brief
	Bundle *bundle.Bundle
	Record facts.Record // what the host is to keep of itself
	// TakeOver are the words by which the operator permits to take over what was not
	// made by hactl. See internal/others.
	TakeOver []string
}

// KeepRecord returns the step that lays the host's record down.
func (h Host) KeepRecord() (plan.Step, error) {
	text, err := h.Record.Text()
	return plan.File{ID: h.id("record"), Host: h.Host.Name, Path: facts.RecordFile, Content: text, Mode: 0o600}.Step(), err
}

func (h Host) id(what string) plan.ID { return plan.ID("host/" + h.Host.Name + "/" + what) }

func (h Host) master() bool { return h.Host.Role == inventory.ControlPlane }

// stateDir holds what hactl itself keeps on a host: image archives on their way
// into containerd.
const stateDir = "/var/lib/hactl"
