package thehive

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Origin is what a case was made for, "alert:<id>" or "incident:<id>". It is kept as a tag of the alert, which its case
// inherits, so that the way back needs nothing but the case.
const (
	originTag = "casewire:origin="
	maxOrigin = 200
)

// checkOrigin refuses what no event could give back.
func checkOrigin(s string) error {
	if s == "" {
		return nil
	}
	kind, id, ok := strings.Cut(s, ":")
	switch {
	case !ok || id == "" || kind != "alert" && kind != "incident":
		return sdk.Invalid("/origin", "%q is neither alert:<id> nor incident:<id>", cut(s, 80))
	case units(s) > maxOrigin:
		return sdk.Invalid("/origin", "has more than %d characters", maxOrigin)
	case cleanTag(id) != id && units(s) <= maxTag-len(originTag) || strings.ContainsAny(s, "\"\\\r\n\t"):
		return sdk.Invalid("/origin", "must not contain quotes, backslashes, line breaks, or spaces at its ends")
	}
	return nil
}

// originTags keeps an origin in tags, of which TheHive takes 128 characters each: one, or two parts that name their whole.
func originTags(origin string) []string {
	if origin == "" {
		return nil
	}
	if units(origin) <= maxTag-len(originTag) {
		return []string{originTag + origin}
	}
	half := cutUnits(origin, 100)
	name := digest(origin)[:8]
	return []string{
		fmt.Sprintf("casewire:origin.1.%s=%s", name, half),
		fmt.Sprintf("casewire:origin.2.%s=%s", name, origin[len(half):]),
	}
}

// originsOf reads the origins back, sorted. A case that was merged of several has several. TheHive may show the value of a
// tag of this form in quotes.
func originsOf(tags []string) []string {
	parts := map[string][2]string{}
	var out []string
	for _, t := range tags {
		rest, ok := strings.CutPrefix(t, "casewire:origin")
		name, value, found := strings.Cut(rest, "=")
		if !ok || !found {
			continue
		}
		if v, err := strconv.Unquote(value); err == nil && strings.HasPrefix(value, `"`) {
			value = v
		}
		if name == "" {
			out = append(out, value)
			continue
		}
		p := strings.Split(name, ".") // "", number, digest
		if len(p) != 3 || p[0] != "" || p[1] != "1" && p[1] != "2" {
			continue
		}
		pair := parts[p[2]]
		pair[p[1][0]-'1'] = value
		parts[p[2]] = pair
	}
	for name, pair := range parts {
		if whole := pair[0] + pair[1]; digest(whole)[:8] == name {
			out = append(out, whole)
		}
	}
	out = slices.DeleteFunc(out, func(o string) bool { return checkOrigin(o) != nil || o == "" })
	slices.Sort(out)
	return slices.Compact(out)
}

// sameTag compares tags as TheHive may show them: with the value in quotes, and in another case.
func sameTag(a, b string) bool {
	return strings.EqualFold(a, b) || strings.EqualFold(strings.ReplaceAll(a, `"`, ""), strings.ReplaceAll(b, `"`, ""))
}
