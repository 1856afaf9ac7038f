package thehive

import (
	"bytes"
	"context"
	"crypto/md5"  //nolint:gosec // TheHive lists files by these digests too
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/casewire/casewire/sdk"
	"github.com/casewire/casewire/sdk/rest"
)

// AttachInput is a file for a case or an alert.
type AttachInput struct {
	Case  string   `json:"case,omitempty" doc:"Id or number of the case" pattern:"^(~?[0-9]+)?$"`
	Alert string   `json:"alert,omitempty" doc:"Id of the alert, instead of a case" pattern:"^(~?[0-9]+)?$"`
	File  sdk.Blob `json:"file" cw:"required" doc:"The file"`
	Name  string   `json:"name,omitempty" cw:"maxlen=255" doc:"Name to give it; default the file's own"`
}

// Attached is the file as it is in TheHive.
type Attached struct {
	ID      string `json:"id" doc:"Id of the attachment, or of the observable"`
	Name    string `json:"name" doc:"Its name"`
	SHA256  string `json:"sha256" doc:"SHA-256 of what was sent, in hex"`
	Created bool   `json:"created" doc:"It was not there before"`
}

// attachment is what is read of a file.
type attachment struct {
	ID     string   `json:"_id"`
	Name   string   `json:"name"`
	Hashes []string `json:"hashes"`
}

// is says whether the file has the contents.
func (a *attachment) is(data []byte) bool {
	s2, s1, m := sha256.Sum256(data), sha1.Sum(data), md5.Sum(data) //nolint:gosec // compared with what TheHive says, not trusted
	return slices.ContainsFunc(a.Hashes, func(h string) bool {
		h = strings.ToLower(h)
		return h == hex.EncodeToString(s2[:]) || h == hex.EncodeToString(s1[:]) || h == hex.EncodeToString(m[:])
	})
}

// file checks a file and its name. A name with a path in it would mean nothing to TheHive.
func file(b *sdk.Blob, name string) (string, error) {
	if err := b.Verify("/file"); err != nil {
		return "", err
	}
	if name == "" {
		name = b.Name
	}
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '"' {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(name), "_"))
	if name == "" || name == "." || name == ".." {
		return "", sdk.Invalid("/name", "the file has no name; give one")
	}
	if len(b.Data) == 0 {
		return "", sdk.Invalid("/file", "is empty: of files over 256 KiB a flow has name and digest, and not the contents")
	}
	return cutUnits(name, 255), nil
}

// Attach attaches a file unless the case or alert has it, by name and contents.
func (c *Client) Attach(ctx context.Context, in AttachInput) (Attached, error) {
	k, id, err := target(in.Case, in.Alert)
	if err != nil {
		return Attached{}, err
	}
	name, err := file(&in.File, in.Name)
	if err != nil {
		return Attached{}, err
	}
	if _, err := c.know(ctx); err != nil {
		return Attached{}, err
	}
	there, err := list[attachment](ctx, c, k, id, "attachments")
	if err != nil {
		return Attached{}, err
	}
	out := Attached{Name: name, SHA256: hexDigest(in.File.Data)}
	if i := slices.IndexFunc(there, func(a attachment) bool { return a.Name == name && a.is(in.File.Data) }); i >= 0 {
		out.ID = there[i].ID
		return out, nil
	}
	out.Created = true
	if sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	var made struct {
		Attachments []attachment `json:"attachments"`
	}
	fields := []formPart{{name: "attachments", file: name, mediaType: in.File.MediaType, data: in.File.Data}, {name: "canRename", data: []byte("true")}}
	if err := c.upload(ctx, "attach to "+k.noun+" "+id, k.path+id+"/attachments", fields, &made); err != nil {
		return Attached{}, err
	}
	if len(made.Attachments) == 0 || made.Attachments[0].ID == "" {
		return Attached{}, sdk.Uncertain("attach to %s %s: TheHive's answer names no attachment", k.noun, id)
	}
	out.ID, out.Name = made.Attachments[0].ID, made.Attachments[0].Name
	return out, nil
}

