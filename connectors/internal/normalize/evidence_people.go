package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

func (s *evidenceScope) userEvidence() {
	u := object(&s.taker, s.src.get("userAccount"), account)
	if u == nil {
		return
	}
	s.obs.user(s.actorOrUser(u), u)
	s.key = userKey(u)
}

func userKey(u *ocsf.User) string {
	return firstOf(u.UID, u.UIDAlt, strings.ToLower(u.EmailAddr), strings.ToLower(u.Name))
}

func (s *evidenceScope) mailbox() {
	address := s.src.str("primaryAddress")
	u := object(&s.taker, s.src.get("userAccount"), account)
	if u == nil {
		u = &ocsf.User{Name: firstOf(s.src.str("upn"), address, s.src.str("displayName")), DisplayName: s.src.str("displayName")}
	}
	if isEmail(address) {
		if u.EmailAddr != address && u.Account == nil && u.EmailAddr != "" {
			u.Account = &ocsf.Account{Name: u.EmailAddr} // the user's own name must not get lost
		}
		u.EmailAddr = address
	}
	s.key = firstOf(strings.ToLower(address), userKey(u))
	if u.Name == "" && u.UID == "" {
		return
	}
	s.obs.user(s.actorOrUser(u), u)
}

func (s *evidenceScope) mailboxConfiguration() {
	s.key = s.src.scalar("configurationId")
	address := s.src.str("mailboxPrimaryAddress")
	u := &ocsf.User{Name: firstOf(s.src.str("upn"), address), UID: s.src.str("externalDirectoryObjectId")}
	if isEmail(address) {
		u.EmailAddr = address
	}
	if u.Name == "" && u.UID == "" {
		return
	}
	s.mark(s.src, "externalDirectoryObjectId")
	s.out.User = u
	s.obs.email("user.email_addr", u.EmailAddr)
}

func (s *evidenceScope) servicePrincipal() {
	n := s.src
	t := taker{}
	u := &ocsf.User{
		UID: t.scalar(n, "servicePrincipalObjectId"), UIDAlt: t.scalar(n, "appId"), Name: t.str(n, "servicePrincipalName"),
		TypeID: new(4), Type: "Service",
	}
	if u.UID == "" && u.Name == "" {
		u.UID, u.UIDAlt = u.UIDAlt, ""
	}
	if org := t.str(n, "tenantId"); org != "" {
		u.Org = &ocsf.Organization{UID: org}
	}
	s.key = firstOf(u.UID, u.UIDAlt, u.Name)
	if s.key == "" {
		return
	}
	s.marks = append(s.marks, t.marks...)
	s.obs.user(s.actorOrUser(u), u)
}

func (s *evidenceScope) securityGroup() {
	n := s.src
	id, sid, name := n.scalar("securityGroupId"), n.str("sid"), firstOf(n.str("displayName"), n.str("friendlyName"))
	s.key = firstOf(id, sid)
	if !s.resource(ocsf.Resource{UID: firstOf(id, sid), UIDAlt: sid, Name: name, Type: s.kind}) {
		return
	}
	s.mark(n, "securityGroupId")
	s.mark(n, "displayName")
	s.obs.add(ocsf.ObservableGroupUID, "resources.uid", firstOf(id, sid))
	s.obs.add(ocsf.ObservableGroupName, "resources.name", name)
}

func (s *evidenceScope) logonSession() {
	n := s.src
	session := &ocsf.Session{UID: s.scalar(n, "sessionId"), CreatedTime: s.time(n, "startUtcDateTime")}
	actor := &ocsf.Actor{User: account(&taker{}, n.get("account").get("userAccount"))}
	if session.UID != "" || session.CreatedTime != nil {
		actor.Session = session
	}
	if actor.Session != nil || actor.User != nil {
		s.out.Actor = actor
	}
	s.key = session.UID
	s.obs.user("actor.user", actor.User)
	s.out.Device = device(&taker{}, n.get("host"))
	s.obs.device(s.out.Device)
	if name := n.str("deviceName"); name != "" && s.out.Device == nil {
		s.out.Device = &ocsf.Device{Name: name, Type: "Unknown"}
	}
	if agent := s.str(n, "userAgent"); agent != "" {
		s.out.HTTPRequest = &ocsf.HTTPRequest{UserAgent: agent}
		s.obs.add(ocsf.ObservableUserAgent, "http_request.user_agent", agent)
	}
}

func (s *evidenceScope) logonRequest() {
	if s.key = s.scalar(s.src, "requestId"); s.key != "" {
		s.out.Actor = &ocsf.Actor{Session: &ocsf.Session{UID: s.key}}
	}
}
