package examples_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/bundle"
	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk"
)

// What is posted becomes one indicator for each value, however often it is posted and whatever gets lost on the way; what
// must not be one is refused with its reason, and its run succeeds all the same.
func TestAdHocIndicator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ad-hoc-indicator.yaml")
	w.graph.FailNext(azurefake.RouteTIUpload, azurefake.LostAnswer, 1)
	bad := `{"indicator":"hxxps://bad[.]evil-one[.]net/x","case":"SOC-1204","days":"45d"}`
	for _, d := range [][2]string{{"d1", bad}, {"d1", bad}, {"d2", bad}, {"d3", `{"indicator":"10.0.0.1"}`}, {"d4", `{"ping":true}`}} {
		if got := w.post(d[0], d[1], hookSecret); got != http.StatusAccepted {
			t.Fatalf("%s: %d", d[0], got)
		}
	}
	outputs := map[string]int{}
	for _, r := range w.runs(3) {
		if r.State != store.RunSucceeded {
			t.Errorf("run %s is %s: %s", r.ID, r.State, r.Reason)
		}
		outputs[string(r.Output)]++
	}
	if outputs[`{"accepted":1,"reason":"","rejected":0}`] != 2 || len(outputs) != 2 {
		t.Errorf("outputs %v", outputs)
	}
	led := w.graph.TI()
	if led.Objects != 1 || led.Updated != 0 {
		t.Errorf("ledger %+v", led)
	}
	o := w.graph.STIX(w.graph.Workspace(), w.graph.STIXIDs(w.graph.Workspace())[0])
	if o["pattern"] != "[url:value = 'https://bad.evil-one.net/x']" || o["description"] != "Reported with SOC-1204" {
		t.Errorf("object %v", o)
	}
}

// The indicators of an alert can be submitted as they are.
func TestIndicatorsOfAlert(t *testing.T) {
	t.Parallel()
	c := catalog{}
	for _, name := range bundle.Names() {
		b, _ := bundle.New(name)
		d, err := sdk.Server(b).Describe(t.Context(), &connectorv1.DescribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		c[name] = d
	}
	text := `name: share
on:
  sentinel.alerts: { connection: alerts, where: "${{ len(alert.iocs) > 0 }}" }
steps:
  - id: share
    uses: threatintel.indicators.submit
    connection: intel
    key: ${{ event.case_key }}
    with:
      values: ${{ alert.iocs }}
      description: ${{ alert.title }}
output: { accepted: "${{ steps.share.accepted }}", first: "${{ steps.share.results[0]?.id }}" }
`
	_, found := flow.Load([]flow.Source{{File: "share.yaml", Data: []byte(text)}}, c)
	for _, d := range found {
		t.Error(d)
	}
	_, found = flow.Load([]flow.Source{{File: "share.yaml", Data: []byte(strings.Replace(text, "alert.iocs }}\n      d", "alert.title }}\n      d", 1))}}, c)
	if !found.HasErrors() {
		t.Error("a text is taken for a list of values")
	}
}
