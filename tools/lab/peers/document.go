package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A document is what a tool printed, as lines and as blocks of lines. A line of JSON is one scalar behind its whole path,
// "disks.0.serial: SATA0001"; a block is an object, or what it says of itself between lists of other objects. In text a
// block is a paragraph, or a line with those that are indented below it. Everything is in lower case, with runs of blanks as one.
type document struct {
	lines  []string
	blocks []span
	list   bool // the value that was read last is one
}

// A span is the lines from the first to before the last.
type span struct{ from, to int }

// maxLines bounds a document; more is cut off.
const maxLines = 200_000

func parse(output []byte, isJSON bool) *document {
	d := &document{}
	if isJSON {
		if d.parseJSON(output) == nil {
			return d
		}
		*d = document{} // a person still reads what a program cannot
	}
	d.parseText(string(output))
	return d
}

func (d *document) parseJSON(output []byte) error {
	dec := json.NewDecoder(bytes.NewReader(output))
	dec.UseNumber()
	return d.value(dec, "", 0)
}

// value reads one value: in the order of the text, so that an object is a run of lines.
func (d *document) value(dec *json.Decoder, path string, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	open, nested := token.(json.Delim)
	if !nested {
		d.add(path + ": " + scalar(token))
		d.list = false
		return nil
	}
	if depth > 100 {
		return fmt.Errorf("nested more than 100 deep at %q", path)
	}
	from := len(d.lines)
	own := from
	for i := 0; dec.More(); i++ {
		key := strconv.Itoa(i)
		if open == '{' {
			token, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = token.(string)
		}
		start, blocks := len(d.lines), len(d.blocks)
		if err := d.value(dec, strings.TrimPrefix(path+"."+key, "."), depth+1); err != nil {
			return err
		}
		if open == '{' && len(d.blocks) > blocks && d.list {
			d.block(own, start)
			own = len(d.lines)
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	d.list = open == '['
	if open == '{' {
		d.block(own, len(d.lines))
	}
	d.block(from, len(d.lines))
	return nil
}

func scalar(t json.Token) string {
	if t == nil {
		return "null"
	}
	return fmt.Sprint(t)
}

// parseText takes each line with what is indented deeper below it, and each paragraph. Tabs count as eight.
func (d *document) parseText(text string) {
	type head struct{ line, indent int }
	var open []head
	closeTo := func(indent int) {
		for len(open) > 0 && open[len(open)-1].indent >= indent {
			d.block(open[len(open)-1].line, len(d.lines))
			open = open[:len(open)-1]
		}
	}
	paragraph := 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.ReplaceAll(line, "\t", "        "), " \r\n")
		if line == "" {
			closeTo(0)
			d.block(paragraph, len(d.lines))
			paragraph = len(d.lines)
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		closeTo(indent)
		open = append(open, head{len(d.lines), indent})
		d.add(line)
	}
	closeTo(0)
	d.block(paragraph, len(d.lines))
}

func (d *document) add(line string) {
	if len(d.lines) < maxLines {
		d.lines = append(d.lines, fold(line))
	}
}

func (d *document) block(from, to int) {
	if from < to {
		d.blocks = append(d.blocks, span{from, to})
	}
}

// fold makes two spellings of one text equal.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
