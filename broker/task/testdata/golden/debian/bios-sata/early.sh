#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer's log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'node1.1.00ff00ff'/TOKEN/g -e s/'node1.2.0f0f0f0f'/TOKEN/g -e 's/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g' >$run/log
	[ ! -s $run/log ] || tell 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/log/install' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf 'msg=%s' "$1" | sed 's/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g' >$run/why
	tell 'http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/failed/install' $run/why || :
}
log=/var/log/syslog
printf %s '#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer'\''s log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'\''node1.1.00ff00ff'\''/TOKEN/g -e s/'\''node1.2.0f0f0f0f'\''/TOKEN/g -e '\''s/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g'\'' >$run/log
	[ ! -s $run/log ] || tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/log/install'\'' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf '\''msg=%s'\'' "$1" | sed '\''s/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g'\'' >$run/why
	tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/failed/install'\'' $run/why || :
}
# Is the disk with that name here the one that was chosen? Nothing is written unless its size and serial number are those
# that were reported.
disk='\''/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001'\''
bytes='\''68719476736'\''
serial='\''QM00001'\''
stop() {
	failed "$1: no disk was touched"
	exit 1
}
wait=0
while [ ! -e "$disk" ] && [ $wait -lt 60 ]; do
	sleep 1
	wait=$((wait + 1))
