package store

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"muster/broker"
)

// filtered says only what is asked for, so that indexes are used. That of policies leaves out nodes without one, which
// the planner must be told.
func filtered(f broker.NodeFilter) (where string, args []any) {
	where = " FROM nodes WHERE true"
	if f.State != "" {
		args = append(args, string(f.State))
		where += fmt.Sprintf(" AND state = $%d", len(args))
	}
	if f.Policy != "" {
		args = append(args, f.Policy)
		where += fmt.Sprintf(" AND policy = $%d AND policy != ''", len(args))
	}
	if f.Hostname != "" { // the sign after the dot is the slash
		args = append(args, f.Hostname, f.Hostname+".", f.Hostname+"/")
		where += fmt.Sprintf(" AND hostname != '' AND (hostname = $%d OR hostname >= $%d AND hostname < $%d)", len(args)-2, len(args)-1, len(args))
	}
	return where, args
}

// literal makes a tag's name a pattern of LIKE that means itself.
var literal = strings.NewReplacer("_", "!_", "%", "!%", "!", "!!")

// paged adds the order, and where in it to begin and to end. Ids rise with num: node9, node10. The place of an id stays
// where it was when its node is gone.
func paged(f broker.ListFilter) (where string, args []any) {
	where, args = filtered(f.NodeFilter)
	for _, tag := range f.Tags {
		args = append(args, "% "+literal.Replace(tag)+" %", "% "+doubtful+literal.Replace(tag)+" %")
		where += fmt.Sprintf(" AND (tags LIKE $%d ESCAPE '!' OR tags LIKE $%d ESCAPE '!')", len(args)-1, len(args))
	}
	if len(f.States) > 0 {
		var among []string
		for _, s := range f.States {
			args = append(args, string(s))
			among = append(among, fmt.Sprintf("$%d", len(args)))
		}
		where += " AND state IN (" + strings.Join(among, ", ") + ")"
	}
	column, way, beyond := strings.TrimPrefix(f.Sort, "-"), "", ">"
	if column != f.Sort {
		way, beyond = " DESC", "<"
	}
	if f.After != "" {
		// The last of those before is looked for from the end, row by row: only where the node itself is gone.
		behind := fmt.Sprintf(`num > coalesce((SELECT num FROM nodes WHERE id = $%[1]d), (SELECT max(num) FROM nodes
			WHERE length(id) < length($%[1]d) OR length(id) = length($%[1]d) AND id <= $%[1]d), 0)`, len(args)+1)
		args = append(args, f.After)
		if column != "" {
			behind = fmt.Sprintf("(%[1]s %[2]s $%[3]d OR %[1]s = $%[3]d AND %[4]s)", column, beyond, len(args)+1, behind)
			args = append(args, f.Key)
		}
		where += " AND " + behind
	}
	where += " ORDER BY "
	if column != "" {
		where += column + way + ", "
	}
	where += "num"
	if f.Limit > 0 {
		where += fmt.Sprintf(" LIMIT $%d", len(args)+1)
		args = append(args, f.Limit)
	}
	return where, args
}

func (x *tx) Nodes(f broker.NodeFilter) ([]*broker.Node, error) {
	where, args := paged(broker.ListFilter{NodeFilter: f})
	return x.nodes("SELECT doc"+where, args...)
}

func (x *tx) List(f broker.ListFilter) (list []broker.Listed, err error) {
	if f.Sort != "" && !slices.Contains(broker.SortKeys(), strings.TrimPrefix(f.Sort, "-")) {
		return nil, fmt.Errorf("list nodes: no column is called %q", f.Sort)
	}
	where, args := paged(f)
	facts := "NULL"
	if f.Facts {
		facts = "(SELECT facts.doc FROM facts WHERE node = id)"
	}
	rows, err := x.query("SELECT tags, "+facts+", brief"+where, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	defer rows.Close()
	var brief sql.RawBytes
	for rows.Next() {
		var l broker.Listed
		var words string
		var facts sql.NullString
		if err = rows.Scan(&words, &facts, &brief); err == nil {
			l, err = decodeBrief(brief, words)
			l.Facts = facts.String
		}
		if err != nil {
			return nil, fmt.Errorf("list nodes: %w", err)
		}
		list = append(list, l)
	}
	return list, rows.Err()
}
