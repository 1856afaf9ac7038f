// Package normalize makes Casewire's events of what Microsoft's security products tell: alerts and incidents of Microsoft
// Graph, rows of Sentinel's tables SecurityAlert and SecurityIncident, and alerts of the retired Graph API. It sends
// nothing, and its functions are pure: the same object makes the same bytes and the same identity on every host, whichever
// connector and way it came by.
//
// The mapping is that of OCSF 1.8.0's Detection Finding (alerts) and Incident Finding (incidents). Nothing of a source
// gets lost: what has no place in OCSF is in evidences[].data or in unmapped, under the source's names.
package normalize
