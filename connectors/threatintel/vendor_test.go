package threatintel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
	"github.com/casewire/casewire/sdk/sdktest"
)

func values(n, from int) []any {
	out := make([]any, n)
	for i := range out {
		k := from + i
		out[i] = fmt.Sprintf("%d.%d.%d.7", 11+k/40000, 1+k/200%200, 1+k%200)
	}
	return out
}

// More than a hundred go in several uploads; what the vendor refuses inside a 200 is told by record.
func TestUploads(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	h := v.open()
	out := submit(t, h, map[string]any{"values": values(250, 0)})
	if led := v.TI(); out.Accepted != 250 || out.Requests != 3 || led.Uploads != 3 || led.Objects != 250 {
		t.Errorf("%d accepted in %d, ledger %+v", out.Accepted, out.Requests, led)
	}
	// One that was revoked is refused for good, and the others are taken.
	if err := h.Call(t.Context(), "indicators.revoke", map[string]any{"values": []any{"11.1.3.7"}, "permanent": true}, nil); err != nil {
		t.Fatal(err)
	}
	other := v.open() // which knows nothing of it
	out = submit(t, other, map[string]any{"values": append([]any{"11.1.3.7"}, values(3, 1000)...), "description": "x"})
	if out.Accepted != 3 || out.Rejected != 1 || !strings.Contains(out.Results[0].Reason, "refused by Sentinel: Error for Property=revoked") {
		t.Errorf("%+v", out)
	}
	before := v.TI().Uploads
	out = submit(t, other, map[string]any{"values": []any{"11.1.3.7"}})
	if out.Rejected != 1 || !strings.Contains(out.Results[0].Reason, "permanent") || v.TI().Uploads != before {
		t.Errorf("again: %+v", out)
	}
}

// What is lost after it was taken is sent again as it was, and changes nothing.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, fault := range []azurefake.Fault{azurefake.LostAnswer, azurefake.ErrorAfter, azurefake.HTML} {
		v := newVendor(t, azurefake.Options{})
		h := v.open()
		v.FailNext(azurefake.RouteTIUpload, fault, 1)
		call := sdktest.Call{Action: "indicators.submit", Key: "k", Input: map[string]any{"values": values(150, 0)}, FirstSent: time.Now()}
		_, err := h.Do(t.Context(), call)
		if e := plugin.FromError(err); e == nil || e.Class() != plugin.ClassUncertain {
			t.Fatalf("%s: %v", fault, err)
		}
		call.Attempt = 2
		res, err := h.Do(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		var out SubmitOutput
		if err := json.Unmarshal(res.Output, &out); err != nil {
			t.Fatal(err)
		}
		if led := v.TI(); out.Accepted != 150 || led.Objects != 150 || led.Created != 150 || led.Updated != 0 {
			t.Errorf("%s: %d accepted, ledger %+v", fault, out.Accepted, led)
		}
		if v.Ledger().Requests[azurefake.RouteTIUpload] == nil {
			t.Error("nothing was counted")
		}
		// Who lost the answer of the whole call can ask for it.
		call.Resolve = true
		res, err = h.Do(t.Context(), call)
		if err != nil || !strings.Contains(string(res.Output), `"accepted":150`) {
			t.Errorf("resolve: %v %s", err, res.Output)
		}
		call.Key = "another"
		if _, err = h.Do(t.Context(), call); plugin.FromError(err).Reason != plugin.ReasonUnresolved {
			t.Errorf("resolve of a stranger: %v", err)
		}
	}
}

// A prior report spares what it says is there, in a process that knows nothing itself.
func TestPrior(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	in := map[string]any{"values": values(20, 0)}
	first := submit(t, v.open(), in)
	h := v.open()
	res, err := h.Do(t.Context(), sdktest.Call{Action: "indicators.submit", Input: in, Prior: first})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(res.Output), `"unchanged":20`) || v.TI().Uploads != 1 {
		t.Errorf("%.300s, %d uploads", res.Output, v.TI().Uploads)
	}
	// Without it the same objects are sent, as a version that is later and says the same.
	out := submit(t, v.open(), in)
	if led := v.TI(); out.Accepted != 20 || led.Objects != 20 || out.Results[0].ID != first.Results[0].ID {
		t.Errorf("%+v", led)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	res, err := v.open().Do(t.Context(), sdktest.Call{Action: "indicators.submit", DryRun: true, Input: map[string]any{"values": []any{"5.45.207.1", "10.0.0.1"}}})
	if err != nil || !strings.Contains(string(res.Output), `"status":"valid"`) || !strings.Contains(string(res.Output), `"rejected":1`) || v.TI().Uploads != 0 {
		t.Errorf("%v %s", err, res.Output)
	}
}

