package normalize

import (
	"strconv"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

// observables collects the values worth looking up, each type and value once, in the order in which they are met. A
// value that a worse evidence is about, too, is attributed to that one, because its verdict decides what the value is.
type observables struct {
	list []ocsf.Observable
	rank []int
	seen map[observableKey]int
	// The evidence that is being read.
	prefix  string
	verdict int
}

type observableKey struct {
	typeID int
	kind   string // of what is of no OCSF type
	value  string
}

func (o *observables) evidence(i, verdictID int) {
	o.prefix = "evidences[" + strconv.Itoa(i) + "]."
	o.verdict = badness(verdictID)
}

// badness orders verdicts.
func badness(verdictID int) int {
	switch verdictID {
	case ocsf.VerdictTruePositive:
		return 2
	case ocsf.VerdictSuspicious:
		return 1
	default:
		return 0
	}
}

func (o *observables) add(typeID int, path, value string) {
	o.put(observableKey{typeID, ocsf.ObservableName(typeID), value}, path)
}

// other adds a value of no OCSF type, with a name for its kind.
func (o *observables) other(kind, path, value string) {
	o.put(observableKey{ocsf.ObservableOther, kind, value}, path)
}

func (o *observables) put(k observableKey, path string) {
	if k.value == "" {
		return
	}
	v := ocsf.Observable{Name: o.prefix + path, TypeID: k.typeID, Type: k.kind, Value: k.value}
	rank := o.verdict
	if rank > 0 && !v.CanBeIndicator() {
		rank = 0 // the evidence is bad, and not about this value
	}
	if i, ok := o.seen[k]; ok {
		if rank > o.rank[i] {
			o.rank[i], o.list[i].Name = rank, v.Name
		}
		return
	}
	if o.seen == nil {
		o.seen = make(map[observableKey]int, 32)
	}
	o.seen[k] = len(o.list)
	o.list = append(o.list, v)
	o.rank = append(o.rank, rank)
}

// join takes over the observables of a finding; at says where in the whole it stands.
func (o *observables) join(at string, f *ocsf.DetectionFinding) {
	o.prefix, o.verdict = at, 0
	for i := range f.Observables {
		v := &f.Observables[i]
		o.put(observableKey{v.TypeID, v.Type, v.Value}, v.Name)
	}
}

func (o *observables) ip(path, s string) {
	if v, ok := ioc.IP(s); ok {
		o.add(ocsf.ObservableIP, path, v)
	}
}

func (o *observables) email(path, s string) {
	if v, ok := ioc.Email(s); ok {
		o.add(ocsf.ObservableEmail, path, v)
	}
}

func (o *observables) mac(path, s string) {
	if v, ok := ioc.MAC(s); ok {
		o.add(ocsf.ObservableMAC, path, v)
	}
}

// host adds a name, or the address that stands where a name could.
func (o *observables) host(path, s string) {
	if v, ok := ioc.Host(s); ok {
		o.add(ocsf.ObservableHostname, path, v)
		return
	}
	o.ip(path, s)
}

// url adds a URL and its host. A URL without a canonical form goes as it is: people must be able to look it up.
func (o *observables) url(path, s string) {
	s = strings.TrimSpace(s)
	p, ok := ioc.ParseURL(s)
	if !ok {
		o.add(ocsf.ObservableURL, path+".url_string", s)
		return
	}
	o.host(path+".hostname", p.Host)
	o.add(ocsf.ObservableURL, path+".url_string", p.String())
}

func (o *observables) user(path string, u *ocsf.User) {
	if u == nil {
		return
	}
	o.email(path+".email_addr", u.EmailAddr)
	if u.Account != nil && !strings.EqualFold(u.Account.Name, u.EmailAddr) {
		o.email(path+".account.name", u.Account.Name)
	}
	if !strings.EqualFold(u.Name, u.EmailAddr) {
		o.add(ocsf.ObservableUserName, path+".name", u.Name)
	}
	o.add(ocsf.ObservableUserUID, path+".uid", u.UID)
	if strings.HasPrefix(u.UIDAlt, "S-1-") {
		o.other("Windows SID", path+".uid_alt", u.UIDAlt)
	}
}

func (o *observables) device(d *ocsf.Device) {
	if d == nil {
		return
	}
	o.ip("device.ip", d.IP)
	o.mac("device.mac", d.MAC)
	for _, i := range d.NetworkInterfaces {
		o.ip("device.network_interfaces.ip", i.IP)
		o.mac("device.network_interfaces.mac", i.MAC)
	}
	o.host("device.hostname", d.Hostname)
	o.add(ocsf.ObservableDeviceUID, "device.uid", d.UID)
}

func (o *observables) file(path string, f *ocsf.File) {
	if f == nil {
		return
	}
	o.hashes(path, f.Hashes)
	o.add(ocsf.ObservableFilePath, path+".path", f.Path)
	if f.TypeID != 0 { // a file of unknown type is named by its hash
		o.add(ocsf.ObservableFileName, path+".name", f.Name)
	}
}

func (o *observables) hashes(path string, list []ocsf.Fingerprint) {
	for _, h := range list {
		v, _, ok := ioc.Hash(h.Value)
		switch {
		case !ok:
		case h.AlgorithmID == ocsf.AlgorithmOther:
			// An Authenticode hash looks like SHA-256 and is not: looked up as one it finds nothing, or something else.
			o.other(h.Algorithm, path+".hashes.value", v)
		default:
			o.add(ocsf.ObservableHash, path+".hashes.value", v)
		}
	}
}

func (o *observables) process(path string, p *ocsf.Process) {
	if p == nil {
		return
	}
	o.file(path+".file", p.File)
	o.add(ocsf.ObservableProcessName, path+".name", p.Name)
	if p.PID != nil {
		o.add(ocsf.ObservablePID, path+".pid", strconv.FormatInt(*p.PID, 10))
	}
	o.add(ocsf.ObservableCommandLine, path+".cmd_line", p.CmdLine)
	o.user(path+".user", p.User)
}

func (o *observables) regKey(path, s string) {
	if v, ok := ioc.Registry(s); ok {
		o.add(ocsf.ObservableRegKey, path, v)
	}
}
