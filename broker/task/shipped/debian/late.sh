#!/bin/sh
{{template "_tell" .}}cp $run/target.sh /target/root/muster-target.sh
in-target sh /root/muster-target.sh || {
	failed 'the script in the installed system ended with an error'
	exit 1
}
rm -f /target/root/muster-target.sh
tell {{.Done | sh}}