// The vendor's quota is kept to, whether it is told beforehand, in a header, or in the text of a 429.
func TestQuota(t *testing.T) {
	t.Parallel()
	for _, inBody := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			v := azurefake.New(azurefake.Options{Seed: 1, TI: azurefake.TIOptions{UploadsPerMinute: 100, SecondsInBody: inBody}})
			defer v.Close()
			c := bubble(t, v, 1000) // it believes in more than there is
			begin := time.Now()
			for k := range 250 {
				o := []stixObject{draftObject(t, c, values(1, k)[0].(string))}
				if faults, err := c.uploadObjects(t.Context(), o); err != nil || len(faults) > 0 {
					t.Fatalf("upload %d: %v %v", k, err, faults)
				}
			}
			// The third hundred is let in two minutes after the first.
			if took := time.Since(begin); took < 2*time.Minute || took > 2*time.Minute+10*time.Second {
				t.Errorf("250 uploads took %v", took)
			}
			if n := v.Ledger().Requests[azurefake.RouteTIUpload]["429"]; n == 0 || n > 4 {
				t.Errorf("throttled %d times", n)
			}
			if v.TI().Objects != 250 {
				t.Errorf("%d objects", v.TI().Objects)
			}
		})
	}
}

func TestQuotaKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := azurefake.New(azurefake.Options{Seed: 1, TI: azurefake.TIOptions{UploadsPerMinute: 100}})
		defer v.Close()
		all := &quotas{}
		one, two := bubble(t, v, 100), bubble(t, v, 100)
		one.quota, two.quota = all.of("app", 100), all.of("app", 100) // two connections of one app
		done := make(chan error, 2)
		for n, c := range []*Client{one, two} {
			go func() {
				for k := range 110 {
					if _, err := c.uploadObjects(t.Context(), []stixObject{draftObject(t, c, values(1, 1000*n+k)[0].(string))}); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		if err := errors.Join(<-done, <-done); err != nil {
			t.Fatal(err)
		}
		if r := v.Ledger().Requests[azurefake.RouteTIUpload]; r["429"] != 0 || r["200"] != 220 {
			t.Errorf("requests %v", r)
		}
		left, limit := one.quota.left(time.Now())
		if limit != 100 || left >= 100 {
			t.Errorf("%d of %d left", left, limit)
		}
	})
}

// Nobody waits longer than the call may take: the host is told when to come back.
func TestQuotaDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &quota{limit: 1}
		if err := q.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		q.pause(time.Now().Add(time.Hour))
		err := q.wait(t.Context())
		e, ok := errors.AsType[*sdk.Error](err)
		if !ok || e.Class() != plugin.ClassThrottled || e.RetryAfter != time.Hour {
			t.Errorf("%v", err)
		}
	})
}

