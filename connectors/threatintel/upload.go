package threatintel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// perUpload is the most objects that one upload may have.
const perUpload = 100

// stixObject is an indicator as the upload API takes it (STIX 2.1).
type stixObject struct {
	Type        string           `json:"type"`
	Spec        string           `json:"spec_version"`
	ID          string           `json:"id"`
	Created     string           `json:"created"`
	Modified    string           `json:"modified"`
	Revoked     bool             `json:"revoked,omitempty"`
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Kinds       []string         `json:"indicator_types,omitempty"`
	Pattern     string           `json:"pattern"`
	PatternType string           `json:"pattern_type"`
	PatternVer  string           `json:"pattern_version"`
	ValidFrom   string           `json:"valid_from"`
	ValidUntil  string           `json:"valid_until,omitempty"`
	Labels      []string         `json:"labels,omitempty"`
	Confidence  int              `json:"confidence"`
	Markings    []string         `json:"object_marking_refs,omitempty"`
	Phases      []feed.Phase     `json:"kill_chain_phases,omitempty"`
	References  []feed.Reference `json:"external_references,omitempty"`
}

func (i *indicator) stix() stixObject {
	o := stixObject{
		Type: "indicator", Spec: "2.1", ID: i.id, Created: stamp(i.created), Modified: stamp(i.modified), Name: i.name,
		Description: i.description, Kinds: i.threats, Pattern: pattern(i.kind, i.value), PatternType: "stix", PatternVer: "2.1",
		ValidFrom: stamp(i.from), ValidUntil: stamp(i.until), Labels: i.labels, Confidence: i.confidence, Phases: i.phases, References: i.references,
	}
	if m := i.tlp.Marking(); m != "" {
		o.Markings = []string{m}
	}
	return o
}

// uploads sends indicators to Sentinel.
func (s *submission) uploads(ctx context.Context, send []int) error {
	for part := range slices.Chunk(send, perUpload) {
		objects := make([]stixObject, len(part))
		for k, n := range part {
			objects[k] = s.all[n].stix()
		}
		faults, err := s.c.uploadObjects(ctx, objects)
		if err != nil {
			return s.broken(err)
		}
		s.out.Requests++
		for k, n := range part {
			if why, bad := faults[k]; bad {
				s.reject(n, why)
				if strings.Contains(strings.ToLower(why), "revoked") {
					s.c.remember(s.all[n].id, version{revoked: true})
				}
				continue
			}
			s.accept(n)
		}
		s.progress(ctx, len(part))
	}
	return nil
}

// broken adds to an error what had been done.
func (s *submission) broken(err error) error {
	if s.done == 0 {
		return err
	}
	return fmt.Errorf("%d of %d indicators were taken before this; they keep their ids, so submit all again: %w", s.done, s.total, err)
}

// busyTries is how often a request that the vendor throttles is tried in one call; it was not executed then.
const busyTries = 5

// uploadObjects sends up to a hundred objects. The map says which were refused, by position, and why: the API answers 200
// with errors for a part of them.
func (c *Client) uploadObjects(ctx context.Context, objects []stixObject) (map[int]string, error) {
	body := map[string]any{"sourcesystem": c.cfg.SourceSystem, "stixobjects": objects}
	resp, err := c.paced(ctx, c.upload, rest.Request{Method: http.MethodPost, Path: c.uploadPath(), Query: c.uploadVersion(), Body: body})
	if err != nil {
		return nil, fmt.Errorf("upload %d indicators to workspace %s: %w", len(objects), c.cfg.WorkspaceID, err)
	}
	if len(bytes.TrimSpace(resp.Body)) == 0 {
		return nil, nil
	}
	var answer struct {
		Errors []struct {
			Index    *int     `json:"recordIndex"`
			Messages []string `json:"errorMessages"`
		} `json:"errors"`
	}
	if err := resp.JSON(&answer); err != nil {
		return nil, err
	}
	faults := map[int]string{}
	for _, e := range answer.Errors {
		if e.Index == nil || *e.Index < 0 || *e.Index >= len(objects) {
			return nil, sdk.Uncertain("Sentinel upload API: it refuses a record that was not sent: %.200q", resp.Body)
		}
		why := strings.Join(e.Messages, "; ")
		if why == "" {
			why = "no reason given"
		}
		faults[*e.Index] = "refused by Sentinel: " + why
	}
	return faults, nil
}

func (c *Client) uploadPath() string {
	return "/workspaces/" + url.PathEscape(c.cfg.WorkspaceID) + "/threat-intelligence-stix-objects:upload"
}

func (c *Client) uploadVersion() url.Values { return url.Values{"api-version": {c.cfg.APIVersion}} }

// paced sends a request when the quota lets it, and again when the vendor throttles it all the same.
func (c *Client) paced(ctx context.Context, client *rest.Client, req rest.Request) (*rest.Response, error) {
	for try := 1; ; try++ {
		if err := c.quota.wait(ctx); err != nil {
			return nil, err
		}
		resp, err := client.Do(ctx, req)
		e, ok := errors.AsType[*sdk.Error](err)
		if err == nil || !ok || e.Code != codes.ResourceExhausted {
			return resp, err
		}
		wait := e.RetryAfter
		if wait <= 0 {
			wait = time.Duration(try) * 5 * time.Second
		}
		c.quota.pause(time.Now().Add(wait))
		if try == busyTries {
			return nil, err
		}
	}
}
