package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

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
