//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// figuresFile is where a run writes its figures, in the root of the tree.
// No test asserts a figure: how long something takes depends on the machine.
const figuresFile = "e2e-figures.json"

// figure is one thing that was measured, over all times that it was in this run.
type figure struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Value   float64 `json:"value"` // the median
	Worst   float64 `json:"worst"` // the largest
	Samples int     `json:"samples"`
}

var measured = struct {
	sync.Mutex
	order  []string // by name
	unit   map[string]string
	values map[string][]float64
}{unit: map[string]string{}, values: map[string][]float64{}}

// record prints a figure and keeps it for the file.
func record(t *testing.T, name, unit string, value float64) {
	t.Helper()
	t.Logf("figure: %s: %.3g %s", name, value, unit)
	measured.Lock()
	defer measured.Unlock()
	if _, ok := measured.unit[name]; !ok {
		measured.order = append(measured.order, name)
	}
	measured.unit[name] = unit
	measured.values[name] = append(measured.values[name], value)
}

// took records a time in seconds.
func took(t *testing.T, name string, d time.Duration) {
	t.Helper()
	record(t, name, "s", d.Round(time.Millisecond).Seconds())
}

// writeFigures writes the file; a run that measured nothing leaves the last one.
func writeFigures() error {
	measured.Lock()
	defer measured.Unlock()
	var out []figure
	for _, name := range measured.order {
		v := slices.Sorted(slices.Values(measured.values[name]))
		out = append(out, figure{name, measured.unit[name], v[len(v)/2], v[len(v)-1], len(v)})
	}
	if len(out) == 0 {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"figures": out}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("..", figuresFile), append(b, '\n'), 0o644)
}
