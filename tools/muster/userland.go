package main

import "embed"

// userlands holds what make puts into userland: per architecture a ramdisk of the agent and u-root's commands, without
// modules. A program that was built without make carries none, and compiles them when it is asked to.
//
//go:embed userland
var userlands embed.FS

const (
	userlandDir    = "userland"
	userlandSuffix = ".cpio.zst"
)
