package boot

import (
	"fmt"
	"time"
)

const (
	maxTry  = 30              // then the machine starts anew: GRUB keeps every configuration it came through in memory
	maxWait = 2 * time.Minute // what a policy applied meanwhile has to wait at most
)

// waiting is how long a machine waits: longer after each try, up to maxWait, and not as long as its neighbours, so that
// a rack switched on at once does not ask at once. The same try gives the same time (N8).
func waiting(c Client, after time.Duration) time.Duration {
	for range min(c.Try, 10) {
		after = min(after*3/2, maxWait)
	}
	spread := int64(c.MAC[4])<<8 | int64(c.MAC[5])
	return after + after*time.Duration(spread%64)/256*time.Duration(min(c.Try, 1))
}

// nextTry is the word of the name under which a waiting machine asks again.
func nextTry(c Client) string { return fmt.Sprintf("wait.%d", min(c.Try+1, maxTry)) }
