package ioc

import (
	"net/netip"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

// Special says whether an address is private, local, for documentation or reserved: never an indicator.
func Special(a netip.Addr) bool { return ocsf.SpecialAddr(a) }

// MeaninglessHash says whether a canonical hash is a placeholder or that of an empty file: never an indicator.
func MeaninglessHash(h string) bool { return ocsf.MeaninglessHash(h) }

// DataType names what an observable is in TheHive's words, and gives the tag that tells apart what shares the data type
// other. An empty data type is not to be exported. When TheHive does not have the data type, because an administrator
// removed it, use other and the data type as the tag.
func DataType(o ocsf.Observable) (dataType, tag string) { return o.DataType(), o.Tag() }

// Rules say which values belong to us, so that they are no indicators whatever a verdict says.
type Rules struct {
	OwnDomains []string // in canonical form; names below them belong to us, too
	OwnRanges  []netip.Prefix
}

// Flag says whether an observable is an indicator of compromise, given the verdict on the evidence that it comes from.
// See ocsf.Observable.IsIndicator.
func (r Rules) Flag(o ocsf.Observable, verdictID int) bool {
	return o.IsIndicator(verdictID) && !r.own(o)
}

func (r Rules) own(o ocsf.Observable) bool {
	host := ""
	switch o.TypeID {
	case ocsf.ObservableIP, ocsf.ObservableHostname:
		host = o.Value
	case ocsf.ObservableEmail:
		host = o.Value[strings.LastIndexByte(o.Value, '@')+1:]
	case ocsf.ObservableURL:
		if p, ok := ParseURL(o.Value); ok {
			host = p.Host
		}
	case ocsf.ObservableSubnet:
		if p, err := netip.ParsePrefix(o.Value); err == nil {
			for _, own := range r.OwnRanges {
				if own.Overlaps(p) {
					return true
				}
			}
		}
	}
	if host == "" {
		return false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		for _, own := range r.OwnRanges {
			if own.Contains(a) {
				return true
			}
		}
		return false
	}
	for _, d := range r.OwnDomains {
		if host == d || strings.HasSuffix(host, "."+d) {
			return true
		}
	}
	return false
}
