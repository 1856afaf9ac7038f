package normalize

import (
	"slices"
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
	"github.com/casewire/casewire/sdk/ioc"
)

func (s *evidenceScope) cloudApplication() {
	n := s.src
	id := firstOf(n.scalar("saasAppId"), n.scalar("appId"))
	if s.resource(ocsf.Resource{
		UID: id, UIDAlt: n.scalar("instanceId"), Name: firstOf(n.str("displayName"), n.str("instanceName")), Type: s.kind,
	}) {
		s.mark(n, "displayName")
	}
	s.key = id + "|" + n.scalar("instanceId")
}

func (s *evidenceScope) oauthApplication() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{UID: t.scalar(n, "appId"), UIDAlt: t.scalar(n, "objectId"), Name: t.str(n, "displayName"), Type: s.kind}
	if p := t.str(n, "publisher"); p != "" {
		r.Owner = &ocsf.User{Name: p}
	}
	s.key = firstOf(r.UID, r.UIDAlt)
	if !s.resource(r) {
		return
	}
	s.marks = append(s.marks, t.marks...)
	if s.roles.hostile {
		s.out.Actor = &ocsf.Actor{AppName: r.Name, AppUID: r.UID}
	}
}

func (s *evidenceScope) azure() {
	t := taker{}
	id := t.str(s.src, "resourceId")
	s.key = strings.ToLower(id)
	if s.resource(azureResource(id, t.str(s.src, "resourceName"), t.str(s.src, "resourceType"))) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) amazon() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{
		UID: t.str(n, "amazonResourceId"), Name: t.str(n, "resourceName"), Type: t.str(n, "resourceType"), Provider: "AWS",
	}
	s.key = firstOf(r.UID, r.Name)
	// arn:partition:service:region:account:resource.
	if p := strings.SplitN(r.UID, ":", 6); len(p) == 6 && p[0] == "arn" {
		r.Region = p[3]
	}
	if s.resource(r) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) google() {
	n := s.src
	t := taker{}
	r := ocsf.Resource{
		UID: t.str(n, "fullResourceName"), Name: t.str(n, "resourceName"), Type: t.str(n, "resourceType"), Provider: "GCP",
	}
	switch fold(n.str("locationType")) {
	case "regional":
		r.Region = n.str("location")
	case "zonal":
		r.Zone = n.str("location")
	}
	s.key = firstOf(r.UID, r.Name)
	if s.resource(r) {
		s.marks = append(s.marks, t.marks...)
	}
}

func (s *evidenceScope) blobContainer() {
	t := taker{}
	b := &ocsf.Databucket{UID: t.str(s.src, "url"), Name: t.str(s.src, "name"), TypeID: 2, Type: "Azure Blob"}
	s.key = firstOf(b.UID, b.Name)
	if s.key == "" {
		return
	}
	s.out.Databucket = b
	s.marks = append(s.marks, t.marks...)
	if v, ok := ioc.URL(b.UID); ok {
		s.obs.add(ocsf.ObservableURL, "databucket.uid", v)
	}
}

func (s *evidenceScope) blob() {
	n := s.src
	t := taker{}
	f := &ocsf.File{URI: t.str(n, "url"), Name: t.str(n, "name"), TypeID: 1, Type: "Regular File"}
	s.key = firstOf(f.URI, f.Name)
	if f.Name == "" {
		f.Name = urlBase(f.URI)
	}
	whole := true
	hashes := n.get("fileHashes")
	for i := range n.items("fileHashes") {
		h := fingerprint(&taker{}, &hashes.kids[i])
		if h == nil {
			whole = false
			continue
		}
		f.Hashes = append(f.Hashes, *h)
	}
	if f.Name == "" && len(f.Hashes) > 0 {
		f.Name, f.TypeID, f.Type = f.Hashes[0].Value, 0, "Unknown"
	}
	if f.Name == "" {
		return
	}
	if whole && len(f.Hashes) > 0 && !hashes.hasMore("value", "algorithm") {
		t.mark(n, "fileHashes")
	}
	s.out.File = f
	s.marks = append(s.marks, t.marks...)
	if v, ok := ioc.URL(f.URI); ok {
		s.obs.add(ocsf.ObservableURL, "file.uri", v)
	}
	s.obs.hashes("file", f.Hashes)
}

// hasMore says whether an element of an array has members other than these.
func (n *node) hasMore(known ...string) bool {
	for i := range n.kids {
		for _, k := range n.kids[i].kids {
			if !slices.Contains(known, k.name) && !k.empty() && !strings.HasPrefix(k.name, "@odata.") {
				return true
			}
		}
	}
	return false
}

func (s *evidenceScope) container() {
	n := s.src
	c := &ocsf.Container{UID: n.scalar("containerId"), Name: n.str("name")}
	s.key = firstOf(c.UID, c.Name)
	if s.key == "" {
		return
	}
	if image := n.get("image").scalar("imageId"); image != "" {
		c.Image = &ocsf.Image{UID: image}
	}
	s.out.Container = c
	s.obs.other("Container ID", "container.uid", c.UID)
}
