package threatintel

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

const (
	// perImport is the most indicators that one import may have.
	perImport = 500
	// maxActive is the most active indicators of a tenant.
	maxActive = 15000
	// inventoryAge is how long what was listed of a tenant is believed.
	inventoryAge = 10 * time.Minute
	// perPage is how many indicators are listed at once.
	perPage = 5000
)

// defenderTypes are our types as Defender calls them.
var defenderTypes = map[string]string{
	typeIP: "IpAddress", typeDomain: "DomainName", typeURL: "Url", typeMD5: "FileMd5", typeSHA1: "FileSha1", typeSHA256: "FileSha256",
	typeCertificate: "CertificateThumbprint",
}

var defenderActions = map[string]string{
	"allow": "Allowed", "audit": "Audit", "warn": "Warn", "block": "Block", "block_and_remediate": "BlockAndRemediate",
}

// defenderRefuses says why Defender takes no such indicator; empty if it does.
func defenderRefuses(i *indicator) string {
	switch i.kind {
	case typeCIDR:
		return "is a network: Defender takes single addresses only"
	case typeEmail, typeSHA512, typePattern:
		return "is of the type " + i.kind + ", which Defender does not take"
	}
	file := i.kind == typeMD5 || i.kind == typeSHA1 || i.kind == typeSHA256
	switch {
	case i.action == "block_and_remediate" && !file && i.kind != typeCertificate:
		return "block_and_remediate is for files and certificates; use block"
	case i.kind == typeCertificate && (i.action == "audit" || i.action == "warn"):
		return "certificates can be allowed or blocked only, not " + i.action
	}
	return ""
}

// mdeIndicator is an indicator as Defender writes it.
type mdeIndicator struct {
	ID            any      `json:"id,omitempty"` // text, or a number
	Value         string   `json:"indicatorValue"`
	Type          string   `json:"indicatorType"`
	Action        string   `json:"action"`
	Title         string   `json:"title"`
	Description   string   `json:"description"`
	Severity      string   `json:"severity,omitempty"`
	Expires       string   `json:"expirationTime,omitempty"`
	Application   string   `json:"application,omitempty"`
	GenerateAlert bool     `json:"generateAlert"`
	RBACGroups    []string `json:"rbacGroupNames,omitempty"`
	Source        string   `json:"source,omitempty"`
	Created       string   `json:"creationTimeDateTimeUtc,omitempty"`
	Updated       string   `json:"lastUpdateTime,omitempty"`
}

func (m *mdeIndicator) id() string {
	switch t := m.ID.(type) {
	case string:
		return t
	case float64:
		return strconv.FormatFloat(t, 'f', -1, 64)
	}
	return ""
}

// active says whether it counts against the most that a tenant may have.
func (m *mdeIndicator) active(now time.Time) bool {
	t, err := time.Parse(time.RFC3339Nano, m.Expires)
	return m.Expires == "" || err != nil || t.After(now)
}

func (i *indicator) defender(source string) mdeIndicator {
	description := i.description
	if description == "" {
		description = "Submitted by " + source
	}
	if i.tlp != "" { // Defender has no place for it
		description += " (TLP:" + string(i.tlp) + ")"
	}
	return mdeIndicator{
		Value: i.value, Type: defenderTypes[i.kind], Action: defenderActions[i.action], Title: i.name, Description: description,
		Severity: i.severity, Expires: i.until.UTC().Format(time.RFC3339), Application: source,
		GenerateAlert: i.action == "audit", // Defender demands it of audit
	}
}

// inventory is what a tenant has.
type inventory struct {
	at      time.Time
	byValue map[string]mdeIndicator // by lower-case value
}

func (v *inventory) count(now time.Time) int {
	n := 0
	for _, m := range v.byValue {
		if m.active(now) {
			n++
		}
	}
	return n
}

