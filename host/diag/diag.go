// Package diag is what the host says about files that people wrote: every mistake at once, each with its place and a way
// out.
package diag

import (
	"fmt"
	"strings"
)

// Severity of a finding.
type Severity string

// The severities. Only errors keep anything from starting.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Pos is a place in a file; lines and columns count from 1, zero means unknown.
type Pos struct {
	File      string `json:"file"`
	Line, Col int
}

// String returns file:line:col.
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Diagnostic is one finding.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Pos      Pos      `json:"pos"`
	Path     string   `json:"path,omitempty"` // steps[0].with.project
	Summary  string   `json:"summary"`
	Hint     string   `json:"hint,omitempty"`
}

// String returns "file:line:col: path: summary; hint".
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.Pos.String() + ": ")
	if d.Severity == Warning {
		b.WriteString("warning: ")
	}
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	b.WriteString(d.Summary)
	if d.Hint != "" {
		b.WriteString("; " + d.Hint)
	}
	return b.String()
}

// List is many findings.
type List []Diagnostic //nolint:errname // a list first, an error when there is one in it

// Errorf adds an error.
func (l *List) Errorf(pos Pos, path, hint, format string, args ...any) {
	*l = append(*l, Diagnostic{Severity: Error, Pos: pos, Path: path, Summary: fmt.Sprintf(format, args...), Hint: hint})
}

// Warnf adds a warning.
func (l *List) Warnf(pos Pos, path, hint, format string, args ...any) {
	*l = append(*l, Diagnostic{Severity: Warning, Pos: pos, Path: path, Summary: fmt.Sprintf(format, args...), Hint: hint})
}

// HasErrors says whether any finding is an error.
func (l List) HasErrors() bool {
	for _, d := range l {
		if d.Severity == Error {
			return true
		}
	}
	return false
}

// Error makes a List an error: one finding a line.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, d := range l {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}
