package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// testTree has no files.
func testTree() tree { return tree{steps: new(atomic.Int64)} }

func sets(arch string) section { return func(f *facts.Facts, _ *facts.State) { f.Arch = arch } }

func TestCollectorsFailAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		picked := []collector{
			{"good", func(context.Context, machine) (section, error) { return sets("x86_64"), nil }},
			{"broken", func(context.Context, machine) (section, error) { panic("index 7") }},
			{"gone", func(context.Context, machine) (section, error) { return nil, fmt.Errorf("open x: %w", fs.ErrNotExist) }},
			{"forbidden", func(context.Context, machine) (section, error) {
				return func(f *facts.Facts, _ *facts.State) { f.Kernel = "6.1" }, errors.Join(fs.ErrPermission, malformed{errors.New("odd")})
			}},
			{"partly", func(context.Context, machine) (section, error) {
				return func(*facts.Facts, *facts.State) {}, partial(errors.Join(errors.New("a"), errors.New("b")))
			}},
			{"hung", func(context.Context, machine) (section, error) { <-release; return sets("never"), nil }},
		}
		r := Result{TimingMS: map[string]int64{}}
		for _, o := range collect(context.Background(), machine{tree: testTree()}, picked, 200*time.Millisecond) {
			r.take(o)
		}
		if r.Facts.Arch != "x86_64" || r.Facts.Kernel != "6.1" {
			t.Errorf("arch %q, kernel %q; want x86_64, 6.1", r.Facts.Arch, r.Facts.Kernel)
		}
		if diff := cmp.Diff([]string{"broken", "gone", "hung", "partly"}, r.Facts.Incomplete); diff != "" {
			t.Errorf("incomplete: -want +got\n%s", diff)
		}
		want := []facts.ProbeError{
			{Collector: "broken", Code: "panic", Msg: "index 7"},
			{Collector: "gone", Code: "missing", Msg: "open x: file does not exist"},
			{Collector: "forbidden", Code: "denied", Msg: "permission denied"},
			{Collector: "forbidden", Code: "parse", Msg: "odd"},
			{Collector: "partly", Code: "io", Msg: "a"},
			{Collector: "partly", Code: "io", Msg: "b"},
			{Collector: "hung", Code: "timeout", Msg: "no answer: context deadline exceeded"},
		}
		if diff := cmp.Diff(want, r.Errors); diff != "" {
			t.Errorf("errors: -want +got\n%s", diff)
		}
	})
}

// On a machine where all is slow nothing is lost as long as something answers now and then.
func TestSlowIsNotHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var picked []collector
		for i := range 6 {
			picked = append(picked, collector{fmt.Sprint(i), func(context.Context, machine) (section, error) {
				time.Sleep(time.Duration(i) * 1500 * time.Millisecond)
				return sets("x86_64"), nil
			}})
		}
		picked = append(picked, collector{"many", func(ctx context.Context, m machine) (section, error) {
			got, errs := each(ctx, m, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}, func(name string) (int, error) {
				n := int(name[0] - '0')
				for range n {
					time.Sleep(900 * time.Millisecond)
					m.steps.Add(1)
				}
				return n, nil
			})
			if len(got) != 9 || errs != nil {
				t.Errorf("each = %v, %v; want nine answers", got, errs)
			}
			return sets("x86_64"), nil
		}})
		for _, o := range collect(t.Context(), machine{tree: testTree()}, picked, 2*time.Second) {
			if o.err != nil {
				t.Errorf("%s: %v", o.name, o.err)
			}
		}
	})
}

// However often it answers a little, a machine is not waited for without end.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drips := collector{"drips", func(ctx context.Context, m machine) (section, error) {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
				m.steps.Add(1)
			}
			return nil, ctx.Err()
		}}
		start := time.Now()
		o := collect(t.Context(), machine{tree: testTree()}, []collector{drips}, 2*time.Second)
		if took := time.Since(start); took > mostDeadlines*2*time.Second+time.Second || code(o[0].err) != "timeout" {
			t.Errorf("took %v, error %v", took, o[0].err)
		}
		time.Sleep(2 * time.Second) // the collector sees that its context is over
	})
}

func TestEachLosesOnlyWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		names := []string{"a", "hung", "c", "panics", "fails"}
		got, errs := each(context.Background(), machine{tree: testTree(), patience: 200 * time.Millisecond}, names, func(name string) (string, error) {
			switch name {
			case "hung":
				<-release
			case "panics":
				panic("oh")
			case "fails":
				return "", fs.ErrPermission
			}
			return name, nil
		})
		if diff := cmp.Diff([]string{"a", "c"}, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		var codes []string
		for _, err := range errs {
			codes = append(codes, code(err))
		}
		if diff := cmp.Diff([]string{"timeout", "panic", "denied"}, codes); diff != "" {
			t.Errorf("codes: -want +got\n%s", diff)
		}
	})
}

func TestErrorsAreBounded(t *testing.T) {
	var many []error
	for i := range 1000 {
		many = append(many, fmt.Errorf("disk %d\n\x1b[2J", i))
	}
	var r Result
	r.TimingMS = map[string]int64{}
	r.take(outcome{name: "disks", section: sets(""), err: errors.Join(many...)})
	if len(r.Errors) != maxErrors+1 || r.Errors[maxErrors].Msg != "968 more" || r.Errors[0].Msg != "disk 0 [2J" {
		t.Errorf("%d errors, first %q, last %q", len(r.Errors), r.Errors[0].Msg, r.Errors[len(r.Errors)-1].Msg)
	}
}

// Z21: nothing of a tree is read outside of it.
func TestTreeDoesNotLeaveItsRoot(t *testing.T) {
	root := plant(t, "/proc/cmdline -> /etc/passwd\n/sys/class/dmi/id -> ../../../../../../../../../etc\n/sys/block/sda -> ../../../../../../etc")
	r := Run(context.Background(), Options{Root: root, Deadline: patient})
	if r.Facts.Boot != nil {
		t.Errorf("boot %+v; want none", r.Facts.Boot)
	}
	if r.Facts.System != nil {
		t.Errorf("system %+v; want none", r.Facts.System)
	}
	if err := r.Facts.Validate(); err != nil {
		t.Error(err)
	}
}
