package normalize

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin/event"
)

// translated are the members whose words become numbers.
// Of rows: $id only ties entities together, a confidence of 0 to 1 becomes one of 0 to 100, tactics are taken apart, and
// IsIncident is always false.
var translated = map[string]bool{
	"@odata.type": true, "riskScore": true, "onboardingStatus": true, "locationType": true, "algorithm": true,
	"$id": true, "Algorithm": true, "ConfidenceScore": true, "Tactics": true, "IsIncident": true, "hashType": true,
}

// assertNothingLost looks for every leaf of the source in the event: as itself, as part of a text, as milliseconds.
func assertNothingLost(tb testing.TB, raw []byte, ev event.Event) {
	tb.Helper()
	var src, out any
	decode := func(b []byte, v any) {
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.UseNumber()
		if err := d.Decode(v); err != nil {
			tb.Fatal(err)
		}
	}
	decode(raw, &src)
	decode(ev.Data, &out)
	have := map[string]bool{}
	var texts []string
	walk("", out, func(_, _ string, v any) {
		s := leafText(v)
		have[s] = true
		have[strings.ToLower(s)] = true
		if s, ok := v.(string); ok {
			texts = append(texts, s)
		}
	})
	all := strings.Join(texts, "\x00")
	walk("", src, func(path, name string, v any) {
		s := strings.TrimSpace(leafText(v))
		if s == "" || translated[name] || strings.HasPrefix(path, ".@odata.") {
			return
		}
		if have[s] || have[strings.ToLower(s)] {
			return
		}
		if at, err := time.Parse(time.RFC3339Nano, s); err == nil && have[fmt.Sprint(at.UnixMilli())] {
			return
		}
		if strings.Contains(all, s) {
			return
		}
		tb.Errorf("%s: %q is lost", path, s)
	})
}

func walk(path string, v any, leaf func(path, name string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			switch x.(type) {
			case map[string]any, []any:
				walk(path+"."+k, x, leaf)
			default:
				leaf(path+"."+k, k, x)
			}
		}
	case []any:
		for i, x := range v {
			p := fmt.Sprintf("%s[%d]", path, i)
			switch x.(type) {
			case map[string]any, []any:
				walk(p, x, leaf)
			default:
				leaf(p, path[strings.LastIndexByte(path, '.')+1:], x)
			}
		}
	}
}

func leafText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		if f, _, err := big.ParseFloat(v.String(), 10, 200, big.ToNearestEven); err == nil {
			return f.Text('g', 30)
		}
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}
