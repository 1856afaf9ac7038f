package thehive

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// policy is what becomes of an alert or case that is there already.
type policy string

const (
	onUpdate  policy = "update"
	onComment policy = "comment"
	onReopen  policy = "reopen"
	onIgnore  policy = "ignore"
)

// wanted is an EnsureInput made ready for a server.
type wanted struct {
	server      *server
	key, ref    string
	hash        string
	title       string
	description string
	link        string
	severity    int
	rated       bool // the severity was given
	tlp, pap    level
	tags        []string
	date        int64
	obs         []inputObservable
	obsHash     string
	techniques  []string
	template    string
	assignee    string
	tasks       []Task
	fields      map[string]any // custom fields, by the names that TheHive uses
	fieldsHash  string
	policy      policy
	create      bool
	comment     string
	rejected    []Rejected
	notes       []string
}

func (c *Client) begin(ctx context.Context, call sdk.Call, in *EnsureInput) (w *wanted, prior Ensured, known bool, err error) {
	if call.Key == "" {
		return nil, prior, false, sdk.Invalid("", "a key is needed: it decides which alerts share a case")
	}
	if prior, known, err = priorOutput[Ensured](call); err != nil {
		return nil, prior, false, err
	}
	w, err = c.want(ctx, call.Key, in)
	return w, prior, known, err
}

// want checks the input and fits it to TheHive's limits.
func (c *Client) want(ctx context.Context, key string, in *EnsureInput) (*wanted, error) {
	w := &wanted{
		key: key, ref: caseRef(key), severity: severity(in.SeverityID), rated: in.SeverityID != nil,
		template: cmp.Or(in.CaseTemplate, c.cfg.CaseTemplate), assignee: in.Assignee, tasks: in.Tasks,
		policy: policy(cmp.Or(in.OnExisting, string(onUpdate))), comment: strings.TrimSpace(in.CommentOnUpdate), create: in.Create,
		title: fit(strings.Join(strings.Fields(in.Title), " "), maxTitle, "…"),
	}
	if w.title == "" {
		return nil, sdk.Invalid("/title", "is empty")
	}
	var err error
	if w.tlp, w.pap, err = c.markings(in.TLP, in.PAP); err != nil {
		return nil, err
	}
	if err := checkOrigin(in.Origin); err != nil {
		return nil, err
	}
	if err := checkTasks(in.Tasks); err != nil {
		return nil, err
	}
	s, err := c.know(ctx)
	if err != nil {
		return nil, err
	}
	w.server = s
	description := in.Description
	if in.URL != "" {
		if !strings.HasPrefix(in.URL, "https://") && !strings.HasPrefix(in.URL, "http://") {
			return nil, sdk.Invalid("/url", "is no web address")
		}
		if len(in.URL) <= maxLink {
			w.link = in.URL
		} else {
			description += "\n\nSource: <" + strings.NewReplacer(">", "%3E", " ", "%20", "\n", "").Replace(in.URL) + ">"
		}
	}
	var lost string
	if w.fields, lost, err = c.fields(ctx, in.CustomFields); err != nil {
		return nil, err
	}
	if lost != "" {
		w.notes = append(w.notes, strings.Split(lost, "\n")...)
		description += "\n\n" + "**Fields that TheHive does not take**\n" + bullets(w.notes)
	}
	w.fieldsHash = fieldsDigest(w.fields)
	w.description = fit(cmp.Or(strings.TrimSpace(description), w.title), maxMessage, "\n\n… cut here: the text is longer than TheHive takes.")
	w.hash = digest(w.title, w.description)
	at := in.Date
	if at.IsZero() {
		at = time.Now()
	}
	w.date = at.UnixMilli()
	extra := w.setTechniques(in.Procedures, s)
	w.tags = cleanTags([]string{"casewire"}, originTags(in.Origin), in.Tags, extra)
	if w.obs, w.rejected, err = c.prepare(s, in.Observables, w.tlp, w.pap); err != nil {
		return nil, err
	}
	w.obsHash = identities(w.obs)
	return w, nil
}

// markings reads the markings of an input, or takes the connection's.
func (c *Client) markings(tlp, pap string) (level, level, error) {
	t, ok := tlpLevel(cmp.Or(tlp, c.cfg.TLP))
	if !ok {
		return 0, 0, sdk.Invalid("/tlp", "%q is none of clear, green, amber, amber+strict, red", tlp)
	}
	p, ok := papLevel(cmp.Or(pap, c.cfg.PAP))
	if !ok {
		return 0, 0, sdk.Invalid("/pap", "%q is none of clear, green, amber, red", pap)
	}
	return t, p, nil
}

// setTechniques keeps what looks like a technique that the server may know, and returns tags for the rest.
func (w *wanted) setTechniques(in []string, s *server) (tags []string) {
	for _, t := range in {
		id := strings.ToUpper(strings.TrimSpace(t))
		switch {
		case id == "":
		case !technique(id):
			tags = append(tags, "TTP:"+t)
		case s.lacksTechnique(id):
			tags = append(tags, "TTP:"+id)
		case !slices.Contains(w.techniques, id):
			w.techniques = append(w.techniques, id)
		}
	}
	return tags
}

// technique accepts T1059 and T1059.001.
func technique(s string) bool {
	if len(s) != 5 && len(s) != 9 || s[0] != 'T' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; i == 5 && c != '.' || i != 5 && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func bullets(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString("- " + l + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}
