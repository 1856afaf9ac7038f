package sentinel

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// links remembers what was asked for.
type links struct {
	http.RoundTripper

	mu   sync.Mutex
	seen []string
}

func (l *links) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	l.seen = append(l.seen, r.URL.String())
	l.mu.Unlock()
	return l.RoundTripper.RoundTrip(r)
}

// signIn gets a token for Azure Resource Manager.
func signIn(t *testing.T, fake *azurefake.Server) string {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {fake.ClientID()}, "client_secret": {fake.ClientSecret()},
		"scope": {"https://management.azure.com/.default"},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://login.microsoftonline.com/"+fake.Tenant()+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := fake.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var token struct {
		Value string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.Value == "" {
		t.Fatalf("no token: %v", err)
	}
	return token.Value
}

// TestARMNextLinkVerbatim: the next link names port 443, and goes as it is, with the credential.
func TestARMNextLinkVerbatim(t *testing.T) {
	t.Parallel()
	fake := azurefake.New(azurefake.Options{})
	t.Cleanup(fake.Close)
	for range 5 {
		fake.AddSentinelIncident("", nil, nil, nil)
	}
	token := signIn(t, fake)
	wire := &links{RoundTripper: fake.Transport()}
	api, err := rest.New(rest.Options{BaseURL: "https://management.azure.com", Transport: wire, Auth: rest.Bearer(sdk.NewSecret(token)), Explain: explainARM})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{arm: &armClient{api: api, workspace: fake.WorkspaceID(), host: "management.azure.com"}, tenant: fake.Tenant()}
	c.cfg.PageSize, c.lookback = 2, time.Hour
	n := 0
	if err := c.pollIncidentsARM(t.Context(), armCursor{}, func(p sdk.Page[armCursor]) error { n += len(p.Events); return nil }); err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, u := range wire.seen {
		if strings.Contains(u, "skipToken") {
			next++
			if !strings.HasPrefix(u, "https://management.azure.com:443/") {
				t.Errorf("the link was rewritten: %s", u)
			}
		}
	}
	if n != 5 || next != 2 {
		t.Errorf("%d incidents, %d next links in %v", n, next, wire.seen)
	}
}

// denied answers questions for entities as Azure Resource Manager does where the app lacks the role.
type denied struct{ http.RoundTripper }

