package host

import (
	"path"
	"time"

	"hactl/internal/plan"
	"hactl/templates"
)

// RuntimeLane is the lane of containerd and the image imports that follow it.
const RuntimeLane = "runtime"

const capSysResource = 1 << 24

// Runtime returns the steps that configure and start containerd.
func (h Host) Runtime() ([]plan.Step, error) {
	ways, err := h.registries()
	if err != nil {
		return nil, err
	}
	dir := ""
	if len(h.Inv.Containerd.Registries) > 0 {
		dir = registryDir
	}
	conf, err := templates.Render("containerd.toml.tmpl", map[string]any{
		"Registries": dir,
		"Pause":      h.Inv.Versions.Set().PauseImage(),
		"Runc":       "runc",
		// Without CAP_SYS_RESOURCE runc cannot lower an oom_score_adj and dies
		// with "can't get final child's PID from pipe".
		"RestrictOOM":   h.Facts.CapBnd&capSysResource == 0,
		"SystemdCgroup": h.Facts.CgroupV2,
	})
	if err != nil {
		return nil, err
	}
	const confFile, unitFile = "/etc/containerd/config.toml", "/etc/systemd/system/containerd.service"
	unit := func(config string) ([]byte, error) {
		return templates.Render("containerd.service.tmpl", map[string]any{
			"Config": config, "Reads": []string{confFile, unitFile},
			"Program": ProgramPath(h.Bundle, "containerd"), "Shim": path.Dir(ProgramPath(h.Bundle, "containerd-shim-runc-v2")),
		})
	}
	bare, err := unit("")
	if err != nil {
		return nil, err
	}
	sum := plan.Digest(conf, bare)
	whole, err := unit(sum)
	if err != nil {
		return nil, err
	}
	file := func(what, path string, content []byte) plan.Step {
		return plan.File{ID: h.id(what), Host: h.Host.Name, Path: path, Content: content, Lane: RuntimeLane}.Step()
	}
	return append(ways,
		file("containerd-config", confFile, conf),
		file("containerd-unit", unitFile, whole),
		plan.Service{
			ID: h.id("containerd"), Host: h.Host.Name, Unit: "containerd.service", Config: sum, Lane: RuntimeLane, Wait: 2 * time.Minute,
			Reads: map[string][]byte{confFile: conf, unitFile: whole},
		}.Step(),
	), nil
}
