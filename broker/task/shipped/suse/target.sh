#!/bin/sh
(
{{template "_target" .}}
)
code=$?
log=/var/log/YaST2/y2log
{{template "_tell" .}}if [ $code = 0 ]; then
	tell {{.Done | sh}}
else
	failed "the script in the installed system ended with $code"
fi
