package azurefake

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// imds is the metadata service of a virtual machine.
func (s *Server) imds(c *fakekit.Call) fakekit.Reply {
	s.askedIdentity("imds")
	q := c.R.URL.Query()
	bad := func(text string) fakekit.Reply {
		return fakekit.JSON(http.StatusBadRequest, object{"error": "invalid_request", "error_description": text})
	}
	switch {
	case c.R.Header.Get("Metadata") != "true":
		return bad("Required metadata header not specified")
	case c.R.Header.Get("X-Forwarded-For") != "":
		return bad("A forwarded request is refused")
	case q.Get("api-version") == "":
		return bad("Required query variable 'api-version' is missing")
	case q.Get("resource") == "":
		return bad("Required query variable 'resource' is missing")
	}
	id := s.machine(q.Get("client_id"), q.Get("object_id"), q.Get("msi_res_id"))
	if id == nil {
		return bad("Identity not found")
	}
	return s.issueIdentity(id, q)
}

// appService is the endpoint of App Service, Functions and Container Apps.
func (s *Server) appService(c *fakekit.Call) fakekit.Reply {
	s.askedIdentity("app_service")
	q := c.R.URL.Query()
	given := c.R.Header.Get("X-Identity-Header")
	s.grants.mu.Lock()
	want := s.opt.Entra.IdentityHeader
	s.grants.mu.Unlock()
	switch {
	case want == "" || subtle.ConstantTimeCompare([]byte(given), []byte(want)) != 1:
		return fakekit.JSON(http.StatusUnauthorized, object{"statusCode": 401, "message": "Unauthorized"})
	case q.Get("api-version") != "2019-08-01":
		return fakekit.JSON(http.StatusBadRequest, object{"statusCode": 400, "message": "Unsupported api-version"})
	case q.Get("resource") == "":
		return fakekit.JSON(http.StatusBadRequest, object{"statusCode": 400, "message": "resource is missing"})
	}
	id := s.machine(q.Get("client_id"), q.Get("principal_id"), q.Get("mi_res_id"))
	if id == nil {
		return fakekit.JSON(http.StatusBadRequest, object{"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."})
	}
	return s.issueIdentity(id, q)
}

// arc is the agent of a machine under Azure Arc: it asks the caller to read a file that only some may read.
func (s *Server) arc(c *fakekit.Call) fakekit.Reply {
	s.askedIdentity("arc")
	q := c.R.URL.Query()
	id := s.machine(q.Get("client_id"), q.Get("object_id"), q.Get("msi_res_id"))
	switch {
	case c.R.Header.Get("Metadata") != "true" || q.Get("resource") == "":
		return fakekit.JSON(http.StatusBadRequest, object{"error": "invalid_request", "error_description": "Required metadata header not specified"})
	case id == nil:
		return fakekit.JSON(http.StatusBadRequest, object{"error": "invalid_request", "error_description": "Identity not found"})
	}
	if key, ok := strings.CutPrefix(c.R.Header.Get("Authorization"), "Basic "); ok {
		files, _ := filepath.Glob(filepath.Join(s.opt.Entra.ArcKeys, "*.key"))
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && subtle.ConstantTimeCompare(b, []byte(key)) == 1 {
				_ = os.Remove(f) // a challenge holds once
				return s.issueIdentity(id, q)
			}
		}
	}
	file := filepath.Join(s.opt.Entra.ArcKeys, rand.Text()+".key")
	if err := os.WriteFile(file, []byte(rand.Text()), 0o600); err != nil {
		return fakekit.JSON(http.StatusInternalServerError, object{"error": "server_error", "error_description": err.Error()})
	}
	return fakekit.JSON(http.StatusUnauthorized, object{"error": "unauthorized_client"}).With("WWW-Authenticate", "Basic realm="+file)
}

func (s *Server) askedIdentity(source string) {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	s.grants.asked[source]++
}

// SetIdentities replaces the managed identities of the machine, and the secret of App Service's endpoint.
func (s *Server) SetIdentities(header string, identities ...MachineIdentity) {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	s.opt.Entra.Identities, s.opt.Entra.IdentityHeader = identities, header
}

// machine finds the identity that is meant; without any id the system-assigned one.
func (s *Server) machine(client, object, resource string) *MachineIdentity {
	s.grants.mu.Lock()
	identities := s.opt.Entra.Identities
	s.grants.mu.Unlock()
	for i := range identities {
		m := &identities[i]
		switch {
		case client == "" && object == "" && resource == "":
			if m.System {
				return m
			}
		case client != "" && m.ClientID == client, object != "" && m.ObjectID == object, resource != "" && strings.EqualFold(m.ResourceID, resource):
			return m
		}
	}
	return nil
}

func (s *Server) issueIdentity(m *MachineIdentity, q url.Values) fakekit.Reply {
	app := &App{ClientID: m.ClientID, Roles: m.Roles}
	answer := s.mint(app, strings.TrimRight(q.Get("resource"), "/"), "", "")
	life := int(s.opt.TokenLife.Seconds())
	// Numbers are text here, and the client's id is told.
	answer["expires_in"], answer["expires_on"] = strconv.Itoa(life), strconv.FormatInt(s.opt.Now().Unix()+int64(life), 10)
	answer["resource"], answer["client_id"] = q.Get("resource"), m.ClientID
	delete(answer, "ext_expires_in")
	return fakekit.JSON(http.StatusOK, answer)
}
