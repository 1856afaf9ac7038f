package httpapi

import (
	"net/http"
	"unicode/utf8"
)

// maxReason bounds what an operator says.
const maxReason = 500

// cancel ends a run; the query's reason is kept with it.
func (a *api) cancel(w http.ResponseWriter, r *http.Request) error {
	reason := r.URL.Query().Get("reason")
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return invalid("reason: give at most %d bytes of UTF-8", maxReason)
	}
	run, err := a.host.Cancel(r.Context(), r.PathValue("id"), reason)
	if err != nil {
		return err
	}
	return answer(w, map[string]any{"run": NewRunRecord(run, nil)})
}
