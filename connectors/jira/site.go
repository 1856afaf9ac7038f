package jira

import (
	"context"
	"net/http"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// site is what the connection knows about the Jira behind it.
type site struct {
	cloud bool
	url   string // where people open issues, without a slash at the end
}

type serverInfo struct {
	BaseURL        string `json:"baseUrl"`
	Version        string `json:"version"`
	DeploymentType string `json:"deploymentType"`
}

func (c *Client) serverInfo(ctx context.Context) (serverInfo, error) {
	var info serverInfo
	err := c.do(ctx, &request{verb: "read server info", method: http.MethodGet, path: "rest/api/2/serverInfo"}, &info)
	return info, err
}

// where returns what is known about the site. It asks Jira at most once, and only if configuration and address leave
// something open; a failure is not remembered.
func (c *Client) where(ctx context.Context) (*site, error) {
	if s := c.site.Load(); s != nil {
		return s, nil
	}
	c.siteMu.Lock()
	defer c.siteMu.Unlock()
	if s := c.site.Load(); s != nil {
		return s, nil
	}
	s := &site{url: c.cfg.SiteURL, cloud: c.cfg.Deployment == "cloud" || c.cloudHost}
	auto := c.cfg.Deployment != "cloud" && c.cfg.Deployment != "datacenter" && !c.cloudHost
	if s.url == "" && !c.scoped {
		s.url = c.cfg.BaseURL
	}
	if auto || s.url == "" {
		info, err := c.serverInfo(ctx)
		if err != nil {
			return nil, err
		}
		if auto {
			s.cloud = strings.EqualFold(info.DeploymentType, "Cloud")
		}
		if s.url == "" && linkable(info.BaseURL) {
			s.url = info.BaseURL
		}
	}
	if c.cfg.Deployment == "datacenter" {
		s.cloud = false
	}
	if c.cfg.API == apiDocuments && !s.cloud {
		return nil, sdk.BadConfig("/api", "this Jira is a Data Center, which has version 2 only")
	}
	s.url = strings.TrimRight(s.url, "/")
	c.site.Store(s)
	return s, nil
}

// isCloud is what is known so far; an address of Atlassian's says so by itself.
func (c *Client) isCloud() bool {
	if s := c.site.Load(); s != nil {
		return s.cloud
	}
	return c.cloudHost || c.cfg.Deployment == "cloud"
}

// browse is the address at which people open an issue; empty when the site's address is not known.
func (s *site) browse(key string) string {
	if s.url == "" || key == "" {
		return ""
	}
	return s.url + "/browse/" + key
}
