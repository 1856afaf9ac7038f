package normalize

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/sdk"
)

// told are the members whose change need not be seen in the event: annotations of the answer, and what the source repeats.
var told = map[string]bool{"@odata.context": true, "$id": true, "$ref": true}

// change returns a leaf that differs from v, and is of its kind.
func change(v any) any {
	switch v := v.(type) {
	case bool:
		return !v
	case json.Number:
		s := v.String()
		last := s[len(s)-1]
		return json.Number(s[:len(s)-1] + string(rune('0'+(last-'0'+1)%10)))
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at.Add(time.Millisecond).Format(time.RFC3339Nano) // events know nothing finer
		}
		// The last letter or digit becomes its neighbour, so that times stay times and addresses addresses.
		for i := len(v) - 1; i >= 0; i-- {
			switch c := v[i]; {
			case c >= '0' && c < '9', c >= 'a' && c < 'z', c >= 'A' && c < 'Y':
				return v[:i] + string(rune(c+1)) + v[i+1:]
			case c == '9':
				return v[:i] + "8" + v[i+1:]
			case c == 'z':
				return v[:i] + "y" + v[i+1:]
			}
		}
		return v + "x"
	}
	return v
}

// eachLeaf calls f with a name and the document with one leaf changed, for every leaf in turn.
func eachLeaf(doc any, path string, f func(path string, was any)) {
	visit := func(v any, at string, set func(any)) {
		switch v.(type) {
		case map[string]any, []any:
			eachLeaf(v, at, f)
		case nil:
		default:
			set(change(v))
			f(at, v)
			set(v)
		}
	}
	switch doc := doc.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(doc)) {
			if !told[k] {
				visit(doc[k], path+"."+k, func(x any) { doc[k] = x })
			}
		}
	case []any:
		for i := range doc {
			visit(doc[i], fmt.Sprintf("%s[%d]", path, i), func(x any) { doc[i] = x })
		}
	}
}

func decoded(tb testing.TB, raw []byte) any {
	tb.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		tb.Fatal(err)
	}
	return v
}

