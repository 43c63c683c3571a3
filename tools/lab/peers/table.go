package peers

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what a record shows of each tool.
type Report struct {
	Where string  `json:"where"`
	CPUs  int     `json:"cpus"`
	Items []Found `json:"items,omitempty"`
	Tools []Row   `json:"tools"`
}

// A Row is one tool beside ours.
type Row struct {
	Name   string `json:"name"`
	Absent string `json:"absent,omitempty"` // why there are no figures
	Found  int    `json:"found"`
	Of     int    `json:"of"`
	Runs   int    `json:"runs"`
	Wall   Spread `json:"wall_ms"`
	CPU    Spread `json:"cpu_ms"`
	Ratio  Spread `json:"ratio"` // of wall time to ours, round by round
	RSSKiB int64  `json:"rss_kib"`
	Bytes  int    `json:"output_bytes"`
	Exit   int    `json:"exit"` // of the last run
}

// Spread is the middle and the ends of a few measurements.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Found is one item and the tools that found it.
type Found struct {
	Group string   `json:"group"`
	Name  string   `json:"name"`
	By    []string `json:"by"`
}

// spread of no values is zero.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	middle := v[len(v)/2]
	if len(v)%2 == 0 {
		middle = (v[len(v)/2-1] + middle) / 2
	}
	return Spread{middle, v[0], v[len(v)-1]}
}

// Judge counts what each tool of the record found, and compares times. Without items it compares times only.
func Judge(where string, r *Record, items []Item, things []Thing) *Report {
	things = named(things, r.Names)
	report := &Report{Where: where, CPUs: r.CPUs}
	for _, it := range items {
		report.Items = append(report.Items, Found{Group: it.Group, Name: it.Name})
	}
	ours := r.tool(Ours)
	for _, m := range r.Tools {
		row := Row{Name: m.Name, Absent: m.Absent, Of: len(items), Runs: len(m.Runs), Bytes: len(m.Output)}
		d := parse(m.Output, m.isJSON())
		for i, it := range items {
			if m.Absent == "" && d.found(m.Name, it, things) {
				row.Found++
				report.Items[i].By = append(report.Items[i].By, m.Name)
			}
		}
		row.time(m.Runs, ours.Runs)
		report.Tools = append(report.Tools, row)
	}
	return report
}

func (r *Record) tool(name string) Measured {
	i := slices.IndexFunc(r.Tools, func(m Measured) bool { return m.Name == name })
	if i < 0 {
		return Measured{Name: name}
	}
	return r.Tools[i]
}

func (m Measured) isJSON() bool {
	i := slices.IndexFunc(Tools, func(t Tool) bool { return t.Name == m.Name })
	return i >= 0 && Tools[i].JSON
}

// time fills in the figures. A ratio is of two runs of one round: what slowed the machine then slowed both. The run that
// warms up is not kept of ours, and has the next one beside it.
func (row *Row) time(runs, ours []Run) {
	var wall, cpu, ratio []float64
	for _, run := range runs {
		wall, cpu = append(wall, milliseconds(run.Wall)), append(cpu, milliseconds(run.CPU))
		beside := slices.IndexFunc(ours, func(o Run) bool { return o.Round == max(1, run.Round) && o.Wall > 0 })
		if beside >= 0 {
			ratio = append(ratio, float64(run.Wall)/float64(ours[beside].Wall))
		}
		row.RSSKiB, row.Exit = max(row.RSSKiB, run.RSS), run.Exit
	}
	row.Wall, row.CPU, row.Ratio = spread(wall), spread(cpu), spread(ratio)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// named gives each thing the names that it has in this boot: those of the kernel objects below its place.
func named(things []Thing, names map[string]string) []Thing {
	things = slices.Clone(things)
	for i, t := range things {
		things[i].Names = slices.Clone(t.Names)
		for name, place := range names {
			if t.Place != "" && strings.Contains(place+"/", t.Place) {
				things[i].Names = append(things[i].Names, name)
			}
		}
	}
	return things
}

// Print writes the table, and with matrix also which tool found which item.
func (r *Report) Print(w io.Writer, matrix bool) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s, %d CPUs\n", r.Where, r.CPUs)
	fmt.Fprintln(t, "TOOL\tFOUND\tRUNS\tWALL s (min-max)\tCPU s\tTIMES "+Ours+" (min-max)\tPEAK MiB\tOUTPUT KiB")
	for _, row := range r.Tools {
		fmt.Fprintln(t, row.cells())
	}
	if matrix && len(r.Items) > 0 {
		fmt.Fprintln(t)
		r.matrix(t)
	}
	return t.Flush()
}

func (row Row) cells() string {
	if row.Absent != "" {
		return row.Name + "\tnot here" + strings.Repeat("\t-", 6)
	}
	found := "-"
	if row.Of > 0 {
		found = fmt.Sprintf("%d/%d %d%%", row.Found, row.Of, 100*row.Found/row.Of)
	}
	if row.Exit != 0 {
		found += fmt.Sprintf(" (exit %d)", row.Exit)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%.3f (%.3f-%.3f)\t%.3f\t%.2f (%.2f-%.2f)\t%d\t%d", row.Name, found, row.Runs,
		row.Wall.Median/1000, row.Wall.Min/1000, row.Wall.Max/1000, row.CPU.Median/1000,
		row.Ratio.Median, row.Ratio.Min, row.Ratio.Max, row.RSSKiB/1024, (row.Bytes+1023)/1024)
}

func (r *Report) matrix(w io.Writer) {
	head := "ITEM"
	for _, row := range r.Tools {
		head += "\t" + row.Name
	}
	fmt.Fprintln(w, head)
	for _, it := range r.Items {
		line := it.Group + ": " + it.Name
		for _, row := range r.Tools {
			mark := "."
			if slices.Contains(it.By, row.Name) {
				mark = "x"
			}
			line += "\t" + mark
		}
		fmt.Fprintln(w, line)
	}
}
