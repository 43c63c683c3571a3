package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"muster/boot/pin"
	"muster/broker"
)

// A Client calls the operators' API of a server.
type Client struct {
	base  string
	token string
	http  *http.Client
	pause time.Duration // before a stream that broke is taken up again
}

// NewClient makes a client for https://HOST:PORT with an operator's token, or for unix:PATH, where none is needed. ca is
// the CA to trust, a pin (package pin) or the name of a PEM file; if empty, the system's. Over plain http a token is
// sent to this host only.
func NewClient(server, token, ca string) (*Client, error) {
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		return &Client{"http://muster", token, &http.Client{Transport: &http.Transport{DialContext: dial}}, time.Second}, nil
	}
	u, err := url.Parse(server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("server %q: want https://HOST:PORT or unix:PATH", server)
	case u.Scheme == "http" && token != "" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("server %s: the operator's token would travel in clear: call https://, or its socket on the server itself", server)
	}
	trusted, err := trust(ca, u.Hostname())
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = trusted
	return &Client{strings.TrimRight(server, "/"), token, &http.Client{Transport: t}, time.Second}, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// trust is nil, for the system's CAs, when no other is named.
func trust(ca, host string) (*tls.Config, error) {
	if ca == "" {
		return nil, nil
	}
	if p, err := pin.Parse(ca); err == nil {
		return p.Config(host, pin.Now), nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("CA %q is neither a pin of 64 hexadecimal digits nor a file: %w", ca, err)
	}
	c, err := pin.FileConfig(pem, host, pin.Now)
	if err != nil {
		return nil, fmt.Errorf("read CA %s: %w", ca, err)
	}
	return c, nil
}

// unreached says what to look at when no answer came.
func unreached(err error) string {
	if wrong := (x509.UnknownAuthorityError{}); errors.As(err, &wrong) {
		return "set MUSTER_CA to what that server prints at its start; if it is, somebody else answers there"
	}
	return "is muster serve running there?"
}

// send sends a request; a refusal is an error.
func (c *Client) send(ctx context.Context, method, path string, in io.Reader, head http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, in)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header = head
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call the server: %w (%s)", err, unreached(err))
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, answered(resp)
	}
	return resp, nil
}

// Do sends a request and decodes the JSON answer into out, when out is not nil.
func (c *Client) Do(ctx context.Context, method, path string, in io.Reader, contentType string, out any) error {
	_, err := c.do(ctx, method, path, in, contentType, out)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, in io.Reader, contentType string, out any) (http.Header, error) {
	head := http.Header{}
	if contentType != "" {
		head.Set("Content-Type", contentType)
	}
	resp, err := c.send(ctx, method, path, in, head)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("read the server's answer: %w", err)
	}
	return resp.Header, nil
}

// answered turns problem+json into an error.
func answered(resp *http.Response) error {
	var p struct {
		Detail string
		Errors []struct{ Message, Location string }
	}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p) != nil || p.Detail == "" {
		return fmt.Errorf("the server answered %s", resp.Status)
	}
	for _, e := range p.Errors {
		p.Detail += fmt.Sprintf("; %s: %s", e.Location, e.Message)
	}
	return fmt.Errorf("%s", p.Detail)
}

// Get reads path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, nil, "", out)
}

// Post sends in as JSON and reads the answer into out.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.Do(ctx, http.MethodPost, path, bytes.NewReader(raw), "application/json", out)
}

// Node reads one node by id, hostname or MAC.
func (c *Client) Node(ctx context.Context, name string) (*broker.Record, error) {
	n := &broker.Record{}
	return n, c.Get(ctx, "/api/v1/nodes/"+url.PathEscape(name), n)
}

// Act says an operator's word about a node.
func (c *Client) Act(ctx context.Context, name string, a broker.Act) (*broker.Record, error) {
	n := &broker.Record{}
	return n, c.Post(ctx, "/api/v1/nodes/"+url.PathEscape(name)+"/acts", a, n)
}

// Explain reads why a node is where it is.
func (c *Client) Explain(ctx context.Context, name string) (*broker.Explanation, error) {
	x := &broker.Explanation{}
	return x, c.Get(ctx, "/api/v1/nodes/"+url.PathEscape(name)+"/explain", x)
}

// Events reads the journal after a sequence number; with follow it waits a while for the first event. An empty node
// means all.
func (c *Client) Events(ctx context.Context, node string, after int64, follow bool) ([]broker.Event, error) {
	q := url.Values{"after": {fmt.Sprint(after)}, "follow": {fmt.Sprint(follow)}}
	if node != "" {
		q.Set("node", node)
	}
	var events []broker.Event
	err := c.Get(ctx, "/api/v1/events?"+q.Encode(), &events)
	return events, err
}

// Apply sends YAML or JSON documents.
func (c *Client) Apply(ctx context.Context, documents []byte) (results []broker.Applied, err error) {
	return results, c.documents(ctx, "/api/v1/apply", documents, &results)
}

// Replace is Apply, and deletes what is not among the documents, of the kinds that are.
func (c *Client) Replace(ctx context.Context, documents []byte) (results []broker.Applied, err error) {
	return results, c.documents(ctx, "/api/v1/apply?prune=true", documents, &results)
}

// Plan says what Apply, or with prune Replace, would change.
func (c *Client) Plan(ctx context.Context, documents []byte, prune bool) (p *broker.Plan, err error) {
	return p, c.documents(ctx, fmt.Sprintf("/api/v1/plan?prune=%t", prune), documents, &p)
}

func (c *Client) documents(ctx context.Context, path string, documents []byte, into any) error {
	return c.Do(ctx, http.MethodPost, path, bytes.NewReader(documents), "application/yaml", into)
}

// ImportFile stores a file of a ramdisk under its sha256, unless it is stored already.
func (c *Client) ImportFile(ctx context.Context, sum string, open func() (io.ReadCloser, error)) error {
	path := "/api/v1/files/" + sum
	if c.Get(ctx, path, nil) == nil {
		return nil
	}
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	return c.Do(ctx, http.MethodPut, path, f, "application/octet-stream", nil)
}

// ImportImage stores a raw disk image, plain or in zstd or gzip, under a repo's name.
func (c *Client) ImportImage(ctx context.Context, name string, image io.Reader) (*broker.Repo, error) {
	r := &broker.Repo{}
	return r, c.Do(ctx, http.MethodPut, "/api/v1/repos/"+url.PathEscape(name)+"/image", image, "application/octet-stream", r)
}
