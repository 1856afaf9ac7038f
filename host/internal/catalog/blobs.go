package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"hash"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// How many files are gathered, and how much of their contents, whatever their sizes are one by one.
const (
	maxBlobs       = 1000
	maxInlineBlobs = 1 << 20
)

// blobs follows the files of one call.
type blobs struct {
	wanted bool // the action declares files
	open   bool // a file has begun and not ended
	list   []blob
	hash   hash.Hash
	data   bytes.Buffer // of the open file, as long as it may be shown in place
	inline int          // bytes shown in place so far
}

// blob is a file as it stands in an output.
type blob struct {
	Name      string `json:"name"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	// Data is nil for a file that is not shown in place; an empty file is.
	Data *string `json:"data,omitempty"`
}

// takeBlob checks a piece of a file, and gathers what an output shows of it if nobody takes it as it comes.
func (r *receiver) takeBlob(p *connectorv1.Blob) *plugin.Error {
	b := &r.blobs
	if n := len(p.GetData()); n > plugin.MaxBlobPiece {
		return r.in.lie(r.a, codes.OutOfRange, "a piece of a file has %d bytes, more than %d", n, plugin.MaxBlobPiece)
	}
	if !b.open {
		if p.GetName() == "" {
			return r.in.lie(r.a, codes.Internal, "a file without a name")
		}
		if r.onEvent == nil && len(b.list) == maxBlobs {
			e := r.in.lie(r.a, codes.OutOfRange, "")
			e.Message = r.a.what() + ": it sends more than 1000 files; ask for fewer"
			return e
		}
		b.open = true
		if r.onEvent == nil {
			b.list = append(b.list, blob{Name: p.GetName(), MediaType: p.GetMediaType()})
			b.hash = sha256.New()
			b.data.Reset()
		}
	}
	b.open = !p.GetLast()
	if r.onEvent != nil {
		return nil
	}
	f := &b.list[len(b.list)-1]
	f.Size += int64(len(p.GetData()))
	_, _ = b.hash.Write(p.GetData())
	if f.Size <= plugin.MaxInlineBlob {
		b.data.Write(p.GetData())
	}
	if p.GetLast() {
		f.SHA256 = hex.EncodeToString(b.hash.Sum(nil))
		if f.Size <= plugin.MaxInlineBlob && b.inline+int(f.Size) <= maxInlineBlobs {
			b.inline += int(f.Size)
			data := base64.StdEncoding.EncodeToString(b.data.Bytes())
			f.Data = &data
		}
		b.data.Reset()
	}
	return nil
}

// join makes the files a property of an output.
func (b *blobs) join(out []byte) ([]byte, error) {
	list := []byte("[]")
	if len(b.list) > 0 {
		var err error
		if list, err = json.Marshal(b.list); err != nil {
			return nil, err
		}
	}
	return withProperty(out, "blobs", "the files", list)
}
