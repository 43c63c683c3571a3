#!/bin/sh
set -eu
umask 077
own=$0.own
trap 'rm -f "$own"' EXIT
printf '%s\n' {{.Config.script | sh}} >"$own"
chmod 700 "$own"
export MUSTER_NODE={{.Node.ID | sh}} MUSTER_HOSTNAME={{.Node.Hostname | sh}} MUSTER_POLICY={{.Policy | sh}}
export MUSTER_TAGS={{join .Node.Tags " " | sh}} MUSTER_METADATA={{.Node.Metadata | json | sh}}
{{- if .Config.secret}}
export MUSTER_SECRET={{.Config.secret | sh}}
{{- end}}
"$own"
