package httpapi

import (
	"net/http"
	"slices"
	"strings"
)

// route is something that the API does. What /v1 lists is made of the same table as the handlers.
type route struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Does   string `json:"does"`

	serve func(http.ResponseWriter, *http.Request) error
}

func (a *api) routes() []route {
	return []route{
		{"GET", "/metrics", "Metrics in the Prometheus text format.", a.metrics},
		{"GET", "/v1", "What the API does: this list.", a.list},
		{"GET", "/v1/status", "How the host, its triggers and its connectors fare.", a.status},
		{"GET", "/v1/runs", "Runs, newest first: ?state=, ?flow=, ?object= (an alert's id or key), ?limit= up to 10000, default 100.", a.runs},
		{"GET", "/v1/runs/{id}", "One run with its steps.", a.run},
		{"GET", "/v1/runs/{id}/output", "A run's output, or a step's: ?step=; a value in it: ?path=a.b; of a list a page: ?offset=, ?limit=.", a.output},
		{"POST", "/v1/runs/{id}/replay", "Run it again; what is done stays done: ?from=STEP, ?current=true for the flow as it is now.", a.replay},
		{"POST", "/v1/runs/{id}/cancel", "End it before its next step: ?reason=.", a.cancel},
		{"POST", "/v1/flows/{flow}/runs", "Call a flow that has inputs; they are the body, a JSON object. ?wait=30s, up to 5m; header Idempotency-Key. 200 ended, 202 not yet.", a.callFlow},
		{"GET", "/v1/deadletters", "Dead letters: ?kind=run, event or hint, ?flow=, ?all=true, ?limit=.", a.deadLetters},
		{"POST", "/v1/deadletters/{id}/drop", "Say that nothing more is to be done about a dead letter: ?reason=.", a.drop},
		{"POST", "/v1/connectors/{connector}/lift", "End a connector's quarantine or backoff.", a.lift},
		{"POST", "/v1/connections/{connection}/triggers/{trigger}/poll", "Poll now.", a.poll},
		{"POST", "/v1/connections/{connection}/check", "Try a connection: token, permissions, reachability.", a.check},
		{"PUT", "/v1/connections/{connection}/state", "Put the body in the place of what the connection keeps, sealed.", a.setState},
		{"DELETE", "/v1/connections/{connection}/state", "Forget what the connection keeps.", a.setState},
	}
}

// list answers with what the API does.
func (a *api) list(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, map[string]any{"routes": a.routes()})
}

// nothing answers where no route is, or none with that method.
func (a *api) nothing(w http.ResponseWriter, r *http.Request) error {
	var allow []string
	for _, known := range a.routes() {
		if fits(known.Path, r.URL.Path) {
			allow = append(allow, known.Method)
		}
	}
	if len(allow) == 0 {
		fail(w, http.StatusNotFound, "not found", "there is nothing at "+r.URL.Path+"; GET /v1 lists what there is")
		return nil
	}
	if slices.Contains(allow, http.MethodGet) {
		allow = append(allow, http.MethodHead)
	}
	methods := strings.Join(allow, ", ")
	w.Header().Set("Allow", methods)
	fail(w, http.StatusMethodNotAllowed, "method not allowed", r.URL.Path+" takes "+methods+", not "+r.Method)
	return nil
}

// fits says whether a path is of a route's pattern.
func fits(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") && g != "" })
}
