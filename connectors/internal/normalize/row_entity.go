package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// entities makes evidences of the entities. They refer to one another by $id and $ref; what is referred to is read, and
// stays where it is.
func (m *rowMapper) entities() {
	src := m.src
	list := src.items("Entities")
	if len(list) == 0 {
		return
	}
	src.get("Entities").used = true
	m.byID = map[string]*node{}
	m.index(src.get("Entities"))
	m.finding.Evidences = make([]ocsf.Evidence, len(list))
	for i := range list {
		m.entity(i, &list[i])
	}
	compromised := strings.ToLower(src.str("CompromisedEntity"))
	for i := range m.finding.Evidences {
		d := m.finding.Evidences[i].Device
		if d == nil || d.Hostname == "" {
			continue
		}
		same := compromised != "" && (d.Hostname == compromised || strings.EqualFold(d.Name, compromised))
		if m.finding.Device == nil || same {
			m.finding.Device = d
		}
		if same {
			break
		}
	}
}

// index finds every entity that others may refer to.
func (m *rowMapper) index(n *node) {
	if id := n.scalar("$id"); id != "" && m.byID[id] == nil {
		m.byID[id] = n
	}
	for i := range n.kids {
		m.index(&n.kids[i])
	}
}

// entityScope is what a mapping of one entity reads and writes.
type entityScope struct {
	*evidenceScope
	row *rowMapper
}

// part follows a reference. What it finds elsewhere is read without marking it: it belongs to the entity that it stands
// in.
func (s *entityScope) part(n *node) (*taker, *node) {
	if id := n.scalar("$ref"); id != "" {
		return &taker{}, s.row.byID[id]
	}
	if n == nil || n.kind != '{' {
		return &taker{}, nil
	}
	return &s.taker, n
}

// entityMappings by the folded type. A type that is not here is kept whole, as a resource if it has a name.
var entityMappings = map[string]func(*entityScope){
	"account": (*entityScope).account, "host": (*entityScope).host, "ip": (*entityScope).address, "url": (*entityScope).link,
	"dns": (*entityScope).dnsEntity, "dnsresolution": (*entityScope).dnsEntity, "file": (*entityScope).fileEntity,
	"filehash": (*entityScope).hashEntity, "process": (*entityScope).processEntity, "registrykey": (*entityScope).regKeyEntity,
	"registryvalue": (*entityScope).regValueEntity, "mailbox": (*entityScope).mailboxEntity, "mailmessage": (*entityScope).mail,
	"mailcluster": (*entityScope).cluster, "submissionmail": (*entityScope).submission, "azureresource": (*entityScope).azureEntity,
	"cloudapplication": (*entityScope).app, "securitygroup": (*entityScope).group, "malware": (*entityScope).malwareEntity,
	"iotdevice": (*entityScope).iot,
}

func (m *rowMapper) entity(i int, src *node) {
	out := &m.finding.Evidences[i]
	if src.kind != '{' {
		out.Data = src.appendJSON(nil)
		return
	}
	out.Name = src.str("Type")
	s := &entityScope{&evidenceScope{mapper: &m.mapper, src: src, out: out, kind: out.Name}, m}
	s.mark(src, "Type")
	s.mark(src, "$id")
	m.obs.evidence(i, 0)
	if f := entityMappings[fold(out.Name)]; f != nil {
		f(s)
	} else if name := firstOf(src.str("Name"), src.str("DisplayName"), src.str("FriendlyName")); name != "" {
		s.key = name
		s.resource(ocsf.Resource{UID: name, Name: name, Type: out.Name})
	}
	s.commit()
	out.UID = s.key
	out.Data = src.appendRest(nil, "")
	if len(out.Data) == 0 && isBare(out) {
		out.Data = []byte("{}")
	}
	for j := range out.Resources {
		if r := &out.Resources[j]; r.Provider != "" {
			m.cloud(r, src, "azureResource")
		}
	}
	m.significant = append(m.significant, out.Name+"|"+s.key)
}

// commonAccounts are accounts that every machine has; without a domain they name nobody.
var commonAccounts = map[string]bool{
	"administrator": true, "system": true, "root": true, "guest": true, "localsystem": true, "localservice": true,
	"networkservice": true, "anonymouslogon": true,
}

