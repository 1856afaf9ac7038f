package sentinel_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/sdk/sdktest"
)

func TestWatchlistEnsure(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]azurefake.ARM{
		"by operation": {}, "by location": {Async: "location"}, "by state": {State: true, Polls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, azurefake.Options{ARM: o}, nil)
			in := settings{"watchlist": "HighValueAssets", "search_key": "host", "csv": "host,owner\r\nfin-ws,\"Ada, Ms\"\r\ndc01,IT\r\n"}
			res, err := r.Do(t.Context(), sdktest.Call{Action: "watchlist.ensure", Input: in})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(res.Output), `"created":true`) || !strings.Contains(string(res.Output), `"added":2`) || len(res.Progress) == 0 {
				t.Errorf("%s, progress %q", res.Output, res.Progress)
			}
			if rows := fmt.Sprint(r.azure.WatchlistRows("HighValueAssets")); rows != "[map[host:fin-ws owner:Ada, Ms] map[host:dc01 owner:IT]]" {
				t.Errorf("rows %s", rows)
			}
			// The same again sends nothing.
			before := r.azure.ARMLedger()
			out := r.must("watchlist.ensure", in)
			if after := r.azure.ARMLedger(); out["unchanged"] != 2. || out["created"] != false || after.Changes != before.Changes || after.Uploads["HighValueAssets"] != 1 {
				t.Errorf("%v; %d changes, before %d", out, after.Changes, before.Changes)
			}
			// One row differs, one is new, one is too many.
			out = r.must("watchlist.ensure", settings{
				"watchlist": "HighValueAssets", "search_key": "host", "prune": true,
				"items": []settings{{"host": "dc01", "owner": "Ops"}, {"host": "dc02", "owner": 7}},
			})
			if out["added"] != 1. || out["changed"] != 1. || out["removed"] != 1. {
				t.Errorf("%v", out)
			}
			if rows := fmt.Sprint(r.azure.WatchlistRows("HighValueAssets")); rows != "[map[host:dc01 owner:Ops] map[host:dc02 owner:7]]" {
				t.Errorf("rows %s", rows)
			}
			// Many new ones go as one upload.
			var csv strings.Builder
			csv.WriteString("host,owner\n")
			for i := range 130 {
				fmt.Fprintf(&csv, "h%d,IT\n", i)
			}
			out = r.must("watchlist.ensure", settings{"watchlist": "HighValueAssets", "search_key": "host", "csv": csv.String()})
			if rows := r.azure.WatchlistRows("HighValueAssets"); out["added"] != 130. || len(rows) != 132 || r.azure.ARMLedger().Uploads["HighValueAssets"] != 2 {
				t.Errorf("%v, %d rows", out, len(rows))
			}
			if out := r.must("watchlist.items", settings{"watchlist": "HighValueAssets", "max": 131}); out["count"] != 131. || out["truncated"] != true {
				t.Errorf("%v rows, truncated %v", out["count"], out["truncated"])
			}
			if out := r.must("watchlist.list", settings{}); out["count"] != 1. {
				t.Errorf("%v", out)
			}
			for _, want := range []bool{true, false} {
				if out := r.must("watchlist.remove", settings{"watchlist": "HighValueAssets"}); out["removed"] != want {
					t.Errorf("removed %v, want %v", out["removed"], want)
				}
			}
			if r.azure.Watchlist("HighValueAssets") != nil {
				t.Error("it is still there")
			}
		})
	}
}

