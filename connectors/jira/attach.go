package jira

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// AttachInput is files for an issue.
type AttachInput struct {
	Issue string     `json:"issue" cw:"required" doc:"Key or id of the issue" pattern:"^([A-Za-z][A-Za-z0-9_]*-)?[0-9]+$"`
	Files []sdk.Blob `json:"files" cw:"required,minlen=1,maxlen=60" doc:"The files: name, media_type, and data in base64, as the blobs of another action have them. The same name with the same contents is attached once"`
}

// Attached is what became of the files.
type Attached struct {
	Issue string         `json:"issue" doc:"The issue, as it was given"`
	Files []AttachedFile `json:"files" doc:"The files, in the order of the input"`
}

// AttachedFile is one file at Jira.
type AttachedFile struct {
	ID      string `json:"id" doc:"Id of the attachment"`
	Name    string `json:"name" doc:"Name of the file"`
	SHA256  string `json:"sha256" doc:"SHA-256 of the contents, in hex"`
	Created bool   `json:"created" doc:"This call attached it; false when it was there already"`
}

// filesKey names the issue property that remembers which attachments hold which contents.
const filesKey = "casewire.files"

// fileMarks is its value: attachment ids by fileMark.
type fileMarks struct {
	V     int               `json:"v"`
	Files map[string]string `json:"files"`
}

// maxFileMarks keeps the property under Jira's 32,768 characters.
const maxFileMarks = 900

func fileMark(name, sum string) string { return digest(name, sum) }

