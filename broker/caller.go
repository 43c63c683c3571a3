package broker

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Role says what an operator may do. Each may do what those before it may.
type Role string

// The roles.
const (
	Reader   Role = "reader"   // sees everything but secrets
	Operator Role = "operator" // acts on nodes; changes tags, policies, repos and ramdisks
	Admin    Role = "admin"    // makes tokens; changes what the server itself runs or calls
)

// Roles are all roles, the least first.
func Roles() []Role { return []Role{Reader, Operator, Admin} }

// May says whether the role covers what needs another; a role that is unknown covers nothing.
func (r Role) May(needs Role) bool {
	has, wants := slices.Index(Roles(), r), slices.Index(Roles(), needs)
	return has >= 0 && wants >= 0 && has >= wants
}

// A Caller is who asks the operators' API, for the journal.
type Caller struct {
	Name string
	Role Role
	From string // address, or "local socket"
}

type callerKey struct{}

// WithCaller says in a context who calls.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf tells who calls; nobody is the zero Caller.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// said is the event of an operator's act: who, from where, in which role, and what.
func (b *Broker) said(ctx context.Context, who, text string) Event {
	e := Event{Time: b.now(), Kind: EventOperator, Who: who, Text: text}
	if c := CallerOf(ctx); c.From != "" {
		e.Data = map[string]string{"from": c.From, "role": string(c.Role)}
	}
	return e
}

// A Token lets one operator in. The token itself is shown once, when it is made; what is kept is its hash. Tokens are
// no kind that apply takes: who may write tags may not write himself a role.
type Token struct {
	Name    string    `json:"name"`
	Role    Role      `json:"role" enum:"reader,operator,admin"`
	Created time.Time `json:"created"`
	By      string    `json:"by" doc:"who made it"`
	Expires time.Time `json:"expires,omitzero"`
}

// keptToken is the stored form.
type keptToken struct {
	Token
	SHA256 string `json:"sha256"`
}

// kindToken is the kind of the store's rows; the table of kinds does not have it.
const kindToken = "Token"

// MaxTokens is the most tokens at one time.
const MaxTokens = 1000

// reservedNames are what the journal calls others than operators.
var reservedNames = []string{"operator", "admin", "agent", "installer", "broker", "local", "dhcp", "tftp", "http", "hook"}

// CreateToken makes a token for an operator and gives it back, this once.
func (b *Broker) CreateToken(ctx context.Context, name string, role Role, expires time.Time, who string) (*Token, string, error) {
	switch {
	case !nameForm.MatchString(name):
		return nil, "", invalid("token name %q: want a lower-case letter or digit first, then letters, digits, dot, dash, underscore, at most 63", name)
	case slices.Contains(reservedNames, name):
		return nil, "", invalid("token name %q: the journal uses this name for others", name)
	case !role.May(role):
		return nil, "", invalid("role %q: want reader, operator or admin", role)
	case !expires.IsZero() && !expires.After(b.now()):
		return nil, "", invalid("the token would have expired %s", expires.UTC().Format(time.RFC3339))
	}
	t := keptToken{Token: Token{Name: name, Role: role, Created: b.now(), By: who, Expires: expires.UTC()}}
	secret := name + "." + rand.Text()
	t.SHA256 = hashKey(secret)
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		all, err := tx.Objects(kindToken)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o Object) bool { return o.Name == name }) {
			return conflict("there is a token %s already: revoke it first, or take another name", name)
		}
		if len(all) >= MaxTokens {
			return conflict("there are %d tokens; no more are made: revoke some", len(all))
		}
		doc, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("write token %s: %w", name, err)
		}
		e := b.said(ctx, who, fmt.Sprintf("created token %s, %s%s", name, role, until(expires)))
		if err := tx.PutObject(Object{Kind: kindToken, Name: name, Doc: doc}); err != nil {
			return err
		}
		return tx.Append(&e)
	})
	if err != nil {
		return nil, "", err
	}
	b.bell.wake(nil)
	return &t.Token, secret, nil
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + t.UTC().Format(time.RFC3339)
}

// RevokeToken ends a token: its next call is refused.
func (b *Broker) RevokeToken(ctx context.Context, name, who string) error {
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		if err := tx.DeleteObject(kindToken, name); err != nil {
			if errors.Is(err, ErrNotFound) {
				return notFound("there is no token %q", name)
			}
			return err
		}
		e := b.said(ctx, who, "revoked token "+name)
		return tx.Append(&e)
	})
	if err == nil {
		b.bell.wake(nil)
	}
	return err
}

// Tokens lists the tokens by name, without what lets anybody in.
func (b *Broker) Tokens(ctx context.Context) (list []Token, err error) {
	err = b.cfg.Store.View(ctx, func(tx Tx) error {
		kept, err := all[keptToken](tx, kindToken)
		list = make([]Token, 0, len(kept))
		for _, t := range kept {
			list = append(list, t.Token)
		}
		return err
	})
	return list, err
}

// CheckToken says whose a token is; ErrDenied when it is nobody's, whatever the cause. The name in front of the last
// dot only finds the row: the hash of the whole decides, in constant time.
func (b *Broker) CheckToken(ctx context.Context, secret string) (Token, error) {
	dot := strings.LastIndexByte(secret, '.')
	if dot < 0 || len(secret) > 128 || !nameForm.MatchString(secret[:dot]) {
		return Token{}, errNoToken
	}
	var t keptToken
	err := b.cfg.Store.View(ctx, func(tx Tx) error {
		o, err := tx.Object(kindToken, secret[:dot])
		if err == nil {
			t, err = decode[keptToken](o)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Token{}, fmt.Errorf("read token: %w", err)
	}
	// With no row the hash is empty, and equals none.
	same := subtle.ConstantTimeCompare([]byte(hashKey(secret)), []byte(t.SHA256)) == 1
	if !same || !t.Expires.IsZero() && !b.now().Before(t.Expires) || !t.Role.May(Reader) {
		return Token{}, errNoToken
	}
	return t.Token, nil
}

var errNoToken = &classed{ErrDenied, "no such token"}
