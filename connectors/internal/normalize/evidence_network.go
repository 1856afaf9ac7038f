package normalize

import (
	"strconv"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

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