func (d denied) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/entities") {
		return d.RoundTripper.RoundTrip(r)
	}
	body := `{"error":{"code":"AuthorizationFailed","message":"The client does not have authorization to perform action 'Microsoft.SecurityInsights/incidents/entities/action' over scope '/subscriptions/s'."}}`
	return &http.Response{
		StatusCode: http.StatusForbidden, Header: http.Header{"Content-Type": {"application/json"}, "X-Ms-Request-Id": {"r-1"}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// TestARMPollPartsThatAreRefused: what the app may not read is not waited for, but told, in the event and by the trigger.
func TestARMPollPartsThatAreRefused(t *testing.T) {
	t.Parallel()
	fake := azurefake.New(azurefake.Options{})
	t.Cleanup(fake.Close)
	name := fake.AddSentinelIncident("", nil, nil, nil)
	api, err := rest.New(rest.Options{
		BaseURL: "https://management.azure.com", Transport: denied{fake.Transport()}, Auth: rest.Bearer(sdk.NewSecret(signIn(t, fake))), Explain: explainARM,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{arm: &armClient{api: api, workspace: fake.WorkspaceID(), host: "management.azure.com"}, tenant: fake.Tenant()}
	c.cfg.PageSize, c.lookback = 2, time.Hour
	var events []sdk.Event
	r := &armRound{client: c, arm: c.arm, now: time.Now(), seen: map[string]bool{}, emit: func(p sdk.Page[armCursor]) error {
		events = append(events, p.Events...)
		return nil
	}}
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 || !strings.Contains(string(events[0].Data), `"missingParts":["entities"]`) || len(r.cur.Owed) > 0 {
		t.Errorf("%d events, owed %v", len(events), r.cur.Owed)
	}
	if e, ok := asSDK(r.fault); !ok || e.Code != codes.PermissionDenied || !strings.Contains(r.fault.Error(), name) ||
		!strings.Contains(r.fault.Error(), "give the app the role Microsoft Sentinel Reader") {
		t.Errorf("told: %v", r.fault)
	}
}

func TestOwnID(t *testing.T) {
	t.Parallel()
	id := ownID("comment", "a", "b")
	if !guidRule().MatchString(id) || !isOwnID(id) || id != ownID("comment", "a", "b") {
		t.Errorf("%s is no name of ours", id)
	}
	if id != strings.ToLower(id) || id[14] != '8' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("%s is no GUID of version 8", id)
	}
	seen := map[string]bool{}
	for _, parts := range [][]string{{"comment", "ab", "c"}, {"comment", "a", "bc"}, {"comment", "a", "b", "c"}, {"task", "ab", "c"}} {
		seen[ownID(parts...)] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d names for 4 things", len(seen))
	}
	for i := range 2000 {
		other := fmt.Sprintf("%08x-6d1f-4f0a-9c1e-%012x", i*7919, i)
		if isOwnID(other) || isOwnID(strings.Replace(other, "-4", "-8", 1)) {
			t.Errorf("%s is taken for ours", other)
		}
	}
	for _, bad := range []string{"", "x", id[1:], id + "0", strings.Replace(id, id[:1], "g", 1)} {
		if isOwnID(bad) {
			t.Errorf("%q is taken for ours", bad)
		}
	}
}

func TestIncidentName(t *testing.T) {
	t.Parallel()
	const guid = "73e01a99-5cd7-4139-a149-9f2736ff2ab5"
	a := &armClient{workspace: "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/w"}
	for id, want := range map[string]string{
		guid: guid, strings.ToUpper(guid): guid,
		a.workspace + "/providers/Microsoft.SecurityInsights/Incidents/" + guid:                  guid,
		strings.ToUpper(a.workspace) + "/providers/microsoft.securityinsights/incidents/" + guid: guid,
		a.workspace + "x/providers/Microsoft.SecurityInsights/Incidents/" + guid:                 "",
		a.workspace + "/providers/Microsoft.SecurityInsights/Incidents/" + guid + "/comments/x":  "",
		"28282": "", "": "", "../x": "", guid + "/x": "",
	} {
		got, err := a.incidentName(id)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", id, got, err)
		}
	}
	for id, want := range map[string]bool{guid: true, "28282": false, "/Subscriptions/x": true, "x": false} {
		if isARMIncident(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestExplainARM(t *testing.T) {
	t.Parallel()
	denied := func(action string) string {
		return `{"error":{"code":"AuthorizationFailed","message":"The client 'x' does not have authorization to perform action '` + action + `' over scope '/subscriptions/s' or the scope is invalid."}}`
	}
	for _, tc := range []struct {
		status int
		header http.Header
		body   string
		says   string
		code   codes.Code
	}{
		{403, nil, denied("Microsoft.SecurityInsights/incidents/read"), "Microsoft Sentinel Reader on /subscriptions/s", codes.PermissionDenied},
		{403, nil, denied("Microsoft.SecurityInsights/incidents/comments/write"), "Microsoft Sentinel Responder on /subscriptions/s", codes.PermissionDenied},
		{403, nil, denied("Microsoft.SecurityInsights/incidents/runPlaybook/action"), "Playbook Operator", codes.PermissionDenied},
		{403, nil, denied("Microsoft.SecurityInsights/watchlists/write"), "Microsoft Sentinel Contributor", codes.PermissionDenied},
		{401, nil, `{"error":{"code":"ExpiredAuthenticationToken","message":"expired"}}`, "takes a new one", codes.Unauthenticated},
		{401, nil, `{"error":{"code":"InvalidAuthenticationTokenTenant","message":"wrong issuer"}}`, "credential.tenant_id", codes.Unauthenticated},
		{404, nil, `{"error":{"code":"SubscriptionNotFound","message":"s"}}`, "workspace.subscription", codes.FailedPrecondition},
		{404, nil, `{"error":{"code":"ResourceGroupNotFound","message":"g"}}`, "workspace.resource_group", codes.FailedPrecondition},
		{404, nil, `{"error":{"code":"ResourceNotFound","message":"The Resource 'Microsoft.OperationalInsights/workspaces/w' was not found."}}`, "workspace.name", codes.FailedPrecondition},
		{404, nil, `{"error":{"code":"ResourceNotFound","message":"no such incident"}}`, "no such incident", codes.NotFound},
		{400, nil, `{"error":{"code":"NoRegisteredProviderFound","message":"x"}}`, armVersion, codes.InvalidArgument},
		{429, http.Header{"X-Ms-Ratelimit-Remaining-Subscription-Writes": {"0"}}, `{"error":{"code":"TooManyRequests","message":"x"}}`, "subscription-writes=0", codes.ResourceExhausted},
		{500, nil, `<html>`, "", codes.Unavailable},
	} {
		api, err := rest.New(rest.Options{BaseURL: "https://management.azure.com", API: "Azure Resource Manager", Explain: explainARM, Transport: answering(tc.status, tc.header, tc.body)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = api.Do(context.Background(), rest.Request{Path: "/x"})
		e, ok := asSDK(err)
		if !ok || e.Code != tc.code || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "Azure Resource Manager") {
			t.Errorf("%s\n gives %v", tc.body, err)
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func answering(status int, header http.Header, body string) http.RoundTripper {
	return sdkHandler{answer{status, header, body}}
}

// sdkHandler answers everything with the same.
type sdkHandler struct{ a answer }

func (h sdkHandler) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: h.a.status, Header: http.Header{}, Body: http.NoBody, Request: r, ProtoMajor: 1, ProtoMinor: 1}
	maps.Copy(resp.Header, h.a.header)
	resp.Body = readCloser{strings.NewReader(h.a.body)}
	return resp, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func TestUploadLimits(t *testing.T) {
	t.Parallel()
	var rows strings.Builder
	for i := range 4300 {
		fmt.Fprintf(&rows, "%d,%s\n", i, strings.Repeat("x", 900))
	}
	in := EnsureWatchlistInput{SearchKey: "ip", CSV: "ip,note\n" + rows.String()}
	tab, err := in.table()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := tab.contents(tab.rows)
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	got := ""
	for _, part := range parts {
		if len(part) > maxUpload {
			t.Errorf("a part has %d bytes", len(part))
		}
		without, ok := strings.CutPrefix(part, "ip,note\n")
		if !ok {
			t.Errorf("a part without a head: %.20s", part)
		}
		got += without
	}
	if got != rows.String() {
		t.Error("the parts are not the whole")
	}
	// What a spreadsheet writes: a mark in front, and quotes.
	in = EnsureWatchlistInput{SearchKey: "ip", CSV: "\uFEFFip,note\r\n1,\"a, \"\"b\"\"\"\r\n1,last\r\n2,\"two\nlines\"\r\n"}
	if tab, err = in.table(); err != nil || len(tab.rows) != 2 || tab.rows[0]["note"] != "last" || tab.rows[1]["note"] != "two\nlines" {
		t.Errorf("%v, %v", tab, err)
	}
}

// FuzzWatchlistCSV: whatever the text, rows come out that Sentinel would take, or a fault with its place.
func FuzzWatchlistCSV(f *testing.F) {
	f.Add("ip,note\n1,2\n")
	f.Add("ip\n\"")
	f.Add("\uFEFFip,ip\n")
	f.Fuzz(func(t *testing.T, text string) {
		in := EnsureWatchlistInput{SearchKey: "ip", CSV: text}
		tab, err := in.table()
		if err != nil {
			if _, ok := asSDK(err); !ok {
				t.Errorf("%v has no class", err)
			}
			return
		}
		for _, row := range tab.rows {
			if strings.TrimSpace(row["ip"]) == "" {
				t.Errorf("a row without a key: %v", row)
			}
		}
		if len(tab.rows) > 0 {
			parts, err := tab.contents(tab.rows)
			n := 0
			for _, content := range parts {
				again := EnsureWatchlistInput{SearchKey: "ip", CSV: content}
				other, err2 := again.table()
				if err2 != nil {
					t.Errorf("%q does not read back: %v", content, err2)
					return
				}
				n += len(other.rows)
			}
			if err != nil || n != len(tab.rows) {
				t.Errorf("%d rows of %d, %v", n, len(tab.rows), err)
			}
		}
	})
}
