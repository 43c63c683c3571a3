package initramfs

import "slices"

// findChanged compares permissions, targets and contents, and plans anew the entries that have others now.
func (r *repacker) findChanged() map[int]planned {
	c := &changes{repacker: r, entries: make(map[int]planned), of: make(map[*inode][]int)}
	for i := range r.m.Entries {
		if r.left.lives(i) && !r.gone[r.left.places[i].String()] {
			n := r.left.places[i].inode()
			c.of[n] = append(c.of[n], i)
		}
	}
	seen := make(map[*inode]bool)
	for called, n := range r.left.files() {
		if seen[n.inode] || r.gone[called] {
			continue
		}
		seen[n.inode] = true
		switch n.kind {
		case typeDir, typeLink:
			c.single(n.inode, r.of[called])
		case typeRegular:
			c.file(n.inode)
		}
	}
	return c.entries
}

// changes plans entries anew.
type changes struct {
	*repacker
	entries map[int]planned
	of      map[*inode][]int // the living entries of a file, that are not gone
}

// edit gives the plan of entry i to change.
func (c *changes) edit(i int, change func(*planned)) {
	e, ok := c.entries[i]
	if !ok {
		e = c.untouched(i)
	}
	change(&e)
	c.entries[i] = e
}

// single compares a directory or link, which has one name only.
func (c *changes) single(n *inode, f *diskFile) {
	for _, i := range c.of[n] {
		e := &c.m.Entries[i]
		switch {
		case n.kind == typeLink && f.target != e.Target:
			c.note("changed %s: links to %q, not %q", c.left.places[i].String(), f.target, e.Target)
			c.edit(i, func(p *planned) { p.Target, p.Size, p.Time = f.target, uint32(len(f.target)), c.epoch })
		case n.kind == typeDir:
			c.permissions(i, f)
		}
	}
}

// permissions takes over those that somebody changed on disk; set-user-ID and the like are not there and stay.
func (c *changes) permissions(i int, f *diskFile) {
	e := &c.m.Entries[i]
	if f.mode.Perm() == hostMode(e.Mode) {
		return
	}
	c.note("changed %s: permissions %04o, not %04o", c.left.places[i].String(), f.mode.Perm(), e.Mode&0o777)
	c.edit(i, func(p *planned) { p.Mode = p.Mode&^0o777 | uint32(f.mode.Perm()) })
}

// file compares a regular file with all its names. Names whose content is still the same stay one file; those that got
// another one, as editors give that write beside and rename, become files of their own.
func (c *changes) file(n *inode) {
	old := &c.m.Entries[n.data]
	var stay, leave []int
	for _, i := range c.of[n] {
		if f := c.disk(i); f.sum == old.SHA256 && f.size == int64(old.Size) {
			stay = append(stay, i)
		} else {
			leave = append(leave, i)
		}
	}
	if len(stay) == 0 && c.alike(leave) {
		stay, leave = leave, nil
	}
	for _, i := range c.of[n] {
		c.permissions(i, c.disk(i))
	}
	c.reunite(n, stay)
	for _, i := range leave {
		c.note("changed %s: content", c.left.places[i].String())
		f := c.disk(i)
		c.edit(i, func(p *planned) { c.content(p, f, c.left.places[i].String()); p.Links = 1 })
	}
}

// content gives p what is on disk now.
func (c *changes) content(p *planned, f *diskFile, called string) {
	p.Size, p.SHA256, p.Time, p.from = uint32(f.size), f.sum, c.epoch, inTree(called)
	if f.size == 0 {
		p.from = ""
		p.Check = 0
	}
}

// disk is what is at the name of entry i.
func (c *changes) disk(i int) *diskFile { return c.repacker.of[c.left.places[i].String()] }

func (c *changes) alike(entries []int) bool {
	return len(entries) > 0 && !slices.ContainsFunc(entries, func(i int) bool { return c.disk(i).sum != c.disk(entries[0]).sum })
}

// reunite sees to it that the names that stay together have their content once, with the last of them.
func (c *changes) reunite(n *inode, stay []int) {
	if len(stay) == 0 {
		return
	}
	last := stay[len(stay)-1]
	f := c.disk(last)
	changed := f.sum != c.m.Entries[n.data].SHA256
	lost := n.links - len(stay)
	if !changed && lost == 0 {
		return
	}
	for _, i := range stay {
		if changed {
			c.note("changed %s: content", c.left.places[i].String())
		}
		c.edit(i, func(p *planned) {
			p.Links = uint32(max(1, int(p.Links)-lost))
			switch {
			case i == last && (changed || !slices.Contains(stay, n.data)):
				c.content(p, f, c.left.places[i].String())
				if !changed {
					p.Time = c.m.Entries[i].Time
				}
			case changed:
				p.Size, p.from, p.Check, p.Time = 0, "", 0, c.epoch
			}
		})
	}
}
