#!/bin/sh
set -eu
{{template "install"}}
command -v salt-call >/dev/null || install salt-minion
mkdir -p /etc/salt/minion.d
# JSON is YAML: what stands in a value stays in it.
printf 'master: %s\nid: %s\n' {{.Config.master | json | sh}} {{or .Config.id .Node.Hostname | json | sh}} >/etc/salt/minion.d/muster.conf
{{- if .Config.saltenv}}
printf 'saltenv: %s\n' {{.Config.saltenv | json | sh}} >>/etc/salt/minion.d/muster.conf
{{- end}}
systemctl enable salt-minion
systemctl restart salt-minion
# It waits for the master to accept the minion's key.
salt-call --retcode-passthrough state.apply
