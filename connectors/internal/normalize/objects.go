package normalize

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"path"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// The functions below make an OCSF object of a part of the source. They return nil if the schema would not accept what
// there is; then the caller drops the taker's marks, and the source goes along as data.

// isEmail is stricter than e-mail is, and as strict as OCSF's email_t: no display name, a dot in the domain.
func isEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" {
		return false
	}
	for i := range len(local) {
		if c := local[i]; !isAlnum(c) && !strings.ContainsRune("!#$%&'*+,-./=?^_`{|}~", rune(c)) {
			return false
		}
	}
	dot := strings.IndexByte(domain, '.')
	if dot < 1 || dot == len(domain)-1 {
		return false
	}
	for i := range len(domain) {
		if c := domain[i]; !isAlnum(c) && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// email reads a member that is an address; one that is not stays.
func (t *taker) email(n *node, name string) string {
	if s := n.str(name); isEmail(s) {
		t.mark(n, name)
		return s
	}
	return ""
}

// ipText returns the spelling of an address that the schema takes; empty for no address.
func ipText(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return ""
	}
	if len(s) > 40 || a.Zone() != "" || a.Is4In6() {
		return a.Unmap().WithZone("").String()
	}
	return s
}

func (t *taker) ip(n *node, name string) string {
	s := n.str(name)
	text := ipText(s)
	if text == s && s != "" {
		t.mark(n, name)
	}
	return text
}

// account makes a user of a userAccount.
func account(t *taker, n *node) *ocsf.User {
	if n == nil || n.kind != '{' {
		return nil
	}
	u := &ocsf.User{
		UID: t.scalar(n, "azureAdUserId"), DisplayName: t.str(n, "displayName"), Domain: t.str(n, "domainName"),
		EmailAddr: t.email(n, "userPrincipalName"),
	}
	upn := n.str("userPrincipalName")
	if u.UID != "" {
		t.mark(n, "userPrincipalName")
		u.Account = &ocsf.Account{Name: upn, UID: u.UID, TypeID: new(6), Type: "Azure AD Account"}
	}
	if u.Name = t.str(n, "accountName"); u.Name == "" && upn != "" {
		t.mark(n, "userPrincipalName")
		u.Name = upn
	}
	if sid := t.str(n, "userSid"); u.UID == "" && u.Name == "" {
		u.UID = sid
	} else {
		u.UIDAlt = sid
	}
	if u.UID == "" && u.Name == "" {
		if u.DisplayName == "" {
			return nil
		}
		u.Name, u.DisplayName = u.DisplayName, ""
	}
	if org := t.str(n, "tenantId"); org != "" {
		u.Org = &ocsf.Organization{UID: org}
	}
	u.TypeID, u.Type = new(1), "User"
	return u
}

// device makes a device of a deviceEvidence.
func device(t *taker, n *node) *ocsf.Device {
	if n == nil || n.kind != '{' {
		return nil
	}
	d := &ocsf.Device{
		UID: t.str(n, "mdeDeviceId"), UIDAlt: t.str(n, "azureAdDeviceId"), Name: t.str(n, "hostName"),
		Hostname: strings.ToLower(t.str(n, "deviceDnsName")), Domain: t.str(n, "dnsDomain"), IP: t.ip(n, "lastIpAddress"),
		FirstSeenTime: t.time(n, "firstSeenDateTime"), Type: "Unknown",
	}
	if d.Hostname == "" {
		d.Hostname = strings.ToLower(d.Name)
	}
	if d.Domain == "" {
		d.Domain = t.str(n, "ntDomain")
	}
	all := true
	for _, k := range n.items("ipInterfaces") {
		if text := ipText(strings.TrimSpace(k.text)); text != "" {
			d.NetworkInterfaces = append(d.NetworkInterfaces, ocsf.NetworkInterface{IP: text})
			all = all && text == k.text
		} else {
			all = false
		}
	}
	if all {
		t.mark(n, "ipInterfaces")
	}
	if platform := t.str(n, "osPlatform"); platform != "" {
		id, name := osType(platform)
		d.OS = &ocsf.OS{
			Name: platform, TypeID: id, Type: name, Version: t.str(n, "version"), Build: t.scalar(n, "osBuild"),
		}
	}
	if name, id := n.str("rbacGroupName"), n.scalar("rbacGroupId"); name != "" || (id != "" && id != "0") {
		d.Groups = []ocsf.Group{{Name: t.str(n, "rbacGroupName"), UID: t.scalar(n, "rbacGroupId")}}
	}
	if word := n.str("riskScore"); word != "" {
		if id := lookup(riskLevels, word); id != ocsf.Other {
			t.mark(n, "riskScore")
			d.RiskLevelID, d.RiskLevel = &id, ocsf.RiskLevelName(id)
		}
	}
	if fold(n.str("onboardingStatus")) == "onboarded" {
		t.mark(n, "onboardingStatus")
		d.IsManaged = new(true)
	}
	if vm := n.get("vmMetadata"); vm != nil && vm.kind == '{' {
		d.TypeID, d.Type, d.InstanceUID = 6, "Virtual", vm.str("vmId")
	}
	if d.IP == "" && d.UID == "" && d.Name == "" && d.Hostname == "" && d.InstanceUID == "" {
		return nil
	}
	return d
}

