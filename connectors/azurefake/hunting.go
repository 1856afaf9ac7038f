package azurefake

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// HuntingColumn is a column of a hunting query's answer.
type HuntingColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// huntingAnswer is what a hunting query is answered with.
type huntingAnswer struct {
	schema []HuntingColumn
	rows   []map[string]any
	refuse fakekit.Reply
}

// SetHunting says what security/runHuntingQuery answers to a query.
func (s *Server) SetHunting(query string, schema []HuntingColumn, rows []map[string]any) {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	s.incidents.hunting[query] = huntingAnswer{schema: schema, rows: rows}
}

// RefuseHunting makes a query fail as Graph words it: a status, a code and a message.
func (s *Server) RefuseHunting(query string, status int, code, message string) {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	s.incidents.hunting[query] = huntingAnswer{refuse: graphError(status, code, message)}
}

// Hunted lists the queries that were run, with their time spans behind a line break.
func (s *Server) Hunted() []string {
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	return slices.Clone(s.incidents.hunted)
}

func (s *Server) hunt(c *fakekit.Call) fakekit.Reply {
	if app, refusal := s.allow(c, RoleHuntingRead); app == nil {
		return refusal
	}
	body, ok := fakekit.ReadBody(c.R, 1<<20)
	fields, isObject := decodeObject(body)
	query := text(fields["Query"])
	if !ok || !isObject || query == "" {
		return graphError(http.StatusBadRequest, "BadRequest", "The parameter 'Query' is required.")
	}
	for name := range fields {
		if name != "Query" && name != "Timespan" {
			return graphError(http.StatusBadRequest, "BadRequest", "The parameter '"+name+"' is not in scope for the operation 'runHuntingQuery'.")
		}
	}
	s.incidents.mu.Lock()
	defer s.incidents.mu.Unlock()
	s.incidents.hunted = append(s.incidents.hunted, query+"\n"+text(fields["Timespan"]))
	answer, known := s.incidents.hunting[query]
	switch {
	case answer.refuse.Status != 0:
		return answer.refuse
	case !known:
		return graphError(http.StatusBadRequest, "BadRequest", "'where' operator: Failed to resolve table or column expression named '"+query+"'.")
	}
	rows := answer.rows
	if rows == nil {
		rows = []map[string]any{}
	}
	out, err := json.Marshal(object{
		"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#microsoft.graph.security.huntingQueryResults",
		"schema":         answer.schema, "results": rows,
	})
	if err != nil {
		return graphError(http.StatusInternalServerError, "generalException", err.Error())
	}
	return fakekit.Reply{Status: http.StatusOK, Body: out}
}
