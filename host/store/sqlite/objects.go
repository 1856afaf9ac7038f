package sqlite

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/host/store/sqlite/internal/lite"
)

// object is a row of the table of that name.
type object struct {
	id       int64
	key      string // smallest partition key of all that were merged
	firstKey string // the one it began with; what was named after it stays so
	groupKey string
	rev      string
	digest   string
	source   string
	eventID  string
	updated  int64
	parent   int64 // 0: not merged into another
}

func (o *object) public() store.Object {
	return store.Object{
		Key: o.key, FirstKey: o.firstKey, Rev: o.rev, Digest: o.digest, GroupKey: o.groupKey, Source: o.source, EventID: o.eventID,
		Updated: fromMicros(o.updated),
	}
}

// readObject reads an object, or the one that it was merged into; nil if there is none.
func readObject(c *lite.Conn, id int64) (*object, error) {
	for {
		st, err := c.Stmt("SELECT obj_key, first_key, group_key, rev, digest, source, event_id, updated, parent FROM object WHERE id = ?")
		if err != nil {
			return nil, err
		}
		ok, err := st.Int(id).Next()
		if err != nil || !ok {
			return nil, err
		}
		o := &object{id: id, updated: st.ColInt(7), parent: st.ColInt(8)}
		if o.parent != 0 {
			st.Reset()
			id = o.parent
			continue
		}
		for i, s := range []*string{&o.key, &o.firstKey, &o.groupKey, &o.rev, &o.digest, &o.source, &o.eventID} {
			*s = st.ColText(i)
		}
		st.Reset()
		return o, nil
	}
}

// Object implements store.Inbox. Names are kept apart by tenant; where two tenants use the same, the first tenant by name
// answers.
func (s *Store) Object(ctx context.Context, keyOrAlias string) (out store.Object, err error) {
	err = s.r.read(ctx, "object", func(c *lite.Conn) error {
		st, err := c.Stmt("SELECT object FROM name WHERE name = ? ORDER BY tenant LIMIT 1")
		if err != nil {
			return err
		}
		ok, err := st.Text(keyOrAlias).Next()
		if err != nil {
			return err
		}
		if !ok {
			return notFound("no object is named %q", keyOrAlias)
		}
		id := st.ColInt(0)
		st.Reset()
		o, err := readObject(c, id)
		if err != nil {
			return err
		}
		if o == nil {
			return notFound("object %d of the name %q", id, keyOrAlias)
		}
		out = o.public()
		return nil
	})
	return out, err
}

// nameChunk is the most names that one statement inserts.
const nameChunk = 8

// insertNames holds the statements for 1 to nameChunk names.
var insertNames = func() (out [nameChunk + 1]string) {
	for n := 1; n <= nameChunk; n++ {
		out[n] = "INSERT INTO name (name, tenant, object) VALUES " + strings.Repeat("(?, ?, ?), ", n-1) + "(?, ?, ?) ON CONFLICT DO NOTHING"
	}
	return out
}()

// resolve finds the object that has one of the names, and gives it all of them. Objects that turn out to be the same are
// merged: the oldest stays, since cases are named after it. It returns nil if all names are new; they are then given to
// fresh, which the caller creates.
func (t *tx) resolve(names []string, tenant string, fresh int64) (*object, error) {
	added := 0
	for chunk := range slices.Chunk(names, nameChunk) {
		st := t.stmt(insertNames[len(chunk)])
		for _, n := range chunk {
			st.Text(n).Text(tenant).Int(fresh)
		}
		if err := st.Exec(); err != nil {
			return nil, err
		}
		n := t.c.Changes()
		added += n
		t.writes += n
	}
	if added == len(names) {
		return nil, nil
	}
	var roots []*object
	stray := make([]string, 0, len(names)) // names that do not point to a root
	owner := make(map[string]int64, len(names))
	for _, n := range names {
		st := t.stmt("SELECT object FROM name WHERE name = ? AND tenant = ?").Text(n).Text(tenant)
		ok, err := st.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		id := st.ColInt(0)
		st.Reset()
		owner[n] = id
		if id == fresh || slices.ContainsFunc(roots, func(o *object) bool { return o.id == id }) {
			continue
		}
		o, err := readObject(t.c, id)
		if err != nil {
			return nil, err
		}
		if o != nil && !slices.ContainsFunc(roots, func(r *object) bool { return r.id == o.id }) {
			roots = append(roots, o)
		}
	}
	if len(roots) == 0 {
		return nil, nil // names without an object: fresh takes them
	}
	root, err := t.merge(roots)
	if err != nil {
		return nil, err
	}
	for n, id := range owner {
		if id != root.id {
			stray = append(stray, n)
		}
	}
	for _, n := range stray {
		if err := t.done(t.stmt("UPDATE name SET object = ? WHERE name = ? AND tenant = ?").Int(root.id).Text(n).Text(tenant)); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// merge joins objects into the oldest of them. It keeps its first key and its group key, after which cases are named,
// and takes the smallest key and the newest state of all.
func (t *tx) merge(roots []*object) (*object, error) {
	slices.SortFunc(roots, func(a, b *object) int { return cmp.Compare(a.id, b.id) })
	root := roots[0]
	for _, o := range roots[1:] {
		if err := t.done(t.stmt("UPDATE object SET parent = ? WHERE id = ?").Int(root.id).Int(o.id)); err != nil {
			return nil, err
		}
		root.key = min(root.key, o.key)
		if o.rev > root.rev {
			root.rev, root.digest, root.source, root.eventID, root.updated = o.rev, o.digest, o.source, o.eventID, o.updated
		}
	}
	if len(roots) > 1 {
		return root, t.updateObject(root)
	}
	return root, nil
}

func (t *tx) insertObject(o *object) error {
	st := t.stmt("INSERT INTO object (id, obj_key, first_key, group_key, rev, digest, source, event_id, updated) " +
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)").
		Int(o.id).Text(o.key).Text(o.firstKey).Text(o.groupKey).Text(o.rev).Text(o.digest).Text(o.source).Text(o.eventID)
	return t.done(bindMicros(st, o.updated))
}

func (t *tx) updateObject(o *object) error {
	st := t.stmt("UPDATE object SET obj_key = ?, rev = ?, digest = ?, source = ?, event_id = ?, updated = ? WHERE id = ?").
		Text(o.key).Text(o.rev).Text(o.digest).Text(o.source).Text(o.eventID)
	return t.done(bindMicros(st, o.updated).Int(o.id))
}
