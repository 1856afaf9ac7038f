package sentinel_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/connectors/azurefake"
	"github.com/casewire/casewire/connectors/sentinel"
	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/sdktest"
)

// pair is a certificate and its key, as PEM and as a key.
type pair struct {
	pem string
	key *rsa.PrivateKey
}

var pairs = sync.OnceValue(func() (out [2]pair) {
	for i := range out {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "notifications"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
		if err != nil {
			panic(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		out[i] = pair{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) +
			string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), key}
	}
	return out
})

func encryption() settings {
	p := pairs()
	return settings{"certificate": p[0].pem, "certificate_id": "new", "previous": p[1].pem, "previous_id": "old"}
}

// TestEncryptedPush: a subscription that asks for the resource brings it encrypted; what is forged on the way is refused.
func TestEncryptedPush(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{RichAlerts: true}, settings{"push": "manage", "encryption": encryption()})
	b.poll(nil)
	if n := len(b.graph.Subscriptions()); n != 1 {
		t.Fatalf("%d subscriptions; %+v", n, b.probe(b.Harness, "push"))
	}
	id := b.alert("a")
	b.eventually("a hint", func() bool { return len(b.taken()) == 1 })
	if out, err := b.Resolve(t.Context(), "alerts", b.taken()[0]); err != nil || len(out[0].Events) != 1 || out[0].Events[0].Subject != id {
		t.Errorf("%+v, %v", out, err)
	}
	if strings.Contains(string(b.taken()[0].Data), "tokens") {
		t.Errorf("the token was not checked at once: %s", b.taken()[0].Data)
	}
	count := func(reason string) int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.counts[reason]
	}
	b.graph.SetPush(azurefake.Push{BadSignature: 1})
	b.alert("b")
	b.eventually("a bad signature", func() bool { return count("bad_signature") == 1 })
	b.graph.SetPush(azurefake.Push{BadToken: 1})
	b.alert("c")
	b.eventually("a bad token", func() bool { return count("validation_token") == 1 })
	if n := len(b.taken()); n != 1 {
		t.Errorf("%d hints", n)
	}
	// The authority signs with a new key: the token is looked at later, when the key has been fetched.
	b.graph.SetPush(azurefake.Push{})
	b.graph.RotateKeys()
	b.alert("d")
	b.eventually("another hint", func() bool { return len(b.taken()) == 2 })
	if !strings.Contains(string(b.taken()[1].Data), "tokens") {
		t.Errorf("a token of an unknown key was taken: %s", b.taken()[1].Data)
	}
}

// deliver hands the hook one notification with encrypted content and these tokens.
func (b *bench) deliver(content map[string]any, tokens ...string) *sdk.HookResponse {
	b.t.Helper()
	body, err := json.Marshal(map[string]any{
		"value":            []any{map[string]any{"clientState": "given", "subscriptionId": "s", "changeType": "created", "resource": "x", "encryptedContent": content}},
		"validationTokens": tokens,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.Hook(b.t.Context(), "alerts", &sdk.HookRequest{Method: "POST", Body: body})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

func TestEncryptedContent(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "receive", "client_state": "given", "encryption": encryption()})
	b.poll(nil) // fetches the keys
	p := pairs()
	good := b.graph.ValidationToken(azurefake.TokenClaims{})
	resource := []byte(`{"id":"da1_1"}`)
	with := func(name string, v any) map[string]any {
		c := azurefake.Encrypt(resource, &p[0].key.PublicKey, "new", false)
		c[name] = v
		return c
	}
	for name, tc := range map[string]struct {
		content map[string]any
		hint    bool
		refused string
	}{
		"good":                {azurefake.Encrypt(resource, &p[0].key.PublicKey, "new", false), true, ""},
		"of the former key":   {azurefake.Encrypt(resource, &p[1].key.PublicKey, "old", false), true, ""},
		"of another key":      {azurefake.Encrypt(resource, &p[1].key.PublicKey, "new", false), false, "bad_encryption"},
		"unknown certificate": {with("encryptionCertificateId", "lost"), false, "unknown_certificate"},
		"wrong signature":     {azurefake.Encrypt(resource, &p[0].key.PublicKey, "new", true), false, "bad_signature"},
		"no base64":           {with("data", "%%%"), false, "bad_encryption"},
		"half a block":        {with("data", "AAAA"), false, "bad_encryption"},
		"nothing":             {with("data", ""), false, "bad_encryption"},
		"no object":           {azurefake.Encrypt([]byte("[]"), &p[0].key.PublicKey, "new", false), false, "bad_encryption"},
	} {
		resp := b.deliver(tc.content, good)
		if resp.Status != 202 || (len(resp.Hints) == 1) != tc.hint || tc.refused != "" && resp.Refused[tc.refused] != 1 {
			t.Errorf("%s: %+v", name, resp)
		}
		if tc.hint && resp.Hints[0].ID != "alert/da1_1" {
			t.Errorf("%s: hint %s", name, resp.Hints[0].ID)
		}
	}
}

func TestValidationTokens(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "receive", "client_state": "given", "encryption": encryption()})
	b.poll(nil)
	content := azurefake.Encrypt([]byte(`{"id":"x"}`), &pairs()[0].key.PublicKey, "new", false)
	tok := b.graph.ValidationToken
	tenant := b.graph.Tenant()
	for name, tokens := range map[string][]string{
		"none": nil, "nonsense": {"a.b.c"}, "no token": {"x"},
		"another app's":     {tok(azurefake.TokenClaims{Audience: "other"})},
		"another sender":    {tok(azurefake.TokenClaims{AppID: "00000003-0000-0000-c000-000000000000"})},
		"another tenant":    {tok(azurefake.TokenClaims{Tenant: "99999999-0000-4000-8000-000000000099"})},
		"another issuer":    {tok(azurefake.TokenClaims{Issuer: "https://evil.example/" + tenant + "/"})},
		"expired":           {tok(azurefake.TokenClaims{Expires: time.Now().Add(-time.Hour)})},
		"forged":            {tok(azurefake.TokenClaims{BadSignature: true})},
		"not signed so":     {tok(azurefake.TokenClaims{Algorithm: "none"})},
		"by a shared key":   {tok(azurefake.TokenClaims{Algorithm: "HS256"})},
		"one good, one bad": {tok(azurefake.TokenClaims{}), tok(azurefake.TokenClaims{Audience: "other"})},
	} {
		if resp := b.deliver(content, tokens...); resp.Status != 202 || len(resp.Hints) != 0 || resp.Refused["validation_token"] != 1 {
			t.Errorf("%s: %+v", name, resp)
		}
	}
	for name, tokens := range map[string][]string{
		"good": {tok(azurefake.TokenClaims{})}, "version 2": {tok(azurefake.TokenClaims{Issuer: b.url + "/" + tenant + "/v2.0"})},
		"two": {tok(azurefake.TokenClaims{}), tok(azurefake.TokenClaims{})},
	} {
		if resp := b.deliver(content, tokens...); len(resp.Hints) != 1 {
			t.Errorf("%s: %+v", name, resp)
		}
	}
}