func TestWatchlistRefuses(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{}, nil)
	for _, tc := range []struct {
		in   settings
		says []string
	}{
		{settings{"watchlist": "w", "search_key": "ip"}, []string{"/watchlist"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "a,b\n1,2\n"}, []string{"/search_key", "a, b"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "ip,ip\n1,2\n"}, []string{"/csv", "line 1"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "ip,b\n1\n"}, []string{"/csv", "line 2"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "ip,b\n,2\n"}, []string{"/csv", "line 2", "search key"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "ip,b\n1," + strings.Repeat("x", 10300) + "\n"}, []string{"/csv", "line 2", "10240"}},
		{settings{"watchlist": "abc", "search_key": "ip", "csv": "ip\n1\n", "items": []settings{{"ip": "1"}}}, []string{"/items"}},
		{settings{"watchlist": "abc", "search_key": "ip", "items": []settings{{"ip": "1"}, {"ip": "2", "b": 1}}}, []string{"/items/1", "b"}},
		{settings{"watchlist": "abc", "search_key": "ip", "items": []settings{{"a": "1"}}}, []string{"/items/0", "ip"}},
	} {
		_, err := r.call("watchlist.ensure", tc.in)
		refused(t, err, codes.InvalidArgument, tc.says...)
	}
	if out := r.must("watchlist.list", settings{}); out["count"] != 0. {
		t.Errorf("%v", out)
	}
	r.must("watchlist.ensure", settings{"watchlist": "abc", "search_key": "ip"})
	_, err := r.call("watchlist.ensure", settings{"watchlist": "abc", "search_key": "host"})
	refused(t, err, codes.InvalidArgument, "/search_key", "watchlist.remove")
}

func TestWatchlistUploadFails(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]azurefake.ARM{"operation": {}, "location": {Async: "location"}, "state": {State: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, azurefake.Options{ARM: o}, nil)
			in := settings{"watchlist": "abc", "search_key": "ip", "csv": "ip\n203.0.113.7\n"}
			r.azure.FailUpload("abc", "row 1 could not be read")
			_, err := r.call("watchlist.ensure", in)
			refused(t, err, codes.Unavailable, "watchlist abc", "failed")
			// The next call mends it.
			r.must("watchlist.ensure", in)
			if rows := r.azure.WatchlistRows("abc"); len(rows) != 1 {
				t.Errorf("rows %v", rows)
			}
		})
	}
}

// TestWatchlistLostAnswer: the upload was taken, and nobody heard of it.
func TestWatchlistLostAnswer(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{State: true, Polls: 1}}, nil)
	in := settings{"watchlist": "abc", "search_key": "ip", "csv": "ip\n203.0.113.7\n"}
	r.azure.FailNext(azurefake.RouteARMWatchlistPut, azurefake.LostAnswer, 1)
	if _, err := r.call("watchlist.ensure", in); err == nil {
		t.Error("went unnoticed")
	}
	if out := r.must("watchlist.ensure", in); out["unchanged"] != 1. {
		t.Errorf("%v", out)
	}
	if l := r.azure.ARMLedger(); l.Uploads["abc"] != 1 || l.Changes != 1 {
		t.Errorf("%d uploads, %d changes", l.Uploads["abc"], l.Changes)
	}
}

