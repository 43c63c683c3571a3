package agent

import (
	"runtime/debug"
	"time"
)

// Version and BuiltAt are set by the linker (-X muster/agent.Version=...); without it the version control system's
// record in the binary is used.
var (
	Version string
	BuiltAt string // RFC 3339
)

// notBefore is a time that has certainly passed, for builds without any record.
var notBefore = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// BuildVersion is the version of this program.
func BuildVersion() string {
	if Version != "" {
		return Version
	}
	if v := setting("vcs.revision"); len(v) > 12 {
		return "0-" + v[:12]
	}
	return "0-unversioned"
}

// BuildTime is when this program was built, at the latest: no right clock shows an earlier time.
func BuildTime() time.Time {
	for _, s := range []string{BuiltAt, setting("vcs.time")} {
		if t, err := time.Parse(time.RFC3339, s); err == nil && t.After(notBefore) {
			return t
		}
	}
	return notBefore
}

// setting is one value of the build record.
func setting(key string) string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range b.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
