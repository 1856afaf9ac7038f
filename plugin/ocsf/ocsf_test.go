package ocsf_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/casewire/casewire/plugin/ocsf"
)

func TestZeroIsAValue(t *testing.T) {
	t.Parallel()
	d := ocsf.Device{RiskLevelID: new(0), IsManaged: new(false), FirstSeenTime: new(int64(0))}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"type_id":0,"risk_level_id":0,"first_seen_time":0,"is_managed":false}`; string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	b, err = json.Marshal(ocsf.DetectionFinding{})
	if err != nil || strings.Contains(string(b), "null") {
		t.Errorf("%s, %v: want no null", b, err)
	}
}

func TestSetClass(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		class, activity, category, typ int
		name                           string
	}{
		{2004, 1, 2, 200401, "Detection Finding: Create"},
		{2005, 3, 2, 200503, "Incident Finding: Close"},
		{5021, 2, 5, 502102, "OSINT Inventory Info: Collect"},
		{0, 99, 0, 99, "Base Event: Other"},
		{2004, 99, 2, 200499, "Detection Finding: Other"},
	} {
		var h ocsf.Head
		h.SetClass(c.class, c.activity)
		if h.CategoryUID != c.category || h.TypeUID != c.typ || h.TypeName != c.name || h.ClassUID != c.class || h.ActivityID != c.activity {
			t.Errorf("%+v, want %+v", h, c)
		}
	}
}

type attribute struct {
	Type  string            `json:"type"`
	Array bool              `json:"array"`
	Need  string            `json:"requirement"`
	Enum  map[string]string `json:"enum"`
}

type object struct {
	Attributes map[string]attribute `json:"attributes"`
}

// TestContractModel compares the structs and captions with the compiled model of OCSF 1.8.0, if it lies next to the
// repository.
func TestContractModel(t *testing.T) {
	t.Parallel()
	var model struct {
		Version string            `json:"version"`
		Classes map[string]object `json:"classes"`
		Objects map[string]object `json:"objects"`
		Obs     map[string]struct {
			Caption string `json:"caption"`
		} `json:"observables"`
	}
	found := false
	for _, up := range []string{"../../..", "../../../.."} {
		b, err := os.ReadFile(filepath.Join(up, "shared", "contracts", "events", "ocsf-1.8.0", "model.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &model); err != nil {
			t.Fatal(err)
		}
		found = true
	}
	if !found {
		t.Skip("NOT CHECKED: ../shared/contracts/events does not lie next to the repository")
	}
	if model.Version != ocsf.Version {
		t.Errorf("version %s, the model's is %s", ocsf.Version, model.Version)
	}
	seen := map[string]bool{}
	var compare func(path string, typ reflect.Type, o object)
	compare = func(path string, typ reflect.Type, o object) {
		if seen[path+typ.Name()] || strings.Count(path, ".") > 6 {
			return
		}
		seen[path+typ.Name()] = true
		for _, f := range reflect.VisibleFields(typ) {
			if f.Anonymous {
				continue
			}
			name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			at := path + "." + name
			a, ok := o.Attributes[name]
			if !ok {
				t.Errorf("%s is no attribute", at)
				continue
			}
			// cloud comes with a profile; status_id is one field for all classes, and whoever makes an incident sets it.
			except := at == "detection_finding.cloud" || at == "incident_finding.status_id"
			if a.Need == "required" && opts != "" && !except {
				t.Errorf("%s is required, and its tag has %q", at, opts)
			}
			elem := f.Type
			isSlice := elem.Kind() == reflect.Slice && elem != reflect.TypeFor[json.RawMessage]()
			if isSlice {
				elem = elem.Elem()
			}
			if isSlice != a.Array {
				t.Errorf("%s: array is %v in the model", at, a.Array)
			}
			if elem.Kind() == reflect.Pointer {
				elem = elem.Elem()
			}
			if opts != "" && elem.Kind() == reflect.Int && f.Type.Kind() == reflect.Int && name != "type_uid" {
				t.Errorf("%s: an optional integer that is no pointer loses its zero", at)
			}
			if elem.Kind() == reflect.Struct {
				sub, ok := model.Objects[a.Type]
				if !ok {
					t.Errorf("%s is a %s in the model", at, a.Type)
					continue
				}
				compare(at, elem, sub)
			}
		}
	}
	for class, v := range map[string]any{
		"detection_finding": ocsf.DetectionFinding{}, "incident_finding": ocsf.IncidentFinding{}, "osint_inventory_info": ocsf.OSINTInventoryInfo{},
		"base_event": ocsf.BaseEvent{},
	} {
		compare(class, reflect.TypeOf(v), model.Classes[class])
	}
	finding := model.Classes["detection_finding"].Attributes
	captions := func(what string, enum map[string]string, name func(int) string) {
		for k, want := range enum {
			id, err := strconv.Atoi(k)
			if err != nil {
				t.Fatal(err)
			}
			if got := name(id); got != want && !(got == "Other" && id > 4 && what == "analytic") {
				t.Errorf("%s %d is %q, want %q", what, id, got, want)
			}
		}
	}
	status := func(class int) func(int) string { return func(id int) string { return ocsf.StatusName(class, id) } }
	activity := func(class int) func(int) string { return func(id int) string { return ocsf.ActivityName(class, id) } }
	captions("severity", finding["severity_id"].Enum, ocsf.SeverityName)
	captions("verdict", finding["verdict_id"].Enum, ocsf.VerdictName)
	captions("status", finding["status_id"].Enum, status(ocsf.ClassDetectionFinding))
	captions("incident status", model.Classes["incident_finding"].Attributes["status_id"].Enum, status(ocsf.ClassIncidentFinding))
	captions("activity", finding["activity_id"].Enum, activity(ocsf.ClassDetectionFinding))
	captions("osint activity", model.Classes["osint_inventory_info"].Attributes["activity_id"].Enum, activity(ocsf.ClassOSINT))
	captions("base activity", model.Classes["base_event"].Attributes["activity_id"].Enum, activity(ocsf.ClassBase))
	captions("risk", model.Objects["device"].Attributes["risk_level_id"].Enum, ocsf.RiskLevelName)
	captions("role", model.Objects["resource_details"].Attributes["role_id"].Enum, ocsf.RoleName)
	captions("analytic", model.Objects["analytic"].Attributes["type_id"].Enum, ocsf.AnalyticTypeName)
	captions("malware", model.Objects["malware"].Attributes["classification_ids"].Enum, ocsf.MalwareClassName)
	for k, o := range model.Obs {
		id, err := strconv.Atoi(k)
		if err != nil {
			t.Fatal(err)
		}
		if got := ocsf.ObservableName(id); got != "" && got != o.Caption {
			t.Errorf("observable %d is %q, want %q", id, got, o.Caption)
		}
	}
}

func TestIsIndicator(t *testing.T) {
	t.Parallel()
	o := ocsf.Observable{Name: "evidences[0].url.url_string", TypeID: ocsf.ObservableURL, Value: "https://evil.example/"}
	for verdict, want := range map[int]bool{
		ocsf.VerdictUnknown: false, ocsf.VerdictFalsePositive: false, ocsf.VerdictTruePositive: true, ocsf.VerdictSuspicious: true,
		ocsf.VerdictBenign: false, ocsf.VerdictSecurityRisk: true, ocsf.Other: false,
	} {
		if got := o.IsIndicator(verdict); got != want {
			t.Errorf("verdict %d: %v", verdict, got)
		}
	}
}
