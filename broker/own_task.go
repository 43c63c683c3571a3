package broker

import (
	"maps"

	"muster/broker/task"
)

// OwnTask is a task of the operator's: the files of its folder, task.yaml among them. It may extend one that comes with
// muster; one of the same name takes its place.
type OwnTask struct {
	Kind  string            `json:"kind"`
	Name  string            `json:"name"`
	Files map[string]string `json:"files"` // by name
}

// KindTask is the kind of an operator's tasks.
const KindTask = "Task"

// maxTasks is the most of an operator's own.
const maxTasks = 500

func (t *OwnTask) check() error {
	if _, ok := t.Files["task.yaml"]; !ok {
		return invalid("files: there is no task.yaml")
	}
	return nil
}

// loadTasks reads the operator's tasks of a store over those that the server started with.
func (b *Broker) loadTasks(tx Tx) (map[string]*task.Task, error) {
	own, err := all[OwnTask](tx, KindTask)
	if err != nil {
		return nil, err
	}
	if len(own) > maxTasks {
		return nil, invalid("there are %d tasks: at most %d", len(own), maxTasks)
	}
	texts := map[string]map[string]string{}
	for _, t := range own {
		texts[t.Name] = maps.Clone(t.Files)
	}
	tasks, err := task.FromTexts(texts, b.tasks)
	if err != nil {
		return nil, invalid("%s", err)
	}
	return tasks, nil
}