// rowAccount makes a user of an account entity.
func rowAccount(t *taker, n *node) *ocsf.User {
	if n == nil || n.kind != '{' {
		return nil
	}
	name, suffix := n.str("Name"), n.str("UPNSuffix")
	if commonAccounts[fold(name)] && suffix+n.str("NTDomain")+n.str("DnsDomain")+n.str("AadUserId") == "" {
		return nil
	}
	u := &ocsf.User{
		Name: t.str(n, "Name"), UID: t.scalar(n, "AadUserId"), UIDAlt: t.str(n, "Sid"), Domain: t.str(n, "NTDomain"),
		DisplayName: t.str(n, "DisplayName"), TypeID: new(1), Type: "User",
	}
	switch upn := name + "@" + suffix; {
	case suffix != "" && isEmail(upn):
		u.EmailAddr = upn
		t.mark(n, "UPNSuffix")
	case isEmail(name):
		u.EmailAddr = name
	}
	if u.UID != "" {
		u.Account = &ocsf.Account{Name: firstOf(u.EmailAddr, u.Name), UID: u.UID, TypeID: new(6), Type: "Azure AD Account"}
	}
	if org := t.str(n, "AadTenantId"); org != "" {
		u.Org = &ocsf.Organization{UID: org}
	}
	if u.Name == "" && u.UID == "" {
		if u.UIDAlt == "" {
			return nil
		}
		u.UID, u.UIDAlt = u.UIDAlt, ""
	}
	return u
}

func (s *entityScope) account() {
	u := object(&s.taker, s.src, rowAccount)
	if u == nil {
		s.key = s.src.str("Name")
		return
	}
	s.out.User = u
	s.key = userKey(u)
	s.obs.user("user", u)
}

// rowDevice makes a device of a host entity.
func rowDevice(t *taker, n *node) *ocsf.Device {
	if n == nil || n.kind != '{' {
		return nil
	}
	d := &ocsf.Device{Name: t.str(n, "HostName"), Domain: t.str(n, "DnsDomain"), Type: "Unknown"}
	if d.Name == "" {
		d.Name = t.str(n, "NetBiosName")
	} else if n.str("NetBiosName") == d.Name {
		t.mark(n, "NetBiosName")
	}
	d.Hostname = strings.ToLower(d.Name)
	if d.Domain != "" && d.Hostname != "" && !strings.Contains(d.Hostname, ".") {
		d.Hostname += "." + strings.ToLower(d.Domain)
	}
	if d.Domain == "" {
		d.Domain = t.str(n, "NTDomain")
	}
	if family := t.str(n, "OSFamily"); family != "" {
		id, name := osType(family)
		d.OS = &ocsf.OS{Name: family, TypeID: id, Type: name, Version: t.scalar(n, "OSVersion")}
	}
	if d.Name == "" {
		return nil
	}
	return d
}

func (s *entityScope) host() {
	s.out.Device = object(&s.taker, s.src, rowDevice)
	s.key = deviceKey(s.out.Device)
	s.obs.device(s.out.Device)
	if id := s.src.str("AzureID"); id != "" {
		s.resource(azureResource(id, "", ""))
	}
}

func (s *entityScope) address() {
	e := &ocsf.Endpoint{IP: s.ip(s.src, "Address")}
	if e.IP == "" {
		s.key = s.src.str("Address")
		return
	}
	geo := s.src.get("Location")
	t := taker{}
	l := &ocsf.Location{City: t.str(geo, "City"), Region: t.str(geo, "State"), Country: t.str(geo, "CountryCode")}
	if l.City+l.Region+l.Country != "" {
		l.Lat, l.Long = t.float(geo, "Latitude"), t.float(geo, "Longitude")
		e.Location = l
		s.marks = append(s.marks, t.marks...)
	}
	s.out.SrcEndpoint = e
	s.key = canonicalIP(e.IP)
	s.obs.ip("src_endpoint.ip", e.IP)
}

func (s *entityScope) link() {
	raw := s.str(s.src, "Url")
	s.out.URL, s.key = urlOf(raw), urlKey(raw)
	if raw != "" {
		s.obs.url("url", raw)
	}
}

func (s *entityScope) dnsEntity() {
	name := s.str(s.src, "DomainName")
	s.key = strings.ToLower(name)
	if name != "" {
		s.out.Query = &ocsf.DNSQuery{Hostname: name}
		if v, ok := ioc.Host(name); ok {
			s.key = v
		}
	}
	s.obs.host("query.hostname", name)
	for i := range s.src.items("IpAddress") {
		_, n := s.part(&s.src.get("IpAddress").kids[i])
		s.obs.ip("data.IpAddress", n.str("Address"))
	}
}

// rowHashes reads the hashes of a file.
func (s *entityScope) rowHashes(n *node) (list []ocsf.Fingerprint) {
	for i := range n.items("FileHashes") {
		_, h := s.part(&n.get("FileHashes").kids[i])
		if f := rowHash(&taker{}, h); f != nil {
			list = append(list, *f)
		}
	}
	return list
}

