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
put /usr/local/sbin/muster-first-boot 755 '\''IyEvYmluL3NoCiMgV3JpdHRlbiBieSBtdXN0ZXIuIFRlbGxzIHRoZSBicm9rZXIsIG9uY2UsIHRoYXQgdGhpcyBzeXN0ZW0gY2FtZSB1cCBmcm9tIGl0cyBvd24gZGlzaywgdGhlbiByZW1vdmVzIHRoZSB0b2tlbi4KIyA0MDQgaXMgZmluYWw6IHRoZSB0b2tlbiB3YXMgdXNlZCBvciB0aGUgaW5zdGFsbCBpcyBvdmVyOyBhbnl0aGluZyBlbHNlIGlzIHRyaWVkIGFnYWluLgpzZXJ2ZXI9J2h0dHBzOi8vbXVzdGVyLmV4YW1wbGUubmV0Ojg0NDMnCnN0YWdlPSdmaXJzdC1ib290Jwp0b2tlbj0vZXRjL211c3Rlci90b2tlbgpjYT0vZXRjL211c3Rlci9jYS5wZW0KIyBJbnN0YWxsZXJzIGxlYXZlIHRoZWlyIHJlY2lwZSB0aGVyZSwgd2l0aCBoYXNoZXMgb2YgcGFzc3dvcmRzIGFuZCB3aXRoIHRva2VucyB0aGF0IGFyZSBvdmVyLgpmb3IgbGVmdCBpbiAvdmFyL2xvZy9pbnN0YWxsZXIgL3Zhci9sb2cvYW5hY29uZGEgL3Zhci9hZG0vYXV0b2luc3RhbGwgL3Jvb3QvYW5hY29uZGEta3MuY2ZnIC9yb290L29yaWdpbmFsLWtzLmNmZzsgZG8KCVsgISAtZSAkbGVmdCBdIHx8IGNobW9kIC1SIGdvLXJ3eCAkbGVmdApkb25lCiMgV2hhdCB0YWtlcyBvdmVyIGlzIGZldGNoZWQgZm9yIGVhY2ggdHJ5LCBhbmQgb25seSBhcyBsb25nIGFzIHRoZSBicm9rZXIgd2FpdHMgZm9yIHRoaXMgc3RhZ2UuIEEgdHJ5IHRoYXQgZmFpbHMgaXMgbWFkZQojIGFnYWluLCBzbyBpdCBtdXN0IGJlYXIgdGhhdC4KYXNrKCkgewoJcHJpbnRmICdoZWFkZXIgPSAiQXV0aG9yaXphdGlvbjogQmVhcmVyICVzIlxuJyAiJChjYXQgJHRva2VuKSIgfCBjdXJsIC1LIC0gLXNTIC0tY2FjZXJ0ICRjYSAtLWNhcGF0aCAvZGV2L251bGwgLXcgJyV7aHR0cF9jb2RlfScgLW0gMjAgIiRAIiBcCgkJIiRzZXJ2ZXIvbm9kZS92MS9oYW5kb2ZmLyRzdGFnZSIKfQp1bWFzayAwNzcKcnVuPS9ldGMvbXVzdGVyL2hhbmRvZmYKdHJhcCAncm0gLWYgJHJ1biAkcnVuLionIEVYSVQKd2FpdD0xCndoaWxlIDo7IGRvCglybSAtZiAkcnVuCgljb2RlPSQoYXNrIC1vICRydW4pIHx8IGNvZGU9Y3V0CgljYXNlICRjb2RlIGluCgkyMDApCgkJY2htb2QgNzAwICRydW4KCQkoY2QgLyAmJiBIT01FPS9yb290IGV4ZWMgJHJ1bikgPiRydW4ubG9nIDI+JjEgPC9kZXYvbnVsbAoJCXN0YXR1cz0kPwoJCWVjaG8gIm11c3RlcjogdGhlIGhhbmRvZmYgZW5kZWQgd2l0aCBzdGF0dXMgJHN0YXR1cyIKCQl0YWlsIC1jIDQwMDAgJHJ1bi5sb2cgPiRydW4udGFpbAoJCWFzayAtbyAvZGV2L251bGwgLS1kYXRhLXVybGVuY29kZSAic3RhdHVzPSRzdGF0dXMiIC0tZGF0YS11cmxlbmNvZGUgbG9nQCRydW4udGFpbCA+L2Rldi9udWxsCgkJWyAkc3RhdHVzICE9IDAgXSB8fCBicmVhayA7OwoJMjA0IHwgNDA0KSBicmVhayA7OwoJKikgZWNobyAibXVzdGVyOiAkc2VydmVyIGFuc3dlcmVkICR7Y29kZTotbm90aGluZ30iIDs7Cgllc2FjCgllY2hvICJtdXN0ZXI6IHRyeWluZyB0aGUgaGFuZG9mZiBhZ2FpbiBpbiAkd2FpdCBzIgoJc2xlZXAgJHdhaXQKCVsgJHdhaXQgLWdlIDYwIF0gfHwgd2FpdD0kKCh3YWl0ICogMikpCmRvbmUKd2FpdD0xCndoaWxlIDo7IGRvCgljb2RlPSQocHJpbnRmICdoZWFkZXIgPSAiQXV0aG9yaXphdGlvbjogQmVhcmVyICVzIlxuJyAiJChjYXQgJHRva2VuKSIgfCBjdXJsIC1LIC0gLXNTIC0tY2FjZXJ0ICRjYSAtLWNhcGF0aCAvZGV2L251bGwgLW8gL2Rldi9udWxsIC13ICcle2h0dHBfY29kZX0nIC1tIDIwIFwKCQktLWRhdGEtdXJsZW5jb2RlICJob3N0bmFtZT0kKGNhdCAvcHJvYy9zeXMva2VybmVsL2hvc3RuYW1lKSIgXAoJCS0tZGF0YS11cmxlbmNvZGUgInJvb3Q9JChmaW5kbW50IC1ubyBQQVJUVVVJRCAvKSIgXAoJCS0tZGF0YS11cmxlbmNvZGUgImJvb3RfaWQ9JChjYXQgL3Byb2Mvc3lzL2tlcm5lbC9yYW5kb20vYm9vdF9pZCkiIFwKCQktLWRhdGEtdXJsZW5jb2RlICJrZXJuZWw9JChjYXQgL3Byb2Mvc3lzL2tlcm5lbC9vc3JlbGVhc2UpIiBcCgkJIiRzZXJ2ZXIvbm9kZS92MS9zdGFnZS8kc3RhZ2UiKQoJY2FzZSAkY29kZSBpbgoJMj8/KSBlY2hvICJtdXN0ZXI6IHRvbGQgJHNlcnZlcjogJHN0YWdlIGlzIGRvbmUiOyBicmVhayA7OwoJNDA0KSBlY2hvICJtdXN0ZXI6ICRzZXJ2ZXIgZG9lcyBub3Qgd2FpdCBmb3IgJHN0YWdlIjsgYnJlYWsgOzsKCWVzYWMKCWVjaG8gIm11c3RlcjogJHNlcnZlciBhbnN3ZXJlZCAke2NvZGU6LW5vdGhpbmd9OyB0cnlpbmcgYWdhaW4gaW4gJHdhaXQgcyIKCXNsZWVwICR3YWl0CglbICR3YWl0IC1nZSA2MCBdIHx8IHdhaXQ9JCgod2FpdCAqIDIpKQpkb25lCnJtIC1mICR0b2tlbgo='\''
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
