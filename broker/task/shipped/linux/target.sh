#!/bin/sh
{{template "_target" .}}
