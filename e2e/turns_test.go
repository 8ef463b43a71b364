//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// labsEnv is how many scenarios run at a time, each with a lab of its own. Two fit
// on two cores and 16 GiB.
const labsEnv = "LABS"

// turns lets scenarios begin in the order of the tiers' lists, as many at a time as
// there are places. The order of t.Parallel is not defined, and the first of the list
// leave the clusters that the others use.
var turns = &queue{}

type queue struct {
	mu      sync.Mutex
	places  int
	free    int
	changed *sync.Cond
	waiting []int // ranks
}

// open sets the number of places.
func (q *queue) open() error {
	q.places, q.free, q.changed = 2, 2, sync.NewCond(&q.mu)
	v := os.Getenv(labsEnv)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return fmt.Errorf("%s=%q is not a number above 0", labsEnv, v)
	}
	q.places, q.free = n, n
	return nil
}

// inTurn makes a test one that runs beside others, in its turn.
func inTurn(t *testing.T) {
	t.Helper()
	rank := slices.Index(everyScenario, t.Name())
	if rank < 0 {
		t.Fatal("it is not in the lists of e2e/tiers_test.go")
	}
	// All tests come to here before the first of them goes on after t.Parallel.
	turns.announce(rank)
	t.Parallel()
	turns.enter(rank)
	begun := time.Now()
	t.Cleanup(func() {
		turns.leave()
		// go test counts the wait for the turn, too.
		took(t, "scenario "+t.Name(), time.Since(begun))
	})
}

// inTurnPart is inTurn for the parts of a test.
func inTurnPart(t *testing.T) {
	t.Helper()
	t.Parallel()
	turns.enter(math.MinInt)
	t.Cleanup(turns.leave)
}

func (q *queue) announce(rank int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, rank)
}

func (q *queue) enter(rank int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.free == 0 || len(q.waiting) > 0 && slices.Min(q.waiting) < rank {
		q.changed.Wait()
	}
	q.free--
	q.waiting = slices.DeleteFunc(q.waiting, func(r int) bool { return r == rank })
	q.changed.Broadcast()
}

func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free++
	q.changed.Broadcast()
}
