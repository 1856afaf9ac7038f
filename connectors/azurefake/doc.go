// Package azurefake imitates the Microsoft services that Casewire's connectors speak to, behind one http.Handler that
// shares one state: the Entra ID token endpoint, the part of Microsoft Graph that serves security alerts and their
// change notifications, and the Log Analytics query API.
//
// What is imitated, and after which documents:
//   - Entra: OpenID configuration, client credentials with a secret or an assertion, AADSTS error bodies, instance
//     discovery ("Microsoft identity platform and the OAuth 2.0 client credentials flow", AADSTS error codes). Tokens
//     are opaque, bound to an audience, and they expire.
//   - Graph: list, get, update and comment on security/alerts_v2 ("List alerts_v2", "Update alert", "Create comment
//     for alert"; property and enum names from the v1.0 metadata), masking of newer enum members unless
//     Prefer: include-unknown-enum-members is sent, opaque paging, throttling bodies.
//   - Graph subscriptions ("subscription resource type", "Receive change notifications through webhooks", "Reduce
//     missing subscriptions and change notifications"): the validation handshake, life-time rules, batches, retries
//     with backoff, and lifecycle notifications.
//   - Threat intelligence: uploads of STIX objects to Sentinel ("Import threat intelligence with the upload API"), what
//     Azure Resource Manager shows of them (Microsoft.SecurityInsights/threatIntelligence, 2025-09-01), and indicators of
//     Defender for Endpoint ("Submit or update indicator", "Import indicators", "List", "Delete").
//   - Azure Resource Manager: the Microsoft Sentinel part of one workspace (Microsoft.SecurityInsights 2025-09-01):
//     incidents with etags and whole-object writes, comments, tasks, playbooks, watchlists with long-running operations.
//   - Log Analytics ("Azure Monitor Log Analytics API": request format, response format, errors, prefer options).
//
// Where documents are silent the harsher reading is taken: pages are offsets into a list that moves while it is read,
// changes during a pause of notifications are lost, and reads may lag behind writes. What no document says at all is
// an option.
//
// The fake is written from those documents and imports the standard library only; it shares no type with the
// connectors, so that a misunderstanding on one side shows up on the other.
//
// One listener serves everything; the paths do not collide. Where a client wants a base URL per service, the prefixes
// /login, /graph, /loganalytics, /arm, /ti and /defender are accepted and stripped.
package azurefake