type attachment struct {
	ID       string `json:"id"`
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// Attach uploads files that the issue does not have yet. Which it has is known by a property of the issue; an attachment
// of the same name and size that the property does not know, because an answer was lost, is read and compared.
func (c *Client) Attach(ctx context.Context, in AttachInput) (Attached, error) {
	if !issueRef(in.Issue) {
		return Attached{}, sdk.Invalid("/issue", "%q is neither an issue's key nor its id", in.Issue)
	}
	out := Attached{Issue: in.Issue, Files: make([]AttachedFile, len(in.Files))}
	for i := range in.Files {
		f := &in.Files[i]
		at := "/files/" + strconv.Itoa(i)
		if err := f.Verify(at); err != nil {
			return Attached{}, err
		}
		name := fileName(f.Name)
		if name == "" {
			return Attached{}, sdk.Invalid(at+"/name", "is empty")
		}
		sum := sha256.Sum256(f.Data)
		out.Files[i] = AttachedFile{Name: name, SHA256: hex.EncodeToString(sum[:])}
	}
	have, marks, err := c.attachments(ctx, in.Issue)
	if err != nil {
		return Attached{}, err
	}
	var missing []int
	learned := false
	for i := range out.Files {
		f := &out.Files[i]
		mark := fileMark(f.Name, f.SHA256)
		if id := marks.Files[mark]; slices.ContainsFunc(have, func(a attachment) bool { return a.ID == id }) {
			f.ID = id
			continue
		}
		if f.ID, err = c.sameFile(ctx, have, &marks, f, int64(len(in.Files[i].Data))); err != nil {
			return Attached{}, err
		}
		if f.ID != "" {
			marks.Files[mark], learned = f.ID, true
		} else if !slices.ContainsFunc(missing, func(j int) bool { return out.Files[j].Name == f.Name && out.Files[j].SHA256 == f.SHA256 }) {
			missing = append(missing, i)
		}
	}
	if sdk.CallFrom(ctx).DryRun {
		for _, i := range missing {
			out.Files[i].Created = true
		}
		return out, nil
	}
	if len(missing) > 0 {
		if err := c.upload(ctx, in, &out, missing); err != nil {
			return Attached{}, err
		}
		for _, i := range missing {
			marks.Files[fileMark(out.Files[i].Name, out.Files[i].SHA256)] = out.Files[i].ID
		}
		for i := range out.Files { // the same file twice in one call
			out.Files[i].ID = marks.Files[fileMark(out.Files[i].Name, out.Files[i].SHA256)]
		}
	}
	if len(missing) > 0 || learned {
		return out, c.remember(ctx, in.Issue, marks)
	}
	return out, nil
}

// attachments reads what the issue has, and what is remembered of it; marks of what is gone are dropped.
func (c *Client) attachments(ctx context.Context, ref string) ([]attachment, fileMarks, error) {
	var is issue
	err := c.do(ctx, &request{
		verb: "read attachments of issue", noun: ref, method: http.MethodGet, path: "rest/api/2/issue/" + ref + "?fields=attachment&properties=" + filesKey,
	}, &is)
	if err != nil {
		return nil, fileMarks{}, err
	}
	var have []attachment
	is.field("attachment", &have)
	marks := fileMarks{}
	if raw, ok := is.Properties[filesKey]; ok {
		_ = json.Unmarshal(raw, &marks) // what somebody else wrote there is as good as nothing
	}
	known := map[string]string{}
	for mark, id := range marks.Files {
		if slices.ContainsFunc(have, func(a attachment) bool { return a.ID == id }) && len(known) < maxFileMarks {
			known[mark] = id
		}
	}
	return have, fileMarks{V: 1, Files: known}, nil
}

// sameFile looks for an attachment with the same name, size and contents among those whose contents are not known.
func (c *Client) sameFile(ctx context.Context, have []attachment, marks *fileMarks, f *AttachedFile, size int64) (string, error) {
	for _, a := range have {
		if a.Filename != f.Name || a.Size != size || !digits(a.ID) {
			continue
		}
		if slices.Contains(slices.Collect(maps.Values(marks.Files)), a.ID) {
			continue
		}
		sum, err := c.contents(ctx, &a)
		if err != nil {
			return "", err
		}
		if sum == f.SHA256 {
			return a.ID, nil
		}
	}
	return "", nil
}

// contents hashes an attachment. It asks Jira not to redirect to the store of files, where our credential has no business.
func (c *Client) contents(ctx context.Context, a *attachment) (string, error) {
	r := &request{verb: "read attachment", noun: a.ID, method: http.MethodGet, path: "rest/api/2/attachment/content/" + a.ID + "?redirect=false"}
	if s, err := c.where(ctx); err != nil {
		return "", err
	} else if !s.cloud {
		r.path = "secure/attachment/" + a.ID + "/" + url.PathEscape(a.Filename)
	}
	hash := sha256.New()
	r.sink = func(body io.Reader) error {
		_, err := io.Copy(hash, io.LimitReader(body, a.Size+1))
		return err
	}
	if err := c.do(ctx, r, nil); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// uploadLimit asks how large a file may be; zero when Jira does not say.
func (c *Client) uploadLimit(ctx context.Context) (int64, error) {
	const key = "limit"
	if n, ok := c.limits.get(key); ok {
		return n, nil
	}
	var meta struct {
		Enabled *bool `json:"enabled"`
		Limit   int64 `json:"uploadLimit"`
	}
	err := c.do(ctx, &request{verb: "read attachment settings", method: http.MethodGet, path: "rest/api/2/attachment/meta"}, &meta)
	if err != nil {
		return 0, err
	}
	if meta.Enabled != nil && !*meta.Enabled {
		return 0, sdk.BadConfig("", "attachments are turned off in this Jira: an administrator can allow them under System, Attachments")
	}
	c.limits.put(key, meta.Limit)
	return meta.Limit, nil
}

// upload sends the missing files in one request, straight from memory to the wire.
func (c *Client) upload(ctx context.Context, in AttachInput, out *Attached, missing []int) error {
	limit, err := c.uploadLimit(ctx)
	if err != nil {
		return err
	}
	for _, i := range missing {
		if n := int64(len(in.Files[i].Data)); limit > 0 && n > limit {
			return sdk.Invalid("/files/"+strconv.Itoa(i), "%s has %d bytes; this Jira takes %d", out.Files[i].Name, n, limit)
		}
	}
	read, write := io.Pipe()
	form := multipart.NewWriter(write)
	go func() {
		err := func() error {
			for _, i := range missing {
				part, err := form.CreatePart(partHeader(out.Files[i].Name, in.Files[i].MediaType))
				if err != nil {
					return err
				}
				if _, err := part.Write(in.Files[i].Data); err != nil {
					return err
				}
			}
			return form.Close()
		}()
		_ = write.CloseWithError(err) // always nil, by its documentation
	}()
	defer func() { _ = read.Close() }() // ends the writer if the request ended early
	var made []attachment
	// A repeated attempt finds what this one attached, by name, size and contents.
	r := &request{
		verb: "attach files to issue", noun: in.Issue, method: http.MethodPost, path: "rest/api/2/issue/" + in.Issue + "/attachments",
		raw: read, contentType: form.FormDataContentType(), outcome: repeatable,
		header: http.Header{"X-Atlassian-Token": {"no-check"}}, // Jira's guard against forged forms
	}
	if err := c.do(ctx, r, &made); err != nil {
		return err
	}
	for _, i := range missing {
		j := slices.IndexFunc(made, func(a attachment) bool {
			return a.Filename == out.Files[i].Name && a.Size == int64(len(in.Files[i].Data))
		})
		if j < 0 || !digits(made[j].ID) {
			return c.unknown(r, "Jira's answer does not name the file "+out.Files[i].Name)
		}
		out.Files[i].ID, out.Files[i].Created = made[j].ID, true
		made = slices.Delete(made, j, j+1)
	}
	return nil
}

// remember writes which attachments hold what. It is a native upsert.
func (c *Client) remember(ctx context.Context, ref string, marks fileMarks) error {
	return c.do(ctx, &request{
		verb: "remember the files of issue", noun: ref, method: http.MethodPut, path: "rest/api/2/issue/" + ref + "/properties/" + filesKey,
		body: marks, outcome: repeatable,
	}, nil)
}

// maxFileName is the longest name that all deployments keep.
const maxFileName = 200

// fileName makes a name that is one: no path, nothing invisible, no quotes that would end it on the way.
func fileName(s string) string {
	s = oneLine(s, maxFileName)
	s = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, s)
	return strings.Trim(s, " .")
}

func partHeader(name, mediaType string) textproto.MIMEHeader {
	if mediaType == "" || strings.ContainsAny(mediaType, "\r\n") {
		mediaType = "application/octet-stream"
	}
	return textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`}, "Content-Type": {mediaType},
	}
}
