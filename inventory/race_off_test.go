//go:build !race

package inventory

// raceDetector says that the test runs several times slower.
const raceDetector = false
