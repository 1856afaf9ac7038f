package azurefake

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net/http"
	"sync"
	"time"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// Notifications with resource data, after "Set up change notifications that include resource data": the resource is
// encrypted for the subscriber's certificate, and signed tokens vouch for the sender. Microsoft Graph does not offer them
// for alerts; with Options.RichAlerts this one does.

// RouteKeys is the authority's list of public keys.
const RouteKeys = "entra.keys"

var rKeys = fakekit.Route{Name: RouteKeys}

// notifierApp is the app under which Microsoft Graph publishes change notifications.
const notifierApp = "0bf30f3b-4a52-48df-9a82-234910c4a086"

// signer signs validation tokens.
type signer struct {
	mu  sync.Mutex
	key *rsa.PrivateKey
	kid string
}

func (g *signer) current() (*rsa.PrivateKey, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.key == nil {
		var err error
		if g.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic("azurefake: " + err.Error()) // never, with a system's random numbers
		}
		g.kid = "fake-key-" + hex.EncodeToString(g.key.N.Bytes()[:4])
	}
	return g.key, g.kid
}

// RotateKeys makes validation tokens be signed by a new key from now on; the former is forgotten.
func (s *Server) RotateKeys() {
	s.signer.mu.Lock()
	s.signer.key = nil
	s.signer.mu.Unlock()
}

func (s *Server) listKeys(*fakekit.Call) fakekit.Reply {
	key, kid := s.signer.current()
	return fakekit.JSON(http.StatusOK, object{"keys": []object{
		{"kty": "EC", "use": "sig", "kid": "other", "crv": "P-256", "x": "AA", "y": "AA"},
		{
			"kty": "RSA", "use": "sig", "kid": kid, "x5t": kid, "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		},
	}})
}

// TokenClaims are the claims of a validation token that a test wants otherwise; empty ones are as Microsoft sets them.
type TokenClaims struct {
	Audience, Issuer, AppID, Tenant, Algorithm, KeyID string
	Expires                                           time.Time
	BadSignature                                      bool
}

// ValidationToken makes a token as Microsoft Graph sends it along with encrypted notifications.
func (s *Server) ValidationToken(c TokenClaims) string {
	key, kid := s.signer.current()
	tenant := s.opt.Tenants[0]
	or := func(v, usual string) string {
		if v != "" {
			return v
		}
		return usual
	}
	now := time.Now()
	if c.Expires.IsZero() {
		c.Expires = now.Add(time.Hour)
	}
	part := func(v object) string {
		b, err := json.Marshal(v)
		if err != nil {
			panic("azurefake: " + err.Error()) // strings and numbers always encode
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(object{"typ": "JWT", "alg": or(c.Algorithm, "RS256"), "kid": or(c.KeyID, kid)}) + "." + part(object{
		"aud": or(c.Audience, s.ClientID()), "iss": or(c.Issuer, "https://sts.windows.net/"+or(c.Tenant, tenant)+"/"),
		"tid": or(c.Tenant, tenant), "appid": or(c.AppID, notifierApp), "iat": now.Unix(), "nbf": now.Unix(), "exp": c.Expires.Unix(), "ver": "1.0",
	})
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		panic("azurefake: " + err.Error()) // never, with a key of 2048 bits
	}
	if c.BadSignature {
		signature[0] ^= 1
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// readCertificate reads what a subscription wants its notifications encrypted for; it returns what is wrong.
func (s *Server) readCertificate(sub *subscription, fields map[string]json.RawMessage) string {
	if string(fields["includeResourceData"]) != "true" {
		return ""
	}
	if !s.opt.RichAlerts {
		return "Resource data is not supported for this resource."
	}
	der, err := base64.StdEncoding.DecodeString(text(fields["encryptionCertificate"]))
	cert, cerr := x509.ParseCertificate(der)
	if err != nil || cerr != nil || text(fields["encryptionCertificateId"]) == "" {
		return "The properties 'encryptionCertificate' and 'encryptionCertificateId' are required with 'includeResourceData'."
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 || key.N.BitLen() > 4096 {
		return "The encryption certificate must have an RSA key of 2048 to 4096 bits."
	}
	sub.encryptTo, sub.certificate = key, text(fields["encryptionCertificateId"])
	return ""
}

// Encrypt encrypts a resource as Microsoft Graph does, for a certificate's key; broken spoils the signature.
func Encrypt(resource []byte, key *rsa.PublicKey, certificate string, broken bool) map[string]any {
	symmetric := make([]byte, 32)
	_, _ = rand.Read(symmetric) // never fails, by its documentation
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, symmetric, nil)
	if err != nil {
		panic("azurefake: " + err.Error()) // never: the key has at least 2048 bits
	}
	block, err := aes.NewCipher(symmetric)
	if err != nil {
		panic("azurefake: " + err.Error()) // never: the key has 32 bytes
	}
	pad := aes.BlockSize - len(resource)%aes.BlockSize
	data := append([]byte(nil), resource...)
	for range pad {
		data = append(data, byte(pad))
	}
	cipher.NewCBCEncrypter(block, symmetric[:aes.BlockSize]).CryptBlocks(data, data)
	mac := hmac.New(sha256.New, symmetric)
	mac.Write(data)
	signature := mac.Sum(nil)
	if broken {
		signature[0] ^= 1
	}
	b64 := base64.StdEncoding.EncodeToString
	return object{
		"data": b64(data), "dataKey": b64(wrapped), "dataSignature": b64(signature), "encryptionCertificateId": certificate,
		"encryptionCertificateThumbprint": "",
	}
}
