package event

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Object keys are what an object is known by however it arrives: they are partition keys and aliases, in lower case.
// A key never changes in the life of its object, so an alert's key does not contain its incident.

// AlertKey is the key of a Microsoft alert: msalert:<Entra tenant>:<bare id>. The id may carry Defender's prefix.
func AlertKey(tenant, id string) string { return key("msalert", tenant, BareAlertID(id)) }

// IncidentKey is the key of a Defender incident: msincident:<Entra tenant>:<incident id>.
func IncidentKey(tenant, id string) string { return key("msincident", tenant, id) }

// SentinelIncidentKey is the key of an incident of a Sentinel workspace, by the GUID that is its ARM name. The incident
// number is no identity: it is not the Defender incident's.
func SentinelIncidentKey(name string) string { return key("sentinelincident", name) }

// IndicatorKey is the key of a threat indicator: OCSF's OSINT type and the canonical value.
func IndicatorKey(typeID, value string) string { return key("indicator", typeID, value) }

// RowKey is the key of a row that a query found: the columns that identify it are hashed.
func RowKey(workspace, query string, columns ...string) string {
	h := sha256.New()
	for _, c := range columns {
		var n [4]byte
		for i := range n {
			n[i] = byte(len(c) >> (24 - 8*i))
		}
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(c))
	}
	return key("larow", workspace, query, hex.EncodeToString(h.Sum(nil))[:32])
}

// CaseKey is the key of a case in a case manager: case:<kind>:<host>:<id or issue key>.
func CaseKey(kind, host, id string) string { return key("case", kind, host, id) }

// key joins the parts with colons. A colon inside a part, other than the last, is escaped: tenant "a:b" with id "c" is
// not tenant "a" with id "b:c".
func key(kind string, parts ...string) string {
	var b strings.Builder
	b.WriteString(kind)
	for i, p := range parts {
		b.WriteByte(':')
		p = strings.ToLower(strings.TrimSpace(p))
		if i < len(parts)-1 && strings.ContainsAny(p, ":%") {
			p = strings.NewReplacer("%", "%25", ":", "%3a").Replace(p)
		}
		b.WriteString(p)
	}
	return b.String()
}

// alertPrefixes are the two letters that Defender XDR puts before a provider's alert id, by source: XDR itself (ra, ta,
// ea), Endpoint (da, ed), Identity (aa, ri), Cloud Apps (ca, rm), App Governance (ma), Office 365 (fa), Entra ID
// Protection (ad), DLP (dl), Defender for Cloud (dc), Sentinel (sn), Insider Risk (ir), Security Copilot (sc). Source:
// Microsoft's "Investigate alerts in Microsoft Defender XDR".
var alertPrefixes = map[string]bool{
	"ra": true, "ta": true, "ea": true, "fa": true, "da": true, "ed": true, "aa": true, "ri": true, "ca": true,
	"rm": true, "ma": true, "ad": true, "dl": true, "dc": true, "sn": true, "ir": true, "sc": true,
}

// BareAlertID strips Defender's source prefix from an alert id, so that an alert has one key in every product that
// shows it. It does so only when what remains is a whole provider id (a GUID, perhaps with _n; or digits_digits): a GUID
// can itself begin with "da" or "ca". The spelling is kept.
func BareAlertID(id string) string {
	if len(id) < 3 || !alertPrefixes[strings.ToLower(id[:2])] {
		return id
	}
	if rest := id[2:]; isProviderID(rest) {
		return rest
	}
	return id
}

func isProviderID(s string) bool {
	if len(s) >= 36 && isGUID(s[:36]) {
		return len(s) == 36 || (s[36] == '_' && isNumber(s[37:]))
	}
	a, b, ok := strings.Cut(s, "_")
	return ok && isNumber(a) && isNumber(strings.TrimPrefix(b, "-"))
}

func isNumber(s string) bool { return s != "" && isDigits(s, len(s)) }

func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// SiblingKey is the key of another object of the same kind and scope as the one that key belongs to: of the incident
// msincident:<tenant>:<id> that an incident was merged into, for example. It is empty if key has no such form.
func SiblingKey(key, id string) string {
	i := strings.LastIndexByte(key, ':')
	if i < 0 || strings.TrimSpace(id) == "" {
		return ""
	}
	return key[:i+1] + strings.ToLower(strings.TrimSpace(id))
}
