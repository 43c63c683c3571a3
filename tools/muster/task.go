package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"muster/broker/task"
)

func taskCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use: "task", Short: "the tasks that come with muster, and trying your own",
		Long: "A task is an install recipe: a folder with task.yaml and templates. These commands need no server.",
	}
	c.AddCommand(taskListCommand(o), taskShowCommand(o), taskLintCommand(o))
	return c
}

func taskListCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the tasks that come with muster, and how far each was tried", Example: "  muster task list", Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			tasks, err := task.Shipped()
			if err != nil {
				return err
			}
			maps.DeleteFunc(tasks, func(_ string, t *task.Task) bool { return t.Abstract })
			list := make([]*task.Task, 0, len(tasks))
			for _, name := range slices.Sorted(maps.Keys(tasks)) {
				list = append(list, tasks[name])
			}
			return o.show(cmd.OutOrStdout(), list, func(w io.Writer) {
				row(w, "TASK", "OS", "VERSIONS", "ARCH", "REPO", "SEEN", "SUMMARY")
				for _, t := range list {
					row(w, t.Name, orDash(t.OS), orDash(strings.Join(t.Versions, ",")), orDash(strings.Join(t.Arch, ",")), orDash(string(t.Repo)), orDash(t.Seen), t.Summary)
				}
			})
		},
	}
}

func taskShowCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "show a task's stages, parameters and recipes", Example: "  muster task show debian", Args: exactly(1, "NAME"), ValidArgsFunction: completeTask,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := shippedTask(args[0])
			if err != nil {
				return err
			}
			return o.show(cmd.OutOrStdout(), t, func(w io.Writer) { showTask(w, t) })
		},
	}
}

func completeTask(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	tasks, err := task.Shipped()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(tasks)), cobra.ShellCompDirectiveNoFileComp
}

