package thehive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// server is what the connection knows about the TheHive behind it.
type server struct {
	version string
	oldTLP  bool            // before 5.2
	types   map[string]bool // observable types by name; true takes an attachment
	until   time.Time       // ask again after
	skew    time.Duration   // how far its clock is ahead of ours
	timed   bool            // it told the time
	unknown sync.Map        // ATT&CK techniques that are not in its catalogue
}

// lacksTechnique says that the server refused a technique lately, or that it is older than 5.2 and takes none without its
// tactic, which alerts do not tell.
func (s *server) lacksTechnique(id string) bool {
	if s.oldTLP {
		return true
	}
	_, lacks := s.unknown.Load(id)
	return lacks
}

// defaultTypes are the observable types of a fresh TheHive.
var defaultTypes = map[string]bool{
	"autonomous-system": false, "domain": false, "file": true, "filename": false, "fqdn": false, "hash": false,
	"hostname": false, "ip": false, "mail": false, "mail-subject": false, "other": false, "regexp": false,
	"registry": false, "uri_path": false, "url": false, "user-agent": false,
}

// publicStatus answers without a credential. TheHive 4 has versions instead of version.
type publicStatus struct {
	Version  string            `json:"version"`
	Versions map[string]string `json:"versions"`
}

// know returns what is known about the server, and asks it when nothing is or when it is an hour old: an upgrade may
// renumber the markings.
func (c *Client) know(ctx context.Context) (*server, error) {
	if s := c.server.Load(); s != nil && time.Now().Before(s.until) {
		return s, nil
	}
	c.serverMu.Lock()
	defer c.serverMu.Unlock()
	old := c.server.Load()
	if old != nil && time.Now().Before(old.until) {
		return old, nil
	}
	s, err := c.ask(ctx)
	if err != nil {
		var e *sdk.Error
		if old != nil && errors.As(err, &e) && e.Code == codes.Unavailable {
			return old, nil
		}
		return nil, err
	}
	s.until = time.Now().Add(time.Hour)
	var types []struct {
		Name         string `json:"name"`
		IsAttachment bool   `json:"isAttachment"`
	}
	err = c.query(ctx, "list observable types", []any{
		map[string]any{"_name": "listObservableType"}, map[string]any{"_name": "page", "from": 0, "to": 1000},
	}, &types)
	switch {
	case err != nil || len(types) == 0:
		// The defaults do until the list can be read; an unknown type is refused by TheHive and handled there.
		s.types, s.until = defaultTypes, time.Now().Add(5*time.Minute)
	default:
		s.types = make(map[string]bool, len(types))
		for _, t := range types {
			s.types[strings.ToLower(t.Name)] = t.IsAttachment
		}
	}
	c.server.Store(s)
	return s, nil
}

// ask reads the server's version and refuses what is not TheHive 5.
func (c *Client) ask(ctx context.Context) (*server, error) {
	const what = "read the status of TheHive"
	var status publicStatus
	resp, err := c.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/api/v1/status/public"})
	if err == nil {
		err = resp.JSON(&status)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	var e *sdk.Error
	if errors.As(err, &e) && e.Code == codes.NotFound {
		return nil, sdk.BadConfig("/base_url", "no TheHive 5 answers there (its public status is missing): check the address; TheHive 3 and 4 are not supported")
	}
	if err != nil {
		return nil, err
	}
	version := status.Version
	if version == "" {
		version = status.Versions["TheHive"]
	}
	major, minor := parseVersion(version)
	if major > 0 && major < 5 {
		return nil, sdk.BadConfig("/base_url", "this is TheHive %s, which is at the end of its life and means other things by the same API; TheHive 5 is needed", version)
	}
	out := &server{version: version, oldTLP: major == 5 && minor < 2}
	if told, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		out.skew, out.timed = time.Until(told), true
	}
	return out, nil
}

// parseVersion reads "5.4.3-1"; zero for what it cannot read.
func parseVersion(s string) (major, minor int) {
	head, tail, _ := strings.Cut(s, ".")
	minorText, _, _ := strings.Cut(tail, ".")
	minorText, _, _ = strings.Cut(minorText, "-")
	major, err := strconv.Atoi(strings.TrimLeft(head, "v"))
	if err != nil {
		return 0, 0
	}
	if minor, err = strconv.Atoi(minorText); err != nil {
		minor = 0
	}
	return major, minor
}
