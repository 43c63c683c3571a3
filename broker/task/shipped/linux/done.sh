#!/bin/sh
{{template "_tell" .}}tell {{.Done | sh}}
