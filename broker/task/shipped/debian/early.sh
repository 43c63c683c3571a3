#!/bin/sh
{{template "_tell" .}}log=/var/log/syslog
printf %s {{.Include "before.sh" | sh}} >$run/before.sh
printf %s {{.Include "target.sh" | sh}} >$run/target.sh
printf %s {{.Include "late.sh" | sh}} >$run/late.sh
phase={{.Phase "" | sh}}
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
