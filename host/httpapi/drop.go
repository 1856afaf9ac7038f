package httpapi

import (
	"net/http"
	"unicode/utf8"
)

// drop marks a dead letter as dealt with; the query's reason is kept with it.
func (a *api) drop(w http.ResponseWriter, r *http.Request) error {
	reason := r.URL.Query().Get("reason")
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return invalid("reason: give at most %d bytes of UTF-8", maxReason)
	}
	d, err := a.host.DropDeadLetter(r.Context(), r.PathValue("id"), reason)
	if err != nil {
		return err
	}
	return answer(w, map[string]any{"dead_letter": NewDeadLetterRecord(d)})
}
