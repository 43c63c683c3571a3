#!/bin/sh
# Written by muster. Tells the broker, once, that this system came up from its own disk, then removes the token.
# 404 is final: the token was used or the install is over; anything else is tried again.
server={{.Server | sh}}
stage={{.Next | sh}}
token=/etc/muster/token
{{- if .CA}}
ca=/etc/muster/ca.pem
{{- end}}
# Installers leave their recipe there, with hashes of passwords and with tokens that are over.
for left in /var/log/installer /var/log/anaconda /var/adm/autoinstall /root/anaconda-ks.cfg /root/original-ks.cfg; do
	[ ! -e $left ] || chmod -R go-rwx $left
done
{{- if eq (index .Param "grow") "last"}}
# The last partition is as large as the disk allows; a root file system in it follows while it is mounted. One that is as
# large already stays as it is, and a system without the program starts all the same.
root=$(findmnt -no SOURCE /)
case $(findmnt -no FSTYPE /) in
ext[234]) resize2fs "$root" ;;
xfs) xfs_growfs / ;;
btrfs) btrfs filesystem resize max / ;;
esac || echo "muster: the root file system did not grow"
{{- end}}
{{- if .Handoff}}
# What takes over is fetched for each try, and only as long as the broker waits for this stage. A try that fails is made
# again, so it must bear that.
ask() {
	printf 'header = "Authorization: Bearer %s"\n' "$(cat $token)" | curl -K - -sS{{if .CA}} --cacert $ca --capath /dev/null{{end}} -w '%{http_code}' -m 20 "$@" \
		"$server/node/v1/handoff/$stage"
}
umask 077
run=/etc/muster/handoff
trap 'rm -f $run $run.*' EXIT
wait=1
while :; do
	rm -f $run
	code=$(ask -o $run) || code=cut
	case $code in
	200)
		chmod 700 $run
		(cd / && HOME=/root exec $run) >$run.log 2>&1 </dev/null
		status=$?
		echo "muster: the handoff ended with status $status"
		tail -c 4000 $run.log >$run.tail
		ask -o /dev/null --data-urlencode "status=$status" --data-urlencode log@$run.tail >/dev/null
		[ $status != 0 ] || break ;;
	204 | 404) break ;;
	*) echo "muster: $server answered ${code:-nothing}" ;;
	esac
	echo "muster: trying the handoff again in $wait s"
	sleep $wait
	[ $wait -ge 60 ] || wait=$((wait * 2))
done
{{- end}}
wait=1
while :; do
	code=$(printf 'header = "Authorization: Bearer %s"\n' "$(cat $token)" | curl -K - -sS{{if .CA}} --cacert $ca --capath /dev/null{{end}} -o /dev/null -w '%{http_code}' -m 20 \
		--data-urlencode "hostname=$(cat /proc/sys/kernel/hostname)" \
		--data-urlencode "root=$(findmnt -no PARTUUID /)" \
		--data-urlencode "boot_id=$(cat /proc/sys/kernel/random/boot_id)" \
		--data-urlencode "kernel=$(cat /proc/sys/kernel/osrelease)" \
		"$server/node/v1/stage/$stage")
	case $code in
	2??) echo "muster: told $server: $stage is done"; break ;;
	404) echo "muster: $server does not wait for $stage"; break ;;
	esac
	echo "muster: $server answered ${code:-nothing}; trying again in $wait s"
	sleep $wait
	[ $wait -ge 60 ] || wait=$((wait * 2))
done
rm -f $token
