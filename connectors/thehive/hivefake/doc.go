// Package hivefake imitates the part of TheHive 5 that Casewire's connector speaks to: its API version 1.
//
// What is imitated, and after which documents:
//   - Alerts: unique by type, source and sourceRef in an organisation, promoted to cases or merged into them, with
//     observables, procedures and comments (TheHive's published OpenAPI description and release notes).
//   - Cases: addressed by id or number, partial updates, custom fields that merge as an object and replace as a list,
//     tags that are added and removed, statuses with stages, closing that demands mandatory custom fields.
//   - The query API as its prose describes it: getAlert, getCase, lists, chains, filter, sort, page, count.
//   - Input limits of the OpenAPI description, with the differences between versions: the status of a duplicate, the
//     length of external links, the range of TLP, deduplication of observables.
//
// Where documents are silent the harsher reading is taken: unknown input fields are refused, a repeated observable is
// refused like any duplicate, lists may lag behind writes. What no document says at all is an option.
//
// The fake is written from those documents and imports the standard library only; it shares no type with the
// connector, so that a misunderstanding on one side shows up on the other.
package hivefake
