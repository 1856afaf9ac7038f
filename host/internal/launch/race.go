//go:build race

package launch

// raceDetector reserves more memory than any limit that makes sense; a program that is built with it starts itself as
// connectors, too.
const raceDetector = true
