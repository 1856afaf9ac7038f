package sdk

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
)

// secretName is what properties that hold secrets are called.
var secretName = regexp.MustCompile(`^(.*_)?(password|passphrase|secret|token|api_?key|private_key|access_key)$`)

// unmarked returns the path of a property of a configuration that is called like a secret and is plain text, or nothing.
// Hosts resolve references, redact and keep from logs only what is marked as a secret.
func unmarked(schema []byte) string {
	var root map[string]any
	if json.Unmarshal(schema, &root) != nil {
		return "" // it was compiled
	}
	return unmarkedIn(root, "")
}

func unmarkedIn(schema map[string]any, path string) string {
	properties, _ := schema["properties"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p, _ := properties[name].(map[string]any)
		secret, _ := p["x-casewire-secret"].(bool)
		if p["type"] == "string" && !secret && p["enum"] == nil && p["format"] == nil && secretName.MatchString(name) {
			return path + "/" + name
		}
		if inner := unmarkedIn(p, path+"/"+name); inner != "" {
			return inner
		}
	}
	return ""
}
