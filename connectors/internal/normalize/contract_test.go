package normalize

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contracts returns a folder of the published contracts and samples that may lie next to the repository. They are not
// ours to copy in; without them these tests say that they did not run.
func contracts(tb testing.TB, sub string) string {
	tb.Helper()
	for _, up := range []string{"../../../..", "../../../../.."} {
		dir := filepath.Join(up, "shared", filepath.FromSlash(sub))
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	tb.Skipf("NOT CHECKED: ../shared/%s does not lie next to the repository", sub)
	return ""
}

var strictSchemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	for _, up := range []string{"../../../..", "../../../../.."} {
		files, err := filepath.Glob(filepath.Join(up, "shared", "contracts", "events", "ocsf-1.8.0", "strict", "*.json"))
		if err != nil || len(files) == 0 {
			continue
		}
		ids := map[string]string{}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			url, _ := doc.(map[string]any)["$id"].(string)
			if err := c.AddResource(url, doc); err != nil {
				return nil, err
			}
			ids[strings.TrimSuffix(filepath.Base(file), ".schema.json")] = url
		}
		out := map[string]*jsonschema.Schema{}
		for _, class := range []string{"detection_finding", "incident_finding"} {
			if out[class], err = c.Compile(ids[class]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, os.ErrNotExist
})

// validate checks a Detection Finding against the strict schema, if it is there.
func validate(tb testing.TB, data []byte) {
	tb.Helper()
	validateAs(tb, "detection_finding", data)
}

func validateAs(tb testing.TB, class string, data []byte) {
	tb.Helper()
	schemas, err := strictSchemas()
	if err != nil {
		if os.IsNotExist(err) {
			return
		}
		tb.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(data)))
	if err != nil {
		tb.Fatal(err)
	}
	if err := schemas[class].Validate(v); err != nil {
		tb.Errorf("data is not what the strict schema wants: %v\n%s", err, data)
	}
}

// TestContractSamples compares with the events that the published samples became. What differs on purpose is named.
func TestContractSamples(t *testing.T) {
	t.Parallel()
	dir := contracts(t, "contracts/events/samples")
	for _, name := range []string{"graph-alert-mde", "graph-alert-mde.rev2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want struct {
				ID            string         `json:"id"`
				Source        string         `json:"source"`
				Subject       string         `json:"subject"`
				Rev           string         `json:"cwrev"`
				Digest        string         `json:"cwdigest"`
				PartitionKey  string         `json:"partitionkey"`
				CorrelationID string         `json:"correlationid"`
				Tenant        string         `json:"cwtenant"`
				Data          map[string]any `json:"data"`
			}
			read(t, filepath.Join(dir, name+".event.json"), &want)
			raw, err := os.ReadFile(filepath.Join(dir, name+".raw.json"))
			if err != nil {
				t.Fatal(err)
			}
			ev, err := Alert(raw, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := ev.Check(); err != nil {
				t.Error(err)
			}
			validate(t, ev.Data)
			got := []string{ev.ID, ev.Source, ev.Subject, ev.Rev, ev.Digest, ev.PartitionKey, ev.CorrelationID, ev.Tenant}
			if diff := cmp.Diff([]string{
				want.ID, want.Source, want.Subject, want.Rev, want.Digest, want.PartitionKey, want.CorrelationID, want.Tenant,
			}, got); diff != "" {
				t.Errorf("envelope (-sample +got):\n%s", diff)
			}
			var data map[string]any
			if err := json.Unmarshal(ev.Data, &data); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Data, data); diff != "" {
				t.Errorf("data (-sample +got):\n%s", diff)
			}
		})
	}
}

// TestContractAlerts normalizes every alert of the published collections.
func TestContractAlerts(t *testing.T) {
	t.Parallel()
	dir := contracts(t, "samples/alerts_v2")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d alerts, %v", len(files), err)
	}
	files = append(files, filepath.Join(contracts(t, "contracts/events/samples"), "graph-alert-all-evidence.raw.json"))
	ids := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := Alert(raw, Options{Tenant: "t"})
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if err := ev.Check(); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		if other := ids[ev.PartitionKey]; other != "" {
			t.Errorf("%s and %s are one object", file, other)
		}
		ids[ev.PartitionKey] = file
		validate(t, ev.Data)
		assertNothingLost(t, raw, ev)
	}
}

// TestContractEvidenceTypes has every evidence type of the metadata with every property filled, and random sparse
// variants of them.
func TestContractEvidenceTypes(t *testing.T) {
	t.Parallel()
	var model struct {
		Types map[string]struct{ Base string }
	}
	read(t, filepath.Join(contracts(t, "contracts/events/microsoft"), "graph-alerts-v2.types.json"), &model)
	n := 0
	for name, typ := range model.Types {
		if typ.Base != "microsoft.graph.security.alertEvidence" {
			continue
		}
		n++
		short := strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "Evidence")
		if _, ok := fixtures[short]; !ok {
			t.Errorf("no fixture for %s", name)
		}
	}
	if n != 48 {
		t.Errorf("%d evidence types, want 48", n)
	}
}

func read(tb testing.TB, file string, v any) {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
}
