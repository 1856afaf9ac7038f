package indicators

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// result is what became of one indicator, as the connector tells it.
type result struct {
	At         string `json:"at"`
	Value      string `json:"value"`
	Type       string `json:"type,omitempty"`
	ID         string `json:"id,omitempty"`
	VendorID   string `json:"vendor_id,omitempty"`
	Status     string `json:"status"`
	Reason     string `json:"reason,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Created    string `json:"created,omitempty"`
	Modified   string `json:"modified,omitempty"`
	ValidUntil string `json:"valid_until,omitempty"`
	RenewAfter string `json:"renew_after,omitempty"`
}

// The statuses.
const (
	accepted  = "accepted"
	unchanged = "unchanged"
	rejected  = "rejected"
	duplicate = "duplicate"
	valid     = "valid"
)

// entry is a line of the journal: a batch that is about to be sent, or one that was.
type entry struct {
	Batch   int       `json:"batch"`
	At      time.Time `json:"at,omitzero"` // of the first attempt: a repeat sends the same bytes
	Done    bool      `json:"done,omitempty"`
	Uploads int       `json:"uploads,omitempty"`
	Results []result  `json:"results,omitempty"`
}

// journal is the progress of one submission of one file. It is gone once that is complete.
type journal struct {
	path  string
	f     *os.File
	begun map[int]time.Time
	done  map[int]entry
}

// openJournal reads a journal up to where it is whole, and goes on there.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, f: f, begun: map[int]time.Time{}, done: map[int]entry{}}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	in := bufio.NewReader(f)
	whole := int64(0)
	for {
		line, err := in.ReadBytes('\n')
		var e entry
		if err != nil || json.Unmarshal(line, &e) != nil {
			break // the last write was cut off
		}
		whole += int64(len(line))
		if e.Done {
			j.done[e.Batch] = e
		} else {
			j.begun[e.Batch] = e.At
		}
	}
	if err := f.Truncate(whole); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// write makes an entry durable.
func (j *journal) write(e entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := j.f.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

func (j *journal) close() {
	_ = j.f.Close() // what counts was synced
}

// finish removes the journal: what it says has been put elsewhere.
func (j *journal) finish() error { return os.Remove(j.path) }

// fact is what is known of an indicator at the vendor.
type fact struct {
	digest            string
	created, modified string
	until, renew      string
}

// current says whether the vendor has an indicator with that content, for a while to come.
func (f fact) current(digest string, now time.Time) bool {
	if f.digest != digest {
		return false
	}
	for _, s := range []string{f.until, f.renew} {
		if s == "" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, s); err != nil || !now.Before(t) {
			return false
		}
	}
	return true
}

// facts are kept in a file of lines: id, digest, created, modified, until, renew.
type facts map[string]fact

func readFacts(path string) (facts, error) {
	known := facts{}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		cells := strings.Split(strings.TrimSuffix(string(line), "\n"), "\t")
		if len(cells) != 6 {
			continue // it is sent again
		}
		known[cells[0]] = fact{cells[1], cells[2], cells[3], cells[4], cells[5]}
	}
	return known, nil
}

// learn adds what a result says.
func (k facts) learn(r *result) {
	if r.Status == accepted && r.ID != "" && r.Digest != "" {
		k[r.ID] = fact{r.Digest, r.Created, r.Modified, r.ValidUntil, r.RenewAfter}
	}
}

// write replaces the file, whole or not at all. What has ended is left out.
func (k facts) write(path string, now time.Time) error {
	ids := make([]string, 0, len(k))
	for id, f := range k {
		if t, err := time.Parse(time.RFC3339, f.until); err == nil && now.Sub(t) > 30*24*time.Hour {
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	tmp, err := os.CreateTemp(filepath.Dir(path), ".known-")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(tmp)
	for _, id := range ids {
		f := k[id]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", id, f.digest, f.created, f.modified, f.until, f.renew)
	}
	err = errors.Join(w.Flush(), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("keep what is known of the indicators: %w", err)
	}
	return nil
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
