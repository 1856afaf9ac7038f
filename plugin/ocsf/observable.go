package ocsf

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Types of observables. The numbers are OCSF's.
const (
	ObservableHostname     = 1
	ObservableIP           = 2
	ObservableMAC          = 3
	ObservableUserName     = 4
	ObservableEmail        = 5
	ObservableURL          = 6
	ObservableFileName     = 7
	ObservableHash         = 8
	ObservableProcessName  = 9
	ObservableResourceUID  = 10
	ObservablePort         = 11
	ObservableSubnet       = 12
	ObservableCommandLine  = 13
	ObservableCountry      = 14
	ObservablePID          = 15
	ObservableUserAgent    = 16
	ObservableCVE          = 18
	ObservableRegKeyOld    = 28
	ObservableFingerprint  = 30
	ObservableUserUID      = 31
	ObservableGroupName    = 32
	ObservableGroupUID     = 33
	ObservableAccountName  = 34
	ObservableAccountUID   = 35
	ObservableScript       = 36
	ObservableEmailSubject = 40
	ObservableEmailUID     = 41
	ObservableMessageUID   = 42
	ObservableRegValueName = 43
	ObservableFilePath     = 45
	ObservableRegKey       = 46
	ObservableDeviceUID    = 47
	ObservableEndpointUID  = 48
	ObservableOther        = 99
)

// Observable is a value worth looking up: its canonical form, and the path of the attribute that it was found in
// ("evidences[3].url.url_string").
type Observable struct {
	Name   string `json:"name,omitempty"`
	TypeID int    `json:"type_id"`
	Type   string `json:"type,omitempty"`
	Value  string `json:"value,omitempty"`
}

// kind says how people call a type of observable.
type kind struct {
	caption  string // OCSF's
	dataType string // empty: not exported, because it has no scalar or nobody looks it up
	tag      string // tells apart what shares the data type "other"
}

var kinds = map[int]kind{
	ObservableHostname:     {"Hostname", "hostname", ""},
	ObservableIP:           {"IP Address", "ip", ""},
	ObservableMAC:          {"MAC Address", "other", "mac"},
	ObservableUserName:     {"User Name", "other", "user"},
	ObservableEmail:        {"Email Address", "mail", ""},
	ObservableURL:          {"URL String", "url", ""},
	ObservableFileName:     {"File Name", "filename", ""},
	ObservableHash:         {"Hash", "hash", ""},
	ObservableProcessName:  {"Process Name", "other", "process"},
	ObservableResourceUID:  {"Resource UID", "other", "resource"},
	ObservablePort:         {"Port", "other", "port"},
	ObservableSubnet:       {"Subnet", "other", "cidr"},
	ObservableCommandLine:  {"Command Line", "other", "cmdline"},
	ObservableCountry:      {"Country", "", ""},
	ObservablePID:          {"Process ID", "", ""},
	ObservableUserAgent:    {"HTTP User-Agent", "user-agent", ""},
	ObservableCVE:          {"CVE object: uid", "other", "cve"},
	ObservableRegKeyOld:    {"Registry Key", "registry", ""},
	ObservableFingerprint:  {"Fingerprint", "hash", ""},
	ObservableUserUID:      {"User object: uid", "other", "user-id"},
	ObservableGroupName:    {"Group object: name", "other", "group"},
	ObservableGroupUID:     {"Group object: uid", "other", "group"},
	ObservableAccountName:  {"Account object: name", "other", "account"},
	ObservableAccountUID:   {"Account object: uid", "other", "user-id"},
	ObservableScript:       {"Script Content", "other", "script"},
	ObservableEmailSubject: {"Email object: subject", "mail-subject", ""},
	ObservableEmailUID:     {"Email object: uid", "other", "network-message-id"},
	ObservableMessageUID:   {"Message UID", "other", "message-id"},
	ObservableRegValueName: {"Registry Value object: name", "registry", ""},
	ObservableFilePath:     {"File Path", "other", "path"},
	ObservableRegKey:       {"Registry Key Path", "registry", ""},
	ObservableDeviceUID:    {"Device object: uid", "other", "device-id"},
	ObservableEndpointUID:  {"Network Endpoint object: uid", "other", "endpoint-id"},
	ObservableOther:        {"Other", "other", ""},
}

// ObservableName is the caption of an observable's type_id; empty for one that Casewire does not emit.
func ObservableName(typeID int) string { return kinds[typeID].caption }

// DataType names what an observable is in the words that case managers use: ip, domain, fqdn, hostname, url, mail, hash,
// filename, registry, user-agent, mail-subject or other. A host name is a domain when it is a registrable name, an fqdn
// when it lies below one, and a hostname when it is a single label, lies under no public suffix or names a device.
// Empty means that the value is of no use on its own.
func (o Observable) DataType() string {
	if o.TypeID != ObservableHostname {
		return kinds[o.TypeID].dataType
	}
	if strings.Contains(o.Name, ".device.") || strings.HasPrefix(o.Name, "device.") || !strings.Contains(o.Value, ".") {
		return "hostname"
	}
	// A suffix that is not on the list is taken for a public one ("*"): it says nothing about the name.
	suffix, icann := publicsuffix.PublicSuffix(o.Value)
	if suffix == o.Value || (!icann && !strings.Contains(suffix, ".")) {
		return "hostname"
	}
	if main, err := publicsuffix.EffectiveTLDPlusOne(o.Value); err == nil && main == o.Value {
		return "domain"
	}
	return "fqdn"
}

// Tag tells apart the values whose DataType is other: mac, user, process, cmdline, … For values of no OCSF type it is the
// type's name, lower case with dashes.
func (o Observable) Tag() string {
	if o.TypeID == ObservableOther {
		return strings.ReplaceAll(strings.ToLower(o.Type), " ", "-")
	}
	return kinds[o.TypeID].tag
}
