package sentinel

import (
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
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

func (s *evidenceScope) deviceEvidence() {
	s.out.Device = object(&s.taker, s.src, device)
	s.key = deviceKey(s.out.Device)
	if s.out.Device != nil {
		s.obs.ip("device.ip", s.out.Device.IP)
	}
	s.obs.ip("device.lastExternalIpAddress", s.src.str("lastExternalIpAddress"))
	s.obs.device("device", s.out.Device)
	vm := s.src.get("vmMetadata")
	if id := vm.str("resourceId"); id != "" {
		r := azureResource(id, "", "")
		if cloud := vm.str("cloudProvider"); fold(cloud) != "azure" && !strings.HasPrefix(strings.ToLower(id), "/subscriptions/") {
			r.Provider = ""
		}
		s.out.Resources = append(s.out.Resources, r)
		s.obs.add(ocsf.ObservableResourceUID, "device.resources.uid", id)
	}
}

func (s *evidenceScope) iotDevice() {
	t := taker{}
	n := s.src
	d := &ocsf.Device{
		UID: t.str(n, "deviceId"), TypeID: 7, Type: "IOT", Name: t.str(n, "deviceName"), Model: t.str(n, "model"),
		VendorName: t.str(n, "manufacturer"), IP: ipText(n.get("ipAddress").str("ipAddress")),
	}
	if mac, ok := ioc.MAC(n.str("macAddress")); ok {
		if d.MAC = mac; mac == n.str("macAddress") {
			t.mark(n, "macAddress")
		}
	}
	if name := t.str(n, "operatingSystem"); name != "" {
		id, kind := osType(name)
		d.OS = &ocsf.OS{Name: name, TypeID: id, Type: kind}
	}
	s.key = firstOf(d.UID, d.MAC, canonicalIP(d.IP), d.Name)
	if s.key != "" {
		if d.UID == "" && d.IP == "" && d.Name == "" {
			d.UID = d.MAC // the schema does not know a device by its hardware address alone
		}
		s.out.Device = d
		s.marks = append(s.marks, t.marks...)
		s.obs.device("device", d)
	}
	if id := n.get("ioTHub").str("resourceId"); id != "" {
		s.resource(azureResource(id, n.get("ioTHub").str("resourceName"), n.get("ioTHub").str("resourceType")))
	}
}

func (s *evidenceScope) nic() {
	e := &ocsf.Endpoint{}
	if inner := endpoint(s.src.get("ipAddress")); inner != nil {
		e = inner
	}
	raw := s.src.str("macAddress")
	if mac, ok := ioc.MAC(raw); ok {
		if e.MAC = mac; mac == raw {
			s.mark(s.src, "macAddress")
		}
	}
	s.key = firstOf(e.MAC, canonicalIP(e.IP))
	switch {
	case e.IP == "" && e.MAC == "":
		return
	case e.IP == "":
		e.UID = e.MAC // the schema does not know an endpoint by its hardware address alone
	}
	s.out.SrcEndpoint = e
	s.obs.ip("src_endpoint.ip", e.IP)
	s.obs.mac("src_endpoint.mac", e.MAC)
}

func (s *evidenceScope) fileEvidence() {
	s.out.File = object(&s.taker, s.src.get("fileDetails"), file)
	s.out.Device = deviceRef(&s.taker, s.src)
	s.key = fileKey(s.out.File, s.src.str("mdeDeviceId"))
	s.obs.file("file", s.out.File)
	if s.out.Device != nil {
		s.obs.add(ocsf.ObservableDeviceUID, "device.uid", s.out.Device.UID)
	}
}

// algorithms of a fileHash.
var algorithms = map[string]ocsf.Fingerprint{
	"md5": {AlgorithmID: ocsf.AlgorithmMD5, Algorithm: "MD5"}, "sha1": {AlgorithmID: ocsf.AlgorithmSHA1, Algorithm: "SHA-1"},
	"sha256":   {AlgorithmID: ocsf.AlgorithmSHA256, Algorithm: "SHA-256"},
	"sha256ac": {AlgorithmID: ocsf.AlgorithmOther, Algorithm: "SHA256AC"},
}

func fingerprint(t *taker, n *node) *ocsf.Fingerprint {
	v := t.str(n, "value")
	if v == "" {
		return nil
	}
	word := t.str(n, "algorithm")
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

func (s *evidenceScope) fileHash() {
	h := object(&s.taker, s.src, fingerprint)
	if h == nil {
		return
	}
	s.out.File = &ocsf.File{Name: h.Value, Type: "Unknown", Hashes: []ocsf.Fingerprint{*h}}
	s.key = strings.ToLower(h.Value)
	s.obs.hashes("file", s.out.File.Hashes)
}

func (s *evidenceScope) processEvidence() {
	t := taker{}
	if p, key := process(&t, s.src); p != nil {
		s.out.Process, s.key = p, key
		s.marks = append(s.marks, t.marks...)
	}
	s.out.Device = deviceRef(&s.taker, s.src)
	s.obs.process("process", s.out.Process)
	if s.out.Device != nil {
		s.obs.add(ocsf.ObservableDeviceUID, "device.uid", s.out.Device.UID)
	}
	if s.out.Process != nil && s.out.Process.ParentProcess != nil {
		s.obs.file("process.parent_process.file", s.out.Process.ParentProcess.File)
	}
}

func (s *evidenceScope) ipEvidence() {
	e := &ocsf.Endpoint{IP: s.ip(s.src, "ipAddress")}
	if e.IP == "" {
		s.key = s.src.str("ipAddress")
		return
	}
	e.Location = location(&s.taker, s.src)
	s.key = canonicalIP(e.IP)
	if s.roles.remote {
		s.out.DstEndpoint = e
		s.obs.ip("dst_endpoint.ip", e.IP)
	} else {
		s.out.SrcEndpoint = e
		s.obs.ip("src_endpoint.ip", e.IP)
	}
}

func (s *evidenceScope) urlEvidence() {
	raw := s.str(s.src, "url")
	s.out.URL = urlOf(raw)
	s.key = urlKey(raw)
	if raw != "" {
		s.obs.url("url", raw)
	}
}

func (s *evidenceScope) dns() {
	name := s.str(s.src, "domainName")
	if name != "" {
		s.out.Query = &ocsf.DNSQuery{Hostname: name}
	}
	if s.key = strings.ToLower(name); name != "" {
		if v, ok := ioc.Host(name); ok {
			s.key = v
		}
	}
	s.obs.host("query.hostname", name)
	s.out.DstEndpoint, s.out.SrcEndpoint = endpoint(s.src.get("dnsServerIp")), endpoint(s.src.get("hostIpAddress"))
	s.obs.ip("data.dnsServerIp.ipAddress", s.src.get("dnsServerIp").str("ipAddress"))
	s.obs.ip("data.hostIpAddress.ipAddress", s.src.get("hostIpAddress").str("ipAddress"))
	for _, k := range s.src.items("ipAddresses") {
		s.obs.ip("data.ipAddresses.ipAddress", k.str("ipAddress"))
	}
}

func (s *evidenceScope) networkConnection() {
	protocol := s.src.str("protocol")
	end := func(address, port string) *ocsf.Endpoint {
		e := endpoint(s.src.get(address))
		n, err := strconv.Atoi(s.src.scalar(port))
		if e != nil && err == nil && n >= 0 && n <= 65535 {
			e.Port = &n
		}
		return e
	}
	s.out.SrcEndpoint, s.out.DstEndpoint = end("sourceAddress", "sourcePort"), end("destinationAddress", "destinationPort")
	if protocol != "" {
		c := &ocsf.ConnectionInfo{Direction: "Unknown", ProtocolName: protocol}
		switch fold(protocol) {
		case "tcp":
			c.ProtocolNum = new(6)
		case "udp":
			c.ProtocolNum = new(17)
		}
		s.out.ConnectionInfo = c
	}
	text := func(e *ocsf.Endpoint) string {
		if e == nil {
			return ""
		}
		s := canonicalIP(e.IP)
		if e.Port != nil {
			s += ":" + strconv.Itoa(*e.Port)
		}
		return s
	}
	s.key = text(s.out.SrcEndpoint) + ">" + text(s.out.DstEndpoint) + "/" + strings.ToLower(protocol)
	if s.out.SrcEndpoint != nil {
		s.obs.ip("src_endpoint.ip", s.out.SrcEndpoint.IP)
	}
	if s.out.DstEndpoint != nil {
		s.obs.ip("dst_endpoint.ip", s.out.DstEndpoint.IP)
	}
}

func (s *evidenceScope) analyzedMessage() {
	n := s.src
	t := taker{}
	p1, p2 := n.get("p1Sender"), n.get("p2Sender")
	mail := &ocsf.Email{
		Subject: t.str(n, "subject"), MessageUID: t.str(n, "internetMessageId"), UID: t.str(n, "networkMessageId"),
		FromMailbox: p2.str("displayName"),
	}
	if a := p2.str("emailAddress"); isEmail(a) {
		mail.From = a
	} else if a := p1.str("emailAddress"); isEmail(a) {
		mail.From = a
	}
	if a := p1.str("emailAddress"); isEmail(a) {
		mail.ReturnPath = a
	}
	for _, u := range n.strings("urls") {
		mail.URLs = append(mail.URLs, *urlOf(u))
	}
	if len(mail.URLs) == len(n.items("urls")) {
		t.mark(n, "urls")
	}
	s.message(mail, &t, n.str("recipientEmailAddress"), n.str("senderIp"))
	for _, u := range mail.URLs {
		s.obs.url("email.urls", u.URLString)
	}
}

// message finishes what analyzed and submitted messages share.
func (s *evidenceScope) message(mail *ocsf.Email, t *taker, to, ip string) {
	if isEmail(to) {
		mail.To = []string{to}
	}
	if text := ipText(ip); text != "" {
		mail.XOriginatingIP = []string{text}
		s.out.SrcEndpoint = &ocsf.Endpoint{IP: text}
	}
	if mail.From != "" || len(mail.To) > 0 {
		s.out.Email = mail
		s.marks = append(s.marks, t.marks...)
	}
	s.obs.email("email.return_path", mail.ReturnPath)
	s.obs.email("email.from", mail.From)
	s.obs.email("email.to", to)
	s.obs.add(ocsf.ObservableEmailSubject, "email.subject", mail.Subject)
	s.obs.add(ocsf.ObservableMessageUID, "email.message_uid", mail.MessageUID)
	s.obs.add(ocsf.ObservableEmailUID, "email.uid", mail.UID)
	s.obs.ip("src_endpoint.ip", ip)
	s.key = s.src.str("networkMessageId") + "|" + strings.ToLower(to)
}

func (s *evidenceScope) submissionMail() {
	n := s.src
	t := taker{}
	mail := &ocsf.Email{Subject: t.str(n, "subject"), UID: t.str(n, "networkMessageId")}
	if a := n.str("sender"); isEmail(a) {
		mail.From = a
	}
	s.message(mail, &t, n.str("recipient"), n.str("senderIp"))
	if who := n.str("submitter"); who != "" {
		u := &ocsf.User{Name: who}
		if isEmail(who) {
			u.EmailAddr = who
		}
		s.out.Actor = &ocsf.Actor{User: u}
	}
}

func (s *evidenceScope) mailCluster() { s.key = firstOf(s.src.str("query"), s.src.str("urn")) }

func (s *evidenceScope) teamsMessage() {
	n := s.src
	s.key = n.scalar("messageId")
	if who := n.str("senderFromAddress"); who != "" {
		u := &ocsf.User{Name: who}
		if isEmail(who) {
			u.EmailAddr = who
		}
		s.out.Actor = &ocsf.Actor{User: u}
		s.obs.email("data.senderFromAddress", who)
	}
	if text := ipText(n.str("senderIP")); text != "" {
		s.out.SrcEndpoint = &ocsf.Endpoint{IP: text}
		s.obs.ip("src_endpoint.ip", text)
	}
	for _, k := range n.items("urls") {
		raw := k.str("url")
		if raw == "" {
			continue
		}
		if s.out.URL == nil {
			s.out.URL = urlOf(raw)
		}
		s.obs.url("data.urls", raw)
	}
	for _, a := range n.strings("recipients") {
		s.obs.email("data.recipients", a)
	}
}

func (s *evidenceScope) cloudApplication() {
	n := s.src
	id := firstOf(n.scalar("saasAppId"), n.scalar("appId"))
	if s.resource(ocsf.Resource{
		UID: id, UIDAlt: n.scalar("instanceId"), Name: firstOf(n.str("displayName"), n.str("instanceName")), Type: s.kind,
	}) {
		s.mark(n, "displayName")
	}
	s.key = id + "|" + n.scalar("instanceId")
}

func (s *evidenceScope) oauthApplication() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{UID: t.scalar(n, "appId"), UIDAlt: t.scalar(n, "objectId"), Name: t.str(n, "displayName"), Type: s.kind}
	if p := t.str(n, "publisher"); p != "" {
		r.Owner = &ocsf.User{Name: p}
	}
	s.key = firstOf(r.UID, r.UIDAlt)
	if !s.resource(r) {
		return
	}
	s.marks = append(s.marks, t.marks...)
	if s.roles.hostile {
		s.out.Actor = &ocsf.Actor{AppName: r.Name, AppUID: r.UID}
	}
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

// registryPath joins hive and key.
func (s *evidenceScope) registryPath(t *taker) string {
	return strings.Trim(t.str(s.src, "registryHive")+`\`+t.str(s.src, "registryKey"), `\`)
}

func (s *evidenceScope) registryKey() {
	path := s.registryPath(&s.taker)
	s.key = strings.ToLower(path)
	if path == "" {
		return
	}
	s.out.RegKey = &ocsf.RegKey{Path: path}
	s.windows = true
	s.obs.regKey("reg_key.path", path)
}

func (s *evidenceScope) registryValue() {
	n := s.src
	t := taker{}
	path := s.registryPath(&t)
	name := t.str(n, "registryValueName")
	s.out.Device = deviceRef(&s.taker, n)
	s.key = strings.ToLower(path + "|" + name)
	if path == "" {
		return
	}
	v := &ocsf.RegValue{Path: path, Name: name, RegStringData: t.str(n, "registryValue")}
	if name == "" {
		v.Name, v.IsDefault = "(Default)", new(true)
	}
	if word := n.str("registryValueType"); word != "" {
		id := ocsf.Other
		if known, ok := regTypes[strings.TrimPrefix(fold(word), "reg")]; ok {
			id = known
		}
		v.TypeID, v.Type = &id, word
	}
	s.marks = append(s.marks, t.marks...)
	s.out.RegValue = v
	s.windows = true
	s.obs.regKey("reg_value.path", path)
	s.obs.add(ocsf.ObservableRegValueName, "reg_value.name", v.Name)
}

func (s *evidenceScope) azure() {
	t := taker{}
	id := t.str(s.src, "resourceId")
	s.key = strings.ToLower(id)
	if s.resource(azureResource(id, t.str(s.src, "resourceName"), t.str(s.src, "resourceType"))) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) amazon() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{
		UID: t.str(n, "amazonResourceId"), Name: t.str(n, "resourceName"), Type: t.str(n, "resourceType"), Provider: "AWS",
	}
	s.key = firstOf(r.UID, r.Name)
	// arn:partition:service:region:account:resource.
	if p := strings.SplitN(r.UID, ":", 6); len(p) == 6 && p[0] == "arn" {
		r.Region = p[3]
	}
	if s.resource(r) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) google() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{
		UID: t.str(n, "fullResourceName"), Name: t.str(n, "resourceName"), Type: t.str(n, "resourceType"), Provider: "GCP",
	}
	switch fold(n.str("locationType")) {
	case "regional":
		r.Region = n.str("location")
	case "zonal":
		r.Zone = n.str("location")
	}
	s.key = firstOf(r.UID, r.Name)
	if s.resource(r) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) blobContainer() {
	t := taker{}
	b := &ocsf.Databucket{UID: t.str(s.src, "url"), Name: t.str(s.src, "name"), TypeID: 2, Type: "Azure Blob"}
	s.key = firstOf(b.UID, b.Name)
	if s.key == "" {
		return
	}
	s.out.Databucket = b
	s.marks = append(s.marks, t.marks...)
	if v, ok := ioc.URL(b.UID); ok {
		s.obs.add(ocsf.ObservableURL, "databucket.uid", v)
	}
}

func (s *evidenceScope) blob() {
	n := s.src
	t := taker{}
	f := &ocsf.File{URI: t.str(n, "url"), Name: t.str(n, "name"), TypeID: 1, Type: "Regular File"}
	s.key = firstOf(f.URI, f.Name)
	if f.Name == "" {
		f.Name = urlBase(f.URI)
	}
	whole := true
	hashes := n.get("fileHashes")
	for i := range n.items("fileHashes") {
		h := fingerprint(&taker{}, &hashes.kids[i])
		if h == nil {
			whole = false
			continue
		}
		f.Hashes = append(f.Hashes, *h)
	}
	if f.Name == "" && len(f.Hashes) > 0 {
		f.Name, f.TypeID, f.Type = f.Hashes[0].Value, 0, "Unknown"
	}
	if f.Name == "" {
		return
	}
	if whole && len(f.Hashes) > 0 && !hashes.hasMore("value", "algorithm") {
		t.mark(n, "fileHashes")
	}
	s.out.File = f
	s.marks = append(s.marks, t.marks...)
	if v, ok := ioc.URL(f.URI); ok {
		s.obs.add(ocsf.ObservableURL, "file.uri", v)
	}
	s.obs.hashes("file", f.Hashes)
}

// hasMore says whether an element of an array has members other than these.
func (n *node) hasMore(known ...string) bool {
	for i := range n.kids {
		for _, k := range n.kids[i].kids {
			if !slices.Contains(known, k.name) && !k.empty() && !strings.HasPrefix(k.name, "@odata.") {
				return true
			}
		}
	}
	return false
}

func (s *evidenceScope) container() {
	n := s.src
	c := &ocsf.Container{UID: n.scalar("containerId"), Name: n.str("name")}
	s.key = firstOf(c.UID, c.Name)
	if s.key == "" {
		return
	}
	if image := n.get("image").scalar("imageId"); image != "" {
		c.Image = &ocsf.Image{UID: image}
	}
	s.out.Container = c
	s.obs.other("Container ID", "container.uid", c.UID)
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
	s.obs.device("device", s.out.Device)
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

func (s *evidenceScope) malwareEvidence() {
	n := s.src
	s.key = n.str("name")
	var files []ocsf.File
	for i := range n.items("files") {
		if f := file(&taker{}, n.get("files").kids[i].get("fileDetails")); f != nil {
			files = append(files, *f)
		}
	}
	if len(files) > 0 {
		s.out.File = &files[0]
	}
	for i := range files {
		s.obs.file("file", &files[i])
	}
	s.malware(s.key, n.str("category"), files)
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
