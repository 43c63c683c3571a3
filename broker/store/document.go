package store

import (
	"encoding/json"
	"strings"

	"muster/broker"
)

// A document is a node as it is stored. Nodes carry tags by the hundred, and every check-in reads and writes them all:
// they are words.
type document struct {
	*broker.Node
	Tags tagWords `json:"tags,omitempty"`
}

// tagWords are tags in the form of wordsOf, and after it the causes of those that are undecided: ["big ?odd", "unread"].
type tagWords []broker.TagResult

const (
	carried   = "yes"
	undecided = "undecided"
	doubtful  = "?" // before a word: undecided
)

// wordsOf are the tags that hold and, with a ? in front, those that are undecided. Names have no spaces.
func wordsOf(tags []broker.TagResult) string {
	var b strings.Builder
	for _, t := range tags {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if t.Verdict == undecided {
			b.WriteString(doubtful)
		}
		b.WriteString(t.Name)
	}
	return b.String()
}

// MarshalJSON implements json.Marshaler.
func (t tagWords) MarshalJSON() ([]byte, error) {
	words := []string{wordsOf(t)}
	for _, tag := range t {
		if tag.Verdict == undecided {
			words = append(words, tag.Cause)
		}
	}
	return json.Marshal(words)
}

// UnmarshalJSON implements json.Unmarshaler. It reads the API's form too, as backups have it and documents had up to
// version 4 (of PostgreSQL, 2).
func (t *tagWords) UnmarshalJSON(doc []byte) error {
	if len(doc) < 2 || doc[1] != '"' {
		return json.Unmarshal(doc, (*[]broker.TagResult)(t))
	}
	var words []string
	if err := json.Unmarshal(doc, &words); err != nil {
		return err
	}
	names, causes := strings.Split(words[0], " "), words[1:]
	*t = make(tagWords, len(names))
	for i, name := range names {
		(*t)[i] = broker.TagResult{Name: name, Verdict: carried}
		if name, doubt := strings.CutPrefix(name, doubtful); doubt && len(causes) > 0 {
			(*t)[i] = broker.TagResult{Name: name, Verdict: undecided, Cause: causes[0]}
			causes = causes[1:]
		}
	}
	return nil
}

func encodeNode(n *broker.Node) ([]byte, error) { return json.Marshal(document{n, n.Tags}) }

func decodeNode(doc []byte) (*broker.Node, error) {
	d := document{Node: &broker.Node{}}
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, err
	}
	d.Node.Tags = d.Tags
	return d.Node, nil
}

// encodeBrief leaves out the tags, which have a column.
func encodeBrief(l broker.Listed) ([]byte, error) {
	l.Tags, l.Undecided = nil, nil
	return json.Marshal(l)
}

func decodeBrief(doc []byte, words string) (l broker.Listed, err error) {
	err = json.Unmarshal(doc, &l)
	if words == "" {
		return l, err
	}
	for _, name := range strings.Split(words[1:len(words)-1], " ") {
		if name, doubt := strings.CutPrefix(name, doubtful); doubt {
			l.Undecided = append(l.Undecided, name)
		} else {
			l.Tags = append(l.Tags, name)
		}
	}
	return l, err
}

// column is words with a space before and behind each, so that LIKE finds one whole.
func column(words string) string {
	if words == "" {
		return ""
	}
	return " " + words + " "
}
