#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer's log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
printf '%s\n' '-----BEGIN CERTIFICATE-----' 'MIIBdDCCARqgAwIBAgIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDEwVteSBDQTAe' 'Fw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBAxDjAMBgNVBAMTBW15IENB' '-----END CERTIFICATE-----' >$run/ca.pem
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 --cacert $run/ca.pem -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 --ca-certificate=$run/ca.pem -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'node3.1.00ff00ff'/TOKEN/g -e s/'node3.2.0f0f0f0f'/TOKEN/g -e 's/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g' >$run/log
	[ ! -s $run/log ] || tell 'https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/log/install' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf 'msg=%s' "$1" | sed 's/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g' >$run/why
	tell 'https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/failed/install' $run/why || :
}
log=/var/log/syslog
printf %s '#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer'\''s log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
printf '\''%s\n'\'' '\''-----BEGIN CERTIFICATE-----'\'' '\''MIIBdDCCARqgAwIBAgIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDEwVteSBDQTAe'\'' '\''Fw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBAxDjAMBgNVBAMTBW15IENB'\'' '\''-----END CERTIFICATE-----'\'' >$run/ca.pem
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 --cacert $run/ca.pem -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 --ca-certificate=$run/ca.pem -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'\''node3.1.00ff00ff'\''/TOKEN/g -e s/'\''node3.2.0f0f0f0f'\''/TOKEN/g -e '\''s/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g'\'' >$run/log
	[ ! -s $run/log ] || tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/log/install'\'' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf '\''msg=%s'\'' "$1" | sed '\''s/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g'\'' >$run/why
	tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/failed/install'\'' $run/why || :
}
# Is the disk with that name here the one that was chosen? Nothing is written unless its size and serial number are those
# that were reported.
disk='\''/dev/disk/by-id/virtio-web3'\''
bytes='\''34359738368'\''
serial='\''web3'\''
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
tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/phase/partition'\'' || :

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
put /etc/muster/token 600 '\''bm9kZTMuMS4wMGZmMDBmZgo='\''
put /etc/muster/ca.pem 644 '\''LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkRENDQVJxZ0F3SUJBZ0lCQVRBS0JnZ3Foa2pPUFFRREFqQVFNUTR3REFZRFZRUURFd1Z0ZVNCRFFUQWUKRncweU5qQXhNREV3TURBd01EQmFGdzB6TmpBeE1ERXdNREF3TURCYU1CQXhEakFNQmdOVkJBTVRCVzE1SUVOQgotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg=='\''
put /usr/local/sbin/muster-first-boot 755 '\''IyEvYmluL3NoCiMgV3JpdHRlbiBieSBtdXN0ZXIuIFRlbGxzIHRoZSBicm9rZXIsIG9uY2UsIHRoYXQgdGhpcyBzeXN0ZW0gY2FtZSB1cCBmcm9tIGl0cyBvd24gZGlzaywgdGhlbiByZW1vdmVzIHRoZSB0b2tlbi4KIyA0MDQgaXMgZmluYWw6IHRoZSB0b2tlbiB3YXMgdXNlZCBvciB0aGUgaW5zdGFsbCBpcyBvdmVyOyBhbnl0aGluZyBlbHNlIGlzIHRyaWVkIGFnYWluLgpzZXJ2ZXI9J2h0dHBzOi8vbXVzdGVyLmV4YW1wbGUubmV0Ojg0NDMnCnN0YWdlPSdmaXJzdC1ib290Jwp0b2tlbj0vZXRjL211c3Rlci90b2tlbgpjYT0vZXRjL211c3Rlci9jYS5wZW0KIyBXaGF0IHRha2VzIG92ZXIgaXMgZmV0Y2hlZCBmb3IgZWFjaCB0cnksIGFuZCBvbmx5IGFzIGxvbmcgYXMgdGhlIGJyb2tlciB3YWl0cyBmb3IgdGhpcyBzdGFnZS4gQSB0cnkgdGhhdCBmYWlscyBpcyBtYWRlCiMgYWdhaW4sIHNvIGl0IG11c3QgYmVhciB0aGF0Lgphc2soKSB7CglwcmludGYgJ2hlYWRlciA9ICJBdXRob3JpemF0aW9uOiBCZWFyZXIgJXMiXG4nICIkKGNhdCAkdG9rZW4pIiB8IGN1cmwgLUsgLSAtc1MgLS1jYWNlcnQgJGNhIC0tY2FwYXRoIC9kZXYvbnVsbCAtdyAnJXtodHRwX2NvZGV9JyAtbSAyMCAiJEAiIFwKCQkiJHNlcnZlci9ub2RlL3YxL2hhbmRvZmYvJHN0YWdlIgp9CnVtYXNrIDA3NwpydW49L2V0Yy9tdXN0ZXIvaGFuZG9mZgp0cmFwICdybSAtZiAkcnVuICRydW4uKicgRVhJVAp3YWl0PTEKd2hpbGUgOjsgZG8KCXJtIC1mICRydW4KCWNvZGU9JChhc2sgLW8gJHJ1bikgfHwgY29kZT1jdXQKCWNhc2UgJGNvZGUgaW4KCTIwMCkKCQljaG1vZCA3MDAgJHJ1bgoJCShjZCAvICYmIEhPTUU9L3Jvb3QgZXhlYyAkcnVuKSA+JHJ1bi5sb2cgMj4mMSA8L2Rldi9udWxsCgkJc3RhdHVzPSQ/CgkJZWNobyAibXVzdGVyOiB0aGUgaGFuZG9mZiBlbmRlZCB3aXRoIHN0YXR1cyAkc3RhdHVzIgoJCXRhaWwgLWMgNDAwMCAkcnVuLmxvZyA+JHJ1bi50YWlsCgkJYXNrIC1vIC9kZXYvbnVsbCAtLWRhdGEtdXJsZW5jb2RlICJzdGF0dXM9JHN0YXR1cyIgLS1kYXRhLXVybGVuY29kZSBsb2dAJHJ1bi50YWlsID4vZGV2L251bGwKCQlbICRzdGF0dXMgIT0gMCBdIHx8IGJyZWFrIDs7CgkyMDQgfCA0MDQpIGJyZWFrIDs7CgkqKSBlY2hvICJtdXN0ZXI6ICRzZXJ2ZXIgYW5zd2VyZWQgJHtjb2RlOi1ub3RoaW5nfSIgOzsKCWVzYWMKCWVjaG8gIm11c3RlcjogdHJ5aW5nIHRoZSBoYW5kb2ZmIGFnYWluIGluICR3YWl0IHMiCglzbGVlcCAkd2FpdAoJWyAkd2FpdCAtZ2UgNjAgXSB8fCB3YWl0PSQoKHdhaXQgKiAyKSkKZG9uZQp3YWl0PTEKd2hpbGUgOjsgZG8KCWNvZGU9JChwcmludGYgJ2hlYWRlciA9ICJBdXRob3JpemF0aW9uOiBCZWFyZXIgJXMiXG4nICIkKGNhdCAkdG9rZW4pIiB8IGN1cmwgLUsgLSAtc1MgLS1jYWNlcnQgJGNhIC0tY2FwYXRoIC9kZXYvbnVsbCAtbyAvZGV2L251bGwgLXcgJyV7aHR0cF9jb2RlfScgLW0gMjAgXAoJCS0tZGF0YS11cmxlbmNvZGUgImhvc3RuYW1lPSQoY2F0IC9wcm9jL3N5cy9rZXJuZWwvaG9zdG5hbWUpIiBcCgkJLS1kYXRhLXVybGVuY29kZSAicm9vdD0kKGZpbmRtbnQgLW5vIFBBUlRVVUlEIC8pIiBcCgkJLS1kYXRhLXVybGVuY29kZSAiYm9vdF9pZD0kKGNhdCAvcHJvYy9zeXMva2VybmVsL3JhbmRvbS9ib290X2lkKSIgXAoJCS0tZGF0YS11cmxlbmNvZGUgImtlcm5lbD0kKGNhdCAvcHJvYy9zeXMva2VybmVsL29zcmVsZWFzZSkiIFwKCQkiJHNlcnZlci9ub2RlL3YxL3N0YWdlLyRzdGFnZSIpCgljYXNlICRjb2RlIGluCgkyPz8pIGVjaG8gIm11c3RlcjogdG9sZCAkc2VydmVyOiAkc3RhZ2UgaXMgZG9uZSI7IGJyZWFrIDs7Cgk0MDQpIGVjaG8gIm11c3RlcjogJHNlcnZlciBkb2VzIG5vdCB3YWl0IGZvciAkc3RhZ2UiOyBicmVhayA7OwoJZXNhYwoJZWNobyAibXVzdGVyOiAkc2VydmVyIGFuc3dlcmVkICR7Y29kZTotbm90aGluZ307IHRyeWluZyBhZ2FpbiBpbiAkd2FpdCBzIgoJc2xlZXAgJHdhaXQKCVsgJHdhaXQgLWdlIDYwIF0gfHwgd2FpdD0kKCh3YWl0ICogMikpCmRvbmUKcm0gLWYgJHRva2VuCg=='\''
put /etc/systemd/system/muster-first-boot.service 644 '\''W1VuaXRdCkRlc2NyaXB0aW9uPVRlbGwgbXVzdGVyIHRoYXQgdGhpcyBtYWNoaW5lIGNhbWUgdXAgZnJvbSBpdHMgb3duIGRpc2sKV2FudHM9bmV0d29yay1vbmxpbmUudGFyZ2V0CkFmdGVyPW5ldHdvcmstb25saW5lLnRhcmdldApDb25kaXRpb25QYXRoRXhpc3RzPS9ldGMvbXVzdGVyL3Rva2VuCgpbU2VydmljZV0KVHlwZT1vbmVzaG90CkV4ZWNTdGFydD0vdXNyL2xvY2FsL3NiaW4vbXVzdGVyLWZpcnN0LWJvb3QKVGltZW91dFN0YXJ0U2VjPWluZmluaXR5CgpbSW5zdGFsbF0KV2FudGVkQnk9bXVsdGktdXNlci50YXJnZXQK'\''
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf ../muster-first-boot.service /etc/systemd/system/multi-user.target.wants/
user=root
keys=$(getent passwd "$user" | cut -d: -f6)/.ssh
mkdir -p -m 700 "$keys"
printf '\''%s\n'\'' '\''ssh-ed25519 AAAAC3Nz ops'\'' >>"$keys/authorized_keys"
chmod 600 "$keys/authorized_keys"
chown -R "$user:" "$keys"
! command -v restorecon >/dev/null || restorecon -RF /etc/muster /etc/systemd/system /usr/local/sbin "$keys" || :

