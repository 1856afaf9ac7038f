package normalize

import (
	"strconv"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

func (s *entityScope) userState() {
	n, t := s.src, taker{}
	u := &ocsf.User{
		Name: t.str(n, "accountName"), UID: t.scalar(n, "aadUserId"), UIDAlt: t.str(n, "onPremisesSecurityIdentifier"), Domain: t.str(n, "domainName"),
		EmailAddr: t.email(n, "userPrincipalName"), TypeID: new(1), Type: "User",
	}
	if u.Name == "" {
		u.Name = t.str(n, "userPrincipalName")
	}
	if s.key = userKey(u); u.Name == "" && u.UID == "" {
		return
	}
	s.marks = append(s.marks, t.marks...)
	s.out.User = u
	s.obs.user("user", u)
	s.obs.ip("data.logonIp", n.str("logonIp"))
}

func (s *entityScope) hostState() {
	n, t := s.src, taker{}
	d := &ocsf.Device{
		Name: t.str(n, "netBiosName"), Hostname: strings.ToLower(t.str(n, "fqdn")), IP: t.ip(n, "privateIpAddress"), Type: "Unknown",
	}
	if d.Hostname == "" {
		d.Hostname = strings.ToLower(d.Name)
	}
	if name := t.str(n, "os"); name != "" {
		id, kind := osType(name)
		d.OS = &ocsf.OS{Name: name, TypeID: id, Type: kind}
	}
	if s.key = deviceKey(d); d.Name == "" && d.Hostname == "" && d.IP == "" {
		return
	}
	s.marks = append(s.marks, t.marks...)
	s.out.Device = d
	s.obs.device(d)
	s.obs.ip("data.publicIpAddress", n.str("publicIpAddress"))
}

// legacyHash reads a fileHash of the retired API.
func legacyHash(n *node) []ocsf.Fingerprint {
	v := n.str("hashValue")
	if v == "" {
		return nil
	}
	f, ok := algorithms[fold(n.str("hashType"))]
	if !ok {
		f = ocsf.Fingerprint{AlgorithmID: ocsf.AlgorithmOther, Algorithm: firstOf(n.str("hashType"), "Unknown")}
	}
	f.Value = v
	return []ocsf.Fingerprint{f}
}

func (s *entityScope) fileState() {
	n := s.src
	f := &ocsf.File{Name: n.str("name"), TypeID: 1, Type: "Regular File", Path: n.str("path"), Hashes: legacyHash(n.get("fileHash"))}
	if f.Name = firstOf(f.Name, baseName(f.Path)); f.Name == "" && len(f.Hashes) > 0 {
		f.Name, f.TypeID, f.Type = f.Hashes[0].Value, 0, "Unknown"
	}
	if f.Name == "" {
		return
	}
	s.mark(n, "name")
	s.mark(n, "path")
	s.out.File = f
	s.key = fileKey(f, "")
	s.obs.file("file", f)
}

func (s *entityScope) processState() {
	n, t := s.src, taker{}
	p := &ocsf.Process{
		PID: t.integer(n, "processId"), Name: t.str(n, "name"), CmdLine: t.str(n, "commandLine"), CreatedTime: t.time(n, "createdDateTime"),
	}
	if path := n.str("path"); path != "" {
		p.File = &ocsf.File{Name: firstOf(baseName(path), p.Name), TypeID: 1, Type: "Regular File", Path: path, Hashes: legacyHash(n.get("fileHash"))}
	}
	if p.File != nil && p.File.Name == "" {
		p.File = nil
	} else {
		t.mark(n, "path")
	}
	if id := t.integer(n, "parentProcessId"); id != nil {
		p.ParentProcess = &ocsf.Process{PID: id, Name: t.str(n, "parentProcessName"), CreatedTime: t.time(n, "parentProcessCreatedDateTime")}
	}
	s.key = strings.Join([]string{n.scalar("processId"), n.str("createdDateTime"), p.CmdLine, p.Name}, "|")
	if p.PID == nil {
		if strings.Trim(s.key, "|") == "" {
			return
		}
		p.UID = hashedUID(s.key)
	}
	s.marks = append(s.marks, t.marks...)
	s.out.Process = p
	s.obs.process("process", p)
}

func (s *entityScope) connectionState() {
	n := s.src
	end := func(address, port string) *ocsf.Endpoint {
		ip := ipText(n.str(address))
		if ip == "" {
			return nil
		}
		e := &ocsf.Endpoint{IP: ip}
		if v, err := strconv.Atoi(n.scalar(port)); err == nil && v >= 0 && v <= 65535 {
			e.Port = &v
		}
		return e
	}
	s.out.SrcEndpoint, s.out.DstEndpoint = end("sourceAddress", "sourcePort"), end("destinationAddress", "destinationPort")
	if word := n.str("protocol"); word != "" {
		s.out.ConnectionInfo = &ocsf.ConnectionInfo{Direction: "Unknown", ProtocolName: word}
	}
	s.key = n.str("sourceAddress") + ":" + n.scalar("sourcePort") + ">" + n.str("destinationAddress") + ":" + n.scalar("destinationPort")
	s.obs.ip("src_endpoint.ip", n.str("sourceAddress"))
	s.obs.ip("dst_endpoint.ip", n.str("destinationAddress"))
	s.obs.ip("data.natSourceAddress", n.str("natSourceAddress"))
	s.obs.ip("data.natDestinationAddress", n.str("natDestinationAddress"))
	s.obs.host("data.destinationDomain", n.str("destinationDomain"))
	if raw := n.str("destinationUrl"); raw != "" {
		s.obs.url("data.destinationUrl", raw)
	}
}

func (s *entityScope) malwareState() {
	s.key = s.src.str("name")
	s.malware(s.key, s.src.str("category"), nil)
}

func (s *entityScope) registryState() {
	n := s.src
	path := strings.Trim(strings.TrimPrefix(n.str("hive"), "_")+`\`+n.str("key"), `\`)
	if s.key = strings.ToLower(path + "|" + n.str("valueName")); path == "" {
		return
	}
	s.out.RegKey = &ocsf.RegKey{Path: path}
	s.windows = true
	s.obs.regKey("reg_key.path", path)
}

func (s *entityScope) messageState() {
	n, t := s.src, taker{}
	m := &ocsf.Email{Subject: t.str(n, "emailSubject"), MessageUID: t.str(n, "internetMessageId"), UID: t.str(n, "networkMessageId")}
	for _, a := range []string{n.str("p2Sender"), n.str("p1Sender")} {
		if m.From == "" && isEmail(a) {
			m.From = a
		}
	}
	s.message(m, &t, n.str("recipientEmail"), n.str("senderIp"))
}

func (s *entityScope) clickState() {
	raw := s.src.str("sourceId")
	s.key = firstOf(s.src.scalar("clickAction")+"|"+raw, s.src.str("uriDomain"))
	s.obs.host("data.uriDomain", s.src.str("uriDomain"))
}

func (s *entityScope) appState() {
	n := s.src
	s.key = firstOf(n.str("destinationServiceName"), n.str("destinationServiceIp"))
	s.obs.ip("data.destinationServiceIp", n.str("destinationServiceIp"))
	s.resource(ocsf.Resource{UID: s.key, Name: s.key, Type: "cloudApplication"})
}

func (s *entityScope) resourceState() {
	id := s.src.str("resource")
	s.key = strings.ToLower(id)
	s.resource(ocsf.Resource{UID: id, Type: s.src.str("resourceType")})
}