// UploadInput is a file that is an observable.
type UploadInput struct {
	Case        string   `json:"case,omitempty" doc:"Id or number of the case" pattern:"^(~?[0-9]+)?$"`
	Alert       string   `json:"alert,omitempty" doc:"Id of the alert, instead of a case" pattern:"^(~?[0-9]+)?$"`
	File        sdk.Blob `json:"file" cw:"required" doc:"The file"`
	Name        string   `json:"name,omitempty" cw:"maxlen=255" doc:"Name to give it; default the file's own"`
	Zip         bool     `json:"zip,omitempty" doc:"It is a zip archive, of which TheHive takes out the file within: malware travels so"`
	ZipPassword string   `json:"zip_password,omitempty" cw:"maxlen=512" doc:"Password of the archive, such as infected. It is no secret: everybody who reads the flow reads it"`
	IOC         bool     `json:"ioc,omitempty" doc:"It is an indicator of compromise"`
	Sighted     bool     `json:"sighted,omitempty" doc:"It was seen in telemetry"`
	Tags        []string `json:"tags,omitempty" doc:"Tags of the observable"`
	Message     string   `json:"message,omitempty" doc:"What is known about it"`
	TLP         string   `json:"tlp,omitempty" doc:"clear, green, amber, amber+strict or red; default the connection's"`
	PAP         string   `json:"pap,omitempty" doc:"clear, green, amber or red; default the connection's"`
}

// Upload adds a file as an observable unless the case or alert has it. What comes out of an archive cannot be told by its
// digest, so that the observable is tagged with that of the archive.
func (c *Client) Upload(ctx context.Context, in UploadInput) (Attached, error) {
	k, id, err := target(in.Case, in.Alert)
	if err != nil {
		return Attached{}, err
	}
	name, err := file(&in.File, in.Name)
	if err != nil {
		return Attached{}, err
	}
	if in.ZipPassword != "" && !in.Zip {
		return Attached{}, sdk.Invalid("/zip_password", "is for archives; say zip: true")
	}
	s, err := c.know(ctx)
	if err != nil {
		return Attached{}, err
	}
	tlp, papLevel, err := c.markings(in.TLP, in.PAP)
	if err != nil {
		return Attached{}, err
	}
	out := Attached{Name: name, SHA256: hexDigest(in.File.Data)}
	body := inputObservable{
		DataType: "file", Message: fit(in.Message, maxMessage, "…"), IOC: in.IOC, Sighted: in.Sighted, TLP: s.tlp(tlp), PAP: pap(papLevel),
		IsZip: in.Zip, ZipPassword: in.ZipPassword,
	}
	archive := ""
	if in.Zip {
		archive = "zip:" + out.SHA256[:32]
	}
	body.Tags = cleanTags(in.Tags, []string{archive})
	there, err := list[struct {
		ID         string      `json:"_id"`
		Tags       []string    `json:"tags"`
		Attachment *attachment `json:"attachment"`
	}](ctx, c, k, id, "observables")
	if err != nil {
		return Attached{}, err
	}
	for _, o := range there {
		if o.Attachment != nil && (archive == "" && o.Attachment.is(in.File.Data) || archive != "" && hasTag(o.Tags, archive)) {
			out.ID, out.Name = o.ID, o.Attachment.Name
			return out, nil
		}
	}
	out.Created = true
	if sdk.CallFrom(ctx).DryRun {
		return out, nil
	}
	head, err := json.Marshal(body)
	if err != nil {
		return Attached{}, err
	}
	var made []struct {
		ID string `json:"_id"`
	}
	parts := []formPart{{name: "_json", mediaType: "application/json", data: head}, {name: "attachment", file: name, mediaType: in.File.MediaType, data: in.File.Data}}
	if err := c.upload(ctx, "upload to "+k.noun+" "+id, k.path+id+"/observable", parts, &made); err != nil {
		return Attached{}, err
	}
	if len(made) == 0 || !objectID(made[0].ID) {
		return Attached{}, sdk.Uncertain("upload to %s %s: TheHive's answer names no observable", k.noun, id)
	}
	out.ID = made[0].ID
	return out, nil
}

// formPart is one part of a form.
type formPart struct {
	name, file, mediaType string
	data                  []byte
}

// upload posts a form and decodes what was made.
func (c *Client) upload(ctx context.Context, what, path string, parts []formPart, out any) error {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range parts {
		params := map[string]string{"name": p.name}
		if p.file != "" {
			params["filename"] = p.file
		}
		h := textproto.MIMEHeader{"Content-Disposition": {mime.FormatMediaType("form-data", params)}}
		switch media, _, err := mime.ParseMediaType(p.mediaType); {
		case err == nil:
			h.Set("Content-Type", media)
		case p.file != "":
			h.Set("Content-Type", "application/octet-stream")
		}
		pw, err := w.CreatePart(h)
		if err != nil {
			return err
		}
		if _, err := pw.Write(p.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.do(ctx, what, rest.Request{
		Method: http.MethodPost, Path: path, Body: body.Bytes(), Header: http.Header{"Content-Type": {w.FormDataContentType()}},
	}, out)
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
