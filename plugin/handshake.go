package plugin

import goplugin "github.com/hashicorp/go-plugin"

// ProtocolVersion is what a host and a connector must agree on before the first call. Within a version behaviour is
// negotiated by feature flags.
const ProtocolVersion = 1

// Name is the key of the connector in go-plugin's plugin map.
const Name = "connector"

// Handshake returns what both ends compare before they talk. The cookie keeps people from running a connector by hand;
// it is no secret and protects nothing.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{
		ProtocolVersion:  ProtocolVersion,
		MagicCookieKey:   "CASEWIRE_CONNECTOR",
		MagicCookieValue: "b7a4d2f0-casewire-connector-v1",
	}
}
