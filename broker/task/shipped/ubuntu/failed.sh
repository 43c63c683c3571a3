#!/bin/sh
log=/var/log/installer/curtin-install.log
[ -s $log ] || log=/var/log/installer/subiquity-server-debug.log
{{template "_tell" .}}failed 'the installer gave up'
