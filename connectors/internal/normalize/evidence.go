package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

// evidenceScope is what a mapping of one evidence reads and writes.
type evidenceScope struct {
	*mapper
	taker
	src   *node
	out   *ocsf.Evidence
	roles roleSet
	kind  string // the short type, without "Evidence"
	key   string // the natural key
}

// evidenceMappings by short type without "Evidence". A type that is not here is kept whole, as a resource if it has an
// id or a name.
var evidenceMappings = map[string]func(*evidenceScope){
	"user": (*evidenceScope).userEvidence, "mailbox": (*evidenceScope).mailbox,
	"mailboxConfiguration": (*evidenceScope).mailboxConfiguration, "device": (*evidenceScope).deviceEvidence,
	"ioTDevice": (*evidenceScope).iotDevice, "nic": (*evidenceScope).nic, "file": (*evidenceScope).fileEvidence,
	"fileHash": (*evidenceScope).fileHash, "process": (*evidenceScope).processEvidence, "ip": (*evidenceScope).ipEvidence,
	"url": (*evidenceScope).urlEvidence, "dns": (*evidenceScope).dns,
	"networkConnection": (*evidenceScope).networkConnection, "analyzedMessage": (*evidenceScope).analyzedMessage,
	"submissionMail": (*evidenceScope).submissionMail, "mailCluster": (*evidenceScope).mailCluster,
	"teamsMessage": (*evidenceScope).teamsMessage, "cloudApplication": (*evidenceScope).cloudApplication,
	"oauthApplication": (*evidenceScope).oauthApplication, "servicePrincipal": (*evidenceScope).servicePrincipal,
	"securityGroup": (*evidenceScope).securityGroup, "registryKey": (*evidenceScope).registryKey,
	"registryValue": (*evidenceScope).registryValue, "azureResource": (*evidenceScope).azure,
	"amazonResource": (*evidenceScope).amazon, "googleCloudResource": (*evidenceScope).google,
	"blobContainer": (*evidenceScope).blobContainer, "blob": (*evidenceScope).blob, "container": (*evidenceScope).container,
	"hostLogonSession": (*evidenceScope).logonSession, "cloudLogonSession": (*evidenceScope).logonSession,
	"cloudLogonRequest": (*evidenceScope).logonRequest, "malware": (*evidenceScope).malwareEvidence,
}

// evidence maps one evidence.
func (m *mapper) evidence(i int, src *node) {
	m.finding.Evidences = append(m.finding.Evidences, ocsf.Evidence{})
	out := &m.finding.Evidences[i]
	if src.kind != '{' { // not seen, and not lost
		out.Data = src.appendJSON(nil)
		return
	}
	typ := src.str("@odata.type")
	out.Name = typ[strings.LastIndexByte(typ, '.')+1:]
	if src.get("@odata.type") != nil && strings.HasPrefix(typ, "#microsoft.graph.security.") {
		src.get("@odata.type").used = true
	}
	word := src.str("verdict")
	verdict := lookup(evidenceVerdicts, word)
	out.VerdictID, out.Verdict = &verdict, ocsf.VerdictName(verdict)
	if verdict == ocsf.Other {
		out.Verdict = word
	}
	m.obs.evidence(i, verdict)
	s := &evidenceScope{mapper: m, src: src, out: out, roles: rolesOf(src), kind: strings.TrimSuffix(out.Name, "Evidence")}
	if f := evidenceMappings[s.kind]; f != nil {
		f(s)
	} else {
		s.generic()
	}
	s.commit()
	out.UID = s.key
	out.Data = src.appendRest(nil, "")
	if len(out.Data) == 0 && isBare(out) {
		out.Data = []byte("{}")
	}
	for j := range out.Resources {
		if r := &out.Resources[j]; s.roles.top && r.RoleID != nil {
			m.finding.Resources = append(m.finding.Resources, *r)
		}
		if r := &out.Resources[j]; r.Provider != "" {
			m.cloud(r, src, s.kind)
		}
	}
	if m.finding.Device == nil && out.Device != nil && out.Device.Hostname != "" {
		m.finding.Device = out.Device
	}
	m.significant = append(m.significant, out.Name+"|"+s.key+"|"+word+"|"+src.str("remediationStatus"))
}

// isBare says whether an evidence has no object that the schema counts as one.
func isBare(e *ocsf.Evidence) bool {
	return e.Actor == nil && e.User == nil && e.Device == nil && e.Process == nil && e.File == nil && e.URL == nil &&
		e.Email == nil && e.Query == nil && e.SrcEndpoint == nil && e.DstEndpoint == nil && e.ConnectionInfo == nil &&
		e.Databucket == nil && e.RegKey == nil && e.RegValue == nil && len(e.Resources) == 0
}

// actorOrUser puts a user where its roles say it belongs, and returns the path.
func (s *evidenceScope) actorOrUser(u *ocsf.User) string {
	if s.roles.hostile {
		s.out.Actor = &ocsf.Actor{User: u}
		return "actor.user"
	}
	s.out.User = u
	return "user"
}

// resource adds a resource with the evidence's role.
func (s *evidenceScope) resource(r ocsf.Resource) bool {
	if r.UID == "" && r.Name == "" {
		return false
	}
	id := s.roles.id()
	r.RoleID, r.Role = &id, ocsf.RoleName(id)
	s.out.Resources = append(s.out.Resources, r)
	s.obs.add(ocsf.ObservableResourceUID, "resources.uid", r.UID)
	return true
}

// genericIDs and genericNames are where the types without a mapping of their own have id and name; the first that is
// there counts.
var (
	genericIDs = []string{
		"agentId", "imageId", "registry", "userId", "orgId", "repoId", "signatureHash", "activeDirectoryDomainName", "resourceId", "id",
	}
	genericNames = []string{"displayName", "agentName", "name", "login", "resourceName"}
)

func (s *evidenceScope) generic() {
	n := s.src
	r := ocsf.Resource{Type: s.kind, Namespace: n.get("namespace").str("name")}
	for _, k := range genericIDs {
		if r.UID == "" {
			r.UID = n.scalar(k)
		}
	}
	for _, k := range genericNames {
		if r.Name == "" {
			r.Name = n.str(k)
		}
	}
	r.Name, r.UID = firstOf(r.Name, r.UID), firstOf(r.UID, r.Name)
	s.key = r.UID
	s.resource(r)
	for _, k := range []string{"podIp", "clusterIP"} {
		s.obs.ip("data."+k+".ipAddress", n.get(k).str("ipAddress"))
	}
	s.obs.email("data.email", n.str("email"))
}