func rowHash(t *taker, n *node) *ocsf.Fingerprint {
	v := t.str(n, "Value")
	if v == "" {
		return nil
	}
	word := t.str(n, "Algorithm")
	f, ok := algorithms[fold(word)]
	if !ok {
		f = ocsf.Fingerprint{AlgorithmID: ocsf.AlgorithmOther, Algorithm: word}
		if word == "" || fold(word) == "unknown" {
			f = ocsf.Fingerprint{Algorithm: "Unknown"}
		}
	}
	f.Value = v
	return &f
}

// rowFile makes a file of a file entity.
func (s *entityScope) rowFile(t *taker, n *node) *ocsf.File {
	if n == nil || n.kind != '{' {
		return nil
	}
	f := &ocsf.File{Name: n.str("Name"), TypeID: 1, Type: "Regular File", Hashes: s.rowHashes(n)}
	f.Path, f.ParentFolder = joinPath(n.str("Directory"), f.Name)
	if f.Name == "" {
		f.Name = baseName(f.Path)
	}
	if f.Name == "" && len(f.Hashes) > 0 {
		f.Name, f.TypeID, f.Type = f.Hashes[0].Value, 0, "Unknown"
	}
	if f.Name == "" {
		return nil
	}
	t.mark(n, "Name")
	t.mark(n, "Directory")
	return f
}

func (s *entityScope) fileEntity() {
	s.out.File = s.rowFile(&s.taker, s.src)
	s.key = fileKey(s.out.File, "")
	s.obs.file("file", s.out.File)
}

func (s *entityScope) hashEntity() {
	h := rowHash(&s.taker, s.src)
	if h == nil {
		return
	}
	s.out.File = &ocsf.File{Name: h.Value, Type: "Unknown", Hashes: []ocsf.Fingerprint{*h}}
	s.key = strings.ToLower(h.Value)
	s.obs.hashes("file", s.out.File.Hashes)
}

// rowProcess makes a process of a process entity, with its parent as far as depth goes.
func (s *entityScope) rowProcess(t *taker, n *node, depth int) *ocsf.Process {
	if n == nil || n.kind != '{' {
		return nil
	}
	sub := taker{}
	p := &ocsf.Process{PID: sub.wholeNumber(n, "ProcessId"), CmdLine: sub.str(n, "CommandLine"), CreatedTime: sub.time(n, "CreationTimeUtc")}
	image, account := n.get("ImageFile"), n.get("Account")
	it, in := s.part(image)
	if p.File = s.rowFile(it, in); p.File != nil {
		p.Name = p.File.Name
	}
	at, an := s.part(account)
	p.User = object(at, an, rowAccount)
	if p.PID == nil {
		id := strings.Join([]string{n.scalar("ProcessId"), n.str("CreationTimeUtc"), p.CmdLine, p.Name}, "|")
		if strings.Trim(id, "|") == "" {
			return nil
		}
		p.UID = hashedUID(id)
	}
	t.marks = append(t.marks, sub.marks...)
	if depth > 0 {
		pt, pn := s.part(n.get("ParentProcess"))
		p.ParentProcess = s.rowProcess(pt, pn, depth-1)
	}
	return p
}

func (s *entityScope) processEntity() {
	s.out.Process = s.rowProcess(&s.taker, s.src, 1)
	s.key = strings.Join([]string{s.src.scalar("ProcessId"), s.src.str("CreationTimeUtc"), s.src.str("CommandLine")}, "|")
	s.obs.process("process", s.out.Process)
}

// rowKeyPath joins hive and key of a registry-key entity.
func rowKeyPath(n *node) string { return strings.Trim(n.str("Hive")+`\`+n.str("Key"), `\`) }

func (s *entityScope) regKeyEntity() {
	path := rowKeyPath(s.src)
	s.key = strings.ToLower(path)
	if path == "" {
		return
	}
	s.mark(s.src, "Hive")
	s.mark(s.src, "Key")
	s.out.RegKey = &ocsf.RegKey{Path: path}
	s.windows = true
	s.obs.regKey("reg_key.path", path)
}

func (s *entityScope) regValueEntity() {
	_, key := s.part(s.src.get("Key"))
	path, name := rowKeyPath(key), s.src.str("Name")
	s.key = strings.ToLower(path + "|" + name)
	if path == "" {
		return
	}
	v := &ocsf.RegValue{Path: path, Name: s.str(s.src, "Name"), RegStringData: s.str(s.src, "Value")}
	if name == "" {
		v.Name, v.IsDefault = "(Default)", new(true)
	}
	if word := s.str(s.src, "ValueType"); word != "" {
		id := ocsf.Other
		if known, ok := regTypes[strings.TrimPrefix(fold(word), "reg")]; ok {
			id = known
		}
		v.TypeID, v.Type = &id, word
	}
	s.out.RegValue = v
	s.windows = true
	s.obs.regKey("reg_value.path", path)
	s.obs.add(ocsf.ObservableRegValueName, "reg_value.name", v.Name)
}