// listed is the inventory, read anew when it is old or fresh is asked for.
func (c *Client) listed(ctx context.Context, fresh bool) (*inventory, error) {
	c.mu.Lock()
	was := c.active
	c.mu.Unlock()
	if was != nil && !fresh && c.now().Sub(was.at) < inventoryAge {
		return was, nil
	}
	v := &inventory{at: c.now(), byValue: map[string]mdeIndicator{}}
	err := c.eachDefender(ctx, func(m mdeIndicator) error {
		v.byValue[strings.ToLower(m.Value)] = m
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.active = v
	c.mu.Unlock()
	return v, nil
}

// eachDefender lists every indicator of the tenant.
func (c *Client) eachDefender(ctx context.Context, each func(mdeIndicator) error) error {
	for skip := 0; ; skip += perPage {
		var page struct {
			Value []mdeIndicator `json:"value"`
		}
		q := url.Values{"$top": {strconv.Itoa(perPage)}, "$skip": {strconv.Itoa(skip)}}
		if err := c.mde.Get(ctx, "/api/indicators", q, &page); err != nil {
			return fmt.Errorf("list indicators: %w", err)
		}
		for _, m := range page.Value {
			if err := each(m); err != nil {
				return err
			}
		}
		if len(page.Value) < perPage {
			return nil
		}
		if skip > 10*maxActive {
			return sdk.Unavailable("Defender for Endpoint: GET /api/indicators: the list does not end")
		}
	}
}

// imports sends indicators to Defender.
func (s *submission) imports(ctx context.Context, send []int) error {
	c := s.c
	if len(send) == 0 {
		return nil
	}
	listed, err := c.listed(ctx, false)
	if err != nil {
		return err
	}
	inv := &inventory{at: listed.at, byValue: listed.byValue} // ours to replace; others may be reading the other
	if err := s.room(ctx, inv, send); err != nil {
		return err
	}
	for part := range slices.Chunk(send, perImport) {
		list := make([]mdeIndicator, len(part))
		for k, n := range part {
			list[k] = s.all[n].defender(c.cfg.SourceSystem)
		}
		answers, err := c.importList(ctx, list)
		if err != nil {
			c.mu.Lock()
			c.active = nil // what is there is not known any more
			c.mu.Unlock()
			return s.broken(err)
		}
		s.out.Requests++
		took := map[string]mdeIndicator{}
		for k, n := range part {
			a, ok := answers[strings.ToLower(list[k].Value)]
			switch {
			case !ok:
				return s.broken(sdk.Uncertain("Defender for Endpoint: POST /api/indicators/import: the answer says nothing of %s", list[k].Value))
			case a.Failed:
				s.reject(n, "refused by Defender: "+a.why())
			default:
				list[k].ID = a.id()
				s.out.Results[n].VendorID = a.id()
				took[strings.ToLower(list[k].Value)] = list[k]
				s.accept(n)
			}
		}
		c.note(inv, took)
		s.progress(ctx, len(part))
	}
	return nil
}

// note adds to the inventory what was just taken. The inventory is replaced, because others may be reading it.
func (c *Client) note(inv *inventory, took map[string]mdeIndicator) {
	next := &inventory{at: inv.at, byValue: maps.Clone(inv.byValue)}
	maps.Copy(next.byValue, took)
	*inv = *next
	c.mu.Lock()
	c.active = next
	c.mu.Unlock()
}

// room refuses beforehand, and in whole, what would not fit into the tenant.
func (s *submission) room(ctx context.Context, inv *inventory, send []int) error {
	now := s.c.now()
	fits := func() (over, active int) {
		active = inv.count(now)
		added := 0
		for _, n := range send {
			if m, there := inv.byValue[strings.ToLower(s.all[n].value)]; !there || !m.active(now) {
				added++
			}
		}
		return active + added - maxActive, active
	}
	over, active := fits()
	if over > 0 { // is that still so?
		fresh, err := s.c.listed(ctx, true)
		if err != nil {
			return err
		}
		*inv = *fresh
		over, active = fits()
	}
	if over <= 0 {
		return nil
	}
	e := sdk.Invalid("", "Defender for Endpoint keeps at most %d active indicators for a tenant, and this one has %d: %d of these do not fit; delete or expire others (indicators.list, indicators.delete), or submit fewer",
		maxActive, active, over)
	e.Code, e.Origin = codes.FailedPrecondition, sdk.OriginDownstream
	return e
}

type importAnswer struct {
	ID        any    `json:"id"`
	Indicator string `json:"indicator"`
	Failed    bool   `json:"isFailed"`
	Reason    string `json:"failureReason"`
}

func (a importAnswer) id() string { return (&mdeIndicator{ID: a.ID}).id() }

func (a importAnswer) why() string {
	if a.Reason == "" {
		return "no reason given"
	}
	return a.Reason
}

// importList sends up to 500 indicators and returns what became of each, by value.
func (c *Client) importList(ctx context.Context, list []mdeIndicator) (map[string]importAnswer, error) {
	resp, err := c.paced(ctx, c.mde, rest.Request{Method: http.MethodPost, Path: "/api/indicators/import", Body: map[string]any{"Indicators": list}})
	if err != nil {
		return nil, fmt.Errorf("import %d indicators: %w", len(list), err)
	}
	var answer struct {
		Value []importAnswer `json:"value"`
	}
	if err := resp.JSON(&answer); err != nil {
		return nil, err
	}
	out := map[string]importAnswer{}
	for _, a := range answer.Value {
		out[strings.ToLower(a.Indicator)] = a
	}
	return out, nil
}
