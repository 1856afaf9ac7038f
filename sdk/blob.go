package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/sdk/internal/schema"
)

// Blob is a file as it stands in an input: declare a property of this type, and the file arrives whole. It has the shape of
// an entry of another action's "blobs", so that a flow can hand a file on: with: { file: "${{ steps.fetch.blobs[0] }}" }.
// An input has at most 2 MiB, which is about 1.5 MiB of file; a flow sees the data of files up to 256 KiB only.
type Blob struct {
	Name      string `json:"name,omitempty" doc:"Name of the file"`
	MediaType string `json:"media_type,omitempty" doc:"Media type, such as application/pdf"`
	Size      int64  `json:"size,omitempty" doc:"Size in bytes"`
	SHA256    string `json:"sha256,omitempty" doc:"SHA-256 of the contents, in hex"`
	Data      []byte `json:"data" cw:"required" doc:"The contents"`
}

// NewBlob makes a Blob of data, with its size and digest.
func NewBlob(name, mediaType string, data []byte) Blob {
	sum := sha256.Sum256(data)
	return Blob{Name: name, MediaType: mediaType, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), Data: data}
}

// Verify says whether the contents are what size and digest say, where these are given. The error is an Invalid at field.
func (b Blob) Verify(field string) error {
	if b.Size != 0 && b.Size != int64(len(b.Data)) {
		return Invalid(field, "the file has %d bytes, but says that it has %d", len(b.Data), b.Size)
	}
	if sum := sha256.Sum256(b.Data); b.SHA256 != "" && !strings.EqualFold(b.SHA256, hex.EncodeToString(sum[:])) {
		return Invalid(field, "the file is not what its SHA-256 says")
	}
	return nil
}

// blobInfo is what a flow sees of a file that an action sent.
type blobInfo struct {
	Name      string `json:"name" doc:"Name of the file"`
	MediaType string `json:"media_type" doc:"Media type"`
	Size      int64  `json:"size" doc:"Size in bytes"`
	SHA256    string `json:"sha256" doc:"SHA-256 of the contents, in hex"`
	Data      []byte `json:"data,omitempty" doc:"The contents, of a file up to 256 KiB"`
}

// Blobs says that the action sends files by SendBlob. In a flow they are the output's property "blobs".
func Blobs() ActionOption {
	return func(a *actionSpec) { a.blobs = true }
}

// SendBlob sends one file from within an action that is declared with Blobs. It reads r to its end and blocks while the
// host is busy; files of any size are fine. A failure, of r or of the host, ends the action, whatever the author makes of
// the error.
func SendBlob(ctx context.Context, name, mediaType string, r io.Reader) error {
	i, ok := ctx.Value(callKey{}).(*callInfo)
	if !ok || i.w == nil {
		return bug("SendBlob is called outside of an action; hand it the context that the action got")
	}
	return i.w.blob(name, mediaType, r)
}

// blob sends the pieces of one file. Files go one after the other, also from several goroutines.
func (w *rowWriter) blob(name, mediaType string, r io.Reader) error {
	w.files.Lock()
	defer w.files.Unlock()
	if !w.a.blobs {
		return w.fail(w.a.midway(bug("%s: it sends the file %q, but is declared without sdk.Blobs(); add the option", w.a.name, name)))
	}
	if name == "" || !validText(name) || !validText(mediaType) {
		return w.fail(w.a.midway(bug("%s: a file needs a name, and name and media type must be UTF-8; got %q, %q", w.a.name, name, mediaType)))
	}
	// One piece is read ahead, so that the last one is known to be the last.
	var pieces [2][]byte
	read := func(n int) (bool, error) {
		if pieces[n] == nil {
			pieces[n] = make([]byte, plugin.BlobPiece)
		}
		got, err := io.ReadFull(r, pieces[n][:plugin.BlobPiece])
		pieces[n] = pieces[n][:got]
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, w.fail(fmt.Errorf("%s: read the file %q: %w", w.a.name, name, err))
		}
		return false, nil
	}
	end, err := read(0)
	for n := 0; err == nil; n = 1 - n {
		last := end
		if !end {
			if end, err = read(1 - n); err != nil {
				return err
			}
			last = end && len(pieces[1-n]) == 0
		}
		if err = w.piece(&connectorv1.Blob{Name: name, MediaType: mediaType, Data: pieces[n], Last: last}); err != nil || last {
			return err
		}
	}
	return err
}

func (w *rowWriter) piece(b *connectorv1.Blob) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.closed:
		return bug("%s: a file was sent after the action had returned", w.a.name)
	}
	if err := w.stream.Context().Err(); err != nil {
		w.err = err
		return err
	}
	if w.bytes += uint64(len(b.GetData())); w.maxBytes > 0 && w.bytes > w.maxBytes {
		w.err = w.a.midway(tooLarge("%s: it sends more than %d bytes, the most that the caller takes", w.a.name, w.maxBytes))
		return w.err
	}
	w.err = w.stream.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Blob{Blob: b}})
	return w.err
}

// fail makes err the end of the action unless something failed before.
func (w *rowWriter) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return err
}

func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }

// blobsExtra is the property that stands for the files in an output's schema.
func blobsExtra() schema.Extra {
	p, err := schema.Compile(reflect.TypeFor[blobInfo](), schema.Output)
	if err != nil {
		mistake("%v", err)
	}
	list := append([]byte(`{"type":"array","description":"The files, in order","items":`), p.Fragment()...)
	return schema.Extra{Name: "blobs", Schema: append(list, '}')}
}
