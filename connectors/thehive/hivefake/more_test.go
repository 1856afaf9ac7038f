package hivefake

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// form posts parts: those with a file name as files.
func (c *client) form(want int, path string, parts [][3]string) any {
	c.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range parts {
		var pw io.Writer
		var err error
		if p[1] == "" {
			pw, err = w.CreateFormField(p[0])
		} else {
			pw, err = w.CreateFormFile(p[0], p[1])
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := io.WriteString(pw, p[2]); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		c.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.base+path, &body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		c.t.Fatalf("POST %s: %d %s, %v", path, resp.StatusCode, raw, err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	c.promote(c.create("a1"))
	got := c.form(201, "/case/1/attachments", [][3]string{{"attachments", "a.txt", "hello"}, {"attachments", "b.txt", "x"}, {"canRename", "", "true"}})
	list := got.(map[string]any)["attachments"].([]any)
	hashes := list[0].(map[string]any)["hashes"].([]any)
	if len(list) != 2 || !slices.Contains(hashes, any("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")) {
		t.Errorf("attachments %v", list)
	}
	c.form(400, "/case/1/attachments", [][3]string{{"canRename", "", "true"}})
	c.form(400, "/case/1/attachments", [][3]string{{"file", "a.txt", "x"}})
	c.form(404, "/case/9/attachments", [][3]string{{"attachments", "a.txt", "x"}})
	if found := c.query(map[string]any{"_name": "getCase", "idOrName": "1"}, op("attachments")); len(found) != 2 {
		t.Errorf("attachments found: %v", found)
	}
	file := [][3]string{{"_json", "", `{"dataType":"file","tags":["x"]}`}, {"attachment", "a.txt", "hello"}}
	c.form(201, "/case/1/observable", file)
	c.form(409, "/case/1/observable", file)
	c.form(400, "/case/1/observable", [][3]string{{"_json", "", `{"dataType":"ip"}`}, {"attachment", "a.txt", "hello"}})
	c.form(400, "/case/1/observable", [][3]string{{"_json", "", `{"dataType":"file","isZip":true}`}, {"attachment", "a.zip", "no archive"}})
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	if w, err := z.Create("inner.exe"); err != nil {
		t.Fatal(err)
	} else if _, err := io.WriteString(w, "MZ"); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	made := c.form(201, "/case/1/observable", [][3]string{{"_json", "", `{"dataType":"file","isZip":true,"zipPassword":"p"}`}, {"attachment", "a.zip", archive.String()}})
	if name := made.([]any)[0].(map[string]any)["attachment"].(map[string]any)["name"]; name != "inner.exe" {
		t.Errorf("out of the archive came %v", name)
	}
	c.want(400, "POST", "/case/1/observable", map[string]any{"dataType": "file", "data": "x"})
	if led := s.Ledger().Cases[1]; led.Attachments != 2 || led.Observables != 2 {
		t.Errorf("ledger %+v", led)
	}
}

func TestLinksLicenceAndComments(t *testing.T) {
	t.Parallel()
	s, c := newFake(t, Options{})
	one, two := c.promote(c.create("a1")), c.promote(c.create("a2"))
	link := map[string]any{"type": "duplicate", "caseId": two["_id"]}
	c.want(204, "POST", "/case/1/link/case/add", link)
	c.want(204, "POST", "/case/1/link/case/add", link)
	c.want(400, "POST", "/case/1/link/case/add", map[string]any{"caseId": two["_id"]})
	c.want(404, "POST", "/case/1/link/case/add", map[string]any{"type": "x", "caseId": "~1"})
	if links := s.Ledger().Cases[1].Links; len(links) != 1 || !strings.HasSuffix(links[0], two["_id"].(string)) || one["_id"] == two["_id"] {
		t.Errorf("links %v", links)
	}
	made := c.get(201, "POST", "/case/1/comment", map[string]any{"message": "a"})
	c.want(204, "PATCH", "/comment/"+made["_id"].(string), map[string]any{"message": "b"})
	c.want(404, "PATCH", "/comment/~1", map[string]any{"message": "b"})
	if got := s.Ledger().Cases[1].Comments; len(got) != 1 || got[0] != "b" {
		t.Errorf("comments %v", got)
	}
	if valid := c.get(200, "GET", "/status", nil)["license"].(map[string]any)["isValid"]; valid != true {
		t.Errorf("licence %v", valid)
	}
	c.want(201, "POST", "/case/1/observable", map[string]any{"dataType": "ip", "data": "192.0.2.1"})
	found := c.query(op("listObservable"), map[string]any{"_name": "filter", "_eq": map[string]any{"_field": "data", "_value": "192.0.2.1"}}, op("case"))
	if len(found) != 1 || fmt.Sprint(found[0]["number"]) != "1" {
		t.Errorf("cases of an observable: %v", found)
	}
	_, c = newFake(t, Options{NoLicence: true, NoLinks: true})
	c.want(403, "POST", "/alert", alert("x"))
	if licence := c.get(200, "GET", "/status", nil)["license"].(map[string]any); licence["isValid"] != false || licence["error"] == nil {
		t.Errorf("licence %v", licence)
	}
	_, c = newFake(t, Options{NoLinks: true, EmptyErrors: true, Version: "5.2.0"})
	c.promote(c.create("a1"))
	c.want(404, "POST", "/case/1/link/case/add", link)
	if got := c.get(400, "POST", "/alert", alert("a1")); len(got) != 0 {
		t.Errorf("duplicate: %v", got)
	}
}