func shippedTask(name string) (*task.Task, error) {
	tasks, err := task.Shipped()
	if err != nil {
		return nil, err
	}
	if tasks[name] == nil {
		return nil, fmt.Errorf("there is no task %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(tasks)), ", "))
	}
	return tasks[name], nil
}

func showTask(w io.Writer, t *task.Task) {
	row(w, "task", t.Name)
	row(w, "summary", t.Summary)
	row(w, "os", orDash(strings.TrimSpace(t.OS+" "+strings.Join(t.Versions, ", "))))
	row(w, "arch", orDash(strings.Join(t.Arch, ", ")))
	row(w, "repo", orDash(string(t.Repo)))
	row(w, "seen", orDash(t.Seen))
	for _, s := range t.Stages {
		row(w, "stage", s.Name, strings.TrimSpace(string(s.Step)+" "+s.Order), "within "+time.Duration(s.Deadline).String())
	}
	for _, r := range t.Recipes {
		row(w, "recipe", r.Name)
	}
	for _, f := range t.Files {
		row(w, "file", f.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		row(w, "parameter", name, parameterKind(t.Parameters[name]), t.Parameters[name].Summary)
	}
}

// parameterKind is what a parameter takes, and what it is when nothing is given.
func parameterKind(p task.Parameter) string {
	kind := string(p.Type)
	if kind == "" {
		kind = string(task.String)
	}
	if len(p.Choices) > 0 {
		kind = strings.Join(p.Choices, "|")
	}
	switch {
	case p.Required:
		return kind + ", required"
	case p.Default != nil:
		return fmt.Sprintf("%s, else %v", kind, p.Default)
	}
	return kind
}

// A fault is what is wrong with a task.
type fault struct {
	Task  string `json:"task,omitempty"`
	Node  string `json:"node,omitempty"` // of the fixtures
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`
	Error string `json:"error"`
}

// A lintResult is what muster task lint found.
type lintResult struct {
	Tasks  []string `json:"tasks"`
	Texts  int      `json:"texts"` // that were rendered
	Faults []fault  `json:"faults"`
}

func taskLintCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "lint DIR|NAME", Short: "read the tasks in a directory, or one that comes with muster, and render them on three nodes",
		Long: "DIR is the folder of a task, or a directory of such folders as muster serve --task-dir takes it; its tasks may extend\n" +
			"those that come with muster. Every recipe, file and boot step is rendered for three nodes: an old one with BIOS, one\n" +
			"with UEFI, a static network and hostile names, and one with arm64 and https. What can not be is listed, by file and line.",
		Example: "  muster task lint /etc/muster/tasks\n  muster task lint debian", Args: exactly(1, "DIR or NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			result, err := lintTasks(args[0])
			if err != nil {
				return err
			}
			err = o.show(cmd.OutOrStdout(), result, func(w io.Writer) { showFaults(w, result) })
			if err == nil && len(result.Faults) > 0 {
				err = fmt.Errorf("%d faults in %s", len(result.Faults), args[0])
			}
			return err
		},
	}
}

func showFaults(w io.Writer, r lintResult) {
	if len(r.Faults) == 0 {
		row(w, fmt.Sprintf("ok: %d texts of %s", r.Texts, strings.Join(r.Tasks, ", ")))
		return
	}
	row(w, "TASK", "NODE", "FILE", "LINE", "ERROR")
	for _, f := range r.Faults {
		line := "-"
		if f.Line > 0 {
			line = strconv.Itoa(f.Line)
		}
		row(w, orDash(f.Task), orDash(f.Node), orDash(f.File), line, f.Error)
	}
}

// lintTasks reads and renders those of a directory, or the one of that name.
func lintTasks(what string) (lintResult, error) {
	shipped, err := task.Shipped()
	if err != nil {
		return lintResult{}, err
	}
	r := lintResult{Faults: []fault{}}
	st, err := os.Stat(what)
	switch {
	case err == nil && st.IsDir():
	case shipped[what] != nil:
		r.lint(shipped[what])
		return r, nil
	default:
		return r, fmt.Errorf("%s is neither a directory nor a task: there are %s", what, strings.Join(slices.Sorted(maps.Keys(shipped)), ", "))
	}
	tasks, err := loadTasks(os.DirFS(what), shipped)
	if err != nil {
		r.Faults = append(r.Faults, faultOf("", "", err))
	}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		if tasks[name] != shipped[name] {
			r.lint(tasks[name])
		}
	}
	if err == nil && len(r.Tasks) == 0 {
		return r, fmt.Errorf("%s: there is no folder with a task.yaml in it", what)
	}
	return r, nil
}

func loadTasks(dir fs.FS, there map[string]*task.Task) (map[string]*task.Task, error) {
	if _, err := fs.Stat(dir, "task.yaml"); errors.Is(err, fs.ErrNotExist) {
		return task.LoadAll(dir, there)
	}
	t, err := task.Load(dir, there)
	if err != nil {
		return nil, err
	}
	return map[string]*task.Task{t.Name: t}, nil
}

func (r *lintResult) lint(t *task.Task) {
	r.Tasks = append(r.Tasks, t.Name)
	if t.Abstract {
		return // its templates were read; what extends it fills them
	}
	for _, f := range task.Fixtures() {
		v, err := f.For(t)
		if err != nil {
			r.Faults = append(r.Faults, faultOf(t.Name, f.Name, err))
			continue
		}
		all, errs := t.RenderAll(v)
		r.Texts += len(all)
		for _, err := range errs {
			r.Faults = append(r.Faults, faultOf(t.Name, f.Name, err))
		}
	}
}

// placed is what errors of tasks begin with: a file, then the line where its template fails.
var placed = regexp.MustCompile(`^(?:task ([^:\s]+): )?([^:\s]+): (?:template:|\[)(\d+)`)

func faultOf(task, node string, err error) fault {
	f := fault{Task: task, Node: node, Error: err.Error()}
	m := placed.FindStringSubmatch(f.Error)
	if m == nil {
		return f
	}
	if f.Task == "" {
		f.Task = m[1]
	}
	f.File = m[2]
	f.Line, _ = strconv.Atoi(m[3]) // digits
	return f
}
