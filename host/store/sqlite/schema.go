package sqlite

import (
	"fmt"

	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// applicationID marks the file as ours ("CWIR"), so that somebody else's database is not written into.
const applicationID = 0x43574952

// migrations make version n+1 of the schema out of version n. They are never edited once released, only added to; all
// that are due run in one transaction.
//
// Conventions: times are integers, microseconds since 1970 UTC, NULL for the zero time. A payload is a BLOB, or an
// INTEGER that refers to blob.id when it is longer than 256 KiB. Rows are found newest first by their rowid; indexes
// whose entries would land at random places cost a page of log per row, so there are only those that a hot query needs.
var migrations = []string{`
CREATE TABLE state (key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE blob (
	id   INTEGER PRIMARY KEY,
	hash BLOB NOT NULL UNIQUE, -- SHA-256
	data BLOB NOT NULL
);

-- Waiting hints. That one is kept once is seen to in memory, where all of them are.
CREATE TABLE hint (
	seq INTEGER PRIMARY KEY,
	connection TEXT NOT NULL, trigger_name TEXT NOT NULL, id TEXT NOT NULL,
	received INTEGER, attempt INTEGER NOT NULL, not_before INTEGER, reason TEXT, data BLOB
);

CREATE TABLE cursor (
	connection TEXT NOT NULL, trigger_name TEXT NOT NULL, value BLOB NOT NULL,
	PRIMARY KEY (connection, trigger_name)
) WITHOUT ROWID;

-- A source object. One that was merged into another keeps its row and names the other as parent.
CREATE TABLE object (
	id INTEGER PRIMARY KEY,
	obj_key TEXT NOT NULL, first_key TEXT NOT NULL, group_key TEXT NOT NULL,
	rev TEXT NOT NULL, digest TEXT NOT NULL, source TEXT NOT NULL, event_id TEXT NOT NULL,
	updated INTEGER, parent INTEGER
);
CREATE INDEX object_parent ON object(parent) WHERE parent IS NOT NULL;

-- Every name of an object: its partition keys and its aliases.
CREATE TABLE name (
	name TEXT NOT NULL, tenant TEXT NOT NULL, object INTEGER NOT NULL,
	PRIMARY KEY (name, tenant)
) WITHOUT ROWID;

CREATE TABLE event (
	seq INTEGER PRIMARY KEY,
	id TEXT NOT NULL, source TEXT NOT NULL, object INTEGER NOT NULL,
	received INTEGER, verdict TEXT NOT NULL, via TEXT NOT NULL,
	connection TEXT NOT NULL, trigger_name TEXT NOT NULL,
	scope TEXT NOT NULL, -- tenant of the host it came for
	type TEXT NOT NULL, subject TEXT NOT NULL, time INTEGER, dataschema TEXT,
	partition_key TEXT NOT NULL, correlation_id TEXT, causation_id TEXT, tenant TEXT,
	rev TEXT NOT NULL, digest TEXT NOT NULL, tlp TEXT, pap TEXT, aliases TEXT, traceparent TEXT,
	data
);
CREATE INDEX event_id ON event(id);
CREATE INDEX event_object ON event(object);
CREATE INDEX event_subject ON event(subject);
CREATE INDEX event_received ON event(received);

CREATE TABLE flow (version TEXT PRIMARY KEY, name TEXT NOT NULL, bundle TEXT NOT NULL) WITHOUT ROWID;

-- order_key is NULL where it is the first_key of the object, which is the rule.
CREATE TABLE run (
	seq INTEGER PRIMARY KEY,
	id TEXT NOT NULL UNIQUE, flow TEXT NOT NULL, version TEXT NOT NULL,
	object INTEGER, order_key TEXT, case_key TEXT, group_by TEXT, tenant TEXT,
	connection TEXT, trigger_name TEXT, event_source TEXT, event_id TEXT, parent TEXT, from_step TEXT,
	state TEXT NOT NULL, fence INTEGER NOT NULL, not_before INTEGER,
	created INTEGER, started INTEGER, updated INTEGER, ended INTEGER,
	reason TEXT, class TEXT, input, output
);
CREATE INDEX run_object ON run(object) WHERE object IS NOT NULL;
CREATE INDEX run_order ON run(order_key) WHERE order_key IS NOT NULL;
CREATE INDEX run_event ON run(event_id) WHERE object IS NULL AND event_id IS NOT NULL;
CREATE INDEX run_live ON run(state) WHERE state IN ('ready', 'waiting');
CREATE INDEX run_odd ON run(state) WHERE state IN ('failed', 'parked', 'dead_letter', 'cancelled');

CREATE TABLE step (
	run INTEGER NOT NULL, path TEXT NOT NULL,
	seq INTEGER NOT NULL, action TEXT, state TEXT NOT NULL, attempt INTEGER NOT NULL,
	error TEXT, class TEXT, key TEXT, started INTEGER, ended INTEGER, not_before INTEGER,
	input, output,
	PRIMARY KEY (run, path)
) WITHOUT ROWID;

CREATE TABLE effect (
	seq INTEGER PRIMARY KEY,
	connection TEXT NOT NULL, action TEXT NOT NULL, key TEXT NOT NULL,
	state TEXT NOT NULL, run TEXT NOT NULL, path TEXT NOT NULL,
	first_sent INTEGER, attempts INTEGER NOT NULL, successes INTEGER NOT NULL, updated INTEGER,
	reason TEXT, result
);
CREATE UNIQUE INDEX effect_key ON effect(key, action, connection);
CREATE INDEX effect_open ON effect(state) WHERE state IN ('intent', 'unknown');

CREATE TABLE dead_letter (
	seq INTEGER PRIMARY KEY,
	id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, run TEXT, flow TEXT, step TEXT,
	connection TEXT, trigger_name TEXT, subject TEXT, reason TEXT, class TEXT,
	created INTEGER, resolved INTEGER, resolution TEXT, raw
);
CREATE INDEX dead_letter_open ON dead_letter(seq) WHERE resolved IS NULL;
`, `
-- Groups under which runs were grouped, and groups that go by another's name. A name is never a group_merge twice.
CREATE TABLE group_used (name TEXT NOT NULL, tenant TEXT NOT NULL, PRIMARY KEY (name, tenant)) WITHOUT ROWID;
CREATE TABLE group_merge (name TEXT NOT NULL, tenant TEXT NOT NULL, into_name TEXT NOT NULL, PRIMARY KEY (name, tenant)) WITHOUT ROWID;
INSERT OR IGNORE INTO group_used SELECT case_key, coalesce(tenant, '') FROM run WHERE group_by = 'incident' AND case_key IS NOT NULL;
ALTER TABLE run ADD COLUMN merged_key TEXT;
`}

// writerPragmas: the page size, which has its effect only on a new file, fits an alert in little more than one page, so
// that fewer frames are written. The cache is small on purpose: SQLite walks all of it at the end of every transaction
// that moved pages. There is no memory map: an I/O error on one is a signal that kills the process, where a read returns
// an error that can be reported.
const writerPragmas = `
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
`

const readerPragmas = `
PRAGMA query_only = ON;
PRAGMA cache_size = -8192;
PRAGMA temp_store = MEMORY;
PRAGMA trusted_schema = OFF;
`

// migrate brings the schema to the newest version, or refuses a file that is not ours or is newer than this program.
func migrate(c *lite.Conn, path string) error {
	version, err := schemaVersion(c, path)
	if err != nil || version == int64(len(migrations)) {
		return err
	}
	if err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	for _, m := range migrations[version:] {
		if err := c.Exec(m); err != nil {
			_ = c.Exec("ROLLBACK")
			return fmt.Errorf("migrate %s from schema version %d: %w", path, version, err)
		}
	}
	done := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", applicationID, len(migrations))
	if err := c.Exec(done); err != nil {
		_ = c.Exec("ROLLBACK")
		return fmt.Errorf("migrate %s from schema version %d: %w", path, version, err)
	}
	return nil
}

// checkVersion says whether a file can be read as it is.
func checkVersion(c *lite.Conn, path string) error {
	version, err := schemaVersion(c, path)
	if err == nil && version != int64(len(migrations)) {
		err = fmt.Errorf("open %s: its schema is version %d, older than the %d of this program: run the host once to bring it up to date",
			path, version, len(migrations))
	}
	return err
}

// schemaVersion refuses a file that is not ours or is of a newer release.
func schemaVersion(c *lite.Conn, path string) (int64, error) {
	app, err := c.Int("PRAGMA application_id")
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	version, err := c.Int("PRAGMA user_version")
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	tables, err := c.Int("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	switch {
	case app != applicationID && (app != 0 || tables != 0):
		return 0, fmt.Errorf("open %s: this is a SQLite database of another program: name a new file", path)
	case version > int64(len(migrations)):
		return 0, fmt.Errorf("open %s: its schema is version %d, and this program knows versions up to %d: use the release "+
			"that wrote it, or a newer one", path, version, len(migrations))
	}
	return version, nil
}
