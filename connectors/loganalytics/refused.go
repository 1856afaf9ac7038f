package loganalytics

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"time"
)

// maxRefused bounds how many rejected rows a cursor remembers. Further ones are told again.
const maxRefused = 1000

// refusal remembers a row that was rejected, so that windows that overlap tell of it once.
type refusal struct {
	Mark  string    `json:"m"`
	Until time.Time `json:"u"` // end of its window
}

// refuse notes a rejected row, and says whether it is news.
func (c *cursor) refuse(row rawRow, until time.Time) bool {
	sum := sha256.Sum256(row)
	mark := base64.RawURLEncoding.EncodeToString(sum[:12])
	if slices.ContainsFunc(c.Refused, func(r refusal) bool { return r.Mark == mark }) {
		return false
	}
	if len(c.Refused) == maxRefused {
		return true
	}
	c.Refused = append(c.Refused, refusal{mark, until})
	return true
}

// forget drops the rows that cannot come again: no window begins before from.
func (c *cursor) forget(from time.Time) {
	c.Refused = slices.DeleteFunc(c.Refused, func(r refusal) bool { return !r.Until.After(from) })
}
