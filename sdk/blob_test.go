package sdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

type upload struct {
	File sdk.Blob `json:"file" cw:"required" doc:"What to keep"`
}

type kept struct {
	Size int `json:"size"`
}

// files is a connector that sends and takes files.
func files(send func(context.Context) error) *sdk.Connector {
	c := sdk.New("files", "1.0.0", "Files.", openThing)
	sdk.Action(c, "file.get", "Get files.", func(_ *thing, ctx context.Context, _ struct{}) (kept, error) {
		_ = send(ctx) // the kit must see to it that the action fails all the same
		return kept{1}, nil
	}, sdk.Read, sdk.Blobs())
	sdk.Action(c, "file.hide", "Get files without saying so.", func(_ *thing, ctx context.Context, _ struct{}) (kept, error) {
		return kept{}, send(ctx)
	}, sdk.Read)
	sdk.Action(c, "file.put", "Keep a file.", func(_ *thing, _ context.Context, in upload) (kept, error) {
		return kept{len(in.File.Data)}, in.File.Verify("file")
	}, sdk.Idempotent)
	return c
}

// Files of every size around the size of a piece arrive as they were sent, in order.
func TestSendBlob(t *testing.T) {
	t.Parallel()
	sizes := []int{0, 1, plugin.BlobPiece - 1, plugin.BlobPiece, plugin.BlobPiece + 1, 3 * plugin.BlobPiece, 5<<20 + 7}
	content := func(n int) []byte { return bytes.Repeat([]byte("casewire!"), n/9+1)[:n] }
	h := sdktest.Open(t, files(func(ctx context.Context) error {
		for _, n := range sizes {
			// A reader that gives little at a time is as good as any.
			if err := sdk.SendBlob(ctx, "f.bin", "application/octet-stream", iotest.HalfReader(bytes.NewReader(content(n)))); err != nil {
				return err
			}
		}
		return nil
	}), nil)
	res, err := h.Do(t.Context(), sdktest.Call{Action: "file.get"})
	if err != nil || len(res.Blobs) != len(sizes) {
		t.Fatalf("%d files, %v", len(res.Blobs), err)
	}
	for i, b := range res.Blobs {
		if !bytes.Equal(b.Data, content(sizes[i])) || b.Name != "f.bin" || b.MediaType != "application/octet-stream" {
			t.Errorf("file %d of %d bytes came with %d", i, sizes[i], len(b.Data))
		}
	}
	var out struct {
		Size  int
		Blobs []sdk.Blob
	}
	if err := json.Unmarshal(res.Output, &out); err != nil || out.Size != 1 || len(out.Blobs) != len(sizes) {
		t.Fatalf("output %s, %v", res.Output, err)
	}
	// A file of one action is the input of another, as it stands.
	var k kept
	if err := h.Call(t.Context(), "file.put", map[string]any{"file": out.Blobs[3]}, &k); err != nil || k.Size != plugin.BlobPiece {
		t.Errorf("kept %d bytes, %v", k.Size, err)
	}
	large := map[string]any{"name": out.Blobs[6].Name, "size": out.Blobs[6].Size, "sha256": out.Blobs[6].SHA256}
	want(t, h.Call(t.Context(), "file.put", map[string]any{"file": large}, nil), plugin.ClassInvalid, plugin.EffectNone, "/file/data")
}

func TestBlobFailuresEndTheAction(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	for name, tt := range map[string]struct {
		send   func(context.Context) error
		action string
		class  plugin.Class
		text   string
	}{
		"reader": {func(ctx context.Context) error {
			return sdk.SendBlob(ctx, "f", "", io.MultiReader(strings.NewReader(strings.Repeat("x", 3*plugin.BlobPiece)), iotest.ErrReader(broken)))
		}, "file.get", plugin.ClassBug, `read the file "f": the disk is gone`},
		"no name":      {func(ctx context.Context) error { return sdk.SendBlob(ctx, "", "", strings.NewReader("x")) }, "file.get", plugin.ClassBug, "needs a name"},
		"not declared": {func(ctx context.Context) error { return sdk.SendBlob(ctx, "f", "", strings.NewReader("x")) }, "file.hide", plugin.ClassBug, "add the option"},
		"no context": {func(context.Context) error {
			return sdk.SendBlob(context.Background(), "f", "", strings.NewReader("x"))
		}, "file.hide", plugin.ClassBug, "outside of an action"},
	} {
		h := sdktest.Open(t, files(tt.send), nil)
		err := h.Call(t.Context(), tt.action, nil, nil)
		if e := asError(t, err); e.Class() != tt.class || !strings.Contains(e.Error(), tt.text) {
			t.Errorf("%s: got %s: %v", name, e.Class(), e)
		}
	}
	h := sdktest.Open(t, files(func(ctx context.Context) error {
		return sdk.SendBlob(ctx, "f", "", bytes.NewReader(make([]byte, 1<<20)))
	}), nil)
	_, err := h.Do(t.Context(), sdktest.Call{Action: "file.get", MaxOutput: 1000})
	want(t, err, plugin.ClassTooLarge, plugin.EffectNone, "more than 1000 bytes")
}

func TestBlobVerify(t *testing.T) {
	t.Parallel()
	good := sdk.NewBlob("a", "text/plain", []byte("abc"))
	if err := good.Verify("file"); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*sdk.Blob){func(b *sdk.Blob) { b.Size++ }, func(b *sdk.Blob) { b.Data[0]++ }, func(b *sdk.Blob) { b.SHA256 = "00" }} {
		b := sdk.NewBlob("a", "text/plain", []byte("abc"))
		change(&b)
		want(t, b.Verify("file"), plugin.ClassInvalid, plugin.EffectNone, "/file")
	}
}
