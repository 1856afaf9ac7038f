package launch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// rehash is how long a digest is believed of a file that looks unchanged.
const rehash = time.Hour

// Digests remembers the digests of files by what the file system says of them: inode, size, and the times of the last
// change of content and of attributes. It is meant for files that only this user can change. The zero value is ready; a nil
// one remembers nothing.
type Digests struct {
	mu   sync.Mutex
	seen map[fileID]digest
}

type digest struct {
	sum string
	at  time.Time
}

// fileID tells one state of a file from another.
type fileID struct {
	dev, ino, size    uint64
	modified, changed int64
}

// Sum returns the SHA-256 of an open file in hex, and leaves it read to its end.
func (d *Digests) Sum(f *os.File) (string, error) {
	id, ok := identify(f)
	if ok && d != nil {
		d.mu.Lock()
		have, found := d.seen[id]
		d.mu.Unlock()
		if found && time.Since(have.at) < rehash {
			return have.sum, nil
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", f.Name(), err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	// A file that changed meanwhile is another one, and the digest nobody's.
	if after, same := identify(f); ok && same && after == id && d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.seen == nil {
			d.seen = map[fileID]digest{}
		}
		d.seen[id] = digest{sum, time.Now()}
	}
	return sum, nil
}

// openRegular opens a file to be executed. It waits for no pipe's other end.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "execute", Path: path, Err: errors.New("it is no regular file")}
	}
	return os.Open(path)
}