// deviceKey is the natural key of a device.
func deviceKey(d *ocsf.Device) string {
	if d == nil {
		return ""
	}
	return firstOf(d.UID, d.Hostname, canonicalIP(d.IP))
}

func canonicalIP(s string) string {
	v, _ := ioc.IP(s)
	return v
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// deviceRef is a device of which only Defender's id is known.
func deviceRef(t *taker, n *node) *ocsf.Device {
	if id := t.str(n, "mdeDeviceId"); id != "" {
		return &ocsf.Device{UID: id, Type: "Unknown"}
	}
	return nil
}

// file makes a file of fileDetails.
func file(t *taker, n *node) *ocsf.File {
	if n == nil || n.kind != '{' {
		return nil
	}
	f := &ocsf.File{
		Name: t.str(n, "fileName"), TypeID: 1, Type: "Regular File", CompanyName: t.str(n, "filePublisher"),
		Size: t.integer(n, "fileSize"),
	}
	for _, h := range []struct {
		member, name string
		id           int
	}{
		{"sha256", "SHA-256", ocsf.AlgorithmSHA256},
		{"sha1", "SHA-1", ocsf.AlgorithmSHA1},
		{"md5", "MD5", ocsf.AlgorithmMD5},
		{"sha256Ac", "SHA256AC", ocsf.AlgorithmOther},
	} {
		if v := t.str(n, h.member); v != "" {
			f.Hashes = append(f.Hashes, ocsf.Fingerprint{AlgorithmID: h.id, Algorithm: h.name, Value: v})
		}
	}
	f.Path, f.ParentFolder = joinPath(t.str(n, "filePath"), f.Name)
	if f.Name == "" {
		f.Name = baseName(f.Path)
	}
	if f.Name == "" && len(f.Hashes) > 0 {
		f.Name, f.TypeID, f.Type = f.Hashes[0].Value, 0, "Unknown"
	}
	if f.Name == "" {
		return nil
	}
	return f
}

// joinPath joins a folder and a file name with the folder's own separator. Some products send the whole path as the
// folder.
func joinPath(folder, name string) (full, parent string) {
	switch {
	case folder == "":
		return "", ""
	case name == "":
		return folder, strings.TrimRight(strings.TrimSuffix(folder, baseName(folder)), `\/`)
	case strings.EqualFold(baseName(folder), name) && strings.Contains(name, "."):
		return folder, strings.TrimRight(folder[:len(folder)-len(name)], `\/`)
	}
	sep := "/"
	if strings.Contains(folder, `\`) {
		sep = `\`
	}
	if strings.HasSuffix(folder, sep) {
		return folder + name, folder
	}
	return folder + sep + name, folder
}

func baseName(p string) string {
	return p[strings.LastIndexAny(p, `\/`)+1:]
}

func fileKey(f *ocsf.File, device string) string {
	if f == nil {
		return ""
	}
	key := f.Path
	if len(f.Hashes) > 0 {
		key = strings.ToLower(f.Hashes[0].Value)
	}
	return firstOf(key, f.Name) + "|" + device
}

// process makes a process of a processEvidence; its natural key comes with it.
func process(t *taker, n *node) (p *ocsf.Process, key string) {
	p = &ocsf.Process{
		PID: t.integer(n, "processId"), CmdLine: t.str(n, "processCommandLine"), CreatedTime: t.time(n, "processCreationDateTime"),
		File: object(t, n.get("imageFile"), file), User: object(t, n.get("userAccount"), account),
	}
	hash := ""
	if p.File != nil {
		if p.Name = n.get("imageFile").str("fileName"); len(p.File.Hashes) > 0 {
			hash = strings.ToLower(p.File.Hashes[0].Value)
		}
	}
	key = strings.Join([]string{n.str("mdeDeviceId"), n.scalar("processId"), n.str("processCreationDateTime"), hash}, "|")
	if p.PID == nil {
		id := key + "|" + p.CmdLine + "|" + p.Name
		if strings.Trim(id, "|") == "" {
			return nil, ""
		}
		p.UID = hashedUID(id)
	}
	p.ParentProcess = parent(t, n)
	return p, key
}

func parent(t *taker, n *node) *ocsf.Process {
	sub := taker{}
	p := &ocsf.Process{
		PID: sub.integer(n, "parentProcessId"), CreatedTime: sub.time(n, "parentProcessCreationDateTime"),
		File: object(&sub, n.get("parentProcessImageFile"), file),
	}
	if p.File != nil {
		p.Name = n.get("parentProcessImageFile").str("fileName")
	}
	if p.PID == nil {
		if p.File == nil {
			return nil
		}
		p.UID = hashedUID(strings.Join([]string{
			n.str("mdeDeviceId"), n.str("parentProcessCreationDateTime"), p.File.Path, p.File.Name,
		}, "|"))
	}
	t.marks = append(t.marks, sub.marks...)
	return p
}

// hashedUID stands in for an id that the schema demands and the source does not have.
func hashedUID(natural string) string {
	sum := sha256.Sum256([]byte(natural))
	return hex.EncodeToString(sum[:16])
}

// object makes an object of a part, and takes its marks over only if it could be made.
func object[T any](t *taker, n *node, build func(*taker, *node) *T) *T {
	sub := taker{}
	v := build(&sub, n)
	if v != nil {
		t.marks = append(t.marks, sub.marks...)
	}
	return v
}

// endpoint makes an end of a connection of an ipEvidence that is itself kept whole.
func endpoint(n *node) *ocsf.Endpoint {
	ip := ipText(n.str("ipAddress"))
	if ip == "" {
		return nil
	}
	return &ocsf.Endpoint{IP: ip, Location: location(&taker{}, n)}
}

// location makes a place of an ipEvidence.
func location(t *taker, n *node) *ocsf.Location {
	sub := taker{}
	geo := n.get("location")
	l := &ocsf.Location{City: sub.str(geo, "city"), Region: sub.str(geo, "state"), Country: sub.str(geo, "countryName")}
	if l.Country == "" {
		l.Country = sub.str(n, "countryLetterCode")
	}
	if l.City == "" && l.Region == "" && l.Country == "" {
		return nil
	}
	l.Lat, l.Long = sub.float(geo, "latitude"), sub.float(geo, "longitude")
	t.marks = append(t.marks, sub.marks...)
	return l
}

// urlOf takes a URL apart.
func urlOf(s string) *ocsf.URL {
	if s == "" {
		return nil
	}
	u := &ocsf.URL{URLString: s}
	if p, ok := ioc.ParseURL(s); ok {
		u.Scheme, u.Hostname, u.Path, u.QueryString = p.Scheme, p.Host, p.Path, p.Query
		if p.Port != 0 {
			u.Port = &p.Port
		}
	}
	return u
}

func urlKey(s string) string {
	if v, ok := ioc.URL(s); ok {
		return v
	}
	return s
}

// armParts reads the resource group, the type and the name out of an ARM resource id:
// /subscriptions/S/resourceGroups/G/providers/N/T/NAME[/T/NAME…].
func armParts(id string) (subscription, group, kind, name string) {
	seg := strings.Split(strings.Trim(id, "/"), "/")
	for i := 0; i+1 < len(seg); i += 2 {
		switch strings.ToLower(seg[i]) {
		case "subscriptions":
			subscription = seg[i+1]
		case "resourcegroups":
			group = seg[i+1]
		case "providers":
			parts := []string{seg[i+1]}
			for j := i + 2; j+1 < len(seg); j += 2 {
				parts = append(parts, seg[j])
				name = seg[j+1]
			}
			return subscription, group, strings.Join(parts, "/"), name
		}
	}
	return subscription, group, kind, name
}

// azureResource describes a resource by its ARM id.
func azureResource(id, name, kind string) ocsf.Resource {
	_, group, armKind, armName := armParts(id)
	r := ocsf.Resource{UID: id, Name: firstOf(name, armName), Type: firstOf(kind, armKind), Provider: "Azure"}
	if group != "" {
		r.Group = &ocsf.Group{Name: group, Type: "resourceGroup"}
	}
	return r
}

// urlBase is the last segment of a URL's path.
func urlBase(s string) string {
	p, ok := ioc.ParseURL(s)
	if !ok || p.Path == "/" {
		return ""
	}
	return path.Base(p.Path)
}
