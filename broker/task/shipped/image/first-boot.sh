#!/bin/sh
# Written by muster. Tells the broker, once, that this system came up from its own disk, then removes the token.
# 404 is final: the token was used or the install is over; anything else is tried again.
token=/etc/muster/token
{{- if .CA}}
ca=/etc/muster/ca.pem
{{- end}}
wait=1
while :; do
	code=$(printf 'header = "Authorization: Bearer %s"\n' "$(cat $token)" | curl -K - -sS{{if .CA}} --cacert $ca --capath /dev/null{{end}} -o /dev/null -w '%{http_code}' -m 20 \
		--data-urlencode "hostname=$(cat /proc/sys/kernel/hostname)" \
		--data-urlencode "root=$(findmnt -no PARTUUID /)" \
		--data-urlencode "boot_id=$(cat /proc/sys/kernel/random/boot_id)" \
		--data-urlencode "kernel=$(cat /proc/sys/kernel/osrelease)" \
		'{{.Server}}/node/v1/stage/{{.Stage}}')
	case $code in
	2??) echo "muster: told {{.Server}}: {{.Stage}} is done"; break ;;
	404) echo "muster: {{.Server}} does not wait for {{.Stage}}"; break ;;
	esac
	echo "muster: {{.Server}} answered ${code:-nothing}; trying again in $wait s"
	sleep $wait
	[ $wait -ge 60 ] || wait=$((wait * 2))
done
rm -f $token
