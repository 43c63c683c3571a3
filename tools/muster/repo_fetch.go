package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// web calls mirrors from the operator's machine.
var web = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: time.Minute}, CheckRedirect: keepScheme}

// keepScheme follows redirects, and never from https to what comes in clear.
func keepScheme(req *http.Request, via []*http.Request) error {
	if len(via) > 10 || via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("a redirect to %s is not followed", req.URL.Redacted())
	}
	return nil
}

// fetchTries is how often a download that gets on is taken up again.
const fetchTries = 20

// fetch downloads a file into the user's cache, and goes on with one that was cut short. It stays there until it is
// imported.
func fetch(cmd *cobra.Command, name, from string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	u, err := url.Parse(from)
	if err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	dir := filepath.Join(cache, "muster", sumOf([]byte(from))[:16])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("fetch: %w", err)
	}
	d := download{url: from, part: filepath.Join(dir, "part"), tag: filepath.Join(dir, "etag"), bars: newBars(cmd, "fetch "+name)}
	defer d.bars.end()
	whole := filepath.Join(dir, path.Base(u.Path))
	if _, err := os.Stat(whole); err == nil {
		return whole, nil // fetched, and the import after it was cut short
	}
	if err := d.run(cmd.Context()); err != nil {
		return "", fmt.Errorf("fetch %s: %w (the same command goes on where it was cut short)", from, err)
	}
	return whole, os.Rename(d.part, whole)
}

// A download is a file that comes in pieces.
type download struct {
	url, part, tag string
	bars           *bars
}

// run asks for the rest until there is none.
func (d *download) run(ctx context.Context) error {
	for range fetchTries {
		before, was := d.have(), d.of()
		done, err := d.once(ctx)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case d.have() <= before && d.of() == was:
			return err
		}
	}
	return errors.New("the line breaks again and again")
}

// of says of which file there is a part.
func (d *download) of() string {
	tag, err := os.ReadFile(d.tag)
	if err != nil {
		return ""
	}
	return string(tag)
}

func (d *download) have() int64 {
	st, err := os.Stat(d.part)
	if err != nil {
		return 0
	}
	return st.Size()
}

// once asks for what is not here yet, if the file is still the one of which there is a part (RFC 9110 section 13.1.5).
func (d *download) once(ctx context.Context) (done bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return false, err
	}
	if n, tag := d.have(), d.of(); n > 0 && tag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", n))
		req.Header.Set("If-Range", tag)
	}
	resp, err := web.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	flags := os.O_WRONLY | os.O_CREATE
	switch resp.StatusCode {
	case http.StatusOK:
		flags |= os.O_TRUNC
		if err := os.WriteFile(d.tag, []byte(strongTag(resp.Header)), 0o600); err != nil {
			return false, err
		}
	case http.StatusPartialContent:
		if want := fmt.Sprintf("bytes %d-", d.have()); !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			return false, fmt.Errorf("the server sends %q where %q... was asked for", resp.Header.Get("Content-Range"), want)
		}
		flags |= os.O_APPEND
	case http.StatusRequestedRangeNotSatisfiable:
		return true, nil // all of it is here; its sum says whether it is the right one
	default:
		return false, fmt.Errorf("the server answers %s", resp.Status)
	}
	return d.write(resp, flags)
}

func (d *download) write(resp *http.Response, flags int) (done bool, err error) {
	f, err := os.OpenFile(d.part, flags, 0o600)
	if err != nil {
		return false, err
	}
	if resp.ContentLength > 0 {
		d.bars.grow(resp.ContentLength)
	}
	n, err := io.Copy(io.MultiWriter(f, d.bars), resp.Body)
	if err == nil && resp.ContentLength >= 0 && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	err = errors.Join(err, f.Close())
	return err == nil, err
}

// strongTag is what of an answer tells its bytes from others: a strong entity tag, else the date of the last change.
func strongTag(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// mirrorFiles are the files of a mirror, to recognize it by.
type mirrorFiles struct {
	ctx context.Context
	url string
}

// Open implements fs.FS.
func (m mirrorFiles) Open(name string) (fs.File, error) {
	req, err := http.NewRequestWithContext(m.ctx, http.MethodGet, m.url+"/"+(&url.URL{Path: name}).EscapedPath(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s: %w", name, resp.Status, fs.ErrNotExist)
	}
	return mirrorFile{resp.Body}, nil
}

type mirrorFile struct{ io.ReadCloser }

func (mirrorFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// sumLine is a line of sha256sum(1), or of its --tag form, which Fedora and its kin write.
var sumLine = regexp.MustCompile(`^(?:([0-9a-fA-F]{64}) [ *](.+)|SHA256 \((.+)\) = ([0-9a-fA-F]{64}))$`)

// sumBeside is what a file of sums that lies beside a file says of it, or "".
func sumBeside(name string) (string, error) {
	dir, base := filepath.Split(name)
	for _, sums := range []string{name + ".sha256", name + ".CHECKSUM", dir + "SHA256SUMS", dir + "sha256sum.txt", dir + "CHECKSUM"} {
		f, err := os.Open(sums)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read sums: %w", err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(io.LimitReader(f, 1<<20)); lines.Scan(); {
			m := sumLine.FindStringSubmatch(strings.TrimSpace(lines.Text()))
			if m != nil && path.Base(m[2]+m[3]) == base {
				return strings.ToLower(m[1] + m[4]), nil
			}
		}
	}
	return "", nil
}
