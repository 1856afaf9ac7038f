package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// weakAccounts are names that every machine has: without a domain they say nothing, and Sentinel does not join by them
// either ("Microsoft Sentinel entity types reference").
var weakAccounts = map[string]bool{
	"administrator": true, "admin": true, "guest": true, "root": true, "system": true, "localsystem": true, "localservice": true,
	"networkservice": true, "anonymouslogon": true, "anonymous": true, "defaultaccount": true, "nobody": true,
}

// SentinelObservables lists the values worth looking up in entities as Azure Resource Manager sends them (kind and
// properties), each once; what is no entity is skipped.
func SentinelObservables(entities []byte) []ocsf.Observable {
	m := &sentinelMapper{}
	// Not a list: nothing is worth looking up in it.
	_ = withTree(append(append([]byte(`{"v":`), entities...), '}'), func(n *node) error {
		for i, list := 0, n.items("v"); i < len(list); i++ {
			m.entity(i, &list[i])
		}
		for i := range m.obs.list { // the tree's texts go with it
			o := &m.obs.list[i]
			o.Name, o.Type, o.Value = strings.Clone(o.Name), strings.Clone(o.Type), strings.Clone(o.Value)
		}
		return nil
	})
	return m.obs.list
}

// entity reads one entity of an incident. Entities that others refer to (a file's hashes, a process's image) come as
// entities of their own.
func (m *sentinelMapper) entity(i int, n *node) {
	p, o := n.get("properties"), &m.obs
	o.evidence(i, 0)
	o.prefix = strings.Replace(o.prefix, "evidences", "entities", 1)
	switch fold(n.str("kind")) {
	case "account":
		m.account(p)
	case "host":
		name := firstOf(p.str("hostName"), p.str("netBiosName"))
		if domain := p.str("dnsDomain"); name != "" && domain != "" && !strings.Contains(name, ".") {
			name += "." + domain
		}
		o.host("device.hostname", strings.ToLower(name))
		o.add(ocsf.ObservableResourceUID, "azureID", p.str("azureID"))
	case "ip":
		o.ip("address", p.str("address"))
	case "url":
		o.url("url", p.str("url"))
	case "dnsresolution", "dns":
		o.host("domainName", p.str("domainName"))
	case "file":
		o.add(ocsf.ObservableFileName, "fileName", p.str("fileName"))
		if full, _ := joinPath(p.str("directory"), p.str("fileName")); p.str("directory") != "" {
			o.add(ocsf.ObservableFilePath, "path", full)
		}
	case "filehash":
		m.hash(p)
	case "process":
		o.add(ocsf.ObservableCommandLine, "commandLine", p.str("commandLine"))
		o.add(ocsf.ObservablePID, "processId", p.scalar("processId"))
	case "registrykey":
		if key := p.str("key"); key != "" {
			o.regKey("key", strings.TrimPrefix(p.str("hive")+`\`+key, `\`))
		}
	case "registryvalue":
		o.add(ocsf.ObservableRegValueName, "valueName", p.str("valueName"))
	case "mailbox":
		o.email("mailboxPrimaryAddress", p.str("mailboxPrimaryAddress"))
		o.email("upn", p.str("upn"))
	case "mailmessage":
		m.mail(p, "p1Sender", "p2Sender", "recipient")
		o.ip("senderIP", p.str("senderIP"))
		for _, u := range p.strings("urls") {
			o.url("urls", u)
		}
	case "submissionmail":
		m.mail(p, "sender", "recipient", "submitter")
		o.ip("senderIp", p.str("senderIp"))
	case "azureresource":
		o.add(ocsf.ObservableResourceUID, "resourceId", p.str("resourceId"))
	case "cloudapplication":
		o.add(ocsf.ObservableResourceUID, "appId", p.scalar("appId"))
	case "securitygroup":
		o.add(ocsf.ObservableGroupName, "distinguishedName", p.str("distinguishedName"))
		o.add(ocsf.ObservableGroupUID, "sid", firstOf(p.str("sid"), p.str("objectGuid")))
	case "iotdevice":
		o.host("device.hostname", p.str("deviceName"))
		o.mac("macAddress", p.str("macAddress"))
		o.add(ocsf.ObservableDeviceUID, "deviceId", p.str("deviceId"))
	}
}

func (m *sentinelMapper) account(p *node) {
	o, name := &m.obs, p.str("accountName")
	domain := firstOf(p.str("upnSuffix"), p.str("ntDomain"), p.str("dnsDomain"), p.str("aadUserId"))
	if weakAccounts[fold(name)] && domain == "" {
		return
	}
	if suffix := p.str("upnSuffix"); name != "" && suffix != "" {
		o.email("user.email_addr", name+"@"+suffix)
	}
	o.add(ocsf.ObservableUserName, "accountName", name)
	o.add(ocsf.ObservableUserUID, "aadUserId", p.str("aadUserId"))
	if sid := p.str("sid"); strings.HasPrefix(sid, "S-1-") {
		o.other("Windows SID", "sid", sid)
	}
}

func (m *sentinelMapper) hash(p *node) {
	v, _, ok := ioc.Hash(p.str("hashValue"))
	switch {
	case !ok:
	case fold(p.str("algorithm")) == "sha256ac": // looks like SHA-256 and is not
		m.obs.other("SHA256AC", "hashValue", v)
	default:
		m.obs.add(ocsf.ObservableHash, "hashValue", v)
	}
}

func (m *sentinelMapper) mail(p *node, addresses ...string) {
	for _, k := range addresses {
		m.obs.email(k, p.str(k))
	}
	m.obs.add(ocsf.ObservableEmailSubject, "subject", p.str("subject"))
	m.obs.add(ocsf.ObservableEmailUID, "networkMessageId", p.str("networkMessageId"))
	m.obs.add(ocsf.ObservableMessageUID, "internetMessageId", p.str("internetMessageId"))
}
