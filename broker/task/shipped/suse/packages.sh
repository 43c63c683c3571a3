#!/bin/sh
{{template "_tell" .}}tell {{.Phase "packages" | sh}}
