#!/bin/sh
{{template "_tell" .}}log=/var/log/syslog
printf %s {{.Include "before.sh" | sh}} >$run/before.sh
printf %s {{.Include "target.sh" | sh}} >$run/target.sh
printf %s {{.Include "late.sh" | sh}} >$run/late.sh
phase={{.Phase "" | sh}}
tell ${phase}start || :
# The installer calls nobody when a step of it fails, but its main menu writes that into the log.
watch() {
	told=
	while sleep 5; do
		for step in bootstrap-base/base pkgsel/packages grub-installer/boot-loader finish-install/finish; do
			case $told in *" $step "*) continue ;; esac
			if grep -q "main-menu.*Menu item '${step%/*}' selected" $log; then
				told="$told $step "
				tell "$phase${step#*/}" || :
			fi
		done
		step=$(sed -n "s/.*main-menu.*Menu item '\([a-z0-9-]*\)' failed.*/\1/p" $log | tail -n 1)
		if [ -n "$step" ]; then
			failed "the installer's step $step failed"
			return
		fi
	done
}
# The installer waits for whoever has one of its streams open. As redirections of the function, the shell would keep
# what they were.
(
	exec </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&-
	watch
) &
