package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

func (s *entityScope) mailboxEntity() {
	address := firstOf(s.src.str("MailboxPrimaryAddress"), s.src.str("Upn"))
	s.key = strings.ToLower(address)
	u := &ocsf.User{Name: firstOf(s.src.str("Upn"), address), DisplayName: s.src.str("DisplayName")}
	if isEmail(address) {
		u.EmailAddr = address
	}
	if u.Name == "" {
		return
	}
	s.mark(s.src, "DisplayName")
	s.out.User = u
	s.obs.user("user", u)
}

func (s *entityScope) mail() {
	n, t := s.src, taker{}
	m := &ocsf.Email{
		Subject: t.str(n, "Subject"), MessageUID: t.str(n, "InternetMessageId"), UID: t.str(n, "NetworkMessageId"),
	}
	for _, a := range []string{n.str("P2Sender"), n.str("Sender"), n.str("P1Sender")} {
		if m.From == "" && isEmail(a) {
			m.From = a
		}
	}
	if a := n.str("P1Sender"); isEmail(a) {
		m.ReturnPath = a
	}
	for _, u := range n.strings("Urls") {
		m.URLs = append(m.URLs, *urlOf(u))
		s.obs.url("email.urls", u)
	}
	s.message(m, &t, n.str("Recipient"), n.str("SenderIP"))
	s.key = n.str("NetworkMessageId") + "|" + strings.ToLower(n.str("Recipient"))
}

func (s *entityScope) submission() {
	n, t := s.src, taker{}
	m := &ocsf.Email{Subject: t.str(n, "Subject"), UID: t.str(n, "NetworkMessageId")}
	if a := n.str("Sender"); isEmail(a) {
		m.From = a
	}
	s.message(m, &t, n.str("Recipient"), n.str("SenderIp"))
	s.key = n.str("NetworkMessageId") + "|" + strings.ToLower(n.str("Recipient"))
	if who := n.str("Submitter"); who != "" {
		u := &ocsf.User{Name: who}
		if isEmail(who) {
			u.EmailAddr = who
		}
		s.out.Actor = &ocsf.Actor{User: u}
	}
}

func (s *entityScope) cluster() { s.key = s.src.str("Query") }

func (s *entityScope) azureEntity() {
	id := s.str(s.src, "ResourceId")
	s.key = strings.ToLower(id)
	s.resource(azureResource(id, "", ""))
}

func (s *entityScope) app() {
	n := s.src
	id := n.scalar("AppId")
	s.key = id + "|" + n.scalar("InstanceId")
	s.resource(ocsf.Resource{UID: id, UIDAlt: n.scalar("InstanceId"), Name: firstOf(n.str("Name"), n.str("InstanceName")), Type: s.kind})
}

func (s *entityScope) group() {
	n := s.src
	s.key = firstOf(n.scalar("ObjectGuid"), n.str("SID"), n.str("Sid"))
	name := n.str("DistinguishedName")
	if !s.resource(ocsf.Resource{UID: s.key, UIDAlt: firstOf(n.str("SID"), n.str("Sid")), Name: name, Type: s.kind}) {
		return
	}
	s.obs.add(ocsf.ObservableGroupUID, "resources.uid", s.key)
	s.obs.add(ocsf.ObservableGroupName, "resources.name", name)
}

func (s *entityScope) malwareEntity() {
	n := s.src
	s.key = n.str("Name")
	var files []ocsf.File
	for i := range n.items("Files") {
		_, f := s.part(&n.get("Files").kids[i])
		if v := s.rowFile(&taker{}, f); v != nil {
			files = append(files, *v)
		}
	}
	if len(files) > 0 {
		s.out.File = &files[0]
	}
	for i := range files {
		s.obs.file("file", &files[i])
	}
	s.malware(s.key, n.str("Category"), files)
}

func (s *entityScope) iot() {
	n := s.src
	_, ip := s.part(n.get("IpAddress"))
	t := taker{}
	d := &ocsf.Device{
		UID: t.scalar(n, "DeviceId"), TypeID: 7, Type: "IOT", Name: t.str(n, "DeviceName"), Model: t.str(n, "Model"),
		VendorName: t.str(n, "Manufacturer"), IP: ipText(ip.str("Address")),
	}
	if mac, ok := ioc.MAC(n.str("MacAddress")); ok {
		d.MAC = mac
	}
	s.key = firstOf(d.UID, d.MAC, canonicalIP(d.IP), d.Name)
	if d.UID == "" && d.IP == "" && d.Name == "" {
		return
	}
	s.marks = append(s.marks, t.marks...)
	s.out.Device = d
	s.obs.device(d)
}
