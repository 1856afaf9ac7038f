package thehive

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/sdk"
)

// Task is something to do in a case.
type Task struct {
	Title       string    `json:"title" cw:"required,maxlen=128" doc:"What to do"`
	Group       string    `json:"group,omitempty" cw:"maxlen=64" doc:"Group of the task; default TheHive's own"`
	Description string    `json:"description,omitempty" doc:"Markdown"`
	Assignee    string    `json:"assignee,omitempty" cw:"maxlen=128" doc:"Login of whom it is given to"`
	Due         time.Time `json:"due,omitzero" doc:"When it is due"`
	Mandatory   bool      `json:"mandatory,omitempty" doc:"The case cannot be closed without it"`
	Flag        bool      `json:"flag,omitempty" doc:"Flag it"`
}

// inputTask is the body of a task's create.
type inputTask struct {
	Title       string `json:"title"`
	Group       string `json:"group,omitempty"`
	Description string `json:"description,omitempty"`
	Assignee    string `json:"assignee,omitempty"`
	DueDate     int64  `json:"dueDate,omitempty"`
	Mandatory   bool   `json:"mandatory,omitempty"`
	Flag        bool   `json:"flag,omitempty"`
}

// taskObject is what is read of a task.
type taskObject struct {
	ID          string `json:"_id"`
	Title       string `json:"title"`
	Group       string `json:"group"`
	Description string `json:"description"`
	Status      string `json:"status"` // Waiting, InProgress, Completed, Cancel
	Assignee    string `json:"assignee"`
}

// pending says that the task is still to be done.
func (t *taskObject) pending() bool { return t.Status != "Completed" && t.Status != "Cancel" }

func checkTasks(tasks []Task) error {
	for i := range tasks {
		if strings.TrimSpace(tasks[i].Title) == "" {
			return sdk.Invalid("/tasks/"+strconv.Itoa(i)+"/title", "is empty")
		}
	}
	return nil
}

// input makes the body of a task with a mark, by which it is found again.
func (t *Task) input(mark string) *inputTask {
	in := &inputTask{
		Title: fit(strings.Join(strings.Fields(t.Title), " "), maxTag, "…"), Group: t.Group, Assignee: t.Assignee, Mandatory: t.Mandatory, Flag: t.Flag,
		Description: strings.TrimSpace(fitComment(strings.TrimSpace(t.Description), mark) + "\n\n" + mark),
	}
	if !t.Due.IsZero() {
		in.DueDate = t.Due.UnixMilli()
	}
	return in
}

// addTasks adds the tasks of a new case. Look says that an earlier attempt may have added some.
func (c *Client) addTasks(ctx context.Context, caseID, ref string, tasks []Task, look bool) error {
	if len(tasks) == 0 {
		return nil
	}
	var there []taskObject
	if look {
		var err error
		if there, err = list[taskObject](ctx, c, kindCase, caseID, "tasks"); err != nil {
			return err
		}
	}
	for i := range tasks {
		mark := markOf(ref + "\x00task\x00" + strconv.Itoa(i))
		if slices.ContainsFunc(there, func(t taskObject) bool { return strings.Contains(t.Description, mark) }) {
			continue
		}
		if _, err := c.postTask(ctx, caseID, tasks[i].input(mark)); err != nil {
			return err
		}
	}
	return nil
}

// postTask makes a task. An assignee whom TheHive does not know does not cost the task.
func (c *Client) postTask(ctx context.Context, caseID string, in *inputTask) (*taskObject, error) {
	var made taskObject
	what := "add task to case " + caseID
	err := c.create(ctx, what, "/api/v1/case/"+caseID+"/task", in, &made)
	if (notFound(err) || badRequest(err)) && in.Assignee != "" {
		again := *in
		again.Assignee = ""
		if second := c.create(ctx, what, "/api/v1/case/"+caseID+"/task", &again, &made); second == nil || !notFound(second) && !badRequest(second) {
			err = second
		}
	}
	if err != nil {
		return nil, err
	}
	if !objectID(made.ID) {
		return nil, sdk.Uncertain("%s: TheHive's answer names no task", what)
	}
	return &made, nil
}

