package agent

import "time"

// Version is the agent's, told to the broker at every check-in. It is a constant, so that the bytes of a ramdisk come
// from its sources alone and not from when or where it was built.
const Version = "0.1.0"

// NotBefore is a time that has certainly passed: a clock that shows an earlier one is wrong. Raise it with Version.
var NotBefore = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
