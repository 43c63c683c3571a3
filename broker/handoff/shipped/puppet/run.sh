#!/bin/sh
set -eu
PATH=$PATH:/opt/puppetlabs/bin
{{template "install"}}
command -v puppet >/dev/null || install puppet-agent puppet
puppet config set --section main server {{.Config.server | sh}}
puppet config set --section main certname {{or .Config.certname .Node.Hostname | sh}}
puppet config set --section agent environment {{.Config.environment | sh}}
# With --test 2 means that something was changed, 4 and 6 that some of it failed.
status=0
puppet agent --test --waitforcert={{.Config.wait | sh}} || status=$?
[ $status = 0 ] || [ $status = 2 ] || exit $status
puppet resource service puppet ensure=running enable=true
