package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/casewire/casewire/host/internal/seal"
)

func box(t *testing.T, fill byte) *seal.Box {
	t.Helper()
	b, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var owner = seal.Owner{Connection: "alerts", Connector: "sentinel", Tenant: "t1"}

func TestOpenGivesBackWhatWasSealed(t *testing.T) {
	t.Parallel()
	b, plain := box(t, 1), []byte("a refresh token")
	sealed, err := b.Seal(owner, plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, plain) || strings.Contains(string(sealed), base64.StdEncoding.EncodeToString(plain)) {
		t.Errorf("the value can be read: %s", sealed)
	}
	got, err := b.Open(owner, sealed)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opened %q, %v", got, err)
	}
	again, err := b.Seal(owner, plain)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("two sealings of one value are the same: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	b := box(t, 1)
	sealed, err := b.Seal(owner, []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(key string, f func(any) any) []byte {
		var m map[string]any
		if err := json.Unmarshal(sealed, &m); err != nil {
			t.Fatal(err)
		}
		m[key] = f(m[key])
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	to := func(v any) func(any) any { return func(any) any { return v } }
	flip := func(v any) any {
		text, _ := v.(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		raw[0] ^= 1
		return raw
	}
	with := func(f func(*seal.Owner)) seal.Owner {
		o := owner
		f(&o)
		return o
	}
	for name, c := range map[string]struct {
		box    *seal.Box
		owner  seal.Owner
		sealed []byte
		want   error
	}{
		"another key":          {box(t, 2), owner, sealed, seal.ErrOtherKey},
		"another connection":   {b, with(func(o *seal.Owner) { o.Connection = "tickets" }), sealed, seal.ErrDamaged},
		"another connector":    {b, with(func(o *seal.Owner) { o.Connector = "jira" }), sealed, seal.ErrOther},
		"another tenant":       {b, with(func(o *seal.Owner) { o.Tenant = "" }), sealed, seal.ErrOther},
		"a relabelled one":     {b, with(func(o *seal.Owner) { o.Connector = "jira" }), changed("connector", to("jira")), seal.ErrDamaged},
		"a moved tenant":       {b, with(func(o *seal.Owner) { o.Tenant = "t2" }), changed("tenant", to("t2")), seal.ErrDamaged},
		"a flipped bit":        {b, owner, changed("box", flip), seal.ErrDamaged},
		"a flipped nonce":      {b, owner, changed("nonce", flip), seal.ErrDamaged},
		"a short nonce":        {b, owner, changed("nonce", to([]byte{1})), seal.ErrDamaged},
		"nothing in it":        {b, owner, changed("box", to([]byte{})), seal.ErrDamaged},
		"a newer version":      {b, owner, changed("v", to(2)), seal.ErrDamaged},
		"cut":                  {b, owner, sealed[:len(sealed)/2], seal.ErrDamaged},
		"something else there": {b, owner, []byte("value"), seal.ErrDamaged},
		"nothing there":        {b, owner, nil, seal.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.box.Open(c.owner, c.sealed)
			if got != nil || !errors.Is(err, c.want) {
				t.Errorf("opened %q, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef}, seal.KeySize/2)
	for _, text := range []string{
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)) + "\n", base64.StdEncoding.EncodeToString(raw),
		base64.RawURLEncoding.EncodeToString(raw),
	} {
		if key, err := seal.ParseKey(text); err != nil || !bytes.Equal(key, raw) {
			t.Errorf("ParseKey(%q) = %x, %v", text, key, err)
		}
	}
	for _, text := range []string{"", "correct horse battery staple", hex.EncodeToString(raw[:16]), hex.EncodeToString(raw) + "00"} {
		if key, err := seal.ParseKey(text); err == nil {
			t.Errorf("ParseKey(%q) = %x", text, key)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "casewire.db.key")
	if _, err := seal.ReadKeyFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	// Those who come together agree on one key.
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = seal.KeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if len(k) != seal.KeySize || !bytes.Equal(k, keys[0]) {
			t.Fatalf("the keys differ: %x", keys)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.KeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.KeyFile(path); err == nil || !strings.Contains(err.Error(), "openssl") {
		t.Errorf("a file that is no key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	b, err := seal.New(make([]byte, seal.KeySize))
	if err != nil {
		f.Fatal(err)
	}
	whole, err := b.Seal(owner, []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"v":1,"nonce":"AAAA"}`))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := b.Open(owner, sealed)
		if err == nil && string(plain) != "value" {
			t.Errorf("%q opened to %q", sealed, plain)
		}
	})
}
