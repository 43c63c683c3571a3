#!/bin/sh
set -eu
umask 077
{{template "install"}}
command -v git >/dev/null || install git
command -v ansible-pull >/dev/null || install ansible ansible-core
set -- --url={{.Config.url | sh}} --inventory={{.Node.Hostname | sh}}, --extra-vars={{.Node.Metadata | json | sh}}
{{- if .Config.branch}}
set -- "$@" --checkout={{.Config.branch | sh}}
{{- end}}
{{- if .Config.vault_password}}
vault=$(mktemp)
trap 'rm -f "$vault"' EXIT
printf '%s\n' {{.Config.vault_password | sh}} >"$vault"
set -- "$@" --vault-password-file="$vault"
{{- end}}
ansible-pull "$@" -- {{.Config.playbook | sh}}
