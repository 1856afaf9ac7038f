package sentinel

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// notifier is the app id under which Microsoft Graph publishes change notifications.
// https://learn.microsoft.com/graph/change-notifications-with-resource-data.
const notifier = "0bf30f3b-4a52-48df-9a82-234910c4a086"

// Life of the authority's keys here, and the pause between two attempts to find one that is not known.
const (
	keysLive   = 12 * time.Hour
	keysPause  = time.Minute
	clockSkew  = 5 * time.Minute
	maxJWT     = 16 << 10
	maxTokens  = 32
	keySetPath = "/common/discovery/keys"
)

// keyRing holds the authority's public keys by id.
type keyRing struct {
	api *rest.Client

	mu    sync.Mutex
	known map[string]*rsa.PublicKey
	asked time.Time
}

func (k *keyRing) get(kid string) *rsa.PublicKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[kid]
}

// loadKeys fetches the keys when they are old; without encryption there is nothing to do.
func (c *Client) loadKeys(ctx context.Context) error {
	if c.rich == nil || c.cfg.Push == pushOff {
		return nil
	}
	return c.keys.load(ctx, keysLive)
}

func (k *keyRing) load(ctx context.Context, age time.Duration) error {
	k.mu.Lock()
	fresh := time.Since(k.asked) < age
	k.mu.Unlock()
	if fresh {
		return nil
	}
	var set struct {
		Keys []struct {
			Type string `json:"kty"`
			Use  string `json:"use"`
			ID   string `json:"kid"`
			N    string `json:"n"`
			E    string `json:"e"`
		} `json:"keys"`
	}
	if err := k.api.Get(ctx, keySetPath, nil, &set); err != nil {
		return fmt.Errorf("fetch the keys that vouch for notifications: %w", err)
	}
	known := make(map[string]*rsa.PublicKey, len(set.Keys))
	for _, key := range set.Keys {
		n, err1 := base64.RawURLEncoding.DecodeString(key.N)
		e, err2 := base64.RawURLEncoding.DecodeString(key.E)
		if key.Type != "RSA" || (key.Use != "" && key.Use != "sig") || err1 != nil || err2 != nil || len(n) < 256 || len(n) > 1024 || len(e) > 4 {
			continue
		}
		known[key.ID] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	}
	if len(known) == 0 {
		return sdk.Unavailable("Microsoft Entra ID: %s has no RSA key for signatures", keySetPath)
	}
	k.mu.Lock()
	k.known, k.asked = known, time.Now()
	k.mu.Unlock()
	return nil
}

// vouched checks what vouches for a delivery with encrypted content. When a key is not at hand the tokens come back, to be
// checked at the look-up: a webhook reaches no network. Deliveries without encrypted content have no tokens.
func (c *Client) vouched(list []notification, tokens []string) (later []string, ok bool) {
	if !slices.ContainsFunc(list, func(n notification) bool { return n.EncryptedContent != nil }) {
		return nil, true
	}
	if c.rich == nil {
		return nil, true // each item is refused by itself
	}
	if len(tokens) == 0 || len(tokens) > maxTokens {
		return nil, false
	}
	for _, t := range tokens {
		switch known, err := c.verifyToken(t, time.Now()); {
		case !known:
			later = tokens
		case err != nil:
			return nil, false
		}
	}
	return later, true
}

// verifyLater checks tokens whose key was not at hand when they came.
func (c *Client) verifyLater(ctx context.Context, tokens []string) error {
	if c.rich == nil {
		return sdk.Invalid("", "the notification was encrypted, and encryption is not configured any more")
	}
	for _, t := range tokens {
		known, err := c.verifyToken(t, time.Time{})
		if !known {
			if lerr := c.keys.load(ctx, keysPause); lerr != nil {
				return lerr
			}
			if known, err = c.verifyToken(t, time.Time{}); !known {
				err = errors.New("no key of the authority has signed it")
			}
		}
		if err != nil {
			return sdk.Invalid("", "the notification's validation token is refused: %v", err)
		}
	}
	return nil
}

type tokenClaims struct {
	Audience string `json:"aud"`
	Issuer   string `json:"iss"`
	Tenant   string `json:"tid"`
	AppID    string `json:"appid"`
	Party    string `json:"azp"`
	Expires  int64  `json:"exp"`
	Begins   int64  `json:"nbf"`
}

// verifyToken checks one validation token; known says whether its key is at hand. A zero now leaves its times alone: a
// token that was good when it came may be looked at much later.
func (c *Client) verifyToken(token string, now time.Time) (known bool, err error) {
	part := strings.Split(token, ".")
	if len(token) > maxJWT || len(part) != 3 {
		return true, errors.New("it is no signed token")
	}
	var head struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Critical  json.RawMessage `json:"crit"`
	}
	var claims tokenClaims
	signature, serr := base64.RawURLEncoding.DecodeString(part[2])
	if !readPart(part[0], &head) || !readPart(part[1], &claims) || serr != nil {
		return true, errors.New("it is no signed token")
	}
	if head.Algorithm != "RS256" || head.Critical != nil {
		return true, fmt.Errorf("it is signed by %q, not by RS256", head.Algorithm)
	}
	key := c.keys.get(head.KeyID)
	if key == nil {
		return false, nil
	}
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
		return true, errors.New("its signature is wrong")
	}
	return true, c.checkClaims(&claims, now)
}

func (c *Client) checkClaims(claims *tokenClaims, now time.Time) error {
	app := claims.AppID
	if app == "" {
		app = claims.Party // tokens of version 2 name the app so
	}
	switch {
	case !strings.EqualFold(claims.Audience, c.rich.audience):
		return fmt.Errorf("it is meant for app %q", claims.Audience)
	case !strings.EqualFold(app, notifier):
		return fmt.Errorf("it was issued to app %q, not to Microsoft Graph's change notifications", app)
	case claims.Tenant == "" || isGUID(c.tenant) && !strings.EqualFold(claims.Tenant, c.tenant):
		return fmt.Errorf("it belongs to tenant %q", claims.Tenant)
	case !slices.Contains(c.issuers(claims.Tenant), claims.Issuer):
		return fmt.Errorf("its issuer is %q", claims.Issuer)
	case claims.Expires == 0:
		return errors.New("it never expires")
	case !now.IsZero() && now.After(time.Unix(claims.Expires, 0).Add(clockSkew)):
		return errors.New("it has expired")
	case !now.IsZero() && claims.Begins != 0 && now.Before(time.Unix(claims.Begins, 0).Add(-clockSkew)):
		return errors.New("it is not valid yet")
	}
	return nil
}

// issuers are those that sign for a tenant in the credential's cloud.
func (c *Client) issuers(tenant string) []string {
	sts := "https://sts.windows.net/"
	if c.cfg.Credential.Cloud == "china" {
		sts = "https://sts.chinacloudapi.cn/"
	}
	return []string{sts + tenant + "/", strings.TrimRight(c.cfg.Cloud().Authority, "/") + "/" + tenant + "/v2.0"}
}

func readPart(part string, v any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, v) == nil
}

// isGUID says whether a tenant is given by its id and not by a domain.
func isGUID(s string) bool {
	return len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(strings.ToLower(s), "0123456789abcdef-") == ""
}
