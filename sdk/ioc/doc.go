// Package ioc has the rules for values worth looking up: how to read what people typed (Refang) and write what people
// read (Defang), the canonical form of addresses, names, URLs and hashes, markings (TLP, PAP), and which values are
// indicators of compromise. It reaches no network and knows no vendor's API.
package ioc
