package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

func (s *evidenceScope) deviceEvidence() {
	s.out.Device = object(&s.taker, s.src, device)
	s.key = deviceKey(s.out.Device)
	if s.out.Device != nil {
		s.obs.ip("device.ip", s.out.Device.IP)
	}
	s.obs.ip("device.lastExternalIpAddress", s.src.str("lastExternalIpAddress"))
	s.obs.device(s.out.Device)
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
		s.obs.device(d)
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
