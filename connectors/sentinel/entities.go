package sentinel

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/rest"
)

// Entities are what an alert or incident is about.
type Entities struct {
	Entities []Entity `json:"entities" doc:"All, each once, in the order in which they are met"`
	Users    []string `json:"users" doc:"E-mail addresses and names of accounts"`
	Hosts    []string `json:"hosts" doc:"Names of devices"`
	IPs      []string `json:"ips" doc:"IP addresses"`
	Domains  []string `json:"domains" doc:"Domains and host names of the internet"`
	URLs     []string `json:"urls" doc:"URLs"`
	Hashes   []string `json:"hashes" doc:"Hashes of files"`
	Files    []string `json:"files" doc:"Names of files"`
	Alerts   int      `json:"alerts" doc:"How many alerts they come from; 0 where Microsoft does not say"`
}

// Entity is a value worth looking up.
type Entity struct {
	Type     string `json:"type" doc:"What it is, in the words of OCSF" example:"IP Address"`
	DataType string `json:"data_type" doc:"What it is, in the words of case managers: ip, domain, fqdn, hostname, url, mail, hash, filename, other" example:"ip"`
	Tag      string `json:"tag" doc:"Tells apart what shares the data type other: user, mac, process, …"`
	Value    string `json:"value" doc:"The value in canonical form" example:"198.51.100.77"`
	Verdict  string `json:"verdict" doc:"Microsoft's verdict on the evidence that it comes from" example:"Suspicious"`
	Alert    string `json:"alert" doc:"Id of an alert that has it; empty where Microsoft does not say"`
}

func (c *Client) alertEntities(ctx context.Context, in AlertRef) (Entities, error) {
	raw, err := c.fetchAlert(ctx, in.Alert)
	if err != nil {
		return Entities{}, err
	}
	var out Entities
	return out, out.add(raw, c.tenant)
}

func (c *Client) incidentEntities(ctx context.Context, in IncidentRef) (Entities, error) {
	if isARMIncident(in.Incident) {
		return c.armEntities(ctx, in.Incident)
	}
	body, _, err := c.fetchIncident(ctx, in.Incident, true)
	if err != nil {
		return Entities{}, err
	}
	var g struct {
		Alerts []json.RawMessage `json:"alerts"`
	}
	if err := rest.DecodeJSON(graphName, body, &g); err != nil {
		return Entities{}, err
	}
	var out Entities
	for _, raw := range g.Alerts {
		if err := out.add(raw, c.tenant); err != nil {
			return out, err
		}
	}
	return out, nil
}

// add takes over what an alert is about. Values go by their type; the same value in two alerts is one entity.
func (e *Entities) add(raw []byte, tenant string) error {
	ev, err := normalize.Alert(raw, normalize.Options{Tenant: tenant})
	if err != nil {
		return err
	}
	var f ocsf.DetectionFinding
	if err := json.Unmarshal(ev.Data, &f); err != nil {
		return err
	}
	e.Alerts++
	for i := range f.Observables {
		o := &f.Observables[i]
		e.put(o, f.FindingInfo.UID, verdictOn(&f, o.Name))
	}
	return nil
}

// put adds a value, unless it is there or nobody would look it up.
func (e *Entities) put(o *ocsf.Observable, alert, verdict string) {
	x := Entity{Type: o.Type, DataType: o.DataType(), Tag: o.Tag(), Value: o.Value, Alert: alert, Verdict: verdict}
	if x.DataType == "" || slices.ContainsFunc(e.Entities, func(y Entity) bool { return x.Type == y.Type && x.Value == y.Value }) {
		return
	}
	e.Entities = append(e.Entities, x)
	e.sort(o, x)
}

// sort puts a value into the list for its kind.
func (e *Entities) sort(o *ocsf.Observable, x Entity) {
	var list *[]string
	switch x.DataType {
	case "ip":
		list = &e.IPs
	case "hostname":
		list = &e.Hosts
	case "domain", "fqdn":
		list = &e.Domains
	case "url":
		list = &e.URLs
	case "hash":
		list = &e.Hashes
	case "filename":
		list = &e.Files
	default:
		if o.TypeID != ocsf.ObservableUserName && !strings.Contains(o.Name, "user.email_addr") {
			return
		}
		list = &e.Users
	}
	if !slices.Contains(*list, x.Value) {
		*list = append(*list, x.Value)
	}
}

// verdictOn is the verdict on the evidence that a path begins with: evidences[3].url.url_string.
func verdictOn(f *ocsf.DetectionFinding, path string) string {
	for i := range f.Evidences {
		if strings.HasPrefix(path, "evidences["+strconv.Itoa(i)+"].") {
			return f.Evidences[i].Verdict
		}
	}
	return ""
}

// decodeNumbers decodes an answer whose numbers must not be rounded.
func decodeNumbers(resp *rest.Response, v any) error {
	d := json.NewDecoder(bytes.NewReader(resp.Body))
	d.UseNumber()
	if d.Decode(v) != nil {
		return resp.JSON(v) // says what is wrong
	}
	return nil
}
