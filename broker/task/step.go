package task

import (
	"fmt"
	"strings"

	"muster/boot"
	"muster/boot/kargs"
)

// RenderStep gives what an installer's stage boots. v.Stage is the stage.
func (t *Task) RenderStep(s Stage, v Values) (boot.Step, error) {
	step, err := t.step(s, v)
	if err != nil {
		return step, fmt.Errorf("task %s: stage %s: %w", t.Name, s.Name, err)
	}
	return step, nil
}

func (t *Task) step(s Stage, v Values) (step boot.Step, err error) {
	step.Kind = s.Step
	if s.Step == boot.StepChain {
		return t.chain(s, v)
	}
	if step.Args, err = t.args(s.Args, v); err != nil {
		return step, err
	}
	if step.Kernel = v.Repo.Kernel; s.Kernel != "" {
		if step.Kernel, err = t.inlined(s.Kernel, v); err != nil {
			return step, fmt.Errorf("kernel: %w", err)
		}
	}
	if step.Kernel == "" {
		return step, fmt.Errorf("repo %s names no kernel: import it again, or say kernel and initrds in it", v.Repo.Name)
	}
	step.Initrds = v.Repo.Initrds
	if len(s.Initrds) > 0 {
		step.Initrds = nil
	}
	for _, text := range s.Initrds {
		name, err := t.inlined(text, v)
		if err != nil {
			return step, fmt.Errorf("initrds: %w", err)
		}
		if name != "" {
			step.Initrds = append(step.Initrds, name)
		}
	}
	for _, name := range s.Inject {
		u, err := v.LoaderFile(name)
		if err != nil {
			return step, fmt.Errorf("inject %s: %w", name, err)
		}
		step.Inject = append(step.Inject, boot.Inject{Name: name, URL: u})
	}
	return step, nil
}

// chain is a step to another loader; its arguments are plain words.
func (t *Task) chain(s Stage, v Values) (step boot.Step, err error) {
	step.Kind = boot.StepChain
	if step.Chain, err = t.inlined(s.Chain, v); err != nil {
		return step, fmt.Errorf("chain: %w", err)
	}
	for _, text := range s.Args {
		word, err := t.inlined(text, v)
		if err != nil {
			return step, fmt.Errorf("args: %w", err)
		}
		if word != "" {
			step.Words = append(step.Words, word)
		}
	}
	return step, nil
}

func (t *Task) inlined(text string, v Values) (string, error) { return t.inline[text].Execute(v) }

// args renders a command line, an argument to a template.
func (t *Task) args(texts []string, v Values) (line kargs.Line, err error) {
	for _, text := range texts {
		arg, err := t.inlined(text, v)
		if err != nil {
			return nil, fmt.Errorf("args: %w", err)
		}
		if arg == "" {
			continue
		}
		if key, value, ok := strings.Cut(arg, "="); ok {
			line = append(line, kargs.Set(key, value))
		} else {
			line = append(line, kargs.Flag(arg))
		}
	}
	if _, err := line.Words(); err != nil {
		return nil, fmt.Errorf("args: %w", err)
	}
	return line, nil
}