func TestWatchlistItems(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{Polls: 1}}, nil)
	_, err := r.call("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"ip": "1"}})
	refused(t, err, codes.NotFound, "watchlist.ensure")
	r.must("watchlist.ensure", settings{"watchlist": "abc", "search_key": "ip", "csv": "ip,case\n203.0.113.7,SEC-1\n"})
	for i, tc := range []struct {
		values           settings
		created, updated bool
	}{
		{settings{"ip": "203.0.113.7", "case": "SEC-1"}, false, false}, // came by the file
		{settings{"ip": "203.0.113.7", "case": "SEC-2"}, false, true},
		{settings{"ip": "203.0.113.8", "case": "SEC-3"}, true, false},
		{settings{"ip": "203.0.113.8", "case": "SEC-3"}, false, false},
		{settings{"ip": " 203.0.113.8 ", "case": "SEC-4"}, false, true},
	} {
		out := r.must("watchlist.item.ensure", settings{"watchlist": "abc", "values": tc.values})
		if out["created"] != tc.created || out["updated"] != tc.updated {
			t.Errorf("%d: %v", i, out)
		}
	}
	if rows := r.azure.WatchlistRows("abc"); len(rows) != 2 {
		t.Errorf("rows %v", rows)
	}
	_, err = r.call("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"case": "1"}})
	refused(t, err, codes.InvalidArgument, "/values", "ip")
	_, err = r.call("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"ip": "1", "note": strings.Repeat("x", 11000)}})
	refused(t, err, codes.InvalidArgument, "/values", "10240")
	// The answer is lost after the row was written: the next call finds it.
	r.azure.FailNext(azurefake.RouteARMItemPut, azurefake.ErrorAfter, 1)
	if _, err := r.call("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"ip": "203.0.113.9"}}); err == nil {
		t.Error("went unnoticed")
	}
	if out := r.must("watchlist.item.ensure", settings{"watchlist": "abc", "values": settings{"ip": "203.0.113.9"}}); out["created"] != false || out["updated"] != false {
		t.Errorf("%v", out)
	}
	if out := r.must("watchlist.item.remove", settings{"watchlist": "abc", "key": "203.0.113.8"}); out["removed"] != 1. {
		t.Errorf("%v", out)
	}
	if out := r.must("watchlist.item.remove", settings{"watchlist": "abc", "key": "203.0.113.8"}); out["removed"] != 0. {
		t.Errorf("%v", out)
	}
	reader := newRoom(t, azurefake.Options{ARM: azurefake.ARM{Roles: []string{azurefake.RoleSentinelResponder}}}, nil)
	_, err = reader.call("watchlist.ensure", settings{"watchlist": "abc", "search_key": "ip"})
	refused(t, err, codes.PermissionDenied, "Microsoft Sentinel Contributor")
}

// TestWatchlistPacked: more rows than fit into a call, and into an upload.
func TestWatchlistPacked(t *testing.T) {
	t.Parallel()
	r := newRoom(t, azurefake.Options{ARM: azurefake.ARM{State: true, Polls: 1}}, nil)
	const n = 500
	var text, packed bytes.Buffer
	text.WriteString("host,note\n")
	for i := range n {
		fmt.Fprintf(&text, "h%d,\"%s, \"\"%d\"\"\"\n", i, strings.Repeat("n", 9000), i)
	}
	z := gzip.NewWriter(&packed)
	_, err := z.Write(text.Bytes())
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	in := settings{"watchlist": "Large", "search_key": "host", "csv_gzip": packed.Bytes()}
	// The answer to the first part is lost, and the next call sends what is left.
	r.azure.FailNext(azurefake.RouteARMWatchlistPut, azurefake.LostAnswer, 1)
	if _, err := r.call("watchlist.ensure", in); err == nil {
		t.Error("went unnoticed")
	}
	r.must("watchlist.ensure", in)
	led := r.azure.ARMLedger()
	rows := r.azure.WatchlistRows("Large")
	if len(rows) != n || led.Changes != n || led.Uploads["Large"] != 2 {
		t.Errorf("%d rows by %d changes in %d uploads", len(rows), led.Changes, led.Uploads["Large"])
	}
	if want := strings.Repeat("n", 9000) + `, "499"`; len(rows) == n && rows[n-1]["note"] != want {
		t.Errorf("the last row is %.40v", rows[n-1])
	}
	if out := r.must("watchlist.ensure", in); out["unchanged"] != float64(n) || r.azure.ARMLedger().Changes != n {
		t.Errorf("%v", out)
	}
	bomb := func(size int) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(make([]byte, size))
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for says, packed := range map[string][]byte{"is not gzip": []byte("host\ndc01\n"), "cannot be unpacked": packed.Bytes()[:packed.Len()-9], "more than 64 MiB": bomb(65 << 20)} {
		_, err := r.call("watchlist.ensure", settings{"watchlist": "Large", "search_key": "host", "csv_gzip": packed})
		refused(t, err, codes.InvalidArgument, "/csv_gzip", says)
	}
	_, err = r.call("watchlist.ensure", settings{"watchlist": "Large", "search_key": "host", "csv": "host\na\n", "csv_gzip": packed.Bytes()})
	refused(t, err, codes.InvalidArgument, "/csv_gzip", "contradicts")
}
