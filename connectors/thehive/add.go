package thehive

import (
	"context"

	"github.com/casewire/casewire/sdk"
)

// AddInput is observables for a case or an alert.
type AddInput struct {
	Case        string       `json:"case,omitempty" doc:"Id or number of the case" pattern:"^(~?[0-9]+)?$"`
	Alert       string       `json:"alert,omitempty" doc:"Id of the alert, instead of a case" pattern:"^(~?[0-9]+)?$"`
	TLP         string       `json:"tlp,omitempty" doc:"clear, green, amber, amber+strict or red; default the connection's"`
	PAP         string       `json:"pap,omitempty" doc:"clear, green, amber or red; default the connection's"`
	Observables []Observable `json:"observables" cw:"required" doc:"Values worth looking up"`
}

// Added counts what became of the observables.
type Added struct {
	Added    int        `json:"added" doc:"Observables that are new"`
	Existing int        `json:"existing" doc:"Observables that were there"`
	Rejected []Rejected `json:"rejected,omitempty" doc:"Observables that TheHive refused"`
}

// AddObservables adds to a case or alert the observables that it does not have yet.
func (c *Client) AddObservables(ctx context.Context, in AddInput) (Added, error) {
	k, id, err := target(in.Case, in.Alert)
	if err != nil {
		return Added{}, err
	}
	s, err := c.know(ctx)
	if err != nil {
		return Added{}, err
	}
	tlp, pap, err := c.markings(in.TLP, in.PAP)
	if err != nil {
		return Added{}, err
	}
	obs, rejected, err := c.prepare(s, in.Observables, tlp, pap)
	if err != nil {
		return Added{}, err
	}
	missing, err := c.missing(ctx, k, id, obs)
	if err != nil {
		return Added{}, err
	}
	out := Added{Existing: len(obs) - len(missing), Rejected: rejected}
	if sdk.CallFrom(ctx).DryRun {
		out.Added = len(missing)
		return out, nil
	}
	added, refused, err := c.addNew(ctx, k, id, missing)
	out.Added, out.Existing, out.Rejected = added, len(obs)-added-len(refused), append(out.Rejected, refused...)
	return out, err
}
