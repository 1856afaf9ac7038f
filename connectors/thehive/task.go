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
