package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"muster/broker"
	"muster/broker/repo"
)

// Repo reads one repo.
func (c *Client) Repo(ctx context.Context, name string) (r broker.Repo, err error) {
	return r, c.Get(ctx, "/api/v1/objects/"+broker.KindRepo+"/"+url.PathEscape(name), &r)
}

// ImportTree stores a tree and then names it with a repo, all at once. What the server has already is not sent; where
// the line breaks while files go over it, it is gone on with. sent is told of the bytes that are to be sent, and then of
// them as they go.
func (c *Client) ImportTree(ctx context.Context, src *repo.Source, total, sent func(int64)) error {
	path := "/api/v1/trees/" + src.Sum
	var st repo.TreeState
	if err := c.Do(ctx, http.MethodPut, path, bytes.NewReader(src.Encoded), "application/octet-stream", &st); err != nil {
		return err
	}
	total(st.MissingBytes)
	for st.MissingFiles > 0 {
		before := st.MissingFiles
		err := c.sendFiles(ctx, path+"/files", src, st.Missing, sent)
		st = repo.TreeState{}
		if lost := c.Get(ctx, path, &st); lost != nil {
			return errors.Join(err, lost)
		}
		if st.MissingFiles >= before {
			return errors.Join(err, fmt.Errorf("%d files are missing still", st.MissingFiles))
		}
	}
	return nil
}

func (c *Client) sendFiles(ctx context.Context, path string, src *repo.Source, files []repo.TreeEntry, sent func(int64)) error {
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(src.Send(ctx, w, files, sent)) }()
	return c.Do(ctx, http.MethodPost, path, r, "application/x-tar", nil)
}

// VerifyRepo has the server read a repo's bytes again, and gives what is spoilt.
func (c *Client) VerifyRepo(ctx context.Context, name string, progress func(Verified)) ([]string, error) {
	resp, err := c.send(ctx, http.MethodPost, "/api/v1/repos/"+url.PathEscape(name)+"/verify", nil, http.Header{})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var v Verified
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
		if v.Error != "" {
			return nil, errors.New(v.Error)
		}
		if progress(v); v.Done {
			return v.Spoilt, nil
		}
	}
}