// bubble is a client that reaches the fake without a socket.
func bubble(t *testing.T, v *azurefake.Server, perMinute int) *Client {
	t.Helper()
	c := bench(t, func(c *Config) { c.APIVersion = "2024-02-01-preview"; c.WorkspaceID = v.Workspace() })
	c.quota, c.now = (&quotas{}).of("x", perMinute), time.Now
	client := &http.Client{Transport: v.Transport()}
	form := "grant_type=client_credentials&client_id=" + v.ClientID() + "&client_secret=" + v.ClientSecret() + "&scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://login.microsoftonline.com/"+v.Tenant()+"/oauth2/v2.0/token", strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || a.Token == "" {
		t.Fatalf("token: %v", err)
	}
	c.upload, err = rest.New(rest.Options{
		BaseURL: "https://api.ti.sentinel.azure.com", API: "Sentinel upload API", Transport: v.Transport(), Explain: explain, Auth: rest.Bearer(sdk.NewSecret(a.Token)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func draftObject(t *testing.T, c *Client, value string) stixObject {
	t.Helper()
	w, err := c.newWorkshop(Defaults{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i, why := w.make(&feed.Draft{Value: value})
	if why != "" {
		t.Fatal(why)
	}
	i.versions(version{}, time.Now())
	return i.stix()
}

// Indicators that were submitted are listed with their pages, ended, revoked and deleted.
func TestLife(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	h := v.open()
	submit(t, h, map[string]any{"values": values(230, 0), "labels": []string{"x"}, "description": "d", "tlp": "GREEN"})
	submit(t, v.open(func(c *Config) { c.SourceSystem = "Other" }), map[string]any{"values": []any{"5.45.207.1"}})
	list := func(in map[string]any) (rows []Row, sum ListSummary) {
		t.Helper()
		var out struct {
			Rows []Row `json:"rows"`
			ListSummary
		}
		if err := h.Call(t.Context(), "indicators.list", in, &out); err != nil {
			t.Fatal(err)
		}
		return out.Rows, out.ListSummary
	}
	all, sum := list(map[string]any{})
	if len(all) != 230 || sum.Count != 230 || sum.Truncated || all[0].Type != "ip" || !all[0].Active || all[0].Labels[0] != "x" {
		t.Fatalf("%d rows, %+v", len(all), sum)
	}
	if some, sum := list(map[string]any{"max": 105}); len(some) != 105 || !sum.Truncated {
		t.Errorf("%d rows, %+v", len(some), sum)
	}
	if everybody, _ := list(map[string]any{"any_source": true}); len(everybody) != 231 {
		t.Errorf("%d rows of everybody", len(everybody))
	}
	if one, _ := list(map[string]any{"values": []string{"11[.]1[.]5[.]7"}}); len(one) != 1 || one[0].Value != "11.1.5.7" {
		t.Errorf("%+v", one)
	}
	if none, _ := list(map[string]any{"types": []string{"FQDN"}}); len(none) != 0 {
		t.Errorf("%+v", none)
	}
	change := func(action string, in map[string]any) ChangeOutput {
		t.Helper()
		var out ChangeOutput
		if err := h.Call(t.Context(), action, in, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	one := all[7]
	before := v.STIX(v.Workspace(), one.ID)
	if out := change("indicators.expire", map[string]any{"ids": []string{one.ID}, "values": []string{"9.9.9.9"}}); out.Changed != 1 || out.Missing != 1 {
		t.Errorf("expire: %+v", out)
	}
	after := v.STIX(v.Workspace(), one.ID)
	if until, err := time.Parse(time.RFC3339, after["valid_until"].(string)); err != nil || until.After(time.Now()) {
		t.Errorf("it ends %v", after["valid_until"])
	}
	for _, kept := range []string{"name", "description", "pattern", "confidence", "labels", "object_marking_refs", "indicator_types"} {
		if diff := cmp.Diff(before[kept], after[kept]); diff != "" {
			t.Errorf("%s was lost: %s", kept, diff)
		}
	}
	if rows, _ := list(map[string]any{"values": []string{one.Value}}); len(rows) != 0 {
		t.Errorf("it is still active: %+v", rows)
	}
	// It can be submitted anew, which a revoked one can not.
	if out := submit(t, h, map[string]any{"values": []any{one.Value}}); out.Accepted != 1 {
		t.Errorf("submitted anew: %+v", out)
	}
	if out := change("indicators.revoke", map[string]any{"values": []string{one.Value}, "permanent": true}); out.Changed != 1 || !strings.Contains(out.Note, "never") {
		t.Errorf("revoke: %+v", out)
	}
	if err := h.Call(t.Context(), "indicators.revoke", map[string]any{"values": []string{one.Value}, "permanent": false}, nil); err == nil || !strings.Contains(err.Error(), "/permanent: must be true") {
		t.Errorf("revoke without a word: %v", err)
	}
	if out := change("indicators.delete", map[string]any{"values": []string{all[8].Value, all[9].Value, "9.9.9.9"}}); out.Changed != 2 || out.Missing != 1 || v.TI().Deleted != 2 {
		t.Errorf("delete: %+v", out)
	}
	if out := submit(t, h, map[string]any{"values": []any{all[8].Value}}); out.Accepted != 1 {
		t.Errorf("what was deleted is taken for there: %+v", out)
	}
	for in, want := range map[string]string{`{}`: "nothing is named", `{"ids":["x"]}`: "/ids/0", `{"values":["no value"]}`: "/values/0"} {
		if err := h.Call(t.Context(), "indicators.delete", json.RawMessage(in), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// Without the resource of the workspace, indicators can be ended by value; the rest says what is missing. What was just
// submitted may not be shown yet.
func TestWithoutReading(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{TI: azurefake.TIOptions{ReadLag: time.Hour}})
	h := v.open(func(c *Config) { c.Workspace = Workspace{} })
	id := submit(t, h, map[string]any{"values": []any{"5.45.207.1"}}).Results[0].ID
	var out ChangeOutput
	if err := h.Call(t.Context(), "indicators.expire", map[string]any{"values": []any{"5.45.207.1"}}, &out); err != nil || out.Changed != 1 {
		t.Fatalf("%v %+v", err, out)
	}
	if until, err := time.Parse(time.RFC3339, v.STIX(v.Workspace(), id)["valid_until"].(string)); err != nil || until.After(time.Now()) {
		t.Errorf("it ends %v", until)
	}
	for action, in := range map[string]any{"indicators.list": map[string]any{}, "indicators.delete": map[string]any{"values": []any{"5.45.207.1"}}} {
		if err := h.Call(t.Context(), action, in, nil); err == nil || !strings.Contains(err.Error(), "/workspace: ") {
			t.Errorf("%s: %v", action, err)
		}
	}
	// With it, what the read side does not show yet is known all the same.
	lagging := v.open()
	submit(t, lagging, map[string]any{"values": []any{"5.45.207.2"}})
	if err := lagging.Call(t.Context(), "indicators.expire", map[string]any{"values": []any{"5.45.207.2"}}, &out); err != nil || out.Changed != 1 {
		t.Errorf("%v %+v", err, out)
	}
}

func TestDefender(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{TI: azurefake.TIOptions{DefenderMax: 15000}})
	h := v.open(toDefender)
	v.RefuseIndicator("5.45.207.9", "It is on the list of allowed addresses.")
	out := submit(t, h, map[string]any{"indicators": []map[string]any{
		{"value": "5.45.207.1", "confidence": 90},
		{"value": "evil.net", "action": "block"},
		{"value": "http://evil.net/a", "action": "warn"},
		{"value": strings.Repeat("ab", 32), "action": "block_and_remediate"},
		{"value": strings.Repeat("ab", 20), "type": "certificate", "action": "allow"},
		{"value": "5.45.207.9"},
		{"value": "5.45.208.0/24"},
		{"value": "a@evil.net"},
		{"value": strings.Repeat("cd", 20), "type": "certificate", "action": "warn"},
		{"value": "evil.org", "action": "block_and_remediate"},
	}})
	reasons := []string{}
	for _, r := range out.Results {
		reasons = append(reasons, r.Status+" "+r.Reason)
	}
	want := []string{
		"accepted ", "accepted ", "accepted ", "accepted ", "accepted ", "rejected refused by Defender: It is on the list of allowed addresses.",
		"rejected is a network: Defender takes single addresses only", "rejected is of the type email, which Defender does not take",
		"rejected certificates can be allowed or blocked only, not warn", "rejected block_and_remediate is for files and certificates; use block",
	}
	if diff := cmp.Diff(want, reasons); diff != "" {
		t.Error(diff)
	}
	if out.Results[0].VendorID == "" || v.TI().DefenderCreated != 5 {
		t.Errorf("%+v, %+v", out.Results[0], v.TI())
	}
	var rows struct {
		Rows []Row `json:"rows"`
	}
	if err := h.Call(t.Context(), "indicators.list", map[string]any{}, &rows); err != nil {
		t.Fatal(err)
	}
	kinds := []string{}
	for _, r := range rows.Rows {
		kinds = append(kinds, r.Type+" "+r.Action+fmt.Sprint(r.Active))
	}
	if diff := cmp.Diff([]string{"ip audittrue", "domain blocktrue", "url warntrue", "sha256 block_and_remediatetrue", "certificate allowtrue"}, kinds); diff != "" {
		t.Error(diff)
	}
	var changed ChangeOutput
	if err := h.Call(t.Context(), "indicators.expire", map[string]any{"values": []any{"evil.net"}, "ids": []string{out.Results[0].VendorID, "999"}}, &changed); err != nil || changed.Changed != 2 || changed.Missing != 1 {
		t.Errorf("expire: %v %+v", err, changed)
	}
	if n := v.TI().DefenderActive; n != 3 {
		t.Errorf("%d are active", n)
	}
	if err := h.Call(t.Context(), "indicators.delete", map[string]any{"values": []any{"evil.net", "nowhere.net"}}, &changed); err != nil || changed.Changed != 1 || changed.Missing != 1 {
		t.Errorf("delete: %v %+v", err, changed)
	}
	if err := h.Call(t.Context(), "indicators.revoke", map[string]any{"values": []any{"evil.net"}, "permanent": true}, nil); err == nil || !strings.Contains(err.Error(), "no revocation") {
		t.Errorf("revoke: %v", err)
	}
}

// What would not fit into the tenant is refused beforehand, and in whole.
func TestDefenderFull(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	h := v.open(toDefender)
	v.FillDefender(14000)
	if out := submit(t, h, map[string]any{"values": values(1000, 0)}); out.Accepted != 1000 || out.Requests != 2 {
		t.Fatalf("%d accepted in %d", out.Accepted, out.Requests)
	}
	before := v.TI()
	err := h.Call(t.Context(), "indicators.submit", map[string]any{"values": values(20, 990)}, nil)
	if err == nil || !strings.Contains(err.Error(), "at most 15000 active indicators for a tenant, and this one has 15000: 10 of these do not fit") {
		t.Errorf("%v", err)
	}
	if after := v.TI(); after.Imports != before.Imports || before.DefenderActive != 15000 {
		t.Errorf("%+v", after)
	}
	// What is there already fits.
	if out := submit(t, h, map[string]any{"values": values(10, 990), "description": "news"}); out.Accepted != 10 {
		t.Errorf("%+v", out)
	}
}

// Every shape of an error gives an error of the right class that names the API and what to do.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		status     int
		header     [2]string
		class      plugin.Class
		want       []string
	}{
		{"bad request", `{"error":{"code":"BadRequest","message":"The property 'sourcesystem' is required."}}`, 400, [2]string{}, plugin.ClassInvalid, []string{"Sentinel upload API", "400", "sourcesystem"}},
		{"token", `{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}`, 401, [2]string{"x-ms-request-id", "r-1"}, plugin.ClassAuth, []string{"the configured token is refused"}},
		{"role", `{"error":{"code":"AuthorizationFailed","message":"no"}}`, 403, [2]string{"x-ms-correlation-request-id", "r-2"}, plugin.ClassDenied, []string{"Microsoft Sentinel Contributor", "r-2"}},
		{"workspace", `{"error":{"code":"ResourceNotFound","message":"no"}}`, 404, [2]string{}, plugin.ClassNotFound, []string{"the GUID, not the name"}},
		{"nothing", ``, 503, [2]string{}, plugin.ClassUncertain, []string{"503"}},
		{"html", `<html><body>proxy</body></html>`, 200, [2]string{}, plugin.ClassUncertain, []string{"HTML", "proxy"}},
		{"half", `{"errors":[{"recordIndex":0,`, 200, [2]string{}, plugin.ClassUncertain, []string{"no valid JSON"}},
		{"shape", `{"errors":"none"}`, 200, [2]string{}, plugin.ClassUncertain, []string{"another shape"}},
		{"stranger", `{"errors":[{"recordIndex":7,"errorMessages":["x"]}]}`, 200, [2]string{}, plugin.ClassUncertain, []string{"a record that was not sent"}},
		{"no index", `{"errors":[{"errorMessages":["x"]}]}`, 200, [2]string{}, plugin.ClassUncertain, []string{"a record that was not sent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if c.header[0] != "" {
					w.Header().Set(c.header[0], c.header[1])
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			t.Cleanup(s.Close)
			h := sdktest.Open(t, Connector(), map[string]any{
				"credential": map[string]any{"token": "a-token-0123456789"}, "workspace_id": "9d2f7d8a-0c1e-4c7d-9a57-1f4a4b2f3c11", "upload_url": s.URL,
			})
			err := h.Call(t.Context(), "indicators.submit", map[string]any{"values": []any{"5.45.207.1"}}, nil)
			e := plugin.FromError(err)
			if e == nil || e.Class() != c.class {
				t.Fatalf("%v of class %v", err, e.Class())
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in %q", w, err)
				}
			}
		})
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	h := v.open()
	for in, want := range map[string]string{
		`{}`:                                      "give values, indicators or data",
		`{"values":["a.net"],"expires_in":"x"}`:   "/expires_in",
		`{"values":["a.net"],"tlp":"x"}`:          "/tlp",
		`{"values":["a.net"],"confidence":300}`:   "/confidence",
		`{"data":"a,b\n1,2","format":"csv"}`:      "/data: as csv",
		`{"data":"[","format":"json"}`:            "/data: as json: the document ends too early",
		`{"data":"   "}`:                          "/data: there is nothing in it",
		`{"data":"x","format":"yaml"}`:            "/format",
		`{"indicators":[{"valu":"x"}]}`:           "/indicators/0/valu",
		`{"values":["a.net"],"action":"explode"}`: "/action",
	} {
		err := h.Call(t.Context(), "indicators.submit", json.RawMessage(in), nil)
		if err == nil || !strings.Contains(err.Error(), want) || plugin.FromError(err).Class() != plugin.ClassInvalid {
			t.Errorf("%s: %v", in, err)
		}
	}
	out := submit(t, h, map[string]any{"format": "stix", "data": `{"type":"bundle","objects":[{"type":"identity"},{"type":"indicator","id":"indicator--1","pattern":"[domain-name:value = 'evil.net']","pattern_type":"stix"}]}`})
	if out.Accepted != 1 || out.Skipped["identity"] != 1 {
		t.Errorf("%+v", out)
	}
	if led := v.TI(); led.Objects != 1 {
		t.Errorf("%+v", led)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	v := newVendor(t, azurefake.Options{})
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"graph":    {func(c *Config) { c.Target = targetGraph }, "/target: names the tiIndicators API of Microsoft Graph (beta), which Microsoft announced to remove by April 2026: write sentinel"},
		"reserved": {func(c *Config) { c.SourceSystem = "microsoft sentinel" }, "/source_system"},
		"no id":    {func(c *Config) { c.WorkspaceID = "" }, "/workspace_id: is required"},
		"name":     {func(c *Config) { c.WorkspaceID = "soc-workspace" }, "not the name"},
		"own":      {func(c *Config) { c.Own = []string{"10.0.0.0/8", "???"} }, "/own/1"},
		"tlp":      {func(c *Config) { c.TLP = "blue" }, "/tlp"},
		"max tlp":  {func(c *Config) { c.MaxTLP = "blue" }, "/max_tlp"},
		"ttl":      {func(c *Config) { c.TTLDays = map[string]int{"mutex": 1} }, "/ttl_days"},
		"china":    {func(c *Config) { c.Target, c.DefenderURL, c.Credential.Cloud = targetDefender, "", "china" }, "/target: there is no Defender"},
		"url":      {func(c *Config) { c.UploadURL = "http://example.com" }, "/upload_url"},
	} {
		_, err := sdktest.Try(t, Connector(), v.config(c.change))
		if err == nil || !strings.Contains(err.Error(), c.want) || plugin.FromError(err).Class() != plugin.ClassConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	probes := func(h *sdktest.Harness) map[string]sdk.Probe {
		t.Helper()
		all, err := h.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]sdk.Probe{}
		for _, p := range all {
			out[p.Name] = p
		}
		return out
	}
	v := newVendor(t, azurefake.Options{})
	for name, p := range probes(v.open()) {
		// When a secret ends is known only if somebody says so, or lets the app look.
		if p.Status != sdk.ProbeOK && (name != "client secret" || p.Status != sdk.ProbeSkipped) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if n := v.TI().Uploads; n != 0 {
		t.Errorf("the check uploaded %d times", n)
	}
	if p := probes(v.open(func(c *Config) { c.Workspace = Workspace{} }))["permission: read"]; p.Status != sdk.ProbeSkipped {
		t.Errorf("%+v", p)
	}
	if p := probes(v.open(func(c *Config) { c.APIVersion = "2021-01-01" }))["permission: upload"]; p.Status != sdk.ProbeFailed || !strings.Contains(p.Remedy, "api_version") {
		t.Errorf("%+v", p)
	}
	if p := probes(v.open(func(c *Config) { c.WorkspaceID = "11111111-0c1e-4c7d-9a57-1f4a4b2f3c11" })); p["workspace"].Status != sdk.ProbeFailed || p["permission: upload"].Status != sdk.ProbeFailed {
		t.Errorf("%+v", p)
	}
	if p := probes(v.open(toDefender))["permission: indicators"]; p.Status != sdk.ProbeOK || p.Summary != "0 of 15000 active indicators are used" {
		t.Errorf("%+v", p)
	}
	poor := newVendor(t, azurefake.Options{Apps: []azurefake.App{{ClientID: azurefake.DefaultClientID, Secret: "a-secret-0123456789", Roles: []string{}}}})
	p := probes(poor.open())
	if p["permission: upload"].Status != sdk.ProbeFailed || !strings.Contains(p["permission: upload"].Remedy, "Microsoft Sentinel Contributor") || p["permission: read"].Status != sdk.ProbeFailed {
		t.Errorf("%+v", p)
	}
	if p := probes(poor.open(toDefender))["permission: indicators"]; p.Status != sdk.ProbeFailed || !strings.Contains(p.Remedy, "Ti.ReadWrite") {
		t.Errorf("%+v", p)
	}
}
