package ioc

import (
	"fmt"
	"strings"
)

// TLP is a Traffic Light Protocol 2.0 marking, in OCSF's spelling. The number is TheHive 5's; TheHive 3 and 4 had another
// for RED.
type TLP string

// The markings, from the mildest to the strictest.
const (
	TLPClear       TLP = "CLEAR"
	TLPGreen       TLP = "GREEN"
	TLPAmber       TLP = "AMBER"
	TLPAmberStrict TLP = "AMBER STRICT"
	TLPRed         TLP = "RED"
)

// PAP is a Permissible Actions Protocol marking. The number is TheHive's.
type PAP string

// The markings, from the mildest to the strictest.
const (
	PAPClear PAP = "CLEAR"
	PAPGreen PAP = "GREEN"
	PAPAmber PAP = "AMBER"
	PAPRed   PAP = "RED"
)

var (
	tlps = []TLP{TLPClear, TLPGreen, TLPAmber, TLPAmberStrict, TLPRed}
	paps = []PAP{PAPClear, PAPGreen, PAPAmber, PAPRed}
)

// tlpMarkings are the STIX 2.1 marking definitions: those of TLP 2.0, and those of 1.0 that are still met.
var tlpMarkings = map[string]TLP{
	"94868c89-83c2-464b-929b-a1a8aa3c8487": TLPClear, "613f2e26-407d-48c7-9eca-b8e91df99dc9": TLPClear,
	"bab4a63c-aed9-4cf5-a766-dfca5abac2bb": TLPGreen, "34098fce-860f-48ae-8e50-ebd3cc5e41da": TLPGreen,
	"55d920b0-5e8b-4f79-9ee9-91f868d9b421": TLPAmber, "f88d31f6-486f-44da-b317-01333bde0b82": TLPAmber,
	"939a9414-2ddd-4d32-a0cd-375ea402b003": TLPAmberStrict,
	"e828b379-4e03-4974-9ac4-e53a884c97c1": TLPRed, "5e57c739-391a-4eb3-b6be-7d15ca92d5ed": TLPRed,
}

var markingIDs = map[TLP]string{
	TLPClear: "94868c89-83c2-464b-929b-a1a8aa3c8487", TLPGreen: "bab4a63c-aed9-4cf5-a766-dfca5abac2bb",
	TLPAmber: "55d920b0-5e8b-4f79-9ee9-91f868d9b421", TLPAmberStrict: "939a9414-2ddd-4d32-a0cd-375ea402b003",
	TLPRed: "e828b379-4e03-4974-9ac4-e53a884c97c1",
}

const markingPrefix = "marking-definition--"

// ParseTLP reads a marking however it is written: "TLP:AMBER+STRICT", "amber strict", "WHITE", or the id of a STIX
// marking definition.
func ParseTLP(s string) (TLP, error) {
	word := strings.TrimSpace(s)
	if t, ok := tlpMarkings[strings.ToLower(strings.TrimPrefix(word, markingPrefix))]; ok {
		return t, nil
	}
	word = strings.TrimSpace(strings.TrimPrefix(strings.ToUpper(word), "TLP:"))
	word = strings.Join(strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune("+-_ ", r) }), " ")
	if word == "WHITE" {
		return TLPClear, nil
	}
	for _, t := range tlps {
		if string(t) == word {
			return t, nil
		}
	}
	return "", fmt.Errorf("unknown TLP marking %q; want CLEAR, GREEN, AMBER, AMBER+STRICT or RED", s)
}

// TLPOf is the marking with TheHive 5's number.
func TLPOf(n int) (TLP, error) {
	if n < 0 || n >= len(tlps) {
		return "", fmt.Errorf("unknown TLP number %d; want 0 to 4", n)
	}
	return tlps[n], nil
}

// Number is TheHive 5's: CLEAR 0, GREEN 1, AMBER 2, AMBER STRICT 3, RED 4. A marking that is not one counts as RED:
// what cannot be understood is not given away.
func (t TLP) Number() int {
	for i, x := range tlps {
		if x == t {
			return i
		}
	}
	return len(tlps) - 1
}

// Marking is the id of the STIX 2.1 marking definition; empty for a marking that is not one.
func (t TLP) Marking() string {
	if id := markingIDs[t]; id != "" {
		return markingPrefix + id
	}
	return ""
}

// StricterTLP is the stricter of two markings; an empty one says nothing.
func StricterTLP(a, b TLP) TLP {
	if a == "" || (b != "" && b.Number() > a.Number()) {
		return b
	}
	return a
}

// ParsePAP reads a marking: "PAP:AMBER", "white".
func ParsePAP(s string) (PAP, error) {
	word := strings.TrimSpace(strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "PAP:"))
	if word == "WHITE" {
		return PAPClear, nil
	}
	for _, p := range paps {
		if string(p) == word {
			return p, nil
		}
	}
	return "", fmt.Errorf("unknown PAP marking %q; want CLEAR, GREEN, AMBER or RED", s)
}

// PAPOf is the marking with TheHive's number.
func PAPOf(n int) (PAP, error) {
	if n < 0 || n >= len(paps) {
		return "", fmt.Errorf("unknown PAP number %d; want 0 to 3", n)
	}
	return paps[n], nil
}

// Number is TheHive's: CLEAR 0, GREEN 1, AMBER 2, RED 3. A marking that is not one counts as RED.
func (p PAP) Number() int {
	for i, x := range paps {
		if x == p {
			return i
		}
	}
	return len(paps) - 1
}

// StricterPAP is the stricter of two markings; an empty one says nothing.
func StricterPAP(a, b PAP) PAP {
	if a == "" || (b != "" && b.Number() > a.Number()) {
		return b
	}
	return a
}
