// Package ocsf has the part of the Open Cybersecurity Schema Framework 1.8.0 that Casewire emits: Detection Finding
// (class 2004), Incident Finding (2005), OSINT Inventory Info (5021) and Base Event (0), the objects they use, and what
// a reader of observables must know. It names no vendor.
//
// Encoding is deterministic: fields come in the order of the structs, and there are no maps. Optional integers and
// booleans are pointers, because zero is a value of many enumerations: use new(1). Null is never legal, so everything
// optional is left out when empty.
//
// Source of the model: https://schema.ocsf.io/1.8.0.
package ocsf
