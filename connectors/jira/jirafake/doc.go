// Package jirafake imitates the part of Jira that Casewire's connector speaks to: Jira Cloud's REST API version 2, or
// Data Center's where the two differ.
//
// What is imitated, and after which documents:
//   - Issues: create with labels and properties in one request, get, edit with field values and update operations,
//     comments, transitions with required fields, remote links with upsert by global id, issue properties, attachments
//     ("The Jira Cloud platform REST API" and its published OpenAPI description).
//   - Search: /search/jql with bounded JQL, page tokens, ids only by default, reconcileIssues ("Search and reconcile")
//     and an index that lags behind writes; the removed /search answers 410 on Cloud and works on Data Center.
//   - Limits: of fields, 20 writes in 2 s and 100 in 30 s per issue, with the headers that "Rate limiting" names.
//   - Errors: the errors map, the bare text of a 401, problem+json for a wrong media type, 403 for a bearer token that
//     the gateway cannot read.
//   - Credentials: e-mail and API token (classic ones on the site, scoped ones below /ex/jira/{cloudId}), OAuth bearer
//     tokens, personal access tokens on Data Center.
//
// Messages are in English although a real site answers in the language of the account; nothing may depend on them.
//
// The fake is written from those documents and imports the standard library only; it shares no type with the
// connector, so that a misunderstanding on one side shows up on the other.
package jirafake