// TestTokensAreCheckedLater: before the keys are there, tokens go along with the hint, and the look-up checks them.
func TestTokensAreCheckedLater(t *testing.T) {
	t.Parallel()
	b := newBench(t, azurefake.Options{}, settings{"push": "receive", "client_state": "given", "encryption": encryption()})
	id := b.alert("a")
	content := azurefake.Encrypt([]byte(`{"id":"`+id+`"}`), &pairs()[0].key.PublicKey, "new", false)
	resp := b.deliver(content, b.graph.ValidationToken(azurefake.TokenClaims{}))
	forged := b.deliver(content, b.graph.ValidationToken(azurefake.TokenClaims{BadSignature: true}))
	strange := b.deliver(content, b.graph.ValidationToken(azurefake.TokenClaims{KeyID: "nobody's"}))
	if len(resp.Hints) != 1 || len(forged.Hints) != 1 || len(strange.Hints) != 1 {
		t.Fatalf("%+v, %+v, %+v", resp, forged, strange)
	}
	out, err := b.Resolve(t.Context(), "alerts", resp.Hints[0])
	if err != nil || len(out[0].Events) != 1 {
		t.Errorf("good: %+v, %v", out, err)
	}
	for _, h := range []sdk.Hint{forged.Hints[0], strange.Hints[0]} {
		out, err := b.Resolve(t.Context(), "alerts", h)
		var e *sdk.Error
		if err != nil || !errors.As(out[0].Err, &e) || e.Code != codes.InvalidArgument || !strings.Contains(out[0].Err.Error(), "validation token") {
			t.Errorf("forged: %+v, %v", out, err)
		}
	}
}

func TestEncryptionConfiguration(t *testing.T) {
	t.Parallel()
	cred := settings{"tenant_id": azurefake.DefaultTenant, "client_id": azurefake.DefaultClientID, "client_secret": "s"}
	p := pairs()
	cert, key, _ := strings.Cut(p[0].pem, "-----END CERTIFICATE-----\n")
	for name, tc := range map[string]struct {
		encryption settings
		says       string
	}{
		"no id":         {settings{"certificate": p[0].pem}, "certificate_id"},
		"no key":        {settings{"certificate": cert + "-----END CERTIFICATE-----\n", "certificate_id": "a"}, "no private key"},
		"no cert":       {settings{"certificate": key, "certificate_id": "a"}, "no certificate"},
		"other cert":    {settings{"certificate": cert + "-----END CERTIFICATE-----\n" + strings.SplitAfter(p[1].pem, "-----END CERTIFICATE-----\n")[1], "certificate_id": "a"}, "no certificate that belongs"},
		"same id twice": {settings{"certificate": p[0].pem, "certificate_id": "a", "previous": p[1].pem, "previous_id": "a"}, "previous_id"},
		"only an id":    {settings{"certificate_id": "a"}, "certificate"},
	} {
		_, err := sdktest.Try(t, sentinel.Connector(), settings{"credential": cred, "encryption": tc.encryption})
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want a word about %s", name, err, tc.says)
		}
	}
	if _, err := sdktest.Try(t, sentinel.Connector(), settings{"credential": settings{"token": "t"}, "encryption": encryption()}); err == nil || !strings.Contains(err.Error(), "client_id") {
		t.Errorf("without an app: %v", err)
	}
}
