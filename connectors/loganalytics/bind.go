package loganalytics

import (
	"strings"
	"unicode"

	"github.com/casewire/casewire/connectors/internal/kql"
	"github.com/casewire/casewire/sdk"
)

// bound is a query with its parameters in front of it.
type bound struct {
	lets  string // one line, or empty
	query string // as its author wrote it, without white space around it
	// skipped is how many lines of the author's text were cut off in front: positions are told in that text.
	skipped int
}

// text is what is sent. The language allows no blank line after a let statement.
func (b *bound) text() string { return b.lets + b.query }

// bind puts parameters in front of a query as let statements. A value can be nothing but one literal, whatever it holds.
// https://learn.microsoft.com/kusto/query/scalar-data-types.
func bind(query string, params map[string]any) (*bound, error) {
	out := &bound{query: strings.TrimSpace(query)}
	if out.query == "" {
		return nil, sdk.Invalid("query", "is empty")
	}
	out.skipped = strings.Count(query[:len(query)-len(strings.TrimLeftFunc(query, unicode.IsSpace))], "\n")
	var err error
	if out.lets, err = kql.Lets(params); err != nil {
		return nil, err
	}
	return out, nil
}
