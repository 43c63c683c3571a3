#!/bin/sh
log=/var/log/installer/subiquity-server-debug.log
{{template "_tell" .}}{{template "_guard" .}}
sed -i "s|/dev/muster-chosen|$dev|" /autoinstall.yaml
grep -qF "$dev" /autoinstall.yaml || stop 'the installer does not read /autoinstall.yaml'