// TestEveryLeafCounts: whichever single value of a source object changes, the event says something else. A value that could
// change unseen would be lost.
func TestEveryLeafCounts(t *testing.T) {
	t.Parallel()
	part := func(text string) []json.RawMessage {
		if text == "" {
			return nil
		}
		return []json.RawMessage{json.RawMessage(text)}
	}
	type normalizer func([]byte) (sdk.Event, error)
	alert := func(raw []byte) (sdk.Event, error) { return Alert(raw, Options{Tenant: "t"}) }
	incident := func(raw []byte) (sdk.Event, error) { return Incident(raw, Options{Tenant: "t"}) }
	sources := map[string]struct {
		raw []byte
		f   normalizer
	}{
		"alert":    {alertWith(t, nil), alert},
		"incident": {mustJSON(t, incidentWith(t, nil)), incident},
		"legacy":   {[]byte(legacyFixture), func(raw []byte) (sdk.Event, error) { return LegacyAlert(raw, Options{}) }},
		"alert row": {asRow(t, alertRowWith(t, entityFixtures, nil), false), func(raw []byte) (sdk.Event, error) {
			return AlertRow(raw, rowOptions)
		}},
	}
	for _, kind := range everyKind() {
		sources["evidence "+kind] = struct {
			raw []byte
			f   normalizer
		}{mustJSON(t, map[string]any{"id": "x", "createdDateTime": "2026-01-01T00:00:00Z", "evidence": []any{evidenceOf(t, kind, nil)}}), alert}
	}
	for name, s := range map[string]string{"alerts": armAlertPart, "entities": armEntityPart, "comments": armCommentPart} {
		sources["part "+name] = struct {
			raw []byte
			f   normalizer
		}{[]byte(s), func(raw []byte) (sdk.Event, error) {
			text := map[string]string{name: string(raw)}
			return SentinelIncident(armWhole(), SentinelParts{
				Alerts: part(text["alerts"]), Entities: part(text["entities"]), Comments: part(text["comments"]),
			}, sentinelOptions)
		}}
	}
	sources["workspace incident"] = struct {
		raw []byte
		f   normalizer
	}{armWhole(), func(raw []byte) (sdk.Event, error) { return SentinelIncident(raw, SentinelParts{}, sentinelOptions) }}
	for name, s := range sources {
		base, err := s.f(s.raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		doc := decoded(t, s.raw)
		n := 0
		eachLeaf(doc, "", func(path string, was any) {
			n++
			if name == "workspace incident" && path == ".type" {
				return // which is what it is
			}
			ev, err := s.f(mustJSON(t, doc))
			if err != nil {
				return // it was needed, and its loss is told
			}
			// The event's own id follows from its digest; what it says must differ besides.
			own := strings.ReplaceAll(string(ev.Data), ev.ID, "ID")
			if own == strings.ReplaceAll(string(base.Data), base.ID, "ID") && ev.Subject == base.Subject && ev.Tenant == base.Tenant {
				t.Errorf("%s%s: whether it is %v or another makes no difference", name, path, was)
			}
		})
		if n == 0 {
			t.Errorf("%s has no leaves", name)
		}
	}
}

func mustJSON(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const (
	armAlertPart   = `{"id":"/subscriptions/s/x/Entities/a1","name":"a1","type":"Microsoft.SecurityInsights/Entities","kind":"SecurityAlert","properties":{"systemAlertId":"sa-1","alertDisplayName":"Odd sign-in","description":"d","severity":"High","vendorName":"Microsoft","productName":"Azure Sentinel","alertType":"ws_rule","providerAlertId":"p-1","status":"New","tactics":["Persistence"],"startTimeUtc":"2026-10-27T12:00:00Z","alertLink":"https://x.example/a","additionalData":{"AlertMessageEnqueueTime":"2026-10-27T12:01:00Z","Query":"T"},"friendlyName":"Odd sign-in"}}`
	armEntityPart  = `{"id":"/subscriptions/s/x/Entities/e1","name":"e1","type":"Microsoft.SecurityInsights/Entities","kind":"Account","properties":{"accountName":"ada","upnSuffix":"contoso.example","aadTenantId":"t-1","aadUserId":"u-1","ntDomain":"CONTOSO","sid":"S-1-5-21-1-2-3-4","isDomainJoined":true,"puid":"p-1","displayName":"Ada","hostEntityId":"/h/1","friendlyName":"ada","additionalData":{"Sources":"[x]"}}}`
	armCommentPart = `{"id":"/subscriptions/s/x/Comments/c1","name":"c1","type":"Microsoft.SecurityInsights/incidents/comments","etag":"\"1\"","properties":{"message":"looked at it","createdTimeUtc":"2026-10-27T12:20:00Z","lastModifiedTimeUtc":"2026-10-27T12:21:00Z","author":{"objectId":"o-1","email":"ada@example.com","name":"Ada","userPrincipalName":"ada@example.com"}}}`
)

// armWhole is an incident of a workspace with every member.
func armWhole() []byte {
	return sentinelRaw("73e01a99-5cd7-4139-a149-9f2736ff2ab5", `,"description":"d","classification":"FalsePositive","classificationReason":"InaccurateData","classificationComment":"c",
		"owner":{"objectId":"o","email":"a@example.com","assignedTo":"Ada","userPrincipalName":"ada@example.com","ownerType":"User"},
		"labels":[{"labelName":"a","labelType":"User"}],"firstActivityTimeUtc":"2026-10-27T12:00:00Z","lastActivityTimeUtc":"2026-10-27T12:10:00Z",
		"incidentNumber":7,"incidentUrl":"https://portal.azure.com/x","providerName":"Microsoft XDR","providerIncidentId":"9","relatedAnalyticRuleIds":["/r/1"],
		"teamInformation":{"teamId":"team-1","primaryChannelUrl":"https://teams.example/1"},
		"additionalData":{"alertsCount":1,"bookmarksCount":2,"commentsCount":3,"alertProductNames":["p"],"tactics":["Execution"],"providerIncidentUrl":"https://security.microsoft.com/9","techniques":["T1059"]}`)
}
