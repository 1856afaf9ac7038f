package sqlite

import (
	"fmt"

	"github.com/casewire/casewire/host/store"
)

// regroup follows what an event says of its object's group, as store.Object documents it. It returns the name that the
// group goes by, and the name of a group with a case that ended in it.
func (t *tx) regroup(o *object, correlation, into, tenant string) (group, ended string, err error) {
	was := o.groupKey
	if group, err = t.group(was, tenant); err != nil {
		return "", "", err
	}
	if correlation != "" && correlation != o.groupKey {
		own := o.groupKey == o.firstKey
		o.groupKey = correlation
		if err := t.done(t.stmt("UPDATE object SET group_key = ? WHERE id = ?").Text(correlation).Int(o.id)); err != nil {
			return "", "", err
		}
		joined, err := t.group(correlation, tenant)
		if err != nil {
			return "", "", err
		}
		if own {
			group, ended, err = t.join(group, joined, tenant)
		} else {
			group = joined
		}
		if err != nil {
			return "", "", err
		}
	}
	if into == "" {
		return group, ended, nil
	}
	// What names the object that was merged: the group that it had, and its own name, which alerts may have had their case
	// under before the object itself was ever seen. The other's name may stand for a group with another.
	winner, err := t.groupOf(into, tenant)
	if err != nil {
		return "", "", err
	}
	for _, name := range []string{was, o.firstKey, into} {
		if name, err = t.group(name, tenant); err != nil {
			return "", "", err
		}
		var merged string
		if winner, merged, err = t.join(name, winner, tenant); err != nil {
			return "", "", err
		}
		if merged != "" {
			ended = merged
		}
	}
	return winner, ended, nil
}

// groupOf returns what the group goes by that an object belongs to; a name that no object has is a group's own.
func (t *tx) groupOf(name, tenant string) (string, error) {
	st := t.stmt("SELECT object FROM name WHERE name = ? AND tenant = ?").Text(name).Text(tenant)
	ok, err := st.Next()
	if err != nil {
		return "", err
	}
	if ok {
		id := st.ColInt(0)
		st.Reset()
		o, err := readObject(t.c, id)
		if err != nil {
			return "", err
		}
		if o != nil {
			name = o.groupKey
		}
	}
	return t.group(name, tenant)
}

// join makes two groups one. The name of one that has no case gives way.
func (t *tx) join(loser, winner, tenant string) (name, ended string, err error) {
	if loser == winner {
		return winner, "", nil
	}
	lost, err := t.groupUsed(loser, tenant)
	if err != nil {
		return "", "", err
	}
	if lost {
		won, err := t.groupUsed(winner, tenant)
		if err != nil {
			return "", "", err
		}
		if !won {
			return loser, "", t.mergeGroup(winner, loser, tenant)
		}
		ended = loser
	}
	return winner, ended, t.mergeGroup(loser, winner, tenant)
}

// group returns the name that a group goes by.
func (t *tx) group(name, tenant string) (string, error) {
	st := t.stmt("SELECT into_name FROM group_merge WHERE name = ? AND tenant = ?").Text(name).Text(tenant)
	ok, err := st.Next()
	if err != nil || !ok {
		return name, err
	}
	name = st.ColText(0)
	st.Reset()
	return name, nil
}

// mergeGroup makes a name, and all that go by it, go by another. Both are names that nothing else stands behind.
func (t *tx) mergeGroup(name, into, tenant string) error {
	if err := t.done(t.stmt("UPDATE group_merge SET into_name = ? WHERE into_name = ? AND tenant = ?").Text(into).Text(name).Text(tenant)); err != nil {
		return err
	}
	return t.done(t.stmt("INSERT OR REPLACE INTO group_merge (name, tenant, into_name) VALUES (?, ?, ?)").Text(name).Text(tenant).Text(into))
}

// useGroup notes that a run is grouped under a name: there may be a case of that name from now on.
func (t *tx) useGroup(name, tenant string) error {
	return t.done(t.stmt("INSERT INTO group_used (name, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING").Text(name).Text(tenant))
}

func (t *tx) groupUsed(name, tenant string) (bool, error) {
	st := t.stmt("SELECT 1 FROM group_used WHERE name = ? AND tenant = ?").Text(name).Text(tenant)
	ok, err := st.Next()
	if ok {
		st.Reset()
	}
	return ok, err
}

// current returns store.ErrRegrouped if a run is grouped under a name that its group does not go by any more.
func (t *tx) current(run int64) error {
	now, was, err := t.regrouped(run)
	if err == nil && now != was {
		return fmt.Errorf("%w: %q is part of %q", store.ErrRegrouped, was, now)
	}
	return err
}

// regrouped returns what the group of a run goes by now, and the name that the run knows. Both are the run's own case key
// if it is not grouped by incident.
func (t *tx) regrouped(run int64) (now, was string, err error) {
	st := t.stmt("SELECT case_key, group_by, tenant FROM run WHERE seq = ?").Int(run)
	ok, err := st.Next()
	if err != nil || !ok {
		return "", "", err
	}
	was, by, tenant := st.ColText(0), st.ColText(1), st.ColText(2)
	st.Reset()
	if by != "incident" || was == "" {
		return was, was, nil
	}
	now, err = t.group(was, tenant)
	return now, was, err
}

// beginAgain makes a run forget what it did, under the name that its group goes by now.
func (t *tx) beginAgain(run int64, merged string) error {
	now, _, err := t.regrouped(run)
	if err != nil {
		return err
	}
	if err := t.done(t.stmt("UPDATE run SET case_key = ?, merged_key = coalesce(?, merged_key) WHERE seq = ?").
		TextOrNull(now).TextOrNull(merged).Int(run)); err != nil {
		return err
	}
	return t.done(t.stmt("DELETE FROM step WHERE run = ?").Int(run))
}
