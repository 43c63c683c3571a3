{{if not (or .Disk.ByID .Disk.ByPath)}}{{fail "the disk has neither a serial number, a world wide name nor a bus path: no name of it is sure in another kernel"}}{{end -}}
#!/bin/bash
# Written by muster. Writes the system to the one disk that was chosen, when it is that disk and has that size, and tells
# the broker how far it is.
disk={{.Disk.Path | sh}}
size={{.Disk.SizeBytes | sh}}
repo={{.Repo.URL | sh}}
config=/etc/muster/installed.ign
call() {
	curl -sS -m 20{{if .CA}} --cacert /etc/muster/ca.pem --capath /dev/null{{end}} -o /dev/null -w '%{http_code}' "$@"
}
fail() {
	echo "muster: $1" >&2
	call --data-urlencode "msg=$1" {{.Failed | sh}}
	exit 1
}
udevadm settle
is=$(blockdev --getsize64 "$disk") || fail "disk $disk is not there"
[ "$is" = "$size" ] || fail "disk $disk has $is bytes, and the one that was chosen has $size: nothing was written"
call {{.Phase "write" | sh}}
log=$(mktemp)
{{template "_write" .}} >"$log" 2>&1 || {
	tail -c 4000 "$log" >"$log.tail"
	cat "$log.tail" >&2
	call --data-binary @"$log.tail" {{.Log | sh}}
	fail "the system could not be written to $disk: $(tail -n 1 "$log")"
}
call {{.Phase "written" | sh}}
wait=1
while :; do
	case $(call -X POST {{.Done | sh}}) in
	2?? | 404) break ;; # 404: the broker waits for it no more
	esac
	sleep $wait
	[ $wait -ge 60 ] || wait=$((wait * 2))
done
systemctl reboot