// AddTaskInput is a task for a case.
type AddTaskInput struct {
	Case        string    `json:"case" cw:"required" doc:"Id or number of the case" pattern:"^~?[0-9]+$"`
	Title       string    `json:"title" cw:"required,maxlen=128" doc:"What to do"`
	Group       string    `json:"group,omitempty" cw:"maxlen=64" doc:"Group of the task; default TheHive's own"`
	Description string    `json:"description,omitempty" doc:"Markdown"`
	Assignee    string    `json:"assignee,omitempty" cw:"maxlen=128" doc:"Login of whom it is given to; one whom TheHive does not know leaves it to nobody"`
	Due         time.Time `json:"due,omitzero" doc:"When it is due"`
	Mandatory   bool      `json:"mandatory,omitempty" doc:"The case cannot be closed without it"`
	Flag        bool      `json:"flag,omitempty" doc:"Flag it"`
}

// AddedTask is a task.
type AddedTask struct {
	ID       string `json:"id" doc:"Id of the task"`
	Case     string `json:"case" doc:"The case, as it was given"`
	Created  bool   `json:"created" doc:"This key made the task"`
	Status   string `json:"status,omitempty" doc:"Waiting, InProgress, Completed or Cancel"`
	Assignee string `json:"assignee,omitempty" doc:"Login of whom it is given to"`
}

// AddTask adds a task once per key. It ends with the mark [cw-<ref>], by which it is found again after an attempt whose answer
// was lost. What was made of it since is left alone.
func (c *Client) AddTask(ctx context.Context, in AddTaskInput) (AddedTask, error) {
	call := sdk.CallFrom(ctx)
	if call.Key == "" {
		return AddedTask{}, sdk.Invalid("", "task.add needs a key: the same key never adds a task twice")
	}
	if !objectID(in.Case) {
		return AddedTask{}, sdk.Invalid("/case", "%q is neither an id such as ~41943040 nor a number", cut(in.Case, 80))
	}
	task := Task{
		Title: in.Title, Group: in.Group, Description: in.Description, Assignee: in.Assignee, Due: in.Due, Mandatory: in.Mandatory, Flag: in.Flag,
	}
	if strings.TrimSpace(in.Title) == "" {
		return AddedTask{}, sdk.Invalid("/title", "is empty")
	}
	out := AddedTask{Case: in.Case}
	prior, known, err := priorOutput[AddedTask](call)
	if err != nil {
		return AddedTask{}, err
	}
	if known && objectID(prior.ID) && !call.Resolve {
		if prior.Case != in.Case {
			return AddedTask{}, sdk.Invalid("/case", "the task with this key is in case %s, not in %s; use a key of its own for each case", prior.Case, in.Case)
		}
		prior.Created = false
		return prior, nil
	}
	mark := markOf(call.Key)
	if call.Resolve || repeated(call) {
		all, err := list[taskObject](ctx, c, kindCase, in.Case, "tasks")
		if err != nil {
			return AddedTask{}, err
		}
		if i := slices.IndexFunc(all, func(t taskObject) bool { return strings.Contains(t.Description, mark) }); i >= 0 {
			out.ID, out.Created, out.Status, out.Assignee = all[i].ID, true, all[i].Status, all[i].Assignee
			return out, nil
		}
		if call.Resolve {
			return AddedTask{}, sdk.Unresolved("no task of case %s carries the mark %s", in.Case, mark)
		}
	}
	out.Created = true
	if call.DryRun {
		return out, nil
	}
	made, err := c.postTask(ctx, in.Case, task.input(mark))
	if err != nil {
		return AddedTask{}, err
	}
	out.ID, out.Status, out.Assignee = made.ID, made.Status, made.Assignee
	return out, nil
}
