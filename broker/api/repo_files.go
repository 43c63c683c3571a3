package api

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"muster/boot"
	"muster/broker"
	"muster/broker/repo"
)

// Repos gives the files of install trees and mirrors by the names of their repos.
type Repos struct {
	Broker  *broker.Broker
	Trees   *repo.Trees
	Mirrors *repo.Mirrors // if nil, mirrors are only redirected to
}

// Open gives NAME/PATH to loaders: any file of a tree; of a mirror, the kernel and initrds that its repo names.
func (s *Repos) Open(ctx context.Context, name string) (boot.File, error) {
	name, p, _ := strings.Cut(name, "/")
	r, ok := s.Broker.Repo(name)
	switch {
	case ok && r.Tree != "":
		_, f, err := s.treeFile(r, p)
		return f, err
	case ok && r.URL != "" && r.Boots(p) && s.Mirrors != nil:
		return s.mirrored(ctx, r, p)
	}
	return boot.File{}, fmt.Errorf("repo file %q: %w", boot.Printable(name+"/"+p), boot.ErrNotFound)
}

// treeFile finds a path. Of a directory, only the entry is given, with boot.ErrNotFound.
func (s *Repos) treeFile(r broker.Repo, p string) (e repo.TreeEntry, f boot.File, err error) {
	t, err := s.Trees.Tree(r.Tree)
	if err == nil {
		e, err = t.Lookup(p)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && e.SHA256 == "" {
		return e, f, fmt.Errorf("repo %s: %s: %w", r.Name, boot.Printable(p), errors.Join(err, boot.ErrNotFound))
	}
	if err != nil {
		return e, f, err
	}
	content, err := s.Trees.Open(e)
	if err != nil {
		return e, f, fmt.Errorf("repo %s: %s is not stored (muster repo verify): %w", r.Name, boot.Printable(p), err)
	}
	return e, boot.File{Size: e.Size, Sum: e.SHA256, Content: content}, nil
}

func (s *Repos) mirrored(ctx context.Context, r broker.Repo, p string) (boot.File, error) {
	f, sum, err := s.Mirrors.Open(ctx, mirrorURL(r, p))
	if errors.Is(err, fs.ErrNotExist) {
		return boot.File{}, fmt.Errorf("repo %s: %w: %w", r.Name, err, boot.ErrNotFound)
	}
	if err != nil {
		return boot.File{}, fmt.Errorf("repo %s: %w", r.Name, err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return boot.File{}, err
	}
	return boot.File{Size: st.Size(), Sum: sum, Content: f}, nil
}

// mirrorURL is where a path of a mirror lies.
func mirrorURL(r broker.Repo, p string) string {
	return strings.TrimRight(r.URL, "/") + "/" + strings.TrimPrefix((&url.URL{Path: "/" + p}).EscapedPath(), "/")
}

// serveRepo answers GET and HEAD of /repo/NAME/PATH, for everyone: install trees hold nothing secret.
func (s *server) serveRepo(w http.ResponseWriter, req *http.Request) error {
	name, p, below := strings.Cut(strings.TrimPrefix(req.URL.Path, "/repo/"), "/")
	r, ok := s.Repos.Broker.Repo(name)
	switch {
	case !ok || r.Tree == "" && r.URL == "":
		return fmt.Errorf("there is no install tree %q (%w)", boot.Printable(name), broker.ErrNotFound)
	case !below:
		return redirect(w, req.URL.EscapedPath()+"/")
	case r.URL != "" && (!r.Boots(p) || s.Repos.Mirrors == nil):
		return redirectToMirror(w, r, p)
	case r.URL != "":
		f, err := s.Repos.mirrored(req.Context(), r, p)
		return serveFile(w, req, p, f, err)
	}
	e, f, err := s.Repos.treeFile(r, p)
	if t, lost := s.Repos.Trees.Tree(r.Tree); lost == nil && errors.Is(err, boot.ErrNotFound) && isDir(t, p) {
		if p != "" && !strings.HasSuffix(p, "/") {
			return redirect(w, req.URL.EscapedPath()+"/")
		}
		return listDir(w, r, e.Path, t.List(e.Path))
	}
	return serveFile(w, req, e.Path, f, err)
}

func isDir(t *repo.Tree, p string) bool {
	e, err := t.Lookup(p)
	return err == nil && e.SHA256 == ""
}

func redirect(w http.ResponseWriter, to string) error {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusFound)
	return nil
}

// redirectToMirror leads below the mirror's URL only.
func redirectToMirror(w http.ResponseWriter, r broker.Repo, p string) error {
	if dir := strings.TrimSuffix(p, "/"); dir != "" && !fs.ValidPath(dir) {
		return fmt.Errorf("repo %s: path %q is none (%w)", r.Name, boot.Printable(p), broker.ErrNotFound)
	}
	return redirect(w, mirrorURL(r, p))
}

// contentTypes are by the ends of names. A tree is a stranger's: its HTML is text, or it would run in the console's
// origin (T24).
var contentTypes = map[string]string{
	".efi": "application/efi", ".xml": "application/xml", ".json": "application/json", ".gz": "application/gzip", ".xz": "application/x-xz",
	".zst": "application/zstd", ".rpm": "application/x-rpm", ".deb": "application/vnd.debian.binary-package", ".iso": "application/x-iso9660-image",
	".txt": "text/plain; charset=utf-8", ".cfg": "text/plain; charset=utf-8", ".html": "text/plain; charset=utf-8", ".htm": "text/plain; charset=utf-8",
	".repo": "text/plain; charset=utf-8", ".treeinfo": "text/plain; charset=utf-8", ".ks": "text/plain; charset=utf-8",
}

// serveFile answers with ranges and a strong entity tag, so that a fetch that broke off is resumed of the same bytes or
// not at all (RFC 9110 section 13.1.5).
func serveFile(w http.ResponseWriter, req *http.Request, p string, f boot.File, err error) error {
	if errors.Is(err, boot.ErrNotFound) {
		return fmt.Errorf("%w (%w)", err, broker.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Content.Close()
	h := w.Header()
	if h.Set("Content-Type", contentTypes[strings.ToLower(path.Ext(p))]); h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("ETag", `"`+f.Sum+`"`)
	h.Set("Cache-Control", "no-cache") // the name may be given other bytes
	http.ServeContent(w, req, "", time.Time{}, f.Content)
	return nil
}

var dirPage = template.Must(template.New("dir").Parse(`<!DOCTYPE html>
<title>{{.Name}}/{{.Dir}}</title>
<h1>{{.Name}}/{{.Dir}}</h1>
<pre>{{if .Dir}}<a href="../">../</a>
{{end}}{{range .List}}<a href="{{.Link}}">{{.Text}}</a>{{if .Note}}  {{.Note}}{{end}}
{{end}}</pre>
`))

// listDir shows a directory to people.
func listDir(w http.ResponseWriter, r broker.Repo, dir string, entries []repo.TreeEntry) error {
	type line struct{ Link, Text, Note string }
	page := struct {
		Name, Dir string
		List      []line
	}{Name: r.Name, Dir: dir}
	for _, e := range entries {
		x := line{Text: path.Base(e.Path)}
		switch {
		case e.Link != "":
			x.Note = "-> " + e.Link
		case e.SHA256 == "":
			x.Text += "/"
		default:
			x.Note = fmt.Sprint(e.Size)
		}
		x.Link = "./" + (&url.URL{Path: x.Text}).EscapedPath()
		page.List = append(page.List, x)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cache-Control", "no-cache")
	return dirPage.Execute(w, page)
}
