package normalize

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk"
)

// RowOptions say where a row of a Sentinel table comes from. Tenant and Workspace are required.
type RowOptions struct {
	// Tenant is the Entra tenant. Rows do not name theirs: their column TenantId is the workspace.
	Tenant string
	// Workspace is the workspace's id, for rows that do not name theirs.
	Workspace string
	// Host is that of the Log Analytics API in the tenant's cloud; default api.loganalytics.io. It is part of every event's
	// identity.
	Host string
}

// DefaultLogsHost is the Log Analytics API's host in the global cloud, as identities spell it whichever of its names is
// asked.
const DefaultLogsHost = "api.loganalytics.io"

// source is the collection that a table's rows come from.
func (o *RowOptions) source(src *node, table string) (string, error) {
	workspace := strings.ToLower(cmp.Or(src.str("TenantId"), strings.TrimSpace(o.Workspace)))
	if workspace == "" {
		return "", errors.New("it names no workspace (column TenantId) and none is configured")
	}
	return "https://" + cmp.Or(o.Host, DefaultLogsHost) + "/v1/workspaces/" + url.PathEscape(workspace) + "/" + table, nil
}

// withRow reads a row: a JSON object by column. Columns with JSON in a text are read as what the text says; so are the
// values of ExtendedProperties. A text that is no strict JSON stays a text.
func withRow(raw []byte, what string, use func(*node) (sdk.Event, error)) (ev sdk.Event, err error) {
	if !jsontext.Value(raw).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return ev, fmt.Errorf("normalize %s: the row is no JSON", what)
	}
	var columns map[string]json.RawMessage
	if err := json.Unmarshal(raw, &columns); err != nil {
		return ev, fmt.Errorf("normalize %s: the row is no JSON object", what)
	}
	for _, name := range []string{
		"Entities", "ExtendedProperties", "ExtendedLinks", "Techniques", "SubTechniques", "RemediationSteps",
		"Owner", "Labels", "AlertIds", "BookmarkIds", "Comments", "AdditionalData", "RelatedAnalyticRuleIds", "Tasks",
	} {
		if v, ok := columns[name]; ok {
			columns[name] = unwrap(v)
		}
	}
	var properties map[string]json.RawMessage
	if json.Unmarshal(columns["ExtendedProperties"], &properties) == nil && properties != nil {
		for k, v := range properties {
			properties[k] = unwrap(v)
		}
		columns["ExtendedProperties"] = members(properties)
	}
	var fault error
	err = withTree(members(columns), func(src *node) error {
		if ev, fault = use(src); fault != nil {
			fault = fmt.Errorf("normalize %s %q: %w", what, shorten(firstOf(src.scalar("SystemAlertId"), src.scalar("IncidentName"))), fault)
		}
		return nil
	})
	return ev, errors.Join(err, fault)
}

// unwrap reads the JSON object or list that a text holds.
func unwrap(v json.RawMessage) json.RawMessage {
	var text string
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &text) != nil {
		return v
	}
	inner := []byte(strings.TrimSpace(text))
	if len(inner) == 0 || inner[0] != '{' && inner[0] != '[' || !jsontext.Value(inner).IsValid() {
		return v
	}
	return inner
}

// members writes an object of members that are JSON already.
func members(list map[string]json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for k, v := range list {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(appendString(nil, k))
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// words reads a column that is a list, JSON text of a list, or a comma list.
func words(src *node, name string) []string {
	k := src.get(name)
	switch {
	case k == nil:
		return nil
	case k.kind == '[':
		return src.strings(name)
	case k.kind != '"':
		return nil
	}
	var out []string
	for s := range strings.SplitSeq(k.text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// allWords says whether a column consists of words only, so that reading them loses nothing.
func allWords(src *node, name string) bool {
	k := src.get(name)
	return k != nil && (k.kind == '"' || len(src.strings(name)) == len(k.kids))
}

// attacksOf makes attacks of tactics, techniques and sub-techniques as tables have them. Left says which columns have
// words that are none.
func attacksOf(tacticWords, techniques, subs []string) (list []ocsf.Attack, left [3]bool) {
	var found []*ocsf.Named
	for _, w := range tacticWords {
		if t, ok := tactics[fold(w)]; ok {
			found = append(found, &ocsf.Named{UID: t.uid, Name: t.name})
		} else {
			left[0] = true
		}
	}
	var first *ocsf.Named
	if len(found) > 0 {
		first = found[0]
	}
	add := func(main, sub string) {
		a := ocsf.Attack{Tactic: first, Technique: &ocsf.Named{UID: main}}
		if sub != "" {
			a.SubTechnique = &ocsf.Named{UID: sub}
		}
		list = append(list, a)
	}
	refined := map[string]bool{}
	for _, s := range subs {
		if s = strings.ToUpper(s); !isTechnique(s) || len(s) == 5 {
			left[2] = true
			continue
		}
		refined[s[:5]] = true
		add(s[:5], s)
	}
	for _, t := range techniques {
		switch t = strings.ToUpper(t); {
		case !isTechnique(t):
			left[1] = true
		case len(t) > 5:
			refined[t[:5]] = true
			add(t[:5], t)
		case !refined[t]:
			add(t, "")
		}
	}
	for i, n := range found {
		if i > 0 || len(list) == 0 {
			list = append(list, ocsf.Attack{Tactic: n})
		}
	}
	return list, left
}

// confidence grades a score of 0 to 100.
func confidence(score int) int {
	switch {
	case score <= 0:
		return 0
	case score < 30:
		return 1
	case score < 70:
		return 2
	default:
		return 3
	}
}

var confidenceNames = []string{"Unknown", "Low", "Medium", "High"}

// wholeNumber reads a number, or the text of one, decimal or hexadecimal.
func (t *taker) wholeNumber(n *node, name string) *int64 {
	if v := t.integer(n, name); v != nil {
		return v
	}
	s := n.str(name)
	v, err := strconv.ParseInt(s, 0, 64)
	if err != nil || v < 0 || len(s) > 1 && s[0] == '0' && s[1] != 'x' && s[1] != 'X' {
		return nil
	}
	if strconv.FormatInt(v, 10) == s {
		t.mark(n, name)
	}
	return &v
}

// rowTimes reads when a row was made and when its object was.
func rowTimes(src *node, created, updated string) (c, u time.Time, err error) {
	c, _ = src.time(created)
	u, _ = src.time(updated)
	if u.IsZero() {
		u = c
	}
	if c.IsZero() {
		c = u
	}
	if u.IsZero() {
		err = fmt.Errorf("it has neither %s nor %s, so that its revision is unknown", updated, created)
	}
	return c, u, err
}
