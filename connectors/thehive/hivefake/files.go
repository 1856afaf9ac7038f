package hivefake

import (
	"archive/zip"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"github.com/casewire/casewire/connectors/internal/fakekit"
)

// upload is one part of a form.
type upload struct {
	field, name, mediaType string
	data                   []byte
}

// form reads a multipart request.
func form(r *http.Request) ([]upload, fakekit.Reply, bool) {
	raw, whole := fakekit.ReadBody(r, 64<<20)
	if !whole {
		return nil, failure(http.StatusRequestEntityTooLarge, "BadRequest", "The request is too large"), false
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, badRequest("A form of type multipart/form-data is expected"), false
	}
	var out []upload
	m := multipart.NewReader(bytes.NewReader(raw), params["boundary"])
	for {
		p, err := m.NextPart()
		if err == io.EOF { //nolint:errorlint // as documented
			return out, fakekit.Reply{}, true
		}
		if err != nil {
			return nil, badRequest("Malformed form"), false
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, badRequest("Malformed form"), false
		}
		out = append(out, upload{p.FormName(), p.FileName(), p.Header.Get("Content-Type"), data})
	}
}

// isForm says whether a request brings files.
func isForm(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/")
}

// makeAttachment makes the document of a file; the caller holds the lock.
func (s *Server) makeAttachment(u upload, who session) doc {
	s2, s1, m := sha256.Sum256(u.data), sha1.Sum(u.data), md5.Sum(u.data) // as TheHive does
	id := s.newID()
	if u.mediaType == "" {
		u.mediaType = "application/octet-stream"
	}
	return doc{
		"_id": id, "_type": "Attachment", "_createdBy": who.user.Login, "_createdAt": millis(s.opt.Now()), "name": u.name,
		"hashes": []string{hex.EncodeToString(s2[:]), hex.EncodeToString(s1[:]), hex.EncodeToString(m[:])}, "size": len(u.data),
		"contentType": u.mediaType, "id": hex.EncodeToString(s2[:]), "path": "attachments/" + id, "extraData": doc{}, "external": false,
	}
}

func (s *Server) addAttachments(c *fakekit.Call, who session) fakekit.Reply {
	parts, refusal, ok := form(c.R)
	if !ok {
		return refusal
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, table := s.entity(who, c.Args[0], c.Args[1])
	if rec == nil {
		return notFound(c.Args[1])
	}
	made := []doc{}
	for _, u := range parts {
		switch u.field {
		case "attachments":
			if u.name == "" {
				return badRequest("A file needs a name")
			}
			made = append(made, s.makeAttachment(u, who))
		case "canRename":
		default:
			return badRequest("Unknown attribute " + u.field)
		}
	}
	if len(made) == 0 {
		return badRequest("Attribute attachments is required")
	}
	rec.attachments = append(rec.attachments, made...)
	s.touch(table, rec, who, tags(rec.doc))
	return fakekit.JSON(http.StatusCreated, doc{"attachments": made})
}

// addFile adds an observable that is a file; of an archive, the file within.
func (s *Server) addFile(c *fakekit.Call, who session) fakekit.Reply {
	parts, refusal, ok := form(c.R)
	if !ok {
		return refusal
	}
	i := slices.IndexFunc(parts, func(u upload) bool { return u.field == "_json" })
	j := slices.IndexFunc(parts, func(u upload) bool { return u.field == "attachment" })
	if i < 0 || j < 0 || len(parts) != 2 || parts[j].name == "" {
		return badRequest("A form with _json and attachment is expected")
	}
	var raw map[string]json.RawMessage
	if json.Unmarshal(parts[i].data, &raw) != nil {
		return badRequest("Invalid JSON in _json")
	}
	in, bad := check(raw, s.rules.observable)
	if bad != "" {
		return badRequest(bad)
	}
	if in["dataType"] != "file" || raw["data"] != nil {
		return badRequest("Observable of type " + asText(in["dataType"]) + " takes data, not an attachment")
	}
	if in["isZip"] == true {
		inner, bad := unzip(parts[j])
		if bad != "" {
			return badRequest(bad)
		}
		parts[j] = inner
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, table := s.entity(who, c.Args[0], c.Args[1])
	if rec == nil {
		return notFound(c.Args[1])
	}
	d := s.observableDoc(in, who)
	delete(d, "attachment")
	d["attachment"] = s.makeAttachment(parts[j], who)
	for _, o := range rec.observables {
		if a, ok := o["attachment"].(doc); ok && a["id"] == d["attachment"].(doc)["id"] {
			return s.duplicate("Observable")
		}
	}
	rec.observables = append(rec.observables, d)
	s.touch(table, rec, who, tags(rec.doc))
	return fakekit.JSON(http.StatusCreated, []doc{d})
}

// unzip takes the file out of an archive. Passwords are beyond the standard library and are not checked.
func unzip(u upload) (upload, string) {
	z, err := zip.NewReader(bytes.NewReader(u.data), int64(len(u.data)))
	if err != nil || len(z.File) == 0 {
		return u, "The archive cannot be read"
	}
	f, err := z.File[0].Open()
	if err != nil {
		return u, "The archive cannot be read"
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, 64<<20))
	if err != nil {
		return u, "The archive cannot be read"
	}
	return upload{u.field, z.File[0].Name, "application/octet-stream", data}, ""
}