done
dev=$(readlink -f "$disk") && [ -e "$disk" ] || stop "there is no disk $disk here"
block=/sys/class/block/${dev##*/}
serials() {
	for f in serial device/serial; do
		[ ! -r $block/$f ] || tr -d '\''\000'\'' <$block/$f
		echo
	done
	[ ! -r $block/device/vpd_pg80 ] || tail -c +5 $block/device/vpd_pg80 | tr -d '\''\000'\''
	echo
	udevadm info --query=property --name="$dev" 2>/dev/null | sed -n '\''s/^ID_[A-Z_]*SERIAL[A-Z_]*=//p'\''
}
has=$(($(cat $block/size) * 512)) || stop "the size of $disk can not be read"
[ "$has" = "$bytes" ] || stop "$disk has $has bytes, and the disk that was chosen $bytes"
if [ -n "$serial" ]; then
	serials | sed '\''s/^ *//;s/ *$//'\'' | grep -qxF -e "$serial" -e "0x$serial" || stop "$disk has not the serial number $serial that was chosen"
fi
tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/phase/partition'\'' || :

' >$run/before.sh
printf %s '#!/bin/sh
# Written by muster, and run in the installed system before its first boot.
set -e
put() {
	mkdir -p "${1%/*}"
	: >"$1"
	chmod "$2" "$1"
	printf %s "$3" | base64 -d >"$1"
}
put /etc/muster/token 600 '\''bm9kZTEuMS4wMGZmMDBmZgo='\''
put /usr/local/sbin/muster-first-boot 755 '\''IyEvYmluL3NoCiMgV3JpdHRlbiBieSBtdXN0ZXIuIFRlbGxzIHRoZSBicm9rZXIsIG9uY2UsIHRoYXQgdGhpcyBzeXN0ZW0gY2FtZSB1cCBmcm9tIGl0cyBvd24gZGlzaywgdGhlbiByZW1vdmVzIHRoZSB0b2tlbi4KIyA0MDQgaXMgZmluYWw6IHRoZSB0b2tlbiB3YXMgdXNlZCBvciB0aGUgaW5zdGFsbCBpcyBvdmVyOyBhbnl0aGluZyBlbHNlIGlzIHRyaWVkIGFnYWluLgpzZXJ2ZXI9J2h0dHA6Ly8xOTIuMC4yLjEwOjgwODAnCnN0YWdlPSdmaXJzdC1ib290Jwp0b2tlbj0vZXRjL211c3Rlci90b2tlbgojIEluc3RhbGxlcnMgbGVhdmUgdGhlaXIgcmVjaXBlIHRoZXJlLCB3aXRoIGhhc2hlcyBvZiBwYXNzd29yZHMgYW5kIHdpdGggdG9rZW5zIHRoYXQgYXJlIG92ZXIuCmZvciBsZWZ0IGluIC92YXIvbG9nL2luc3RhbGxlciAvdmFyL2xvZy9hbmFjb25kYSAvdmFyL2FkbS9hdXRvaW5zdGFsbCAvcm9vdC9hbmFjb25kYS1rcy5jZmcgL3Jvb3Qvb3JpZ2luYWwta3MuY2ZnOyBkbwoJWyAhIC1lICRsZWZ0IF0gfHwgY2htb2QgLVIgZ28tcnd4ICRsZWZ0CmRvbmUKd2FpdD0xCndoaWxlIDo7IGRvCgljb2RlPSQocHJpbnRmICdoZWFkZXIgPSAiQXV0aG9yaXphdGlvbjogQmVhcmVyICVzIlxuJyAiJChjYXQgJHRva2VuKSIgfCBjdXJsIC1LIC0gLXNTIC1vIC9kZXYvbnVsbCAtdyAnJXtodHRwX2NvZGV9JyAtbSAyMCBcCgkJLS1kYXRhLXVybGVuY29kZSAiaG9zdG5hbWU9JChjYXQgL3Byb2Mvc3lzL2tlcm5lbC9ob3N0bmFtZSkiIFwKCQktLWRhdGEtdXJsZW5jb2RlICJyb290PSQoZmluZG1udCAtbm8gUEFSVFVVSUQgLykiIFwKCQktLWRhdGEtdXJsZW5jb2RlICJib290X2lkPSQoY2F0IC9wcm9jL3N5cy9rZXJuZWwvcmFuZG9tL2Jvb3RfaWQpIiBcCgkJLS1kYXRhLXVybGVuY29kZSAia2VybmVsPSQoY2F0IC9wcm9jL3N5cy9rZXJuZWwvb3NyZWxlYXNlKSIgXAoJCSIkc2VydmVyL25vZGUvdjEvc3RhZ2UvJHN0YWdlIikKCWNhc2UgJGNvZGUgaW4KCTI/PykgZWNobyAibXVzdGVyOiB0b2xkICRzZXJ2ZXI6ICRzdGFnZSBpcyBkb25lIjsgYnJlYWsgOzsKCTQwNCkgZWNobyAibXVzdGVyOiAkc2VydmVyIGRvZXMgbm90IHdhaXQgZm9yICRzdGFnZSI7IGJyZWFrIDs7Cgllc2FjCgllY2hvICJtdXN0ZXI6ICRzZXJ2ZXIgYW5zd2VyZWQgJHtjb2RlOi1ub3RoaW5nfTsgdHJ5aW5nIGFnYWluIGluICR3YWl0IHMiCglzbGVlcCAkd2FpdAoJWyAkd2FpdCAtZ2UgNjAgXSB8fCB3YWl0PSQoKHdhaXQgKiAyKSkKZG9uZQpybSAtZiAkdG9rZW4K'\''
put /etc/systemd/system/muster-first-boot.service 644 '\''W1VuaXRdCkRlc2NyaXB0aW9uPVRlbGwgbXVzdGVyIHRoYXQgdGhpcyBtYWNoaW5lIGNhbWUgdXAgZnJvbSBpdHMgb3duIGRpc2sKV2FudHM9bmV0d29yay1vbmxpbmUudGFyZ2V0CkFmdGVyPW5ldHdvcmstb25saW5lLnRhcmdldApDb25kaXRpb25QYXRoRXhpc3RzPS9ldGMvbXVzdGVyL3Rva2VuCgpbU2VydmljZV0KVHlwZT1vbmVzaG90CkV4ZWNTdGFydD0vdXNyL2xvY2FsL3NiaW4vbXVzdGVyLWZpcnN0LWJvb3QKVGltZW91dFN0YXJ0U2VjPWluZmluaXR5CgpbSW5zdGFsbF0KV2FudGVkQnk9bXVsdGktdXNlci50YXJnZXQK'\''
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf ../muster-first-boot.service /etc/systemd/system/multi-user.target.wants/
user=root
! command -v restorecon >/dev/null || restorecon -RF /etc/muster /etc/systemd/system /usr/local/sbin || :

' >$run/target.sh
printf %s '#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer'\''s log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'\''node1.1.00ff00ff'\''/TOKEN/g -e s/'\''node1.2.0f0f0f0f'\''/TOKEN/g -e '\''s/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g'\'' >$run/log
	[ ! -s $run/log ] || tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/log/install'\'' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf '\''msg=%s'\'' "$1" | sed '\''s/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g'\'' >$run/why
	tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/failed/install'\'' $run/why || :
}
cp $run/target.sh /target/root/muster-target.sh
in-target sh /root/muster-target.sh || {
	failed '\''the script in the installed system ended with an error'\''
	exit 1
}
rm -f /target/root/muster-target.sh
tell '\''http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/done/install'\''
' >$run/late.sh
phase='http://192.0.2.10:8080/node/v1/install/node1.1.00ff00ff/phase/'
tell ${phase}start || :
# The installer calls nobody when a step of it fails or asks, but its main menu and its search for a mirror write that
# into the log. A question of another step is known by its silence alone.
watch() {
	told= before= rounds=0
	while sleep 5; do
		for step in bootstrap-base/base pkgsel/packages grub-installer/boot-loader finish-install/finish; do
			case $told in *" $step "*) continue ;; esac
			if grep -q "main-menu.*Menu item '${step%/*}' selected" $log; then
				told="$told $step "
				tell "$phase${step#*/}" || :
			fi
		done
		why=$(sed -n "s/.*main-menu.*Menu item '\([a-z0-9-]*\)' failed.*/the installer's step \1 failed/p
			s/.*choose-mirror.*WARNING \*\*: /the installer asks for another mirror: /p" $log | tail -n 1)
		if [ -n "$why" ]; then
			failed "$why"
			return
		fi
		now=$(wc -c $log; cat /proc/diskstats)
		[ "$now" = "$before" ] || rounds=0
		before=$now rounds=$((rounds + 1))
		if [ $rounds -eq 120 ]; then # 10 minutes: an answer is waited for
			tell_log
			tell "${phase}silent" || :
		fi
	done
}
# The installer waits for whoever has one of its streams open. As redirections of the function, the shell would keep
# what they were.
(
	exec </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&-
	watch
) &
