package sentinel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/normalize"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// armIncident reads an incident of the workspace by its GUID or ARM id.
func (a *armClient) incident(ctx context.Context, id string) (*armResource, error) {
	name, err := a.incidentName(id)
	if err != nil {
		return nil, err
	}
	var inc armResource
	if err := a.must(ctx, a.path("incidents", name), &inc); err != nil {
		return nil, fmt.Errorf("get incident %s: %w", name, err)
	}
	if inc.Name == "" || inc.Properties == nil {
		return nil, sdk.Unavailable("get incident %s: the answer is no incident", name)
	}
	return &inc, nil
}

// armGetIncident returns an incident of the workspace with the ids of its alerts.
func (c *Client) armGetIncident(ctx context.Context, id string) (Incident, error) {
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return Incident{}, err
	}
	inc, err := a.incident(ctx, id)
	if err != nil {
		return Incident{}, err
	}
	var alerts struct {
		Value []struct {
			Name       string `json:"name"`
			Properties struct {
				ID string `json:"systemAlertId"`
			} `json:"properties"`
		} `json:"value"`
	}
	if err := a.ask(ctx, a.path("incidents", inc.Name, "alerts"), &alerts); err != nil {
		return Incident{}, fmt.Errorf("alerts of incident %s: %w", inc.Name, err)
	}
	out, err := inc.public()
	for _, x := range alerts.Value {
		out.AlertIDs = append(out.AlertIDs, cmp.Or(x.Properties.ID, x.Name))
	}
	return out, err
}

// public is the incident as flows see it.
func (r *armResource) public() (Incident, error) {
	out := Incident{
		ID: r.Name, Title: r.str("title"), Status: r.str("status"), Severity: r.str("severity"), Classification: r.str("classification"),
		Determination: r.str("classificationReason"), URL: r.str("incidentUrl"), Tags: r.labels(),
	}
	var o owner
	_ = json.Unmarshal(r.Properties["owner"], &o) // nobody
	for _, p := range []*string{o.UserPrincipalName, o.Email, o.AssignedTo, o.ObjectID} {
		if out.AssignedTo == "" && p != nil && !strings.EqualFold(*p, "null") {
			out.AssignedTo = *p
		}
	}
	_ = json.Unmarshal(r.Properties["createdTimeUtc"], &out.Created) // not known
	_ = json.Unmarshal(r.Properties["lastModifiedTimeUtc"], &out.Updated)
	b, err := json.Marshal(r)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(b, &out.Raw)
}

// labels are the names of the incident's labels.
func (r *armResource) labels() []string {
	var list []struct {
		Name string `json:"labelName"`
	}
	_ = json.Unmarshal(r.Properties["labels"], &list) // none
	out := []string{}
	for _, l := range list {
		out = append(out, l.Name)
	}
	return out
}

// armListIncidents emits incidents, newest first, and returns how many, and whether there were more.
func (c *Client) armListIncidents(ctx context.Context, filter string, most int, emit func(map[string]any) error) (n int, truncated bool, err error) {
	a, err := c.workspaceFor("incidents: arm")
	if err != nil {
		return 0, false, err
	}
	q := url.Values{"$top": {strconv.Itoa(min(most+1, c.cfg.PageSize))}, "$orderby": {"properties/createdTimeUtc desc"}}
	if filter != "" {
		q.Set("$filter", filter)
	}
	err = a.each(ctx, a.path("incidents"), q, func(raw json.RawMessage) (bool, error) {
		if n == most {
			truncated = true
			return false, nil
		}
		var inc map[string]any
		if err := rest.DecodeJSON("Azure Resource Manager", raw, &inc); err != nil {
			return false, err
		}
		n++
		return true, emit(inc)
	})
	if err != nil {
		return n, truncated, fmt.Errorf("list incidents: %w", err)
	}
	return n, truncated || n == armListCap, nil
}

// armEntities returns what an incident of the workspace is about.
func (c *Client) armEntities(ctx context.Context, id string) (Entities, error) {
	var out Entities
	a, err := c.workspaceFor("incidents by GUID")
	if err != nil {
		return out, err
	}
	name, err := a.incidentName(id)
	if err != nil {
		return out, err
	}
	var answer struct {
		Entities json.RawMessage `json:"entities"`
	}
	if err := a.ask(ctx, a.path("incidents", name, "entities"), &answer); err != nil {
		return out, fmt.Errorf("entities of incident %s: %w", name, err)
	}
	list := normalize.SentinelObservables(answer.Entities)
	for i := range list {
		out.put(&list[i], "", "")
	}
	return out, nil
}
