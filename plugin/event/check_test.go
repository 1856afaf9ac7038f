package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/casewire/casewire/plugin/event"
)

func good(tb testing.TB) event.Event {
	tb.Helper()
	e := event.Event{
		Source: "https://graph.example.test/t1/security/alerts_v2", Type: event.TypeAlert, Subject: "da1_2",
		Time: time.Date(2026, 10, 27, 12, 19, 27, 721_130_500, time.UTC), PartitionKey: "msalert:t1:1_2", Tenant: "t1",
		Digest: "0123456789abcdef", TLP: "AMBER STRICT", PAP: "RED", Aliases: []string{"a b", "100%", "%20"},
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", CorrelationID: "msincident:t1:7",
		CausationID: "x",
	}
	e.Seal()
	e.Data = json.RawMessage(`{"class_uid":2004,"category_uid":2,"activity_id":1,"type_uid":200401,"severity_id":0,
		"time":1793103567721,"finding_info":{"uid":"da1_2","title":"<b>"},
		"metadata":{"version":"1.8.0","uid":"` + e.ID + `","product":{"vendor_name":"v"}}}`)
	return e
}

func TestCheckAcceptsAGoodEvent(t *testing.T) {
	t.Parallel()
	e := good(t)
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(e.DataSchema, "detection_finding") || e.Time.Nanosecond() != 721_000_000 {
		t.Errorf("Seal: %+v", e)
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	data := func(from, to string) func(*event.Event) {
		return func(e *event.Event) {
			before := string(e.Data)
			e.Data = json.RawMessage(strings.Replace(before, from, to, 1))
			if string(e.Data) == before {
				panic("nothing replaced: " + from)
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(*event.Event)
		want  string
	}{
		"another id":              {func(e *event.Event) { e.ID = strings.Repeat("0", 32) }, "does not follow"},
		"another subject":         {func(e *event.Event) { e.Subject = "da1_3" }, "does not follow"},
		"no subject":              {func(e *event.Event) { e.Subject = ""; e.Seal() }, "subject is missing"},
		"relative source":         {func(e *event.Event) { e.Source = "/x"; e.Seal() }, "absolute URI"},
		"long source":             {func(e *event.Event) { e.Source = "x:" + strings.Repeat("x", 511); e.Seal() }, "513 bytes"},
		"no key":                  {func(e *event.Event) { e.PartitionKey = "" }, "partitionkey is missing"},
		"upper-case key":          {func(e *event.Event) { e.PartitionKey = "msalert:T1:1_2" }, "lower case"},
		"control character":       {func(e *event.Event) { e.CorrelationID = "a\nb" }, "control characters"},
		"bad UTF-8 in attribute":  {func(e *event.Event) { e.Tenant = "\xff" }, "bad UTF-8"},
		"unknown type":            {func(e *event.Event) { e.Type = "io.casewire.alert.v2" }, "unknown"},
		"time is not rev":         {func(e *event.Event) { e.Time = e.Time.Add(time.Second) }, "not the time of cwrev"},
		"short rev":               {func(e *event.Event) { e.Rev = "1" }, "15 digits"},
		"upper-case digest":       {func(e *event.Event) { e.Digest = "0123456789ABCDEF"; e.Seal() }, "hex digits"},
		"unknown tlp":             {func(e *event.Event) { e.TLP = "WHITE" }, "cwtlp"},
		"unknown pap":             {func(e *event.Event) { e.PAP = "AMBER STRICT" }, "cwpap"},
		"trace parent":            {func(e *event.Event) { e.TraceParent = "00-x" }, "traceparent"},
		"relative data schema":    {func(e *event.Event) { e.DataSchema = "x" }, "dataschema"},
		"too many aliases":        {func(e *event.Event) { e.Aliases = make([]string, 65) }, "65 entries"},
		"empty alias":             {func(e *event.Event) { e.Aliases[0] = "" }, "cwaliases[0] is missing"},
		"no data":                 {func(e *event.Event) { e.Data = nil }, "data is missing"},
		"huge data":               {func(e *event.Event) { e.Data = bytes.Repeat([]byte(" "), event.MaxData+1) }, "more than the limit"},
		"no JSON":                 {func(e *event.Event) { e.Data = []byte(`{"a":`) }, "strict JSON"},
		"no object":               {func(e *event.Event) { e.Data = []byte(`[]`) }, "no JSON object"},
		"two values":              {func(e *event.Event) { e.Data = append(e.Data, " {}"...) }, "follows"},
		"duplicate name":          {data(`"severity_id":0`, `"severity_id":0,"severity_id":5`), "duplicate"},
		"deep duplicate name":     {data(`"title":`, `"uid":"x","title":`), "duplicate"},
		"another case of a name":  {data(`"severity_id":0`, `"severity_id":0,"Severity_ID":5`), "no name of an OCSF attribute"},
		"escaped name":            {data(`"severity_id":0`, `"severity_id":0,"severit\u0079_id":5`), "duplicate"},
		"bad UTF-8 in data":       {data(`<b>`, "\xff"), "strict JSON"},
		"class of another type":   {data(`"class_uid":2004`, `"class_uid":2005`), "class_uid is 2005"},
		"category":                {data(`"category_uid":2`, `"category_uid":3`), "category_uid is 3"},
		"activity unknown":        {data(`"activity_id":1`, `"activity_id":7`), "activity_id is 7"},
		"type_uid of another":     {data(`200401`, `200402`), "type_uid is 200402"},
		"severity out of range":   {data(`"severity_id":0`, `"severity_id":7`), "severity_id is 7"},
		"severity as text":        {data(`"severity_id":0`, `"severity_id":"0"`), "severity_id is no integer"},
		"severity missing":        {data(`"severity_id":0,`, ``), "severity_id is missing"},
		"time as text":            {data(`1793103567721`, `"2026"`), "time is no integer"},
		"finding missing":         {data(`"finding_info"`, `"finding"`), "finding_info is missing"},
		"null":                    {data(`"severity_id":0`, `"severity_id":0,"status":null`), "status is null"},
		"version of another time": {data(`"1.8.0"`, `"1.7.0"`), "metadata.version"},
		"product missing":         {data(`"product"`, `"produce"`), "metadata.product is missing"},
		"uid of another event":    {data(`"1.8.0","uid":"`, `"1.8.0","uid":"x`), "not the event's id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := good(t)
			c.spoil(&e)
			err := e.Check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check = %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestCheckTellsEveryFault(t *testing.T) {
	t.Parallel()
	e := good(t)
	e.PartitionKey, e.TLP, e.Data = "", "X", json.RawMessage(`{"class_uid":1}`)
	err := e.Check()
	for _, want := range []string{"partitionkey", "cwtlp", "class_uid is 1", "severity_id is missing", "metadata is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word about %s in: %v", want, err)
		}
	}
}

func TestHeadOfEveryType(t *testing.T) {
	t.Parallel()
	for typ, data := range map[string]string{
		event.TypeIncident:  `"class_uid":2005,"category_uid":2,"activity_id":3,"type_uid":200503,"status_id":5,"finding_info_list":[]`,
		event.TypeCase:      `"class_uid":2005,"category_uid":2,"activity_id":2,"type_uid":200502,"status_id":5,"finding_info_list":[]`,
		event.TypeIndicator: `"class_uid":5021,"category_uid":5,"activity_id":2,"type_uid":502102,"osint":[]`,
		event.TypeRow:       `"class_uid":0,"category_uid":0,"activity_id":99,"type_uid":99`,
	} {
		e := good(t)
		e.Type = typ
		e.Data = json.RawMessage(`{` + data + `,"severity_id":99,"time":0,"metadata":{"product":{},"version":"1.8.1"}}`)
		if err := e.Check(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		if event.SchemaOf(typ) == "" {
			t.Errorf("%s: no schema", typ)
		}
	}
}

func TestCloudEvent(t *testing.T) {
	t.Parallel()
	e := good(t)
	b, err := e.MarshalCloudEvent()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"specversion":"1.0"`, `"time":"2026-10-27T12:19:27.721Z"`, `"cwaliases":"a%20b 100%25 %2520"`, `"title":"<b>"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	back, err := event.ParseCloudEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, e.Data); err != nil {
		t.Fatal(err)
	}
	e.Data = compact.Bytes()
	if diff := cmp.Diff(e, back); diff != "" {
		t.Errorf("after the round trip (-before +after):\n%s", diff)
	}
	if err := back.Check(); err != nil {
		t.Error(err)
	}
	for from, to := range map[string]string{
		`"specversion":"1.0"`: `"specversion":"0.3"`, `application/json`: `text/xml`, `"data":`: `"data_base64":"","data":`,
		`2026-10-27T12`: `yesterday`, `{`: ``,
	} {
		if _, err := event.ParseCloudEvent([]byte(strings.Replace(string(b), from, to, 1))); err == nil {
			t.Errorf("%s instead of %s is taken", to, from)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(good(f).Data))
	f.Add([]byte(`{"metadata":{"uid":1,"version":{}}}`))
	f.Add([]byte(`{"":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := good(t)
		e.Data = data
		if err := e.Check(); err == nil && !json.Valid(data) {
			t.Errorf("Check takes %q, which is no JSON", data)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	e := good(b)
	filler, err := json.Marshal(map[string]any{"a": strings.Split(strings.Repeat("some text and more of it,", 200), ",")})
	if err != nil {
		b.Fatal(err)
	}
	e.Data = append(append(bytes.TrimSuffix(e.Data, []byte("}")), `,"unmapped":`...), append(filler, '}')...)
	b.SetBytes(int64(len(e.Data)))
	for b.Loop() {
		if err := e.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
