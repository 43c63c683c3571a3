package api

import "time"

// Impatient makes a client take up broken streams at once.
func (c *Client) Impatient() *Client {
	c.pause = time.Millisecond
	return c
}
