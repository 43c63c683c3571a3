#!/bin/bash
# Written by muster. Runs what takes over, tells the broker once that this system came up from its own disk, and removes
# itself: it holds a token.
call() {
	curl -sS -m 20{{if .CA}} --cacert /etc/muster/ca.pem --capath /dev/null{{end}} -w '%{http_code}' "$@"
}
later() {
	echo "muster: the broker answered ${code:-nothing}; trying again in $wait s"
	sleep $wait
	[ $wait -ge 60 ] || wait=$((wait * 2))
}
umask 077
{{- if .Handoff}}
# A handoff that fails is made again, so it must bear that.
run=/etc/muster/handoff
trap 'rm -f $run $run.*' EXIT
wait=1
while :; do
	rm -f $run
	code=$(call -o $run {{.HandoffURL | sh}}) || code=cut
	case $code in
	200)
		chmod 700 $run
		(cd / && HOME=/root exec $run) >$run.log 2>&1 </dev/null
		status=$?
		tail -c 4000 $run.log >$run.tail
		call -o /dev/null --data-urlencode "status=$status" --data-urlencode log@$run.tail {{.HandoffURL | sh}}
		[ $status != 0 ] || break
		code="the handoff with status $status" ;;
	204 | 404) break ;;
	esac
	later
done
{{- end}}
wait=1
while :; do
	code=$(call -o /dev/null --data-urlencode "hostname=$(cat /proc/sys/kernel/hostname)" \
		--data-urlencode "boot_id=$(cat /proc/sys/kernel/random/boot_id)" {{.DoneNext | sh}})
	case $code in
	2?? | 404) break ;; # 404: the broker waits for it no more
	esac
	later
done
rm -f "$0"