' >$run/target.sh
printf %s '#!/bin/sh
# Written by muster. tell URL [FILE] calls the broker; tell_log sends the end of the installer'\''s log, without tokens
# and hashes; failed WHY does, and ends the install there.
run=/tmp/muster
mkdir -p $run
printf '\''%s\n'\'' '\''-----BEGIN CERTIFICATE-----'\'' '\''MIIBdDCCARqgAwIBAgIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDEwVteSBDQTAe'\'' '\''Fw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBAxDjAMBgNVBAMTBW15IENB'\'' '\''-----END CERTIFICATE-----'\'' >$run/ca.pem
tell() {
	if command -v curl >/dev/null; then
		curl -fsS -m 20 --retry 5 --cacert $run/ca.pem -o /dev/null ${2:+--data-binary "@$2"} "$1"
	else
		wget -q -T 20 -t 5 --ca-certificate=$run/ca.pem -O /dev/null ${2:+--post-file="$2"} "$1"
	fi
}
tell_log() {
	[ -e "${log-}" ] || return 0
	tail -c 60000 "$log" | sed -e s/'\''node3.1.00ff00ff'\''/TOKEN/g -e s/'\''node3.2.0f0f0f0f'\''/TOKEN/g -e '\''s/\$[0-9a-z]*\$[.\/A-Za-z0-9$=]*/HASH/g'\'' >$run/log
	[ ! -s $run/log ] || tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/log/install'\'' $run/log || :
}
failed() {
	echo "muster: $1" >&2
	tell_log
	printf '\''msg=%s'\'' "$1" | sed '\''s/%/%25/g;s/&/%26/g;s/+/%2B/g;s/;/%3B/g'\'' >$run/why
	tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/failed/install'\'' $run/why || :
}
cp $run/target.sh /target/root/muster-target.sh
in-target sh /root/muster-target.sh || {
	failed '\''the script in the installed system ended with an error'\''
	exit 1
}
rm -f /target/root/muster-target.sh
tell '\''https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/done/install'\''
' >$run/late.sh
phase='https://muster.example.net:8443/node/v1/install/node3.1.00ff00ff/phase/'
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
