package indicators

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/casewire/casewire/connectors/threatintel/feed"
	"github.com/casewire/casewire/host/internal/cli"
)

// source is a file that can be read more than once, and that does not change between.
type source struct {
	f       *os.File
	spool   bool // the file is ours
	digest  string
	format  string
	total   int
	skipped map[string]int
}

// openSource opens a file, or keeps a copy of standard input, and reads it once: nothing is sent of a document that cannot be
// read to its end.
func openSource(name, format string, stdin io.Reader) (_ *source, err error) {
	s := &source{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	hash := sha256.New()
	if name == "-" {
		if s.f, err = os.CreateTemp("", "casewire-indicators-"); err != nil {
			return nil, cli.Environment(err)
		}
		s.spool = true
		if _, err = io.Copy(io.MultiWriter(s.f, hash), stdin); err != nil {
			return nil, cli.Environment(fmt.Errorf("standard input cannot be read: %w", err))
		}
	} else {
		if s.f, err = os.Open(name); err != nil {
			return nil, cli.Environment(err)
		}
		if _, err = io.Copy(hash, s.f); err != nil {
			return nil, cli.Environment(fmt.Errorf("%s cannot be read: %w", name, err))
		}
	}
	s.digest = hex.EncodeToString(hash.Sum(nil))
	r, err := s.reader(format)
	if err != nil {
		return nil, cli.Invalid(fmt.Errorf("%s: %w", name, err))
	}
	s.format = r.Format()
	for _, err := range r.Drafts() {
		if err != nil {
			return nil, cli.Invalid(fmt.Errorf("%s, read as %s: %w; nothing was submitted", name, s.format, err))
		}
		s.total++
	}
	s.skipped = r.Skipped
	return s, nil
}

// reader reads the document from its beginning.
func (s *source) reader(format string) (*feed.Reader, error) {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return feed.New(s.f, format)
}

// batches yields the records in batches of n, always the same ones.
func (s *source) batches(n int, do func(number int, batch []feed.Draft) error) error {
	r, err := s.reader(s.format)
	if err != nil {
		return err
	}
	number, count := 0, 0
	batch := make([]feed.Draft, 0, n)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := do(number, batch)
		number++
		batch = batch[:0]
		return err
	}
	for d, err := range r.Drafts() {
		if err != nil {
			return err
		}
		count++
		batch = append(batch, d)
		if len(batch) == n {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if count != s.total {
		return errors.New("the file was changed while it was read; run the command again")
	}
	return nil
}

func (s *source) close() {
	if s.f == nil {
		return
	}
	_ = s.f.Close() // it was only read
	if s.spool {
		_ = os.Remove(s.f.Name())
	}
}
