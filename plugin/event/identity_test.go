package event_test

import (
	"strings"
	"testing"
	"time"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/event"
)

func TestComputeID(t *testing.T) {
	t.Parallel()
	// Computed independently (Python: hashlib, base64.b32hexencode), so that a change of the rule is noticed.
	const want = "nl1c4pj6a9jh18c35coh6frrsuhska6p"
	got := event.ComputeID("https://graph.example.test/t1/security/alerts_v2", "da1_2", "001793103567721", "0123456789abcdef")
	if got != want {
		t.Errorf("ComputeID = %s, want %s", got, want)
	}
	ids := map[string][4]string{}
	for _, p := range [][4]string{
		{"ab", "c", "", ""},
		{"a", "bc", "", ""},
		{"", "abc", "", ""},
		{"a", "b", "c", ""},
		{"a", "b", "", "c"},
		{"", "", "", ""},
		{"\x00\x00\x00\x01", "a", "", ""},
	} {
		id := event.ComputeID(p[0], p[1], p[2], p[3])
		if other, taken := ids[id]; taken {
			t.Errorf("%q and %q have one id", p, other)
		}
		ids[id] = p
		if len(id) != 32 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuv") != "" {
			t.Errorf("ComputeID(%q) = %q: want 32 characters of base32hex", p, id)
		}
	}
}

func TestRev(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 10, 27, 12, 19, 27, 721_130_500, time.FixedZone("", 7200)).Add(2 * time.Hour)
	rev := event.Rev(at)
	if rev != "001793103567721" {
		t.Fatalf("Rev = %s", rev)
	}
	back, err := event.RevTime(rev)
	if err != nil || !back.Equal(at.Truncate(time.Millisecond)) || back.Location() != time.UTC {
		t.Errorf("RevTime = %v, %v", back, err)
	}
	if got := event.Rev(time.Time{}); got != "000000000000000" {
		t.Errorf("Rev of no time = %s", got)
	}
	for _, bad := range []string{"", "1", "00179310356772x", "0017931035677210", "-01793103567721"} {
		if _, err := event.RevTime(bad); err == nil {
			t.Errorf("RevTime(%q) is no error", bad)
		}
	}
	if a, b := event.Rev(time.UnixMilli(9)), event.Rev(time.UnixMilli(10)); a >= b {
		t.Errorf("%s does not sort before %s", a, b)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	a := event.Digest(map[string]any{"b": "<&>", "a": []string{"x"}, "n": 1})
	b := event.Digest(struct {
		N int      `json:"n"`
		A []string `json:"a"`
		B string   `json:"b"`
	}{1, []string{"x"}, "<&>"})
	if a != b {
		t.Errorf("%s for a map, %s for a struct of the same content", a, b)
	}
	// printf '{"a":["x"],"b":"<&>","n":1}' | sha256sum.
	if want := "ab095f97f3ffcf13"; a != want {
		t.Errorf("Digest = %s, want %s", a, want)
	}
	if event.Digest(map[string]any{"a": "1"}) == event.Digest(map[string]any{"a": 1}) {
		t.Error("text and number have one digest")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	guid := "CA761232-ED42-11CE-BACD-00AA0057B223"
	for _, c := range []struct{ name, got, want string }{
		{"alert", event.AlertKey("T1", "sn"+guid), "msalert:t1:" + strings.ToLower(guid)},
		{"alert of a row", event.AlertKey("t1", guid), "msalert:t1:" + strings.ToLower(guid)},
		{"incident", event.IncidentKey("T1", "28282"), "msincident:t1:28282"},
		{"sentinel incident", event.SentinelIncidentKey(guid), "sentinelincident:" + strings.ToLower(guid)},
		{"indicator", event.IndicatorKey("5", "https://a.test/x:y"), "indicator:5:https://a.test/x:y"},
		{"case", event.CaseKey("jira", "Jira.example.test:8443", "SEC-7"), "case:jira:jira.example.test%3a8443:sec-7"},
		{"row", event.RowKey("w", "q", "a", "b"), "larow:w:q:" + event.RowKey("w", "q", "a", "b")[len("larow:w:q:"):]},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.name, c.got, c.want)
		}
	}
	if event.RowKey("w", "q", "ab", "c") == event.RowKey("w", "q", "a", "bc") {
		t.Error("two rows have one key")
	}
	if event.AlertKey("a:b", "c") == event.AlertKey("a", "b:c") {
		t.Error("two alerts have one key")
	}
	// A Defender incident and a workspace's incident of the same number are two objects.
	if event.IncidentKey("t", "28282") == event.SentinelIncidentKey("28282") {
		t.Error("incidents of two systems have one key")
	}
}

func TestBareAlertID(t *testing.T) {
	t.Parallel()
	const guid = "761232ed-42ce-41cf-8acd-00aa0057b223"
	for in, want := range map[string]string{
		"sn" + guid:                             guid,
		"SN" + guid:                             guid,
		"dc" + guid + "_1":                      guid + "_1",
		"da638551234567890123_-1234567890":      "638551234567890123_-1234567890",
		"da638551234567890123_1234567890":       "638551234567890123_1234567890",
		guid:                                    guid,
		"da761232-ed42-41ce-8acd-00aa0057b223":  "da761232-ed42-41ce-8acd-00aa0057b223", // a GUID that begins with da
		"ca761232-ed42-41ce-8acd-00aa0057b22_1": "ca761232-ed42-41ce-8acd-00aa0057b22_1",
		"xx" + guid:                             "xx" + guid,
		"da12345":                               "da12345",
		"da_1":                                  "da_1",
		"da1_":                                  "da1_",
		"da1_--2":                               "da1_--2",
		"sn" + guid + "_":                       "sn" + guid + "_",
		"sn" + guid + "_x":                      "sn" + guid + "_x",
		"sn" + guid + "x":                       "sn" + guid + "x",
		"sn":                                    "sn",
		"":                                      "",
	} {
		if got := event.BareAlertID(in); got != want {
			t.Errorf("BareAlertID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMaxDataIsTheProtocolsLimit(t *testing.T) {
	t.Parallel()
	if event.MaxData != plugin.MaxEvent {
		t.Errorf("event.MaxData = %d, plugin.MaxEvent = %d", event.MaxData, plugin.MaxEvent)
	}
}

func TestSiblingKey(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{event.IncidentKey("T", "28282"), " 28283 ", event.IncidentKey("T", "28283")},
		{event.IncidentKey("a:b", "1"), "2", event.IncidentKey("a:b", "2")},
		{"plain", "2", ""},
		{event.IncidentKey("t", "1"), " ", ""},
	} {
		if got := event.SiblingKey(c[0], c[1]); got != c[2] {
			t.Errorf("event.SiblingKey(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}
